"""The decaying sum on the CPU: one multithreaded pass over memory (numba), the reference's arithmetic step by step."""

import numba
import numpy as np

from .cpu import FloatArray, _compiled

BLOCK = 1024  # features a task: the sum of a block stays in the first-level cache while time runs


@_compiled
def sum_float32(x: FloatArray, start: FloatArray, decay: FloatArray, backwards: bool, y: FloatArray) -> None:
    """Fill y: (time, batch, features) with y[t] = decay * y[t - 1] + x[t], or t + 1 where time runs backwards.

    start: (batch, features), the value before the first step; decay: (features,).
    """
    steps, batch, features = x.shape
    blocks = (features + BLOCK - 1) // BLOCK
    for task in numba.prange(batch * blocks):
        n = task // blocks
        low = (task % blocks) * BLOCK
        high = min(low + BLOCK, features)
        d, v = decay[low:high], np.empty(high - low, np.float32)
        v[:] = start[n, low:high]
        for step in range(steps):
            t = steps - 1 - step if backwards else step
            row, out = x[t, n, low:high], y[t, n, low:high]
            for f in range(high - low):
                v[f] = np.float32(np.float32(d[f] * v[f]) + row[f])
                out[f] = v[f]
