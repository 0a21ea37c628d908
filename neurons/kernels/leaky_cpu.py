# ruff: noqa: PLR0913 - one argument a buffer
"""Leaky integrate-and-fire on the CPU: a fused forward pass and its exact gradient (numba, cached).

A block of features keeps its state in the first-level cache while time runs.  The resets differ in factors of 0 and 1:
few loops without branches serve them all, and their values are those of ``leaky_reference``, bit for bit.  bfloat16
crosses as its bits in uint16: numba has no such type.
Written for the compiler: a loop is vectorised if its buffers are constant places in one array and few others take part
(more are not checked for overlap).  Arrays are flat and parts are inlined before they are compiled, as every function
takes its time; the commonest backward pass has a kernel of its own, which is compiled in half the time.  A kernel does
the tasks from ``first_task`` to ``last_task``, a block of features of a sample each; ``leaky_cpu_threads`` shares them
out.
"""

import numpy as np

from .bfloat16_cpu import read, writable, write
from .cpu import compiled_serial
from .formulas_cpu import ONE, ZERO, Floats, derivative, inlined, rational

__all__ = ["leaky_backward", "leaky_backward_plain", "leaky_forward", "leaky_tasks"]

BLOCK = 2048  # features a task: its buffers lie in the second-level cache, and rows are long enough to be fetched ahead


