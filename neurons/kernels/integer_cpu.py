# ruff: noqa: PLR0913 - one argument a buffer
"""Neurons in whole numbers on the CPU: one multithreaded pass over memory (numba, compiled once and cached).

A block of features keeps its membrane in the cache while time runs.  Each step is a few loops without
branches, of few arrays each, which is what the compiler vectorises.  The arithmetic is int32: proven ranges keep states
within 24 bits, and the decay's product (|v| * k) >> 12 is formed from the two halves of |v|, which keeps it there too.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from .cpu import BINARY, SIGNED, SUBTRACT, ZERO, _compiled
from .formulas_cpu import part

__all__ = ["integer_filter", "integer_fire", "sum_windows"]

Integers = npt.NDArray[np.int32]
Numbers = npt.NDArray[Any]
Rule = tuple[int, int, int, bool, bool]  # code, reset, levels, leak, late

_LOW, _BITS = np.int32(4095), np.int32(12)


@part
def _decay(v: Integers, k: Integers) -> None:
    """v <- sign(v) * ((|v| * k) >> 12), in place."""
    for f in range(len(v)):
        size = np.int32(abs(v[f]))
        low = np.int32(np.int32(np.int32(size & _LOW) * k[f]) >> _BITS)
        kept = np.int32(np.int32(np.int32(size >> _BITS) * k[f]) + low)
        v[f] = kept if v[f] >= 0 else np.int32(-kept)


@part
def _binary(v: Integers, at: Integers, taken: Integers, out: Numbers) -> None:
    for f in range(len(v)):
        fired = v[f] >= at[f]
        v[f] -= taken[f] if fired else np.int32(0)
        out[f] = 1 if fired else 0


@part
def _binary_to_zero(v: Integers, at: Integers, out: Numbers) -> None:
    for f in range(len(v)):
        fired = v[f] >= at[f]
        v[f] = np.int32(0) if fired else v[f]
        out[f] = 1 if fired else 0


@part
def _signed(v: Integers, at: Integers, taken: Integers, net: Integers, zero: bool, offset: int, out: Numbers) -> None:
    for f in range(len(v)):
        s = np.int32(1) if v[f] >= at[f] else np.int32(0)
        back = np.int32(1) if v[f] < 0 and net[f] > 0 else np.int32(0)  # a threshold is at least 1: never both
        s = np.int32(s - back)
        v[f] = np.int32(0) if zero and s != 0 else np.int32(v[f] - np.int32(taken[f] * s))
        net[f] += s
        out[f] = s + offset


@part
def _graded(v: Integers, at: Integers, theta: Integers, taken: Integers, zero: bool, levels: int, out: Numbers) -> None:
    for f in range(len(v)):
        strict = np.int32(at[f] - theta[f])
        s = np.int32(min(max(np.int32(v[f] - strict) // theta[f], np.int32(0)), levels))
        v[f] = np.int32(0) if zero and s != 0 else np.int32(v[f] - taken[f] * s)
        out[f] = s


@part
def _fire(
    v: Integers, net: Integers, theta: Integers, taken: Integers, at: Integers, rule: Rule, offset: int, out: Numbers
) -> None:
    code, reset, levels = rule[:3]
    if code == BINARY and reset != ZERO:
        _binary(v, at, taken, out)
    elif code == BINARY:
        _binary_to_zero(v, at, out)
    elif code == SIGNED:
        _signed(v, at, taken, net, reset == ZERO, np.int32(offset), out)
    else:
        _graded(v, at, theta, taken, reset == ZERO, np.int32(levels), out)


@part
def _integrate(v: Integers, b: Integers, row: Numbers) -> None:
    for f in range(len(v)):
        v[f] += np.int32(np.int32(row[f]) + b[f])


@part
def _integrate_scaled(v: Integers, factor: Integers, row: Numbers, shifted: int) -> None:
    less = np.int32(shifted)
    for f in range(len(v)):
        v[f] += np.int32(factor[f] * np.int32(np.int32(row[f]) - less))


@part
def _integrate_and_fire(v: Integers, b: Integers, theta: Integers, strict: int, row: Numbers, out: Numbers) -> None:
    """A current and the commonest neuron in one pass: binary, and a spike subtracts the threshold at once."""
    more = np.int32(strict)
    for f in range(len(v)):
        u = np.int32(v[f] + np.int32(np.int32(row[f]) + b[f]))
        fired = u >= np.int32(theta[f] + more)
        v[f] = np.int32(u - theta[f]) if fired else u
        out[f] = 1 if fired else 0


@part
def _integrate_scaled_and_fire(
    v: Integers, factor: Integers, theta: Integers, strict: int, row: Numbers, shifted: int, out: Numbers
) -> None:
    """As ``_integrate_and_fire``, for the second of two currents."""
    more, less = np.int32(strict), np.int32(shifted)
    for f in range(len(v)):
        u = np.int32(v[f] + np.int32(factor[f] * np.int32(np.int32(row[f]) - less)))
        fired = u >= np.int32(theta[f] + more)
        v[f] = np.int32(u - theta[f]) if fired else u
        out[f] = 1 if fired else 0


@part
def _taken_late(v: Integers, theta: Integers, at: Integers, before: Integers) -> None:
    for f in range(len(v)):
        before[f] = theta[f] if v[f] >= at[f] else np.int32(0)


@_compiled
def integer_fire(
    block: int, row: int, x: Numbers, extra: Numbers, factor: Integers, shifted: int,
    state: tuple[Integers, Integers, Integers],
    neuron: tuple[Integers, Integers, Integers, Integers, Integers], rule: Rule, offset: int, out: Numbers,
) -> None:  # fmt: skip
    """Fill ``out`` (time, batch, features) with spikes + offset; the new membrane; advance the count in place.

    block: features a task; row: of them, those that a loop takes, so that their parameters stay in the cache.
    x: (time or 1, batch, features), whole numbers of any type: one time row means the same current at every step.
    extra: a second current of that shape, which counts as factor * (extra - shifted); (0, 0, 0) for none.
    state: the membrane, the new one (may be the same) and the count of net spikes (signed only).
    neuron: threshold, bias, k, what a spike subtracts at once, and the least membrane that fires; (features,), or those
    of one row where all rows have the same, and ``factor`` likewise.
    rule: code, reset, levels, leak, late.
    """
    membrane, after, count = state
    batch, features = membrane.shape
    leak, late = rule[3:]
    common = rule[0] == BINARY and rule[1] == SUBTRACT and not late
    blocks, repeated = (features + block - 1) // block, len(neuron[0]) < features
    for task in numba.prange(batch * blocks):
        n = task // blocks
        low = (task % blocks) * block
        high = min(low + block, features)
        after[n, low:high] = membrane[n, low:high]
        before = np.zeros(high - low, np.int32)
        for t in range(len(out)):
            now, then = 0 if len(x) == 1 else t, 0 if len(extra) == 1 else t
            for first in range(low, high, row):
                last = min(first + row, high)
                place = 0 if repeated else first
                end = place + last - first
                v, to = after[n, first:last], out[t, n, first:last]
                theta, b, scale = neuron[0][place:end], neuron[1][place:end], factor[place:end]
                if late:
                    _taken_late(v, theta, neuron[4][place:end], before[first - low : last - low])
                if leak:
                    _decay(v, neuron[2][place:end])
                strict = neuron[4][place] - theta[0]
                if common and len(extra) == 0:
                    _integrate_and_fire(v, b, theta, strict, x[now, n, first:last], to)
                    continue
                _integrate(v, b, x[now, n, first:last])
                if common:
                    _integrate_scaled_and_fire(v, scale, theta, strict, extra[then, n, first:last], shifted, to)
                    continue
                if len(extra) > 0:
                    _integrate_scaled(v, scale, extra[then, n, first:last], shifted)
                if late:
                    v -= before[first - low : last - low]
                net = count[n if len(count) > 1 else 0, first:last]
                _fire(v, net, theta, neuron[3][place:end], neuron[4][place:end], rule, offset, to)


@_compiled
def integer_filter(x: Numbers, state: Integers, after: Integers, decay: Integers, out: Numbers) -> None:
    """Fill ``out`` (time, batch, features) with i <- decay(i, k) + x, and the new current."""
    batch, features = state.shape
    for n in numba.prange(batch):
        i = after[n]
        i[:] = state[n]
        for t in range(len(out)):
            _decay(i, decay)
            for f in range(features):
                i[f] += np.int32(x[t, n, f])
                out[t, n, f] = i[f]


@_compiled
def sum_windows(x: npt.NDArray[np.uint8], stride: tuple[int, int], kernel: tuple[int, int], out: Numbers) -> None:
    """Fill out (n, rows, columns, channels) with the sums of the windows of x (n, height, width, channels), bytes."""
    for task in numba.prange(out.shape[0] * out.shape[1]):
        n, row = task // out.shape[1], task % out.shape[1]
        for column in range(out.shape[2]):
            total, top, left = out[n, row, column], row * stride[0], column * stride[1]
            total[:] = x[n, top, left]
            for place in range(1, kernel[0] * kernel[1]):
                seen = x[n, top + place // kernel[1], left + place % kernel[1]]
                for c in range(len(total)):
                    total[c] += seen[c]
