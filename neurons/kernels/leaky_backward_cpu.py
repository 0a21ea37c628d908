# ruff: noqa: PLR0913 - one argument a buffer
"""The exact gradient of ``leaky_cpu``, written by hand: blocks of features go backwards in time (numba, cached)."""

import numba
import numpy as np

from .bfloat16_cpu import read, writable, write
from .cpu import _compiled, compiled_serial
from .formulas_cpu import ONE, ZERO, Floats, derivative, inlined
from .leaky_plan_cpu import (
    ATTACHED,
    BLOCK,
    HEIGHT,
    LATE_SUBTRACT,
    LATE_ZERO,
    SHARPNESS,
    SUBTRACT,
    THETA,
    TIE,
    ZERO_NOW,
    B,
    V,
)

__all__ = ["leaky_backward", "leaky_backward_threads"]

# Places of the buffers of a backward block, in features
_C, _E, _P, _G, _B_E, _THETA_E, _SUM_B, _SUM_T, _ROWS = (BLOCK * place for place in range(2, 11))


@inlined
def _prepare(
    n: int, low: int, real: Floats, to_after: Floats, beta: Floats, threshold: Floats, factors: Floats
) -> None:
    """Fill the buffers: parameters, and what comes from behind the last step.

    c: gradient of v[t]; g: of u[t + 1]; e: what a reset by subtraction sees (c, or g if it is late).
    """
    late_subtract = factors[LATE_SUBTRACT]
    late = late_subtract + factors[LATE_ZERO]
    subtract = factors[ATTACHED] * (factors[SUBTRACT] + late_subtract)
    for f in range(min(BLOCK, len(beta) - low)):
        b, theta, c = beta[low + f], threshold[low + f], to_after[n * len(beta) + low + f]
        real[B + f], real[THETA + f], real[_C + f] = b, theta, c
        real[_B_E + f] = late_subtract + (ONE - late_subtract) * b
        real[_THETA_E + f] = subtract * theta
        real[_E + f] = (ONE - late) * c  # a late reset by the last spike is still to come
        real[_G + f], real[_SUM_B + f], real[_SUM_T + f] = ZERO, ZERO, ZERO


@inlined
def _step_back(
    width: int, real: Floats, d: Floats, ds: Floats, dx: Floats, factors: Floats, pending: bool, wanted: bool
) -> None:
    """From c, e and g of a step to dx and those of the step before; p: the surrogate's derivative.

    pending: the spike of this step has not reset the membrane (late resets, last step).
    """
    b, theta, c, e, p = real[B:THETA], real[THETA:V], real[_C:_E], real[_E:_P], real[_P:_G]
    b_e, theta_e = real[_B_E:_THETA_E], real[_THETA_E:_SUM_B]
    tie, now = factors[TIE], factors[ZERO_NOW]
    zero = now + factors[LATE_ZERO]
    z = now if pending else zero
    keep, back = ONE - z, factors[ATTACHED] * z
    if wanted:
        g, sum_b, sum_t = real[_G:_B_E], real[_SUM_B:_SUM_T], real[_SUM_T:_ROWS]
        subtract, subtract_now = factors[SUBTRACT] + factors[LATE_SUBTRACT], factors[SUBTRACT]
        for f in range(width):
            s = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
            u = d[f] + theta[f]
            through = p[f] * (ds[f] - (theta_e[f] * e[f] + back * u * c[f]))
            sum_b[f] += g[f] * ((ONE - zero * s) * u - subtract_now * s * theta[f])
            sum_t[f] -= through + subtract * s * e[f]
            g[f] = (ONE - z * s) * c[f] + through
            dx[f], c[f], e[f] = g[f], b[f] * g[f], b_e[f] * g[f]
    else:
        for f in range(width):
            s = ONE if d[f] > ZERO else (tie if d[f] == ZERO else ZERO)
            through = p[f] * (ds[f] - (theta_e[f] * e[f] + back * (d[f] + theta[f]) * c[f]))
            du = (keep * c[f] if s > ZERO else c[f]) + through
            dx[f], c[f], e[f] = du, b[f] * du, b_e[f] * du


@inlined
def _backward_block(
    n: int,
    low: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """Run one block of features backwards through time."""
    features, wanted = len(beta), len(to_beta) > 0
    late = factors[LATE_SUBTRACT] + factors[LATE_ZERO] > ZERO
    width, first = min(BLOCK, features - low), n * features + low
    bits = np.empty(_ROWS + 3 * BLOCK, np.uint32)
    real = bits.view(np.float32)
    row_d, row_s, row_x = (
        bits[_ROWS : _ROWS + BLOCK],
        bits[_ROWS + BLOCK : _ROWS + 2 * BLOCK],
        bits[_ROWS + 2 * BLOCK :],
    )
    p = real[_P : _P + width]
    _prepare(n, low, real, to_after, beta, threshold, factors)
    for t in range(steps - 1, -2 if late else -1, -1):
        start = (t * batch + n) * features + low if t >= 0 else 0
        row = to_current[start : start + width]
        if t >= 0:
            d, ds = read(saved[start : start + width], row_d), read(to_spikes[start : start + width], row_s)
            dx = writable(row, row_x)
        else:  # the membrane at the start may hold a spike whose reset was still to come
            d, ds, dx = row_d.view(np.float32), row_s.view(np.float32), row_x.view(np.float32)
            for f in range(width):
                d[f], ds[f], real[B + f] = membrane[first + f] - real[THETA + f], ZERO, ONE
        derivative(d, formula, factors[HEIGHT], factors[SHARPNESS], row_x, p)
        _step_back(width, real, d, ds, dx, factors, t == steps - 1, wanted)
        if t >= 0:
            write(row, row_x)
    if wanted and not late:
        for f in range(width):
            real[_SUM_B + f] += real[_G + f] * membrane[first + f]
    for f in range(width):
        to_membrane[first + f] = real[_C + f]
    if wanted:
        for f in range(width):
            to_beta[first + f], to_threshold[first + f] = real[_SUM_B + f], real[_SUM_T + f]


@compiled_serial
def leaky_backward(
    first_task: int,
    last_task: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """Fill the four gradients, given those of the spikes and of the new membrane; time runs backwards; arrays are flat.

    With p the surrogate's derivative at d = u - threshold, c the gradient of v[t] and e what a subtraction sees (c, or
    the gradient of u[t + 1] if it is late):
    du = (1 - zero * s) * c + p * (ds - attached * (subtract * threshold * e + zero * u * c)).
    to_beta, to_threshold: (batch, features), to be added up by the caller, or empty where nobody asks.
    membrane: where the sequence started; it may be empty if the reset is not late and nobody asks for beta.
    """
    features = len(beta)
    blocks = (features + BLOCK - 1) // BLOCK
    for task in range(first_task, last_task):
        _backward_block(
            task // blocks,
            (task % blocks) * BLOCK,
            steps,
            batch,
            to_spikes,
            to_after,
            saved,
            membrane,
            beta,
            threshold,
            factors,
            formula,
            to_current,
            to_membrane,
            to_beta,
            to_threshold,
        )


@_compiled
def leaky_backward_threads(
    parts: int,
    tasks: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """As ``leaky_backward`` does all ``tasks``."""
    for part in numba.prange(parts):
        leaky_backward(
            tasks * part // parts,
            tasks * (part + 1) // parts,
            steps,
            batch,
            to_spikes,
            to_after,
            saved,
            membrane,
            beta,
            threshold,
            factors,
            formula,
            to_current,
            to_membrane,
            to_beta,
            to_threshold,
        )
