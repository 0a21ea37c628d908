"""Integrate-and-fire on the CPU: one fused, multithreaded pass over memory (numba, compiled once and cached).

A block of features keeps its membrane in the first-level cache while time runs; the inner loop over features
is what the compiler vectorises.  The arithmetic is that of ``reference``, operation by operation.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

BLOCK = 1024  # features a task: membrane, count, threshold and bias of a block fit the first-level cache (16 KiB)
BINARY, SIGNED, GRADED, LATE = 0, 1, 2, 3  # LATE: binary, subtracting a step later
SUBTRACT, ZERO, NONE = 0, 1, 2


FloatArray = npt.NDArray[np.float32]


def _compiled(function: Callable[..., None], **options: Any) -> Callable[..., None]:
    """Compile for all cores; the machine code is kept on disk where some folder can be written."""
    options = options or {"parallel": True}
    compiled: Any
    try:
        compiled = numba.njit(cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # an installation that is read-only, without a home folder: compile in each process
        compiled = numba.njit(error_model="numpy", **options)(function)
    return compiled  # type: ignore[no-any-return]


def compiled_serial(function: Callable[..., None]) -> Callable[..., None]:
    """Compile for one core, in half the time; it lets other threads of Python run meanwhile."""
    return _compiled(function, nogil=True)


@numba.njit(inline="always")
def _membrane_after(v: np.float32, s: np.float32, threshold: np.float32, reset: int) -> np.float32:
    if reset == SUBTRACT:
        return np.float32(v - np.float32(threshold * s))
    if reset == ZERO and s != 0:
        return np.float32(0.0)
    return v


@numba.njit(inline="always")
def _binary_step(
    x: FloatArray, v: FloatArray, decay: FloatArray, theta: FloatArray, b: FloatArray, strict: bool, reset: int,
    out: FloatArray,
) -> None:  # fmt: skip
    """One step of a block of features, the membrane ``v`` in place."""
    for f in range(len(v)):
        u = np.float32(np.float32(np.float32(v[f] * decay[f]) + x[f]) + b[f])
        fired = u > theta[f] if strict else u >= theta[f]
        s = np.float32(1.0) if fired else np.float32(0.0)
        v[f] = _membrane_after(u, s, theta[f], reset)
        out[f] = s


@_compiled
def replay_float32(
    current: FloatArray,
    age: npt.NDArray[np.int64],
    initial: FloatArray,
    neuron: tuple[FloatArray, FloatArray, FloatArray],
    strict: bool,
    reset: int,
    spikes: FloatArray,
) -> None:
    """Fill ``spikes`` (time, batch, features) of binary neurons with a constant current (batch, features).

    The ``age`` steps that each sample has done are done again, in the cache, from the ``initial`` membrane (features,):
    cheaper than to fetch a membrane from memory and to put it back.  neuron: threshold, bias, beta.
    """
    batch, features = current.shape
    blocks = (features + BLOCK - 1) // BLOCK
    for task in numba.prange(batch * blocks):
        n = task // blocks
        low = (task % blocks) * BLOCK
        high = min(low + BLOCK, features)
        v, x = initial[low:high].copy(), current[n, low:high]
        theta, b, decay = neuron[0][low:high], neuron[1][low:high], neuron[2][low:high]
        out = spikes[0, n, low:high]
        for _ in range(age[n]):
            _binary_step(x, v, decay, theta, b, strict, reset, out)
        for t in range(len(spikes)):
            _binary_step(x, v, decay, theta, b, strict, reset, spikes[t, n, low:high])


@_compiled
def fire_float32(  # noqa: PLR0913 - one argument a buffer
    current: FloatArray,
    steps: int,
    membrane: FloatArray,
    new_membrane: FloatArray,
    count: FloatArray,
    threshold: FloatArray,
    bias: FloatArray,
    beta: FloatArray,
    code: int,
    strict: bool,
    reset: int,
    levels: np.float32,
    spikes: FloatArray,
) -> None:
    """Fill ``new_membrane`` and ``spikes`` (which may be ``membrane`` and ``current``); advance ``count`` in place.

    current: (time or 1, batch, features): one time row means the same current at every step.
    """
    batch, features = membrane.shape
    constant = current.shape[0] == 1
    blocks = (features + BLOCK - 1) // BLOCK
    for task in numba.prange(batch * blocks):
        n = task // blocks
        low = (task % blocks) * BLOCK
        high = min(low + BLOCK, features)
        v, net = new_membrane[n, low:high], count[n, low:high]
        theta, b, decay = threshold[low:high], bias[low:high], beta[low:high]
        v[:] = membrane[n, low:high]
        for t in range(steps):
            x = current[0 if constant else t, n, low:high]
            out = spikes[t, n, low:high]
            if code == BINARY:
                _binary_step(x, v, decay, theta, b, strict, reset, out)
            elif code == LATE:
                for f in range(high - low):
                    before = v[f] > theta[f] if strict else v[f] >= theta[f]
                    taken = np.float32(theta[f] * (np.float32(1.0) if before else np.float32(0.0)))
                    u = np.float32(np.float32(np.float32(v[f] * decay[f]) + x[f]) + b[f])
                    v[f] = np.float32(u - taken)
                    fired = v[f] > theta[f] if strict else v[f] >= theta[f]
                    out[f] = np.float32(1.0) if fired else np.float32(0.0)
            elif code == SIGNED:
                for f in range(high - low):
                    u = np.float32(np.float32(np.float32(v[f] * decay[f]) + x[f]) + b[f])
                    fired = u > theta[f] if strict else u >= theta[f]
                    back = (not fired) and u < 0 and net[f] > 0
                    s = np.float32(1.0) if fired else (np.float32(-1.0) if back else np.float32(0.0))
                    v[f] = _membrane_after(u, s, theta[f], reset)
                    net[f] += s
                    out[f] = s
            else:
                for f in range(high - low):
                    u = np.float32(np.float32(np.float32(v[f] * decay[f]) + x[f]) + b[f])
                    level = np.float32(u / theta[f])
                    s = np.float32(np.ceil(level) - np.float32(1.0)) if strict else np.floor(level)
                    s = min(max(s, np.float32(0.0)), levels)
                    v[f] = _membrane_after(u, s, theta[f], reset)
                    out[f] = s
