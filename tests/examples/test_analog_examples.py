"""The examples of random cells and of unknown maps run, at a size of seconds, and print what they found."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from spikeport.networks.reservoir import load_reservoir

pytestmark = pytest.mark.slow


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an example in this process; return the object that it printed."""

    def started(name: str, *options: str) -> dict[str, Any]:
        path = root / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *options])
        namespace: dict[str, Any] = {"__name__": "example", "__file__": str(path)}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
        namespace["main"]()
        return json.loads(capsys.readouterr().out)

    return started


def test_cells_that_nobody_programmed_hear(run: Any, data_dir: Path, tmp_path: Path) -> None:
    sounds = str(data_dir / "fsdd_8khz_takes5_49.npz")
    found = run(
        "resistive_reservoir", "--data", sounds, "--limit", "300", "--units", "100", "--save", str(tmp_path / "r")
    )
    assert found["n"] == 300
    assert 0.05 <= found["rate"] <= 0.2
    assert found["resistive"]["test_accuracy"] > 0.25
    assert found["2 % of the cells stuck, 5 % read noise"] > 0.15
    reservoir, told = load_reservoir(tmp_path / "r")
    assert reservoir.units == 100
    assert told["seed"] == 0


def test_pictures_of_spoken_digits_are_found_with_chance_beside(run: Any, data_dir: Path) -> None:
    events, sounds = data_dir / "nmnist_events_train800.npz", data_dir / "fsdd_8khz_takes5_49.npz"
    found = run("zero_shot", "--events", str(events), "--sounds", str(sounds), "--steps", "60")
    assert {name: round(found[name]["chance"], 3) for name in found if name != "seed"} == {
        "seen": 0.143,
        "unseen of two": 0.5,
        "unseen of ten": 0.1,
    }
    assert found["seen"]["accuracy"] > 0.4


def test_unknown_maps_are_learned_through(run: Any) -> None:
    found = run("forward_forward", "--epochs", "4", "--limit", "600")
    accuracy = {name: value["test_accuracy"] for name, value in found.items() if isinstance(value, dict)}
    assert accuracy["forward-forward"] > 0.5
    assert accuracy["readout only"] > 0.85
    assert accuracy["twin, wrong by 1.0"] < accuracy["twin, wrong by 0.0"]
