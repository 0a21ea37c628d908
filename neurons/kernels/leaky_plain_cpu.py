# ruff: noqa: PLR0913 - one argument a buffer
"""Leaky integrate-and-fire on the CPU in the commonest case: one beta and one threshold for the layer, a reset at once.

Samples and features are one axis then, whatever their number, and all that a block keeps while time runs is its
membrane: blocks can be long, so that memory is read and written in long rows, which is what decides the speed.  Values
are those of ``leaky_cpu`` and ``leaky_backward_cpu``, bit for bit.
"""

import numba
import numpy as np

from .bfloat16_cpu import read, writable, write
from .cpu import _compiled, compiled_serial
from .formulas_cpu import ONE, ZERO, Floats, inlined, rational
from .leaky_plan_cpu import ATTACHED, HEIGHT, SHARPNESS, SUBTRACT, TIE, ZERO_NOW

__all__ = [
    "LONG_BLOCK",
    "plain_backward",
    "plain_backward_threads",
    "plain_forward",
    "plain_forward_threads",
]

LONG_BLOCK = 65536  # units a task; its membrane lies in the second-level cache


@inlined
def _step(
    width: int, v: Floats, x: Floats, s: Floats, over: Floats, b: np.float32, theta: np.float32, factors: Floats
) -> None:
    tie, keep, taken = factors[TIE], ONE - factors[ZERO_NOW], factors[SUBTRACT] * theta
    for f in range(width):
        u = b * v[f] + x[f]
        d = u - theta
        fired = ONE if d > ZERO else (tie if d == ZERO else ZERO)
        v[f] = keep * u - taken if fired > ZERO else u
        s[f], over[f] = fired, d


@compiled_serial
def plain_forward(
    first_task: int,
    last_task: int,
    block: int,
    steps: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: np.float32,
    threshold: np.float32,
    factors: Floats,
    spikes: Floats,
    saved: Floats,
) -> None:
    """Fill ``after``, ``spikes`` and, unless it is empty, ``saved`` with u - threshold; all arrays are flat.

    current, spikes, saved: (time, units); membrane, after: (units,).  A membrane of length 1 is the same everywhere.
    """
    units = len(after)
    for task in range(first_task, last_task):
        low = task * block
        width = min(block, units - low)
        v, bits = after[low : low + width], np.empty((3, width), np.uint32)
        if len(membrane) == 1:
            for f in range(width):
                v[f] = membrane[0]
        else:
            for f in range(width):
                v[f] = membrane[low + f]
        for t in range(steps):
            start = t * units + low
            x, s = read(current[start : start + width], bits[0]), spikes[start : start + width]
            d = saved[start : start + width] if len(saved) > 0 else saved
            over = writable(d, bits[2]) if len(saved) > 0 else bits[2].view(np.float32)
            _step(width, v, x, writable(s, bits[1]), over, beta, threshold, factors)
            write(s, bits[1])
            write(d, bits[2])


@inlined
def _step_back(
    width: int, c: Floats, d: Floats, ds: Floats, dx: Floats, b: np.float32, theta: np.float32, formula: int,
    height: np.float32, sharpness: np.float32,
) -> None:  # fmt: skip
    """One loop: with the derivative in a loop before it, it takes a quarter longer."""
    for f in range(width):
        du = c[f] + rational(d[f], formula, height, sharpness) * (ds[f] - theta * c[f])
        dx[f] = du
        c[f] = b * du


@compiled_serial
def plain_backward(
    first_task: int,
    last_task: int,
    block: int,
    steps: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    beta: np.float32,
    threshold: np.float32,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
) -> None:
    """As ``leaky_backward`` for a reset by subtraction, or none, with nobody asking for beta and threshold.

    formula: one of ``RATIONAL``.  to_membrane: (units,).  A ``to_after`` of length 1 is the same everywhere.
    """
    units, theta = len(to_membrane), factors[ATTACHED] * factors[SUBTRACT] * threshold
    for task in range(first_task, last_task):
        low = task * block
        width = min(block, units - low)
        c, bits = to_membrane[low : low + width], np.empty((3, width), np.uint32)
        if len(to_after) == 1:
            for f in range(width):
                c[f] = to_after[0]
        else:
            for f in range(width):
                c[f] = to_after[low + f]
        for t in range(steps - 1, -1, -1):
            start = t * units + low
            row = to_current[start : start + width]
            d, ds = read(saved[start : start + width], bits[0]), read(to_spikes[start : start + width], bits[1])
            dx = writable(row, bits[2])
            _step_back(width, c, d, ds, dx, beta, theta, formula, factors[HEIGHT], factors[SHARPNESS])
            write(row, bits[2])


@_compiled
def plain_forward_threads(
    parts: int,
    tasks: int,
    block: int,
    steps: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: np.float32,
    threshold: np.float32,
    factors: Floats,
    spikes: Floats,
    saved: Floats,
) -> None:
    """As ``plain_forward`` does all ``tasks``."""
    for part in numba.prange(parts):
        first, last = tasks * part // parts, tasks * (part + 1) // parts
        plain_forward(first, last, block, steps, current, membrane, after, beta, threshold, factors, spikes, saved)


@_compiled
def plain_backward_threads(
    parts: int,
    tasks: int,
    block: int,
    steps: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    beta: np.float32,
    threshold: np.float32,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
) -> None:
    """As ``plain_backward`` does all ``tasks``."""
    for part in numba.prange(parts):
        first, last = tasks * part // parts, tasks * (part + 1) // parts
        plain_backward(
            first, last, block, steps, to_spikes, to_after, saved, beta, threshold, factors, formula, to_current,
            to_membrane,
        )  # fmt: skip
