"""A run that stopped and went on equals one that did not stop, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeport import CorruptFileError, SpikeportError
from spikeport.training.checkpoint import load_checkpoint
from spikeport.training.loop import CHECKPOINT
from spikeport.training.processes import train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Task

MakeTask, MakeSettings = Callable[..., Task], Callable[..., TrainingSettings]
Run = Callable[..., dict[str, Any]]


class Stopped(Exception):
    """What ends a run in the middle."""


def stop_after(steps: int) -> Callable[[str, float], None]:
    seen = []

    def progress(stage: str, done: float) -> None:
        seen.append(done)
        if len(seen) == steps:
            raise Stopped

    return progress


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x.expand(4, *x.shape) + 0.1 * torch.randn(4, *x.shape)


@pytest.fixture
def run(make_task: MakeTask, make_settings: MakeSettings, tmp_path: Path) -> Run:
    """Train with stops after so many steps each, anew each time as a new process would; return the last checkpoint."""

    def complete(name: str, seed: int, stops: tuple[int, ...] = (), kind: str = "adamw", **changes: Any) -> dict:
        settings = make_settings(seed=seed, checkpoint_steps=2, **changes)
        optimizer = OptimizerSettings(kind=kind, learning_rate=1e-2)
        for steps in (*stops, 0):
            torch.manual_seed(12345 + steps)  # a process of its own would have other generators
            task = make_task(seed, encode=noisy)
            progress = stop_after(steps) if steps else None
            try:
                train(task, settings, optimizer, folder=tmp_path / name, resume=True, progress=progress)
            except Stopped:
                continue
        return load_checkpoint(tmp_path / name / CHECKPOINT)

    return complete


def same(a: Any, b: Any) -> bool:
    """Equal in every bit, tensors in nested dicts and lists included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and (a == b or a != a)


@pytest.mark.parametrize("seed", range(20))
def test_a_resumed_run_equals_the_uninterrupted_one(run: Run, seed: int) -> None:
    whole = run("whole", seed)
    stops = (1 + seed % 7, 2 + seed % 5)  # before the first save, in an epoch, and at its end
    assert same(run("stopped", seed, stops), whole)


@pytest.mark.parametrize("changes", [{"kind": "sgd"}, {"accumulate": 3}, {"precision": "bf16-mixed"}, {"epochs": 1}])
def test_it_does_so_whatever_the_settings(run: Run, changes: dict[str, Any]) -> None:
    assert same(run("stopped", 3, (5, 4), **changes), run("whole", 3, **changes))


def test_another_seed_gives_another_run(run: Run) -> None:
    assert not same(run("a", 0)["network"], run("b", 1)["network"]), "or the tests above could not fail"


def test_more_epochs_go_on_from_the_end(run: Run) -> None:
    before = run("run", 0, epochs=2)["history"]
    after = run("run", 0, epochs=4)["history"]
    assert after[:2] == before
    assert len(after) == 4


def test_a_checkpoint_of_another_training_is_refused_with_what_differs(run: Run) -> None:
    run("run", 0)
    with pytest.raises(SpikeportError, match=r"settings.batch_size was 16, is 8"):
        run("run", 0, batch_size=8)


def test_a_folder_in_use_is_refused_without_resume(
    make_task: MakeTask, make_settings: MakeSettings, tmp_path: Path
) -> None:
    train(make_task(), make_settings(epochs=1), folder=tmp_path)
    with pytest.raises(SpikeportError, match="resume it"):
        train(make_task(), make_settings(epochs=1), folder=tmp_path)


def test_a_damaged_checkpoint_is_refused(run: Run, tmp_path: Path) -> None:
    run("run", 0)
    path = tmp_path / "run" / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="sha256"):
        run("run", 0)
