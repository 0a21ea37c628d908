"""Chips as tables: what a core holds, what a number may be, and what an operation costs, each with its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from .._check import CorruptFileError, SpikeportError

__all__ = ["Chip", "Core", "Limits", "Price", "chip_names", "load_chip", "prices"]

_FOLDER = Path(__file__).parent / "chips"
_PRICES = "prices"
TERMS = ("accumulate", "multiply_accumulate", "neuron_update", "spike")
_NAMES = {"spikes": ("binary", "signed", "graded"), "resets": ("subtract", "zero", "none")}
_BOUNDS = {
    **dict.fromkeys(("weight_bits", "state_bits", "threshold_bits", "bias_bits"), (1, 64)),
    **dict.fromkeys(("threshold_shift", "bias_shift", "index_bits"), (0, 64)),
}
_EVIDENCE = ("measured", "simulated", "derived", "proxy")


@dataclass(frozen=True)
class Core:
    """How many cores there are, and what one of them holds."""

    count: int
    neurons: int
    in_axons: int
    out_axons: int
    synapse_bits: int


@dataclass(frozen=True)
class Limits:
    """What a number may be.  delay: in steps.  index_bits: what a synapse needs beside its weight."""

    weight_bits: int
    state_bits: int
    threshold_bits: int
    threshold_shift: int
    bias_bits: int
    bias_shift: int
    delay: int
    spikes: tuple[str, ...]
    resets: tuple[str, ...]
    index_bits: int


@dataclass(frozen=True)
class Chip:
    """A chip.  approximate: some limits are unpublished or flexible, so that a mapping is an estimate."""

    name: str
    title: str
    approximate: bool
    core: Core
    limits: Limits


@dataclass(frozen=True)
class Price:
    """What one operation costs, in picojoules.  scope "all" holds all other terms already."""

    chip: str
    term: str
    value: float
    unit: str
    evidence: str
    scope: str
    source: str


def chip_names() -> list[str]:
    """The chips that come with spikeport.

    >>> "loihi2" in chip_names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml") if path.stem != _PRICES)


def load_chip(name: str | Path) -> Chip:
    """One of ``chip_names``, or a file of one's own of the same form (.toml).

    Raises SpikeportError for a name that is not known, CorruptFileError for a table with senseless values.
    """
    path = Path(name) if str(name).endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file() or path.stem == _PRICES:
        raise SpikeportError(
            f"there is no chip {str(name)!r}; choose one of {', '.join(chip_names())}, or a .toml file"
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        core, limits = _record(Core, table["core"]), _record(Limits, table["limits"])
        if type(table["approximate"]) is not bool:
            raise ValueError(f"approximate is {table['approximate']!r}; true or false was wanted")
        _require_sense(limits)
        return Chip(path.stem, str(table["title"]), table["approximate"], core, limits)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} describes no chip ({error}); compare it with the tables of spikeport") from None


def _record(kind: Any, table: Mapping[str, Any]) -> Any:
    wanted = {field.name: field.type for field in fields(kind)}
    if set(table) != set(wanted):
        raise ValueError(f"[{kind.__name__.lower()}] needs exactly {', '.join(wanted)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in _NAMES:
            if not (isinstance(value, list) and value and all(item in _NAMES[key] for item in value)):
                raise ValueError(f"{key} is {value!r}; a list of some of {', '.join(_NAMES[key])} was wanted")
            values[key] = tuple(value)
        elif type(value) is int and (value > 0 or (kind is Limits and value == 0)):
            values[key] = value
        else:
            raise ValueError(f"{key} is {value!r}; a whole number above 0 was wanted")
    return kind(**values)


def _require_sense(limits: Limits) -> None:
    for key, (least, most) in _BOUNDS.items():
        value = getattr(limits, key)
        if not least <= value <= most:
            raise ValueError(f"{key} is {value}; {least} to {most} was wanted")


@cache
def prices() -> tuple[Price, ...]:
    """All priced operations, of all chips."""
    table = tomllib.loads((_FOLDER / f"{_PRICES}.toml").read_text(encoding="utf-8"))
    rows = tuple(Price(**row) for row in table["row"])
    for row in rows:
        known = row.term in TERMS and row.evidence in _EVIDENCE and row.scope in ("term", "all") and row.unit == "pJ"
        if not known or row.value <= 0 or not row.source:
            raise CorruptFileError(f"the price {row} makes no sense; mend the table")
    return rows
