"""The table of chips: every configuration once, ages that devices know, and cells that say what was measured."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from spikeport.hardware.analog.device_file import load_device


@pytest.fixture
def script(root, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("analog_table")
    for name in ("analog_table", "conversion_table"):
        sys.modules.pop(name, None)


def test_each_configuration_has_a_row_of_its_own(script: ModuleType) -> None:
    rows = list(script.configurations(list(script.SETTINGS)))
    assert len({row.key(25, 100) for row in rows}) == len(rows) == 2 * 5 * 4
    for row in rows:
        load_device(row.device).check_time(row.time_s)


def test_the_table_shows_what_is_there(script: ModuleType) -> None:
    accuracy = {"mean": 0.97, "ci95": [0.96, 0.98], "lowest": 0.9, "highest": 0.99}
    (first, *_) = script.configurations(["mnist_cnn"])
    row = {**first._asdict(), "all_steps": accuracy, "accuracy_over_chips": accuracy, "mean_steps": 4.25}
    found = {"digital": {"mnist_cnn": {"100": [0.5, 0.98]}}, "rows": {"a": {**row, "timesteps": 32, "n": 100}}}
    lines = list(script.table(found))
    assert len(lines) == 2 + 1 + 5
    assert "n = 100" in lines[2]
    assert "98.00 %" in lines[2]
    assert "97.00 % ± 1.00 (32 steps); 97.00 % (4.2) |" in lines[3]
    assert lines[4].count("–") == 4

    found["digital"]["mnist_cnn"]["500"] = [0.5, 0.99]
    found["rows"]["b"] = {**found["rows"]["a"], "n": 500, "mean_steps": 3.0}
    lines = list(script.table(found))
    assert "n = 500" in lines[3]
    assert "(3.0); n = 500 |" in lines[4]
