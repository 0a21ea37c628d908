"""Where faults fall, from a seed alone: a number for each place, that does not depend on who asks when.

Bits are drawn by hashing what they belong to (splitmix64), never from a generator that remembers, so that chunks of
time, batches and the order of samples change nothing.
Source of the hash: Steele, Lea and Flood 2014 (doi 10.1145/2660193.2660195).
"""

from hashlib import blake2b
from math import ceil, sqrt

import numpy as np

__all__ = ["content_keys", "mixed", "named_key", "places"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 20  # numbers hashed at a time


def mixed(x: np.ndarray) -> np.ndarray:
    """The hash of each number: uint64 to uint64, one to one, all bits of which depend on all bits.

    >>> len(np.unique(mixed(np.arange(1000, dtype=np.uint64))))
    1000
    """
    with np.errstate(over="ignore"):
        z = x + _STEP
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.asarray(z ^ (z >> np.uint64(31)))


def named_key(*parts: object) -> np.uint64:
    """A key that belongs to these names and numbers, the same on every machine."""
    return np.uint64(int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little"))


def content_keys(x: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """A key for each sample of x (n, *features), from its float32 values and from its key ``before`` them.

    Equal samples get equal keys: a sample meets the same faults in every batch and order.
    """
    bits = np.ascontiguousarray(x, np.float32).reshape(len(x), -1).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        place = mixed(np.arange(bits.shape[1], dtype=np.uint64)) | np.uint64(1)
        total = mixed(bits * place + place).sum(1, dtype=np.uint64)
        return mixed(total if before is None else total + mixed(before))


def places(keys: np.ndarray, count: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of 0 to ``count`` - 1 that are hit, each with the probability ``rate``: (rows of keys, places), int64.

    keys: uint64 (rows,).  Gaps between hits are geometric, so what is drawn is the hits and not the places.  A row's
    hits depend on its key alone.

    >>> rows, found = places(np.arange(3, dtype=np.uint64), 4, 1.0)
    >>> rows.tolist() == [0] * 4 + [1] * 4 + [2] * 4, found[:4].tolist()
    (True, [0, 1, 2, 3])
    """
    if rate <= 0 or not count or not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if rate >= 1:
        return np.repeat(np.arange(len(keys)), count), np.tile(np.arange(count), len(keys))
    expected = count * rate
    most = ceil(expected + 6 * sqrt(expected) + 8)
    size = max(1, _BLOCK // most)
    found = [_hits(keys[first : first + size], count, rate, most) for first in range(0, len(keys), size)]
    rows = np.concatenate([hit[0] + number * size for number, hit in enumerate(found)])
    return rows, np.concatenate([hit[1] for hit in found])


def _hits(keys: np.ndarray, count: int, rate: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Gap by gap: position of hit j = sum of (gap + 1) up to j, less 1."""
    last, hits, at = np.full(len(keys), -1.0), [], 0
    while last.min() < count:
        order = np.arange(at, at + most, dtype=np.uint64)
        with np.errstate(over="ignore"):
            drawn = mixed(keys[:, None] + mixed(order) * _STEP)
        uniform = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        gaps = np.minimum(np.floor(np.log(uniform) / np.log1p(-rate)), count) + 1
        reached = last[:, None] + gaps.cumsum(1)
        hits.append(reached)
        last, at = reached[:, -1], at + most
    reached = np.concatenate(hits, 1)
    rows, columns = np.nonzero(reached < count)
    return rows, reached[rows, columns].astype(np.int64)
