"""The split of the calibration data into the parts that fit, choose and calibrate the exit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._check import RangeError, ShapeError

__all__ = ["Split", "split_calibration"]

Index = NDArray[np.int64]

_FIT, _CHOOSE = 0.5, 0.2  # the exit gets the rest
_LEAST_HELD_OUT = 0.3
_LEAST_SAMPLES = 10


class Split(NamedTuple):
    """Sorted indices, disjoint and complete: *fit* thresholds and methods, *choose* a method, calibrate the *exit*."""

    fit: Index
    choose: Index
    exit: Index


def split_calibration(n: int, seed: int, *, hashes: NDArray[np.bytes_] | None = None) -> Split:
    """Split ``n`` samples at random into half for *fit*, 20 % for *choose* and 30 % for *exit*.

    hashes: (n,) from ``content_hashes``; samples of one content then stay together, so that no part holds what
    another one holds.  The same arguments give the same split.
    Raises RangeError with fewer than 10 different samples, or where copies of one leave less than 30 % to hold out.

    >>> [len(part) for part in split_calibration(100, seed=0)]
    [50, 20, 30]
    """
    if seed < 0:
        raise RangeError(f"the seed is {seed}, but it must be 0 or more.")
    group = _groups(n, hashes)
    sizes = np.bincount(group)
    if len(sizes) < _LEAST_SAMPLES:
        raise RangeError(
            f"the calibration data have {n} samples, {len(sizes)} of them different, but at least {_LEAST_SAMPLES} "
            f"different ones are needed to fit thresholds and to hold some out; give more samples."
        )
    part_of_group = _assign(sizes, n, np.random.default_rng(seed))
    split = Split(*(np.flatnonzero(part_of_group[group] == part) for part in range(3)))
    if min(len(part) for part in split) == 0 or n - len(split.fit) < _LEAST_HELD_OUT * n:
        raise RangeError(
            f"one sample is repeated {sizes.max()} times among {n}, which leaves {[len(part) for part in split]} "
            f"samples to fit, choose and exit; remove the copies, or give more samples."
        )
    return split


def _groups(n: int, hashes: NDArray[np.bytes_] | None) -> Index:
    """Return the number of each sample's content, counted in the order of the hashes."""
    if hashes is None:
        return np.arange(n)
    if hashes.shape != (n,):
        raise ShapeError(f"hashes have shape {hashes.shape}, but there are {n} samples; give one a sample.")
    return np.unique(hashes, return_inverse=True)[1]


def _assign(sizes: Index, n: int, random: np.random.Generator) -> Index:
    """Give each group, in random order, to the part that misses the most samples."""
    fit, choose = int(_FIT * n), int(_CHOOSE * n)
    missing = np.array([fit, choose, n - fit - choose])
    part_of_group = np.empty(len(sizes), np.int64)
    for group in random.permutation(len(sizes)):
        part = int(missing.argmax())
        part_of_group[group] = part
        missing[part] -= sizes[group]
    return part_of_group
