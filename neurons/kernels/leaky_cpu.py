# ruff: noqa: PLR0913 - one argument a buffer
"""Leaky integrate-and-fire on the CPU: a fused forward pass and its exact gradient (numba, multithreaded, cached).

A block of features keeps its state in the first-level cache while time runs.  The resets differ in factors of 0 and 1:
one loop without branches serves them all, and its values are those of ``leaky_reference``, bit for bit.  bfloat16
crosses as its bits in uint16: numba has no such type.  So that the compiler vectorises a loop, the buffers are constant
places in one array, and few others take part (more are not checked for overlap).
"""

from typing import NamedTuple

import numba
import numpy as np

from .bfloat16_cpu import read, writable, write
from .cpu import _compiled
from .formulas_cpu import ONE, ZERO, Floats, copy, derivative, fill, part

__all__ = ["Factors", "leaky_backward", "leaky_forward"]

BLOCK = 1024  # features a task: the buffers that a step touches fit the first-level cache (32 KiB)


class Factors(NamedTuple):
    """How the neuron fires and resets, as numbers.

    tie: the spike at u = threshold.  same_subtract, same_zero, late_subtract, late_zero: 1 for the reset in use.
    attached: 1 if gradient flows through the spike that resets.
    """

    tie: np.float32
    same_subtract: np.float32
    same_zero: np.float32
    late_subtract: np.float32
    late_zero: np.float32
    attached: np.float32


@part
def _spread(values: Floats, low: int, into: Floats) -> None:
    """Copy a block of a parameter, which has one value for all features or one for each."""
    if len(values) == 1:
        fill(into, values[0])
    else:
        copy(values[low : low + len(into)], into)


@part
def _forward_block(
    n: int,
    low: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Factors,
    spikes: Floats,
    saved: Floats,
) -> None:
    """Run one block of features through time; theta_now and theta_late: what a spike subtracts now or a step later."""
    tie, same_subtract, same_zero, late_subtract, late_zero, _ = factors
    width = min(BLOCK, membrane.shape[1] - low)
    bits = np.empty(9 * BLOCK, np.uint32)
    real = bits.view(np.float32)
    b, theta, v, r = real[:BLOCK], real[BLOCK : 2 * BLOCK], real[2 * BLOCK : 3 * BLOCK], real[3 * BLOCK : 4 * BLOCK]
    theta_now, theta_late = real[4 * BLOCK : 5 * BLOCK], real[5 * BLOCK : 6 * BLOCK]
    copy(membrane[n, low : low + width], v)
    _spread(beta, low, b[:width])
    _spread(threshold, low, theta[:width])
    for f in range(width):
        theta_now[f], theta_late[f] = same_subtract * theta[f], late_subtract * theta[f]
        d = v[f] - theta[f]
        r[f] = ONE if d > ZERO else (tie if d == ZERO else ZERO)
    for t in range(len(current)):
        x = read(current[t, n, low : low + width], bits[6 * BLOCK : 7 * BLOCK])
        s = writable(spikes[t, n, low : low + width], bits[7 * BLOCK : 8 * BLOCK])
        keep = len(saved) > 0
        over = writable(saved[t, n, low : low + width], bits[8 * BLOCK :]) if keep else real[8 * BLOCK :]
        if late_subtract + late_zero > ZERO:
            for f in range(width):
                u = b[f] * ((ONE - late_zero * r[f]) * v[f]) + x[f] - r[f] * theta_late[f]
                d = u - theta[f]
                fired = ONE if d > ZERO else (tie if d == ZERO else ZERO)
                v[f], r[f], s[f], over[f] = u, fired, fired, d
        else:
            for f in range(width):
                u = b[f] * v[f] + x[f]
                d = u - theta[f]
                fired = ONE if d > ZERO else (tie if d == ZERO else ZERO)
                v[f] = (ONE - same_zero) * u - theta_now[f] if fired > ZERO else u
                s[f], over[f] = fired, d
        write(spikes[t, n, low : low + width], bits[7 * BLOCK : 8 * BLOCK])
        if keep:
            write(saved[t, n, low : low + width], bits[8 * BLOCK :])
    copy(v[:width], after[n, low : low + width])


