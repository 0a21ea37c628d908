"""spikeport: from a trained artificial network to a spiking one that decides early.

The public names are loaded on first use, so that ``import spikeport`` stays cheap.

>>> import spikeport
>>> issubclass(spikeport.ShapeError, spikeport.SpikeportError)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers; a test compares them with the table
    from ._check import (
        AccuracyGateMissed,
        BackendUnavailable,
        CorruptFileError,
        RangeError,
        ShapeError,
        SpikeportError,
        UnsupportedError,
        WorkerCrashed,
        WorkerTimeout,
    )

__version__ = "0.1.0"
__all__ = [
    "AccuracyGateMissed",
    "BackendUnavailable",
    "CorruptFileError",
    "RangeError",
    "ShapeError",
    "SpikeportError",
    "UnsupportedError",
    "WorkerCrashed",
    "WorkerTimeout",
    "__version__",
]

_HOME = {  # public name -> the module that it comes from
    "AccuracyGateMissed": "_check",
    "BackendUnavailable": "_check",
    "CorruptFileError": "_check",
    "RangeError": "_check",
    "ShapeError": "_check",
    "SpikeportError": "_check",
    "UnsupportedError": "_check",
    "WorkerCrashed": "_check",
    "WorkerTimeout": "_check",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(sorted(_HOME))}.")
    value: object = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
