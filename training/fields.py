"""Settings that are checked: every field has a default, a unit, a range, and an error that says what to write.

A section is a frozen dataclass whose fields are made by ``setting`` and whose ``__post_init__`` calls ``check``; so a
file and a Python call are held to the same rules.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from .._check import RangeError

__all__ = ["check", "describe", "read_section", "setting", "unknown_key"]

S = TypeVar("S")
_UNITLESS = {bool: "true or false", int: "number", float: "number", str: "text", tuple: "texts"}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}


def setting(
    default: Any,
    meaning: str,
    unit: str = "",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[Any] = (),
) -> Any:
    """A field of a section. low, high: the bounds of a number, both allowed; choices: all values that there are."""
    details = {"meaning": meaning, "unit": unit, "low": low, "high": high, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata=details)


def check(section: Any) -> None:
    """Raise RangeError where a field of the section has a value of another type, or outside its range."""
    kinds = get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        kind = kinds[field.name]
        _check_value(field, getattr(kind, "__origin__", kind), value)


def _check_value(field: "dataclasses.Field[Any]", kind: type, value: Any) -> None:
    details = field.metadata
    unit = f" ({details['unit']})" if details["unit"] else ""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RangeError(
            f"{field.name} is {value!r}, but {_WORDS[kind]}{unit} is wanted, such as {_written(field.default)}."
        )
    if details["choices"] and value not in details["choices"]:
        nearest = difflib.get_close_matches(str(value), list(map(str, details["choices"])), 1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise RangeError(f"{field.name} is {value!r}, but it is one of {', '.join(details['choices'])}.{hint}")
    if kind in (int, float) and not details["low"] <= value <= details["high"]:  # NaN fails it too
        raise RangeError(f"{field.name} is {value}, but {bounds(details)}{unit} is wanted: {details['meaning']}.")


def bounds(details: Mapping[str, Any]) -> str:
    """The range of a number in words.

    >>> bounds({"low": 1, "high": math.inf})
    'at least 1'
    """
    low, high = details["low"], details["high"]
    if math.isinf(high):
        return f"at least {_short(low)}" if not math.isinf(low) else "a finite number"
    return f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def read_section(kind: type[S], table: Any, name: str) -> S:
    """Make a section of ``table`` as a file gave it; whole numbers are taken for numbers, lists for tuples.

    Raises RangeError, with the section's name, for a key that it does not have (and names the nearest that it has) and
    for a value that it refuses.
    """
    if not isinstance(table, Mapping):
        raise RangeError(f"[{name}] is {table!r}, but a table of settings is wanted.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := [str(key) for key in table if key not in fields]:
        raise RangeError(f"[{name}]: {'; '.join(unknown_key(key, list(fields)) for key in unknown)}.")
    kinds = get_type_hints(kind)
    given = {key: _as_kind(kinds[key], value) for key, value in table.items()}
    try:
        return kind(**given)
    except RangeError as error:
        raise RangeError(f"[{name}] {error}") from None


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Say that a key is unknown, and what may have been meant.

    >>> unknown_key("epoch", ["epochs", "seed"])
    "there is no 'epoch'; did you mean 'epochs'?"
    """
    nearest = difflib.get_close_matches(key, known, 1, cutoff=0.5)
    return f"there is no {key!r}; " + (f"did you mean {nearest[0]!r}?" if nearest else f"there is {', '.join(known)}")


def _as_kind(kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if getattr(kind, "__origin__", kind) is tuple and isinstance(value, list):
        inner = kind.__args__[0]
        return tuple(_as_kind(inner, each) for each in value)
    return value


def describe(kind: type) -> list[tuple[str, str, str, str, str]]:
    """For each field of a section: name, default, unit, what is allowed, meaning."""
    rows = []
    for field in dataclasses.fields(kind):
        details = field.metadata
        kinds = get_type_hints(kind)[field.name]
        allowed = ", ".join(details["choices"])
        if not allowed and kinds in (int, float):
            allowed = bounds(details)
        unit = details["unit"] or _UNITLESS.get(getattr(kinds, "__origin__", kinds), "")
        rows.append((field.name, _written(field.default), unit, allowed, details["meaning"]))
    return rows


def _written(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value)
