# ruff: noqa: PLR0913 - one argument a buffer
"""Leaky integrate-and-fire on the CPU: a fused forward pass (numba, cached); ``leaky_backward_cpu`` has its gradient.

A block of features keeps its state in the first-level cache while time runs.  The resets differ in factors of 0 and 1:
few loops without branches serve them all, and their values are those of ``leaky_reference``, bit for bit.  bfloat16
crosses as its bits in uint16: numba has no such type.
Written for the compiler: a loop is vectorised if its buffers are constant places in one array and few others take part
(more are not checked for overlap).  Arrays are flat and parts are inlined before they are compiled, as every function
takes its time; the commonest case has kernels of its own (``leaky_plain_cpu``), which are compiled in half the time.  A
kernel does the tasks from ``first_task`` to ``last_task``, a block of features of a sample each; ``..._threads`` shares
them out.  Both lie in one file, as numba sees only changes of the file that it has compiled.
"""

import numba
import numpy as np

from .bfloat16_cpu import read, writable, write
from .cpu import _compiled, compiled_serial
from .formulas_cpu import ONE, ZERO, Floats, inlined
from .leaky_plan_cpu import BLOCK, LATE, LATE_SUBTRACT, LATE_ZERO, NOW, ROWS, SUBTRACT, THETA, TIE, ZERO_NOW, B, R, V

__all__ = ["leaky_forward", "leaky_forward_threads"]


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
    if len(membrane) == 1:
        for f in range(width):
            real[V + f] = membrane[0]
    else:
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
    A membrane of length 1 is the same everywhere.
    """
    features = len(beta)
    blocks = (features + BLOCK - 1) // BLOCK
    for task in range(first_task, last_task):
        n, low = task // blocks, (task % blocks) * BLOCK
        _forward_block(n, low, steps, batch, current, membrane, after, beta, threshold, factors, spikes, saved)


@_compiled
def leaky_forward_threads(
    parts: int,
    tasks: int,
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
    """As ``leaky_forward`` does all ``tasks``."""
    for part in numba.prange(parts):
        leaky_forward(
            tasks * part // parts,
            tasks * (part + 1) // parts,
            steps,
            batch,
            current,
            membrane,
            after,
            beta,
            threshold,
            factors,
            spikes,
            saved,
        )
