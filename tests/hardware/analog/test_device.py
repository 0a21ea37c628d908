"""Devices and their files: presets load with a source for every value, and nonsense is refused by name."""

from pathlib import Path

import pytest

from spikeport import CorruptFileError, RangeError, SpikeportError
from spikeport.hardware.analog.device import Device
from spikeport.hardware.analog.device_file import device_names, load_device

GOOD = """
[g_min]
value = 0.5
unit = "uS"
source = "measured"

[g_max]
value = 50
unit = "uS"
source = "measured"

[levels]
value = 16
unit = "1"
source = "measured"

[[retention]]
time = 60.0
time_unit = "s"
value = [0.1, 0.2]
unit = "uS"
source = "measured"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", device_names())
def test_presets_load_and_every_value_has_a_source(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert device.sources
    assert all(source.strip() for source in device.sources.values())


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    device = load_device(write(tmp_path, GOOD))
    assert device == Device("mine", 0.5, 50.0, levels=16, retention=((60.0, (0.1, 0.2)),))
    assert device.times_s == (60.0,)
    assert device.check_time(60) == 60.0


BAD = [
    ('value = 0.5\nunit = "uS"', "value = 0.5", r"g_min has the unit None; 'uS' was wanted"),
    ('value = 0.5\nunit = "uS"', 'value = 0.5\nunit = "nS"', r"g_min has the unit 'nS'"),
    ('value = 0.5\nunit = "uS"\nsource = "measured"', 'value = 0.5\nunit = "uS"', "g_min has no source"),
    ("value = 0.5", "value = 0.5\nvlaue = 1", "g_min is no table of value, unit and source"),
    ("value = 0.5", 'value = "low"', "g_min is 'low'; a number was wanted"),
    ("value = 16", "value = 16.5", "levels is 16.5; a whole number was wanted"),
    ("value = 16", "value = true", "levels is True; a whole number was wanted"),
    ("[levels]", "[lvels]", "lvels is not known"),
    ("[g_max]", "[g_mox]", r"g_max is missing.*g_mox is not known"),
    ('time_unit = "s"', 'time_unit = "h"', "retention 1, time has the unit 'h'"),
    ("value = [0.1, 0.2]", "value = []", r"retention 1 is \[\]; a list of numbers"),
    ("[[retention]]", "[retention]", "retention is no list of tables"),
    ("[g_min]", "[g_min", "is no TOML"),
    ("[g_min]", "g_other = 1\n[g_min]", "g_other is not known"),
]


@pytest.mark.parametrize(("old", "new", "says"), BAD, ids=range(len(BAD)))
def test_files_that_describe_no_device_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(CorruptFileError, match=says):
        load_device(write(tmp_path, GOOD.replace(old, new, 1)))


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"g_min has the unit.*g_max has the unit.*retention 1 has the unit"):
        load_device(write(tmp_path, GOOD.replace('\nunit = "uS"', "")))


@pytest.mark.parametrize("spec", ["nonsuch", "missing.toml", ""])
def test_unknown_devices_are_refused(spec: str) -> None:
    with pytest.raises(SpikeportError, match="choose one of ideal, pcm, reram"):
        load_device(spec)


IMPOSSIBLE = [
    ({"g_max_us": 0.0}, "not above g_min"),
    ({"g_min_us": -1.0}, "g_min_us is -1.0, below 0"),
    ({"g_max_us": float("inf")}, "no finite number"),
    ({"levels": 1}, "two at least"),
    ({"write_us": (0.1, -1.0)}, "write gives a spread below 0"),
    ({"write_us": (float("nan"),)}, "no finite number"),
    ({"write_iterations": 0}, "written once"),
    ({"write_tolerance_us": 0.0}, "which no device reaches"),
    ({"stuck_on": 0.6, "stuck_off": 0.5}, "more than all devices"),
    ({"drift_mean": (0.0, 0.05, 0.0, 0.1)}, "drift_start above 0 s"),
    ({"drift_mean": (0.0, 0.05), "drift_start_s": 1.0}, "4 were wanted"),
    ({"drift_mean": (0.0, 0.05, 0.1, 0.0), "drift_start_s": 1.0}, "held between 0.1 and 0.0"),
    ({"drift_spread": (0.0, 0.0, 0.0, 0.1)}, "needs drift_mean"),
    ({"flicker": (0.01, 0.5, 1e-3, 0.2)}, "read_time above 0 s"),
    ({"flicker": (0.01, 0.5, 0.0, 0.2), "read_time_s": 1e-7}, "its floor above 0"),
    ({"retention": ((2.0, (0.1,)), (1.0, (0.1,)))}, "the times must grow"),
    ({"retention": ((1.0, (-0.1,)),)}, "retention at 1 s gives a spread below 0"),
    ({"retention": ((1.0, (0.1, float("nan"))),)}, "no finite number"),
    ({"flicker": (0.01, -0.5, 1e-3, 0.2), "read_time_s": 1e-7}, "numbers are 0 or more"),
    ({"retention": ((1.0, (0.1,)),), "write_us": (0.1,)}, "leave out write"),
    ({"wire_ohm": -0.1}, "wire_ohm is -0.1, below 0"),
]


@pytest.mark.parametrize(("values", "says"), IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_impossible_values_are_refused(values: dict, says: str) -> None:
    with pytest.raises(RangeError, match=says):
        Device(**{"name": "x", "g_min_us": 0.0, "g_max_us": 10.0, **values})
