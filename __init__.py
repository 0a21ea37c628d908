"""spikeport: from a trained artificial network to a spiking one that decides early.

The names below are loaded on first use, so that ``import spikeport`` stays cheap.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME: dict[str, str] = {
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

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(sorted(_HOME))}.")
    value: object = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
