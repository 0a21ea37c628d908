"""Differential coding on the CPU (numba): the arithmetic of ``follow_reference``, operation by operation.

The largest power of 2 that is not above a number is its bits without those of the mantissa.
"""

import numba
import numpy as np
import numpy.typing as npt

from .cpu import BLOCK, FloatArray, _compiled

EXPONENT = np.uint32(0x7F800000)


@_compiled
def follow_float32(
    value: FloatArray,
    age: npt.NDArray[np.int64],
    decoded: FloatArray,
    neuron: tuple[FloatArray, FloatArray, FloatArray],
    smallest: float,
    line: bool,
    maximum: float,
    out: FloatArray,
) -> None:
    """Fill ``out`` (time, batch, features) with decoded values.

    value: (time or 1, batch, features).  neuron: threshold, bias, initial membrane.  smallest: of the levels, in units
    of the threshold.
    """
    batch, features = decoded.shape
    constant = value.shape[0] == 1
    blocks = (features + BLOCK - 1) // BLOCK
    zero, one, near = np.float32(0.0), np.float32(1.0), np.float32(0.75)
    least, most = np.float32(smallest), np.float32(maximum)
    for task in numba.prange(batch * blocks):
        n = task // blocks
        low = (task % blocks) * BLOCK
        high = min(low + BLOCK, features)
        theta, bias, initial = neuron[0][low:high], neuron[1][low:high], neuron[2][low:high]
        size, v = np.empty(high - low, np.float32), np.empty(high - low, np.float32)
        bits = size.view(np.uint32)
        before = decoded[n, low:high]
        for index in range(len(out)):
            x, after = value[0 if constant else index, n, low:high], out[index, n, low:high]
            t = np.float32(age[n] + index + 1)
            for f in range(high - low):
                z = min(np.float32(x[f] + bias[f]), most)
                v[f] = np.float32(initial[f] + np.float32(t * np.float32(z - before[f])))
                size[f] = np.float32(abs(v[f]) / np.float32(theta[f] * near))
                if not line:
                    given = np.float32(np.float32(t * before[f]) / theta[f])
                    size[f] = min(size[f], given) if v[f] < zero else size[f]
            for f in range(high - low):
                bits[f] &= EXPONENT
            for f in range(high - low):
                share = min(size[f], one)
                share = share if share >= least else zero
                step = np.float32(np.float32(theta[f] * share) / t)
                r = np.float32(before[f] + (step if v[f] >= zero else -step))
                after[f] = r if line else max(r, zero)
            before = after
