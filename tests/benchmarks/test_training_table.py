"""The table of trainings holds what examples printed, runs nothing twice, and says how many seeds it is from."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    found = importlib.import_module("training_table")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- training -->\nold\n<!-- /training -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(importlib.import_module("tables"), "PAGES", [readme])
    monkeypatch.setattr(found, "RESULTS", tmp_path / "results")
    yield found
    sys.modules.pop("training_table", None)


def test_a_finished_run_is_kept_and_the_table_written_after_each(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, started = [], []

    def example(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        tables.append((tmp_path / "README.md").read_text(encoding="utf-8"))
        seed = int(command[command.index("--seed") + 1])
        started.append(seed)
        printed = json.dumps({"test_accuracy": 0.97 + 0.01 * seed, "ci95": [0.9, 1.0], "n": 10000})
        return subprocess.CompletedProcess(command, 0, printed, "")

    monkeypatch.setattr(script.subprocess, "run", example)
    monkeypatch.setattr(sys, "argv", ["table", "--data", str(tmp_path), "--tasks", "mnist"])
    script.main()
    assert started == [0, 1, 2]
    assert "97.50 (91.15 to 103.85) | at least 97.5 | 2 | 10,000" in tables[2]
    script.main()
    assert started == [0, 1, 2], "nothing is run twice"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--again", "--seeds", "1"])
    script.main()
    assert started == [0, 1, 2, 1]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- training -->\n| task |")
    assert text.endswith("<!-- /training -->\nafter\n")


def test_one_seed_has_the_interval_of_its_samples(script: ModuleType) -> None:
    found = [{"accuracy": 0.5, "ci95": [0.4, 0.6], "gain": [0.1, -0.1, 0.3], "n": 100, "cpu_seconds": 60.0}]
    assert script.line(script.Row("a", ("accuracy",)), found) == "| a | 50.00 (40.00 to 60.00) |  | 1 | 100 | 1.0 |"
    assert script.line(script.Row("g", ("gain",)), found) == "| g | 10.00 (-10.00 to 30.00) |  | 1 | 100 | 1.0 |"


def test_one_number_has_no_interval_and_counts_add_up(script: ModuleType) -> None:
    found = [{"differ": 1, "share": 0.5, "n": 100, "cpu_seconds": 60.0}]
    assert script.line(script.Row("share", ("share",)), found) == "| share | 50.00 |  | 1 | 100 | 1.0 |"
    row = script.Row("count", ("differ",), "0", percent=False)
    assert script.line(row, found * 2) == "| count | 2 of 200 | 0 | 2 | 100 | 1.0 |"


def test_every_task_is_an_example(script: ModuleType, root: Path) -> None:
    assert all((root / "examples" / f"{name}.py").is_file() for name in script.TASKS)
