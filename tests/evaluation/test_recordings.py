"""A network trained on events is evaluated, exits early and runs on backends as others do: on recordings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import CorruptFileError, RangeError, ShapeError, UnsupportedError
from spikeport.data import load_events
from spikeport.evaluation.evaluate import calibrated_rule, evaluate_network
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.integer import integer_outputs
from spikeport.evaluation.recordings import Framing, framing_of, load_recorded, refuse_recordings
from spikeport.evaluation.run import backend_named, run_on
from spikeport.evaluation.train import load_trained, train_network
from spikeport.inference import FixedSteps
from spikeport.networks.graph import Graph
from spikeport.training.config import Config

STEPS = 5


def event_file(path: Path, n: int, seed: int) -> Path:
    """Recordings of a spot that is in the upper or in the lower half of the picture."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y = rng.integers(0, 14, (n, 40)) + 10 * labels[:, None]
    x, p, t = rng.integers(0, 34, (n, 40)), rng.integers(0, 2, (n, 40)), np.sort(rng.integers(0, 300_000, (n, 40)))
    kinds = {"x": np.uint8, "y": np.uint8, "p": np.uint8, "t": np.int32}
    arrays = {name: values.ravel().astype(kinds[name]) for name, values in zip("xypt", (x, y, p, t), strict=True)}
    np.savez(path, **arrays, offsets=np.arange(n + 1) * 40, label=labels)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a training on events, and another file of events."""
    folder = tmp_path_factory.mktemp("events")
    settings = Config.of(
        {
            "data": {"train": str(event_file(folder / "a.npz", 200, 0)), "form": "events", "validation_share": 0.3},
            "encoder": {"kind": "sequence", "steps": STEPS, "pool": 2},
            "network": {"layers": ["conv 4 3x3", "pool 2", "norm", "leaky", "flatten", "linear 2", "integrator"]},
            "training": {"epochs": 4, "batch_size": 16, "accelerator": "cpu", "tensorboard": False},
            "optimizer": {"learning_rate": 0.02},
        }
    )
    result = train_network(settings, folder / "run", render=lambda *_: "<html></html>")
    assert result["notes"] == [] or "no network folder" not in result["notes"][-1]
    assert result["network"] is not None
    return folder / "run", event_file(folder / "b.npz", 100, 1)


@pytest.fixture(scope="module")
def held(trained: tuple[Path, Path]) -> Any:
    return read_folder(trained[0] / "network")


@pytest.fixture(scope="module")
def data(trained: tuple[Path, Path], held: Any) -> Any:
    framing = framing_of(held.spiking)
    assert framing is not None
    return load_recorded(held.spiking, framing, str(trained[1]))


@pytest.fixture(scope="module")
def found(held: Any, data: Any) -> dict[str, Any]:
    return evaluate_network(held.spiking, held.analog, held.exit, data, timing=False)


def test_the_accuracy_is_that_of_the_trained_network(
    trained: tuple[Path, Path], data: Any, found: dict[str, Any]
) -> None:
    outputs, _ = load_trained(trained[0])(torch.from_numpy(data.x).transpose(0, 1))
    right = (outputs.mean(0).argmax(1).numpy() == data.y).mean()
    assert found["accuracy_by_step"][-1] == pytest.approx(right)
    assert right > 0.7
    assert data.x.shape == (100, STEPS, 2, 17, 17)


def test_early_exit_is_the_engines_own(found: dict[str, Any]) -> None:
    early = found["early_exit"]
    assert early["engine_mismatches"] == 0
    assert early["engine_n"] == 100
    assert 1 <= early["mean_steps"] <= STEPS
    assert sum(found["figures"]["exit_step_histogram"]) == 100


def test_frames_differ_from_step_to_step_and_cost_at_each(held: Any, data: Any, found: dict[str, Any]) -> None:
    assert (data.x[:, 0] != data.x[:, 1]).any()
    weights = 17 * 17 * 4 * 2 * 9  # of the first convolution, which reads numbers and not spikes
    assert found["multiply_accumulates_per_sample"] % STEPS == 0
    assert found["multiply_accumulates_per_sample"] <= STEPS * weights


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_the_integer_network_runs_on_backends(held: Any, data: Any, backend: str) -> None:
    program, rule = held.integer, calibrated_rule(held.exit)
    some = data.take(np.arange(30))
    run = run_on(backend_named(backend), program, some, steps=STEPS, rule=rule, compare_with="reference")
    assert run["agreement"]["mismatches"] == 0
    assert run["agreement"]["spikes_compared"] > 1000
    fixed = run_on(backend_named(backend), program, some, steps=STEPS, rule=FixedSteps(STEPS))
    labels = integer_outputs(program, some.x, STEPS)[-1].argmax(1).numpy()
    assert fixed["accuracy"] == (labels == some.y).mean()


def test_samples_of_the_training_are_refused(trained: tuple[Path, Path], held: Any) -> None:
    framing = framing_of(held.spiking)
    assert framing is not None
    same = load_recorded(held.spiking, framing, str(trained[0].parent / "a.npz"))
    with pytest.raises(RangeError, match="calibration"):
        evaluate_network(held.spiking, held.analog, held.exit, same, timing=False)


def test_bad_recordings_are_refused(trained: tuple[Path, Path], held: Any) -> None:
    with pytest.raises(ShapeError, match="takes"):
        load_recorded(held.spiking, Framing(STEPS, 60_000, 1, 34, 34), str(trained[1]))
    with pytest.raises(RangeError, match="limit"):
        load_recorded(held.spiking, Framing(STEPS, 60_000, 2, 34, 34), str(trained[1]), limit=0)
    for said in ({"steps": 0}, [], {**Framing(1, 1, 1, 1, 1)._asdict(), "pool": "2"}):
        with pytest.raises(CorruptFileError, match="recordings"):
            framing_of(Graph.of(held.spiking.nodes, {**held.spiking.information, "recordings": said}))
    with pytest.raises(UnsupportedError, match="an attack"):
        refuse_recordings(held.spiking, "an attack")


def test_a_frame_is_as_long_as_in_the_training(trained: tuple[Path, Path], held: Any) -> None:
    framing = framing_of(held.spiking)
    assert framing is not None
    events = load_events(trained[0].parent / "a.npz")
    assert framing.frame_us == -(-events.duration_us // STEPS)