@_compiled
def leaky_forward(
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Factors,
    spikes: Floats,
    saved: Floats,
) -> None:
    """Fill ``after``, ``spikes`` and, unless it is empty, ``saved`` with u - threshold.

    current, spikes, saved: (time, batch, features); membrane, after: (batch, features); beta, threshold: (1,) or
    (features,).
    """
    batch, features = membrane.shape
    blocks = (features + BLOCK - 1) // BLOCK
    for task in numba.prange(batch * blocks):
        low = (task % blocks) * BLOCK
        _forward_block(task // blocks, low, current, membrane, after, beta, threshold, factors, spikes, saved)


# Places of the buffers of a backward block, in blocks
B, THETA, C, E, P, G, B_E, THETA_E, SUM_B, SUM_T, BITS = (BLOCK * place for place in range(11))


@part
def _prepare(
    n: int, low: int, width: int, to_after: Floats, beta: Floats, threshold: Floats, factors: Factors, real: Floats
) -> None:
    """Fill the buffers: parameters, and what comes from behind the last step.

    c: gradient of v[t]; g: of u[t + 1]; e: what a reset by subtraction sees (c, or g if it is late).
    """
    _, same_subtract, _, late_subtract, late_zero, attached = factors
    late = late_subtract + late_zero > ZERO
    b, theta, c, e, g = real[B:THETA], real[THETA:C], real[C:E], real[E:P], real[G:B_E]
    b_e, theta_e, sum_b, sum_t = real[B_E:THETA_E], real[THETA_E:SUM_B], real[SUM_B:SUM_T], real[SUM_T:BITS]
    _spread(beta, low, b[:width])
    _spread(threshold, low, theta[:width])
    copy(to_after[n, low : low + width], c)
    for f in range(width):
        b_e[f] = late_subtract + (ONE - late_subtract) * b[f]
        theta_e[f] = attached * (same_subtract + late_subtract) * theta[f]
        e[f] = ZERO if late else c[f]  # a late reset by the last spike is still to come
        g[f], sum_b[f], sum_t[f] = ZERO, ZERO, ZERO


@part
def _through_spike(width: int, real: Floats, d: Floats, ds: Floats, back: np.float32) -> None:
    """p: from the surrogate's derivative to what reaches u through the spike."""
    theta, c, e, p, theta_e = real[THETA:C], real[C:E], real[E:P], real[P:G], real[THETA_E:SUM_B]
    for f in range(width):
        p[f] *= ds[f] - (theta_e[f] * e[f] + back * (d[f] + theta[f]) * c[f])


@part
def _add_parameters(width: int, real: Floats, d: Floats, factors: Factors) -> None:
    """Add what a step gives to the gradients of beta and of the threshold."""
    tie, same_subtract, same_zero, late_subtract, late_zero, _ = factors
    zero, subtract = same_zero + late_zero, same_subtract + late_subtract
    theta, e, p, g = real[THETA:C], real[E:P], real[P:G], real[G:B_E]
    sum_b, sum_t = real[SUM_B:SUM_T], real[SUM_T:BITS]
    for f in range(width):
        s = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
        sum_b[f] += g[f] * ((ONE - zero * s) * (d[f] + theta[f]) - same_subtract * s * theta[f])
        sum_t[f] -= p[f] + subtract * s * e[f]


@part
def _through_membrane(width: int, real: Floats, d: Floats, dx: Floats, keep: np.float32, tie: np.float32) -> None:
    """dx, and g, c and e for the step before."""
    b, c, e, p, g, b_e = real[B:THETA], real[C:E], real[E:P], real[P:G], real[G:B_E], real[B_E:THETA_E]
    for f in range(width):
        fired = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
        g[f] = (keep * c[f] if fired > ZERO else c[f]) + p[f]
        dx[f], c[f], e[f] = g[f], b[f] * g[f], b_e[f] * g[f]


@part
def _through_both(
    width: int, real: Floats, d: Floats, ds: Floats, dx: Floats, keep: np.float32, back: np.float32, tie: np.float32
) -> None:
    """``_through_spike`` and ``_through_membrane`` in one pass, where no parameter asks for what lies between."""
    b, theta, c, e = real[B:THETA], real[THETA:C], real[C:E], real[E:P]
    p, b_e, theta_e = real[P:G], real[B_E:THETA_E], real[THETA_E:SUM_B]
    for f in range(width):
        fired = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
        through = p[f] * (ds[f] - (theta_e[f] * e[f] + back * (d[f] + theta[f]) * c[f]))
        du = (keep * c[f] if fired > ZERO else c[f]) + through
        dx[f], c[f], e[f] = du, b[f] * du, b_e[f] * du


@part
def _through_start(width: int, real: Floats, d: Floats, factors: Factors) -> None:
    """The membrane at the start may hold a spike whose (late) reset was still to come: d is its u - threshold."""
    tie, _, _, late_subtract, late_zero, attached = factors
    theta, c, e, p = real[THETA:C], real[C:E], real[E:P], real[P:G]
    for f in range(width):
        p[f] *= -attached * (late_subtract * theta[f] * e[f] + late_zero * (d[f] + theta[f]) * c[f])
    _add_parameters(width, real, d, factors)
    for f in range(width):
        s = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
        c[f] = (ONE - late_zero * s) * c[f] + p[f]


@part
def _backward_block(
    n: int,
    low: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Factors,
    formula: int,
    height: np.float32,
    sharpness: np.float32,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """Run one block of features backwards through time."""
    tie, _, same_zero, late_subtract, late_zero, attached = factors
    late, wanted = late_subtract + late_zero > ZERO, len(to_beta) > 0
    width = min(BLOCK, to_after.shape[1] - low)
    bits = np.empty(BITS + 3 * BLOCK, np.uint32)
    real = bits.view(np.float32)
    p, row, row_s, row_x = real[P : P + width], bits[BITS:], bits[BITS + BLOCK :], bits[BITS + 2 * BLOCK :]
    _prepare(n, low, width, to_after, beta, threshold, factors, real)
    for t in range(len(saved) - 1, -1, -1):
        d = read(saved[t, n, low : low + width], row)
        ds = read(to_spikes[t, n, low : low + width], row_s)
        dx = writable(to_current[t, n, low : low + width], row_x)
        z = same_zero + late_zero if t < len(saved) - 1 else same_zero
        derivative(d, formula, height, sharpness, row_x, p)
        if wanted:
            _through_spike(width, real, d, ds, attached * z)
            _add_parameters(width, real, d, factors)
            _through_membrane(width, real, d, dx, ONE - z, tie)
        else:
            _through_both(width, real, d, ds, dx, ONE - z, attached * z, tie)
        write(to_current[t, n, low : low + width], row_x)
    if late or wanted:
        start, theta, g, sum_b = membrane[n, low : low + width], real[THETA:C], real[G:B_E], real[SUM_B:SUM_T]
        d = real[BITS : BITS + BLOCK]
        for f in range(width):
            d[f] = start[f] - theta[f]
        if late:
            derivative(d[:width], formula, height, sharpness, row_x, p)
            _through_start(width, real, d, factors)
        else:
            for f in range(width):
                sum_b[f] += g[f] * start[f]
    copy(real[C : C + width], to_membrane[n, low : low + width])
    if wanted:
        copy(real[SUM_B : SUM_B + width], to_beta[n, low : low + width])
        copy(real[SUM_T : SUM_T + width], to_threshold[n, low : low + width])


@_compiled
def leaky_backward(
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Factors,
    formula: int,
    height: np.float32,
    sharpness: np.float32,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """Fill the four gradients, given those of the spikes and of the new membrane; time runs backwards.

    With p the surrogate's derivative at d = u - threshold, c the gradient of v[t] and e what a subtraction sees (c, or
    the gradient of u[t + 1] if it is late):
    du = (1 - zero * s) * c + p * (ds - attached * (subtract * threshold * e + zero * u * c)).
    to_beta, to_threshold: (batch, features), to be added up by the caller, or (0, 0) where nobody asks.
    membrane: where the sequence started; (0, 0) is allowed if the reset is not late and nobody asks for beta.
    """
    batch, features = to_after.shape
    blocks = (features + BLOCK - 1) // BLOCK
    for task in numba.prange(batch * blocks):
        _backward_block(
            task // blocks,
            (task % blocks) * BLOCK,
            to_spikes,
            to_after,
            saved,
            membrane,
            beta,
            threshold,
            factors,
            formula,
            height,
            sharpness,
            to_current,
            to_membrane,
            to_beta,
            to_threshold,
        )
