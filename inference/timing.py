"""Compare wall times on a machine whose speed drifts: take turns, and report medians."""

import statistics
import time
from collections.abc import Callable, Sequence

from .._check import RangeError

__all__ = ["interleaved_medians"]


def interleaved_medians(
    functions: Sequence[Callable[[], object]], repeats: int = 5, *, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the median seconds of each function over ``repeats`` rounds in which all run in turn.

    Each runs once before, untimed, so that compilation and first allocations are not counted.  A
    function that leaves work on an accelerator must wait for it itself.
    Raises RangeError if repeats < 1.
    """
    if repeats < 1:
        raise RangeError(f"repeats is {repeats}, but at least one round is needed.")
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, times in zip(functions, seconds, strict=True):
            begin = clock()
            function()
            times.append(clock() - begin)
    return [statistics.median(times) for times in seconds]
