"""The errors of spikeport, and the argument checks that every part shares.

A message says what came, what was wanted and what to do.  Each class carries the exit code that
the command line ends with.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

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
    "call_named",
    "require_in_range",
    "require_shape",
]


class SpikeportError(ValueError):
    """Base of every error that spikeport raises on bad input or a failed part."""

    exit_code = 2


class ShapeError(SpikeportError):
    """An array or tensor has another shape than the one that is needed."""


class RangeError(SpikeportError):
    """A value lies outside the range in which it makes sense (NaN and infinity included)."""


class CorruptFileError(SpikeportError):
    """A file is damaged, incomplete, or not what its name says."""


class AccuracyGateMissed(SpikeportError):
    """The accuracy is below the one that the user asked for."""

    exit_code = 3


class UnsupportedError(SpikeportError):
    """A network holds operators that cannot be taken over; ``problems`` names every one of them."""

    exit_code = 4

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{message}: {'; '.join(self.problems)}" if self.problems else message)


class BackendUnavailable(SpikeportError):
    """A backend cannot run here (a package, an interpreter or a chip is missing)."""

    exit_code = 5


class WorkerCrashed(BackendUnavailable):
    """A backend's worker process died; the message holds the end of what it printed."""


class WorkerTimeout(BackendUnavailable):
    """A backend's worker process gave no answer within its time limit."""


def require_in_range(name: str, value: float, low: float, high: float, *, remedy: str = "") -> float:
    """Return ``value`` if ``low <= value <= high``, or raise RangeError (NaN is refused too).

    >>> require_in_range("beta", 0.9, 0.0, 1.0)
    0.9
    """
    if not low <= value <= high:
        raise RangeError(f"{name} is {value}, but it must lie between {low} and {high}. {remedy}".strip())
    return value


def require_shape(name: str, shape: Sequence[int], wanted: Sequence[int], *, remedy: str = "") -> None:
    """Raise ShapeError unless ``shape`` equals ``wanted``."""
    if tuple(shape) != tuple(wanted):
        raise ShapeError(f"{name} has shape {tuple(shape)}, but {tuple(wanted)} was wanted. {remedy}".strip())


def call_named(spec: str, returns: str) -> object:
    """Call the function that ``package.module:function`` names, without arguments, and return what it returns.

    The module may also lie in the working folder, as with ``python -m``.  This runs the user's code: ask for trust
    before.  returns: what the function should return, for the message.
    Raises SpikeportError where the function cannot be imported or fails, whatever it raises.
    """
    module, _, function = spec.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        with redirect_stdout(sys.stderr):  # stdout may be one JSON object
            result: object = getattr(import_module(module), function)()
    except (Exception, SystemExit) as error:
        raise SpikeportError(
            f"{spec} failed with {type(error).__name__}: {error}; it must be importable from here and, "
            f"called without arguments, return {returns}."
        ) from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    return result
