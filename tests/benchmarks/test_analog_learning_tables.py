"""The tables of reservoirs and of forward-forward show what was kept, from how many seeds, and repeat nothing."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))

    def loaded(name: str) -> ModuleType:
        script = importlib.import_module(name)
        if hasattr(script, "put_table"):
            tables = importlib.import_module("tables")
            first, last = tables.marks(name.removesuffix("_table").replace("_", "-"))
            path = tmp_path / "README.md"
            path.write_text(f"before\n{first}\nold\n{last}\nafter\n", encoding="utf-8")
            monkeypatch.setattr(tables, "PAGES", [path])
            monkeypatch.setattr(script, "RESULTS", tmp_path / "results.json")
        return script

    return loaded


def seed(value: float, wear: list[str]) -> dict[str, Any]:
    cost = {"cpu_seconds": 2.0, "digital": 3e6, "analog": 4e6}
    return {
        "n": 160,
        "accuracy": {"summed": value, "gaussian": value, "resistive": value, "many": value},
        "wear": {key: [value, value] for key in wear},
        "costs": {"reservoir": cost, "trained": cost, "trained_accuracy": value},
    }


def test_reservoirs_are_shown_with_their_seeds_and_chances(load: Load, tmp_path: Path) -> None:
    script = load("reservoir_table")
    wear = list(script.WEAR)
    kept = {"nmnist": {"0": seed(0.8, wear), "1": seed(0.9, wear)}, "fsdd": {"0": seed(0.7, wear)}}
    asked = dict.fromkeys(script.CHANCES, 0.5)
    kinds = dict.fromkeys(script.KINDS, asked)
    kept["retrieval"] = {"0": {**kinds, "pairs": {"of 2": [0.25] * 22 + [0.75] * 23, "of 10": 0.05}}}
    script.write_readme(kept)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| N-MNIST events | 2 × 160 | 85.0 ± 63.5 |" in text
    assert "| spoken digits | 1 × 160 | 70.0 (one seed) |" in text
    assert "10 % of the cells stuck" in text
    assert "| seen digits 1–7, gallery of 7 classes | 14.3 | 50.0 (one seed) |" in text
    assert "gallery of 2 | 50.0 | 50.6 (one seed) (a pair alone: 25 to 75)" in text


def test_forward_forward_is_measured_once_and_shown_with_its_reads(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, runs = load("forward_forward_table"), list[str]()

    def measured(method: str, *_: object) -> float:
        runs.append(method)
        return 0.9

    monkeypatch.setattr(script, "measure", measured)
    monkeypatch.setattr(script, "choose", lambda *_: [1.0, 4.0])
    monkeypatch.setattr(sys, "argv", ["table", "--tasks", "digits", "--seeds", "0", "1"])
    script.main()
    script.main()
    assert runs == 2 * list(script.methods()), "nothing is measured twice"
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| forward-forward, tiles unknown | 90.00 ± 0.00 (2 seeds) | 60 / 10 |" in text
    assert json.loads(script.RESULTS.read_text(encoding="utf-8"))["digits"]["chosen"]["ff"] == [1.0, 4.0]


def test_a_readme_without_marks_ends_the_script(load: Load, tmp_path: Path) -> None:
    for name in ("reservoir_table", "forward_forward_table"):
        script = load(name)
        (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
        with pytest.raises(SystemExit, match="marks"):
            script.write_readme({})
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == "nothing"


def test_a_twin_that_is_right_is_the_tile_but_for_its_noise(load: Load) -> None:
    layers = load("physical_layers")
    tile = layers.Tile(30, 20, seed=0)
    z = torch.nn.functional.normalize(torch.rand(50, 30, generator=torch.Generator().manual_seed(1)), dim=1)
    error = [float((tile(z) - tile.twin(mismatch, 0)(z)).abs().mean()) for mismatch in (0.0, 0.3, 1.0)]
    assert error[0] < 0.06
    assert error[0] < error[1] < error[2]
    z.requires_grad_()
    both = layers.aware(lambda x: torch.zeros(50, 20), tile.twin(0.0, 0))(z)
    assert_close(both, torch.zeros(50, 20), atol=1e-6, rtol=0)
    both.sum().backward()
    assert float(z.grad.abs().sum()) > 0
