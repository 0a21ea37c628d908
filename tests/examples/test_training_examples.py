"""The examples of training run, at a size of seconds, and print what they found."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

FILES = {
    "fashion_mnist": ("fashion_mnist.npz", ["--limit", "160"]),
    "mnist": ("mnist.npz", ["--limit", "200"]),
    "nmnist": ("nmnist_events_train800.npz", ["--limit", "60", "--folds", "2"]),
    "spoken_digits": ("fsdd_8khz_takes5_49.npz", ["--limit", "64", "--speakers", "2"]),
    "coincidence": ("", ["--samples", "500"]),
}


# a network that has seen a few samples may still be silent, which is told as a warning
pytestmark = pytest.mark.filterwarnings("ignore:layer .* fired no spike:RuntimeWarning")


@pytest.fixture
def run(root: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an example in this process; return the object that it printed."""

    def started(name: str) -> dict[str, Any]:
        file, options = FILES[name]
        path = root / "examples" / f"{name}.py"
        data = ["--data", str(data_dir / file), "--epochs", "1"] if file else []
        monkeypatch.setattr(sys, "argv", [str(path), *data, *options])
        # not runpy: a module that is gone takes with it what its functions look up
        namespace: dict[str, Any] = {"__name__": "example", "__file__": str(path)}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
        namespace["main"]()
        return json.loads(capsys.readouterr().out)

    return started


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_images(run: Any, name: str) -> None:
    found = run(name)
    low, high = found["ci95"]
    assert 0 <= low <= found["test_accuracy"] <= high <= 1
    assert found["best_epoch"] == 1


@pytest.mark.slow
def test_events_are_cross_validated(run: Any) -> None:
    found = run("nmnist")
    assert found["n"] == 60, "each recording is measured once"
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.slow
def test_delays_are_compared(run: Any) -> None:
    found = run("spoken_digits")
    assert found["n"] == 2 * 64
    value, low, high = found["learned - none"]
    assert low <= value <= high
    assert value == pytest.approx(found["learned"]["test_accuracy"] - found["none"]["test_accuracy"], abs=1e-6)


@pytest.mark.slow
def test_learned_delays_are_those_of_the_task(run: Any) -> None:
    found = run("coincidence")
    assert found["delays_right"] == 1
    assert found["learned"] > 0.98
    assert found["fixed"] < 0.6


@pytest.mark.needs("git")
def test_every_example_is_short(root: Path) -> None:
    long = [path.name for path in (root / "examples").glob("*.py") if len(path.read_text().splitlines()) >= 80]
    assert long == []
