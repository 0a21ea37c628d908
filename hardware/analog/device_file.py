"""Devices as TOML: every value with its unit and its source."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._check import CorruptFileError, SpikeportError
from .device import Device

__all__ = ["device_names", "load_device"]

_FOLDER = Path(__file__).parent / "devices"

# entry -> (field of Device, unit, what the value is)
_ENTRIES = {
    "g_min": ("g_min_us", "uS", float),
    "g_max": ("g_max_us", "uS", float),
    "levels": ("levels", "1", int),
    "write": ("write_us", "uS", tuple),
    "write_iterations": ("write_iterations", "1", int),
    "write_tolerance": ("write_tolerance_us", "uS", float),
    "stuck_on": ("stuck_on", "1", float),
    "stuck_off": ("stuck_off", "1", float),
    "drift_mean": ("drift_mean", "1", tuple),
    "drift_spread": ("drift_spread", "1", tuple),
    "drift_start": ("drift_start_s", "s", float),
    "flicker": ("flicker", "1", tuple),
    "read_time": ("read_time_s", "s", float),
    "read_window": ("read_window_s", "s", float),
    "read_noise": ("read_noise_us", "uS", float),
    "wire": ("wire_ohm", "ohm", float),
}


def device_names() -> list[str]:
    """The devices that come with spikeport.

    >>> device_names()
    ['ideal', 'pcm', 'reram']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_device(spec: str | Path) -> Device:
    """One of ``device_names``, or a file of one's own of the same form (.toml).

    Raises SpikeportError for a name that is not known, CorruptFileError that names every entry of a file that is
    unknown, lacks its unit or source or has the wrong ones, RangeError for values that make no sense.

    >>> load_device("pcm").g_max_us
    25.0
    """
    path = Path(spec) if str(spec).endswith(".toml") else _FOLDER / f"{spec}.toml"
    if not path.is_file():
        what = f"there is no file {str(spec)!r}" if str(spec).endswith(".toml") else f"there is no device {str(spec)!r}"
        raise SpikeportError(f"{what}; choose one of {', '.join(device_names())}, or a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is no TOML ({error}); compare it with the devices of spikeport") from None
    problems: list[str] = []
    values, sources = _entries(table, problems)
    if problems:
        raise CorruptFileError(f"{path} describes no device: {'; '.join(problems)}.")
    return Device(name=path.stem, sources=sources, **values)


def _entries(table: Mapping[str, Any], problems: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems += [f"{key} is missing" for key in ("g_min", "g_max") if key not in table]
    for key, entry in table.items():
        if key == "retention":
            values[key] = _retention(entry, sources, problems)
        elif key in _ENTRIES:
            name, unit, kind = _ENTRIES[key]
            values[name] = _value(key, entry, unit, kind, problems)
            sources[key] = str(entry.get("source", "")) if isinstance(entry, dict) else ""
        else:
            problems.append(f"{key} is not known (known are {', '.join(_ENTRIES)} and retention)")
    return values, sources


def _retention(rows: Any, sources: dict[str, str], problems: list[str]) -> tuple[tuple[float, Any], ...]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        problems.append("retention is no list of tables [[retention]]")
        return ()
    found = []
    for number, row in enumerate(rows):
        key = f"retention {number + 1}"
        rest = {name: value for name, value in row.items() if name not in ("time", "time_unit")}
        time = {"value": row.get("time"), "unit": row.get("time_unit"), "source": "its row"}
        found.append((_value(f"{key}, time", time, "s", float, problems), _value(key, rest, "uS", tuple, problems)))
        sources[key] = str(row.get("source", ""))
    return tuple(found)


def _value(key: str, entry: Any, unit: str, kind: type, problems: list[str]) -> Any:
    """The entry's value, as its kind; what is wrong with it goes to the problems."""
    if not isinstance(entry, dict) or not {"value", "unit", "source"} >= set(entry):
        problems.append(f"{key} is no table of value, unit and source")
        return None
    if entry.get("unit") != unit:
        problems.append(f"{key} has the unit {entry.get('unit')!r}; {unit!r} was wanted")
    source = entry.get("source")
    if not isinstance(source, str) or not source.strip():
        problems.append(f"{key} has no source")
    value: Any = entry.get("value")
    if kind is tuple and isinstance(value, list) and value and all(type(item) in (int, float) for item in value):
        return tuple(float(item) for item in value)
    if kind is int and type(value) is int:
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    wanted = {tuple: "a list of numbers", int: "a whole number", float: "a number"}[kind]
    problems.append(f"{key} is {value!r}; {wanted} was wanted")
    return None
