"""Read the report's JSON: refuse what no page may show, and remember where every value came from."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .._check import CorruptFileError, RangeError, require_in_range

__all__ = ["Json", "Part", "cleaned", "read"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_LARGEST = 1e300  # beyond it a sum or a square overflows; no count of spikes comes near
_DEEPEST = 20  # a report is six levels deep; a hostile file must not exhaust the stack


def cleaned(value: object, path: str = "report", depth: int = 0) -> Json:
    """Return a copy of ``value`` as plain JSON, with every string made safe to print.

    Control characters and lone surrogates become U+FFFD.
    Raises RangeError for NaN, infinity and numbers beyond 1e300, CorruptFileError for what JSON cannot hold.

    >>> cleaned({"a": (1, "x\\x00")})
    {'a': [1, 'x�']}
    """
    if depth > _DEEPEST:
        raise CorruptFileError(f"{path} lies more than {_DEEPEST} levels deep; run convert and evaluate again.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _printable(value)
    if isinstance(value, int | float):
        if not abs(value) <= _LARGEST:
            shown = value if isinstance(value, float) else "a huge integer"
            raise RangeError(f"{path} is {shown}, but a finite number or null was wanted; measure it again.")
        return value
    if isinstance(value, Mapping):
        return {_printable(str(k)): cleaned(v, _step(path, str(k)), depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(v, _step(path, i), depth + 1) for i, v in enumerate(value)]
    raise CorruptFileError(f"{path} is a {type(value).__name__}, which JSON cannot hold; hand over plain numbers.")


def _printable(text: str) -> str:
    kept = "\n\t"
    return "".join(c if c in kept or unicodedata.category(c) not in ("Cc", "Cs") else "\ufffd" for c in text)


def _step(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    if re.fullmatch(r"[A-Za-z_]\w*", key, flags=re.ASCII):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"


@dataclass(frozen=True)
class Part:
    """A value of the report together with its place; what is absent reads as null.

    >>> part = Part({"layers": [{"neurons": 7}]})
    >>> part["layers"][0]["neurons"]
    Part(value=7, path='layers[0].neurons')
    >>> part["evaluate"]["n"].number() is None
    True
    """

    value: Json
    path: str = ""

    def __getitem__(self, key: str | int) -> "Part":
        path, value = _step(self.path, key), self.value
        if value is None:
            return Part(None, path)
        if isinstance(key, str) and isinstance(value, dict):
            return Part(value.get(key), path)
        if isinstance(key, int) and isinstance(value, list):
            return Part(value[key] if 0 <= key < len(value) else None, path)
        raise self._wrong("an object" if isinstance(key, str) else "a list")

    def __bool__(self) -> bool:
        return self.value is not None

    def number(self) -> float | None:
        """Return the number here, or None; raises CorruptFileError when it is something else."""
        if self.value is None or (isinstance(self.value, int | float) and not isinstance(self.value, bool)):
            return self.value
        raise self._wrong("a number")

    def numbers(self) -> list[float]:
        """Return the list of numbers here (null inside reads as NaN, which a chart leaves out)."""
        found = [part.number() for part in self.each()]
        return [float("nan") if number is None else float(number) for number in found]

    def text(self) -> str:
        """Return the string here, or what a person would write for another value; empty for null."""
        if isinstance(self.value, str):
            return self.value
        return "" if self.value is None else json.dumps(self.value, ensure_ascii=False)

    def each(self) -> list["Part"]:
        """Return the parts of the list here; none for null."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self._wrong("a list")
        return [self[i] for i in range(len(self.value))]

    def named(self) -> list[tuple[str, "Part"]]:
        """Return (key, part) of the object here, in its order; none for null."""
        if self.value is None:
            return []
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        return [(key, self[key]) for key in self.value]

    def _wrong(self, wanted: str) -> CorruptFileError:
        came = type(self.value).__name__
        return CorruptFileError(
            f"{self.path or 'the report'} is a {came}, but {wanted} was wanted; "
            "run spikeport convert and spikeport evaluate again."
        )


def read(report: Mapping[str, object]) -> Part:
    """Check a whole report and return its root.

    Raises RangeError for numbers that are not finite and for an accuracy outside of 0 to 1,
    CorruptFileError for a report without its ``convert`` part.
    """
    root = Part(cleaned(report, ""))
    if not isinstance(root.value, dict) or not isinstance(root["convert"].value, dict):
        raise CorruptFileError("the report has no 'convert' part; run spikeport convert MODEL -o DIR first.")
    for part in (root["convert"], root["evaluate"]):
        one = (part["ann_accuracy"], part["early_exit"]["accuracy"], part["oracle"]["accuracy"])
        for share in (*one, *part["accuracy_by_step"].each()):
            if share.number() is not None:
                require_in_range(share.path, share.number() or 0.0, 0.0, 1.0, remedy="It is a share, not percent.")
    return root
