"""The parts cover the samples once, hold out enough, share no content, and come out the same every time."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport import RangeError, ShapeError
from spikeport.data import Split, folds, split_calibration, split_validation

SEEDS = st.integers(0, 2**32)


def check_parts(split: Split, n: int) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n))
    assert min(map(len, split)) >= 1
    assert len(split.choose) + len(split.exit) >= 0.3 * n


@given(st.integers(10, 3000), SEEDS)
def test_different_samples_are_split_in_the_promised_shares(n: int, seed: int) -> None:
    split = split_calibration(n, seed)
    check_parts(split, n)
    assert (len(split.fit), len(split.choose)) == (n // 2, n // 5)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=300), SEEDS)
def test_copies_stay_together_or_are_refused(contents: list[int], seed: int) -> None:
    hashes = np.array(contents).astype("S32")
    try:
        split = split_calibration(len(contents), seed, hashes=hashes)
    except RangeError:
        most = np.unique(hashes, return_counts=True)[1].max()
        assert len(set(contents)) < 10 or most > 0.1 * len(contents)
        return
    check_parts(split, len(contents))
    for a, b in combinations(split, 2):
        assert not np.isin(hashes[a], hashes[b]).any()


def test_the_seed_decides_alone() -> None:
    hashes = np.arange(500).astype("S32")
    first, again, other = (split_calibration(500, seed, hashes=hashes) for seed in (1, 1, 2))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert not np.array_equal(first.exit, other.exit)


def test_each_sample_reaches_each_part() -> None:
    counts = np.zeros((3, 20))
    for seed in range(300):
        for part, index in enumerate(split_calibration(20, seed)):
            counts[part, index] += 1
    np.testing.assert_allclose(counts / 300, np.broadcast_to([[0.5], [0.2], [0.3]], (3, 20)), atol=0.13)


@pytest.mark.parametrize("n", [-1, 0, 1, 9])
def test_too_few_samples_are_refused(n: int) -> None:
    with pytest.raises(RangeError, match="at least 10"):
        split_calibration(n, 0)


def test_too_few_contents_are_refused() -> None:
    with pytest.raises(RangeError, match="1000 samples, 9 of them different"):
        split_calibration(1000, 0, hashes=(np.arange(1000) % 9).astype("S32"))


def test_a_sample_that_is_nearly_all_there_is_is_refused() -> None:
    hashes = np.r_[np.zeros(900, int), np.arange(1, 101)].astype("S32")
    with pytest.raises(RangeError, match="repeated 900 times"):
        split_calibration(1000, 0, hashes=hashes)


def test_bad_arguments_are_typed_errors() -> None:
    with pytest.raises(RangeError, match="seed"):
        split_calibration(100, -1)
    with pytest.raises(ShapeError, match="hashes"):
        split_calibration(100, 0, hashes=np.zeros(99, "S32"))


LABELS = np.random.default_rng(0).integers(0, 4, 203)


def test_validation_takes_its_share_of_each_class_and_nothing_twice() -> None:
    train, validation = split_validation(LABELS, 0.2, seed=3)
    assert sorted([*train, *validation]) == list(range(203))
    for label in range(4):
        assert abs((LABELS[validation] == label).sum() - 0.2 * (label == LABELS).sum()) <= 1
    assert len(validation) == round(0.2 * 203)
    again, other = split_validation(LABELS, 0.2, seed=3)[1], split_validation(LABELS, 0.2, seed=4)[1]
    np.testing.assert_array_equal(validation, again)
    assert set(validation) != set(other)


def test_few_samples_a_class_still_leave_some_to_validate() -> None:
    labels = np.arange(30) % 10
    _, validation = split_validation(labels, 0.1, seed=0)
    assert len(set(labels[validation])) == len(validation) == 3


def test_folds_hold_each_class_alike() -> None:
    fold = folds(LABELS, 5, seed=1)
    for label in range(4):
        sizes = np.bincount(fold[label == LABELS], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 4


def test_splits_that_leave_a_part_empty_are_refused() -> None:
    with pytest.raises(RangeError, match="both parts"):
        split_validation(np.array([0, 1, 2]), 0.1, seed=0)
    with pytest.raises(RangeError):
        folds(np.array([0, 1, 2]), 4, seed=0)
    with pytest.raises(ShapeError):
        split_validation(np.array([[0, 1]]), 0.5, seed=0)
