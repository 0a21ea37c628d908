"""Read noise that is a function of what is read: of the sample, the chip, the layer, the step and the output.

No generator is carried along, so splitting time or the batch changes nothing, and the same run gives the same numbers.
"""

from functools import cache
from hashlib import blake2b
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

__all__ = ["SHIFT", "base_keys", "next_keys", "normal_table", "normals", "read_keys"]

SHIFT = 20  # bits of a draw that place it within one of the 2^12 parts of the distribution
_PARTS = 1 << (32 - SHIFT)
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 0xFFFFFFFF


@cache
def normal_table() -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of the standard normal distribution at i / 4096, and the slopes between them, float32 (4096,) each.

    A draw u of 32 bits is quantile[u >> 20] + slope[u >> 20] * (u mod 2^20).  The two ends, which lie at infinity, are
    put where the variance is 1 (±3.96), so that the draws have the mean 0, the variance 1 and the kurtosis 3.008.
    """
    inner = np.array([NormalDist().inv_cdf(i / _PARTS) for i in range(1, _PARTS)])
    a, b = inner[:-1], inner[1:]
    missing = _PARTS - float(((a * a + a * b + b * b) / 3).sum())  # of the two outer parts: (q^2 + q e + e^2) / 3 each
    q = inner[-1]
    end = (-q + np.sqrt(q * q - 4 * (q * q - 1.5 * missing))) / 2
    quantiles = np.concatenate([[-end], inner, [end]])
    return quantiles[:-1].astype(np.float32), (np.diff(quantiles) / (1 << SHIFT)).astype(np.float32)


def _mixed(key: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014, doi 10.1145/2714064.2660195)."""
    with np.errstate(over="ignore"):
        key = (key ^ (key >> np.uint64(30))) * np.uint64(_MIX[0])
        key = (key ^ (key >> np.uint64(27))) * np.uint64(_MIX[1])
    return np.asarray(key ^ (key >> np.uint64(31)))


def base_keys(seed: int, instances: int, batch: int) -> Tensor:
    """A key for each row of a batch (batch,), int64: of the seed and of the instance that the row belongs to.

    The rows of an instance stand together: row // (batch / instances).
    """
    start = int.from_bytes(blake2b(repr((seed, "read")).encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        chip = np.arange(instances, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(start)
    return torch.from_numpy(_mixed(chip).view(np.int64).repeat(batch // max(instances, 1)))


def next_keys(keys: Tensor, x: Tensor) -> Tensor:
    """Keys (batch,) that depend on every value of the samples x (batch, *features) too."""
    values = np.ascontiguousarray(x.detach().flatten(1).to(torch.float64).numpy()).view(np.uint64)
    with np.errstate(over="ignore"):
        weights = _mixed(np.arange(1, values.shape[1] + 1, dtype=np.uint64) * np.uint64(_GOLDEN)) | np.uint64(1)
        content = (_mixed(values) * weights).sum(1)
        return torch.from_numpy(_mixed(keys.numpy().view(np.uint64) + content).view(np.int64))


def read_keys(keys: Tensor, when: Tensor, name: str) -> np.ndarray:
    """The two words (steps, batch, 2), uint32, from which a layer draws its noise.

    keys: (batch,) or (steps, batch); when: (steps, batch), the step of each sample, from 0; name: of the layer.
    """
    layer = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        at = (when.numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.uint64(layer)
        mixed = _mixed(keys.numpy().view(np.uint64) ^ _mixed(at))
    return np.stack([mixed & np.uint64(_MASK), mixed >> np.uint64(32)], -1).astype(np.uint32)


def normals(words: np.ndarray, units: int) -> Tensor:
    """Standard normal draws (..., units), float32, from words (..., 2); the reference of the compiled kernel.

    Unit u hashes first + u * 0x9E3779B9 to 32 bits, with the second word mixed in between; see ``normal_table``.
    Source of the hash: Wellons 2018, "lowbias32" (nullprogram.com/blog/2018/07/31).
    """
    first, second = (words[..., part, None].astype(np.uint64) for part in (0, 1))
    x = (first + np.arange(units, dtype=np.uint64) * np.uint64(0x9E3779B9)) & np.uint64(_MASK)
    x ^= x >> np.uint64(16)
    x = ((x * np.uint64(0x7FEB352D)) & np.uint64(_MASK)) ^ second
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x846CA68B)) & np.uint64(_MASK)
    x ^= x >> np.uint64(16)
    table, slope = normal_table()
    part = (x >> np.uint64(SHIFT)).astype(np.int64)
    inside = (x & np.uint64((1 << SHIFT) - 1)).astype(np.float32)
    return torch.from_numpy(table[part] + slope[part] * inside)