def leaky_tasks(batch: int, features: int) -> int:
    """How many tasks the kernels have."""
    return batch * ((features + BLOCK - 1) // BLOCK)


# What ``factors`` holds, float32.  TIE: the spike at u = threshold; then 1 for the reset in use (now, or a step late);
# ATTACHED: 1 if gradient flows through the spike that resets; the surrogate's coefficients.
TIE, SUBTRACT, ZERO_NOW, LATE_SUBTRACT, LATE_ZERO, ATTACHED, HEIGHT, SHARPNESS = range(8)

# Places of the buffers of a block, in features
B, THETA, V, R, NOW, LATE, ROWS = (BLOCK * place for place in range(7))


@inlined
def _step(width: int, real: Floats, x: Floats, s: Floats, over: Floats, factors: Floats) -> None:
    """Advance a block by a step; now and late: what a spike subtracts at once or a step later."""
    b, theta, v, r, now, late = real[B:THETA], real[THETA:V], real[V:R], real[R:NOW], real[NOW:LATE], real[LATE:ROWS]
    tie, keep, late_zero = factors[TIE], ONE - factors[ZERO_NOW], factors[LATE_ZERO]
    if factors[LATE_SUBTRACT] + late_zero > ZERO:
        for f in range(width):
            u = b[f] * ((ONE - late_zero * r[f]) * v[f]) + x[f] - r[f] * late[f]
            d = u - theta[f]
            fired = ONE if d > ZERO else (tie if d == ZERO else ZERO)
            v[f], r[f], s[f], over[f] = u, fired, fired, d
    else:
        for f in range(width):
            u = b[f] * v[f] + x[f]
            d = u - theta[f]
            fired = ONE if d > ZERO else (tie if d == ZERO else ZERO)
            v[f] = keep * u - now[f] if fired > ZERO else u
            s[f], over[f] = fired, d


@inlined
def _forward_block(
    n: int,
    low: int,
    steps: int,
    batch: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    spikes: Floats,
    saved: Floats,
) -> None:
    """Run one block of features through time."""
    features = len(beta)
    width = min(BLOCK, features - low)
    bits = np.empty(ROWS + 3 * BLOCK, np.uint32)
    real = bits.view(np.float32)
    row_x, row_s, row_d = bits[ROWS : ROWS + BLOCK], bits[ROWS + BLOCK : ROWS + 2 * BLOCK], bits[ROWS + 2 * BLOCK :]
    first = n * features + low
    subtract, late_subtract, tie = factors[SUBTRACT], factors[LATE_SUBTRACT], factors[TIE]
    for f in range(width):
        real[B + f] = beta[low + f]
    for f in range(width):
        real[THETA + f] = threshold[low + f]
    for f in range(width):
        real[V + f] = membrane[first + f]
    for f in range(width):
        d = real[V + f] - real[THETA + f]
        real[R + f] = ONE if d > ZERO else (tie if d == ZERO else ZERO)
        real[NOW + f], real[LATE + f] = subtract * real[THETA + f], late_subtract * real[THETA + f]
    for t in range(steps):
        start = (t * batch + n) * features + low
        x = read(current[start : start + width], row_x)
        s = spikes[start : start + width]
        d = saved[start : start + width] if len(saved) > 0 else saved
        over = writable(d, row_d) if len(saved) > 0 else row_d.view(np.float32)
        _step(width, real, x, writable(s, row_s), over, factors)
        write(s, row_s)
        write(d, row_d)
    for f in range(width):
        after[first + f] = real[V + f]


@compiled_serial
def leaky_forward(
    first_task: int,
    last_task: int,
    steps: int,
    batch: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    spikes: Floats,
    saved: Floats,
) -> None:
    """Fill ``after``, ``spikes`` and, unless it is empty, ``saved`` with u - threshold; all arrays are flat.

    current, spikes, saved: (time, batch, features); membrane, after: (batch, features); beta, threshold: (features,).
    """
    features = len(beta)
    blocks = (features + BLOCK - 1) // BLOCK
    for task in range(first_task, last_task):
        n, low = task // blocks, (task % blocks) * BLOCK
        _forward_block(n, low, steps, batch, current, membrane, after, beta, threshold, factors, spikes, saved)


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


@inlined
def _prepare_plain(
    n: int, low: int, real: Floats, to_after: Floats, beta: Floats, threshold: Floats, factors: Floats
) -> None:
    """Fill the buffers that ``_step_back_plain`` uses; a loop each, or none is vectorised."""
    width, first, subtract = min(BLOCK, len(beta) - low), n * len(beta) + low, factors[ATTACHED] * factors[SUBTRACT]
    for f in range(width):
        real[B + f] = beta[low + f]
    for f in range(width):
        real[_THETA_E + f] = subtract * threshold[low + f]
    for f in range(width):
        real[_C + f] = to_after[first + f]


@inlined
def _step_back_plain(
    width: int, real: Floats, d: Floats, ds: Floats, dx: Floats, formula: int, height: np.float32, sharpness: np.float32
) -> None:
    """What ``_step_back`` computes where e is c and only a subtraction at once takes part: the commonest case.

    One loop: with the derivative in a loop before it, it takes a quarter longer.
    """
    b, c, theta_e = real[B:THETA], real[_C:_E], real[_THETA_E:_SUM_B]
    for f in range(width):
        du = c[f] + rational(d[f], formula, height, sharpness) * (ds[f] - theta_e[f] * c[f])
        dx[f] = du
        c[f] = b[f] * du


@inlined
def _backward_block_plain(
    n: int,
    low: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
) -> None:
    features = len(beta)
    width, first = min(BLOCK, features - low), n * features + low
    bits = np.empty(_ROWS + 3 * BLOCK, np.uint32)
    real = bits.view(np.float32)
    row_d, row_s = bits[_ROWS : _ROWS + BLOCK], bits[_ROWS + BLOCK : _ROWS + 2 * BLOCK]
    row_x = bits[_ROWS + 2 * BLOCK :]
    _prepare_plain(n, low, real, to_after, beta, threshold, factors)
    for t in range(steps - 1, -1, -1):
        start = (t * batch + n) * features + low
        row = to_current[start : start + width]
        d, ds = read(saved[start : start + width], row_d), read(to_spikes[start : start + width], row_s)
        _step_back_plain(width, real, d, ds, writable(row, row_x), formula, factors[HEIGHT], factors[SHARPNESS])
        write(row, row_x)
    for f in range(width):
        to_membrane[first + f] = real[_C + f]


@compiled_serial
def leaky_backward_plain(
    first_task: int,
    last_task: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
) -> None:
    """As ``leaky_backward`` for a reset by subtraction at once, or none, with nobody asking for beta and threshold.

    formula: one that ``rational`` knows.
    """
    blocks = (len(beta) + BLOCK - 1) // BLOCK
    for task in range(first_task, last_task):
        _backward_block_plain(
            task // blocks,
            (task % blocks) * BLOCK,
            steps,
            batch,
            to_spikes,
            to_after,
            saved,
            beta,
            threshold,
            factors,
            formula,
            to_current,
            to_membrane,
        )
