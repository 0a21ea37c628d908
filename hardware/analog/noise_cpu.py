# ruff: noqa: PLR0913 - one argument a buffer
"""Read noise and column converters in one pass over memory (numba, compiled once and cached)."""

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ...neurons.kernels.cpu import _compiled

__all__ = ["read_float32"]

Floats = npt.NDArray[np.float32]
_ZERO = np.float32(0)
_GOLDEN, _FIRST, _SECOND = np.uint32(0x9E3779B9), np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_LOW = np.uint32((1 << 20) - 1)
_ROUND = np.float32(3 << 22)  # adding it leaves no bits below 1: to the nearest, half to even, for sizes up to 2^22


@_compiled
def read_float32(
    mean: Floats,
    variance: Floats,
    words: npt.NDArray[np.uint32],
    table: tuple[Floats, Floats],
    step: Floats,
    most: np.float32,
    base: Floats,
    add: bool,
    out: Floats,
    saturated: npt.NDArray[np.int64],
) -> None:
    """out = base + adc(mean + sqrt(variance) N(0, 1)), or added to what is there already.

    mean: (steps or 1, batch, places, columns); variance: the same, or without rows for no noise; words: (steps, batch,
    2) of ``noise.read_keys``; step: (columns,) of the converters, empty for none; most: their largest code; base:
    (columns,); out: (steps, batch, places, columns); saturated: (steps, batch), counts what lay beyond.
    """
    steps, batch, places, columns = out.shape
    quantile, slope = table
    noisy, converts = len(variance) > 0, len(step) > 0
    for index in numba.prange(steps * batch):
        t, b = index // batch, index % batch
        row = t if len(mean) > 1 else 0
        first, second = (words[t, b, 0], words[t, b, 1]) if noisy else (np.uint32(0), np.uint32(0))
        beyond = 0
        for p in range(places):
            start = np.uint32(p * columns)
            for c in range(columns):
                y = mean[row, b, p, c]
                if noisy:
                    x: Any = np.uint32(first + np.uint32(start + np.uint32(c)) * _GOLDEN)
                    x ^= x >> np.uint32(16)
                    x = np.uint32(x * _FIRST) ^ second
                    x ^= x >> np.uint32(15)
                    x = np.uint32(x * _SECOND)
                    x ^= x >> np.uint32(16)
                    part = x >> np.uint32(20)
                    z = quantile[part] + slope[part] * np.float32(np.int32(x & _LOW))
                    y += np.float32(math.sqrt(max(variance[row, b, p, c], _ZERO))) * z
                if converts:
                    code = (y / step[c] + _ROUND) - _ROUND
                    beyond += 1 if abs(code) > most else 0
                    y = min(max(code, -most), most) * step[c]
                out[t, b, p, c] = out[t, b, p, c] + y if add else base[c] + y
        saturated[t, b] += beyond
