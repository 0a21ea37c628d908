"""Splits: of calibration data into the parts that fit, choose and calibrate the exit; of training data."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["Split", "folds", "split_calibration", "split_validation"]

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


def split_validation(labels: Index, share: float, seed: int) -> tuple[Index, Index]:
    """Return sorted indices to train on and to validate with: ``share`` of all, and of each class, is held out.

    Raises RangeError unless at least one sample is left for each of the two.

    >>> train, validation = split_validation(np.array([0, 1] * 10), 0.2, seed=0)
    >>> len(train), np.bincount(np.array([0, 1] * 10)[validation]).tolist()
    (16, [2, 2])
    """
    require_in_range("share", share, 0.0, 1.0)
    place = _place_in_class(labels, seed)
    quantile = (place + 0.5) / np.bincount(labels)[labels]  # so that a smaller part takes from all classes alike
    ties = np.random.default_rng([seed, 1]).permutation(len(labels))
    first = np.lexsort((ties, quantile))[: round(share * len(labels))]
    validation = np.sort(first)
    train = np.setdiff1d(np.arange(len(labels)), validation)
    if not len(train) or not len(validation):
        raise RangeError(
            f"a share of {share} holds out {len(validation)} of {len(labels)} samples, but both parts need one; "
            f"give more samples or another share."
        )
    return train, validation


def folds(labels: Index, number: int, seed: int) -> Index:
    """Return the fold of each sample, 0 to number − 1, for cross-validation: each class is spread evenly.

    >>> np.bincount(folds(np.array([0, 1] * 10), 5, seed=0)).tolist()
    [4, 4, 4, 4, 4]
    """
    require_in_range("number", number, 2, len(labels))
    before = np.concatenate([[0], np.cumsum(np.bincount(labels))[:-1]])  # so that not every class begins at fold 0
    fold: Index = (_place_in_class(labels, seed) + before[labels]) % number
    return fold


def _place_in_class(labels: Index, seed: int) -> Index:
    """The place of each sample among those of its class, in a random order: 0, 1, ..."""
    if labels.ndim != 1 or not len(labels) or labels.min() < 0:
        raise ShapeError(f"labels have shape {labels.shape}, but one class number a sample, from 0, is wanted.")
    require_in_range("seed", seed, 0, 2**63)
    place = np.empty(len(labels), np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = np.arange(len(members))
    return place
