"""A training from its settings: data, encoder, network and loss come together; the folder gives the network back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import RangeError, SpikeportError
from spikeport.evaluation import train as evaluation_train
from spikeport.evaluation.train import load_trained, make_task, train_network
from spikeport.training.config import Config

SMALL = {"network": {"layers": ["flatten", "linear 32", "leaky", "linear 10", "integrator"]}, "encoder": {"steps": 3}}
QUICK = {"training": {"epochs": 2, "accelerator": "cpu", "tensorboard": False}}


def config(**sections: Any) -> Config:
    merged = {name: {**SMALL.get(name, {}), **QUICK.get(name, {})} for name in {*SMALL, *QUICK}}
    for name, fields in sections.items():
        merged[name] = {**merged.get(name, {}), **fields}
    return Config.of(merged)


def event_file(path: Path, n: int = 60) -> Path:
    """Recordings of a spot that is in the upper or in the lower half of the picture."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    y = rng.integers(0, 8, (n, 50)) + 16 * labels[:, None]
    x, p, t = rng.integers(0, 34, (n, 50)), rng.integers(0, 2, (n, 50)), np.sort(rng.integers(0, 300_000, (n, 50)))
    kinds = {"x": np.uint8, "y": np.uint8, "p": np.uint8, "t": np.int32}
    arrays = {name: values.ravel().astype(kinds[name]) for name, values in zip("xypt", (x, y, p, t), strict=True)}
    np.savez(path, **arrays, offsets=np.arange(n + 1) * 50, label=labels)
    return path


def test_a_trained_folder_gives_its_network_back(tmp_path: Path) -> None:
    settings = config(data={"test": "digits", "limit": 400}, optimizer={"learning_rate": 0.02}, training={"epochs": 4})
    result = train_network(settings, tmp_path / "run")
    assert result["best"]["accuracy"] > 0.6
    low, high = result["test"]["accuracy_ci95"]
    assert low < result["test"]["accuracy"] < high
    assert result["n"] == {"train": 360, "validation": 40}
    network = load_trained(tmp_path / "run")
    task = make_task(settings)
    x = task.encode(task.validation.x)
    right = (network(x)[0].mean(0).argmax(1) == task.validation.y).float().mean()
    assert right == pytest.approx(result["best"]["accuracy"])


def test_the_training_data_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], evaluation_train.load_data
    monkeypatch.setattr(
        evaluation_train, "load_data", lambda *given, **named: read.append(given) or load(*given, **named)
    )
    result = train_network(config(data={"limit": 200}), tmp_path / "run", render=lambda *_: "<html></html>")
    assert result["network"] is not None
    assert len(read) == 1


def test_the_test_data_choose_nothing(tmp_path: Path) -> None:
    with_test = train_network(config(data={"test": "digits", "limit": 200}), tmp_path / "a")
    without = train_network(config(data={"limit": 200}), tmp_path / "b")
    assert with_test["history"] == without["history"]
    assert "test" not in without


@pytest.mark.parametrize("kind", ["direct", "rate", "latency"])
def test_every_encoder_of_still_samples_trains(tmp_path: Path, kind: str) -> None:
    result = train_network(config(encoder={"kind": kind}, data={"limit": 300}), tmp_path / "run")
    assert result["history"][-1]["train_loss"] < result["history"][0]["train_loss"]


def test_events_in_frames_train(tmp_path: Path) -> None:
    path = event_file(tmp_path / "events.npz")
    settings = config(
        data={
            "train": str(path),
            "form": "events",
            "validation_share": 0.2,
            "augment": ["shift 1", "flip", "turn 5", "stretch 1/8"],
        },
        encoder={"kind": "sequence", "steps": 4, "pool": 2},
        network={"layers": ["conv 4 3x3", "leaky", "pool 2", "flatten", "linear 2", "integrator"]},
        training={"epochs": 6, "batch_size": 8},
        optimizer={"learning_rate": 0.01},
    )
    assert make_task(settings).train.x.shape == (48, 4, 2, 17, 17)
    assert train_network(settings, tmp_path / "run")["best"]["accuracy"] > 0.8
    with pytest.raises(RangeError, match="sequence already"):
        make_task(config(data={"train": str(path), "form": "events"}))


def test_code_runs_only_when_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = """
        import torch
        from spikeport.networks.chain import Chain
        from spikeport.neurons import LeakyIntegrator

        def make():
            return Chain(torch.nn.Flatten(), torch.nn.Linear(64, 10), LeakyIntegrator(0.9))
    """
    Path("own_network.py").write_text("\n".join(line[8:] for line in source.splitlines()), encoding="utf-8")
    settings = config(network={"factory": "own_network:make"}, data={"limit": 200})
    with pytest.raises(SpikeportError, match="--allow-code"):
        train_network(settings, tmp_path / "run")
    assert train_network(settings, tmp_path / "run", allow_code=True)["parameters"] == 650
    with pytest.raises(SpikeportError, match="--allow-code"):
        load_trained(tmp_path / "run")
    assert len(load_trained(tmp_path / "run", allow_code=True)) == 3


@pytest.mark.parametrize(
    ("sections", "wanted"),
    [
        ({"data": {"augment": ["twist 3"]}}, "shift PIXELS"),
        ({"data": {"augment": ["turn"]}}, "turn DEGREES"),
        ({"data": {"augment": ["turn a lot"]}}, "a lot"),
        ({"data": {"augment": ["turn 270"]}}, "degrees"),
        ({"data": {"scale": "a lot"}}, "1/255"),
        ({"data": {"validation_share": 0.001, "limit": 5}}, "both parts"),
        ({"network": {"layers": ["flatten", "linear 5"]}}, "5 outputs"),
        ({"data": {"train": "nothing"}}, "names no data"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, sections: dict[str, Any], wanted: str) -> None:
    with pytest.raises(SpikeportError, match=wanted):
        train_network(config(**sections), tmp_path / "run")


def test_labels_are_needed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=torch.rand(20, 4).numpy())
    with pytest.raises(RangeError, match="no labels"):
        make_task(config(data={"train": str(tmp_path / "x.npz")}))
