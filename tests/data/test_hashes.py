"""A hash is equal if and only if the content is; what is shared is refused, or left out when asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikeport import RangeError, ShapeError
from spikeport.data import Dataset, Preprocessing, content_hashes, drop_shared, refuse_shared

FEW_VALUES = st.sampled_from([0.0, -0.0, 1.0, np.float32(1e-45), -3.5])


def make(x: np.ndarray) -> Dataset:
    x = np.asarray(x, np.float32)
    return Dataset(x, np.arange(len(x)), content_hashes(x), "made", Preprocessing())


@given(hnp.arrays(np.float32, (8, 2, 1), elements=FEW_VALUES))
def test_hashes_are_equal_exactly_where_contents_are(x: np.ndarray) -> None:
    hashes = content_hashes(x)
    assert hashes.dtype == np.dtype("S32")
    same = (x[:, None] == x[None]).reshape(8, 8, -1).all(axis=2)
    np.testing.assert_array_equal(hashes[:, None] == hashes[None], same)


def test_a_hash_depends_on_the_sample_alone() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    whole = content_hashes(x)
    np.testing.assert_array_equal(content_hashes(x[2:4]), whole[2:4])
    np.testing.assert_array_equal(content_hashes(np.asfortranarray(x)), whole)
    np.testing.assert_array_equal(content_hashes(x.astype(">f4")), whole)


def test_the_shape_is_part_of_the_content() -> None:
    assert content_hashes(np.ones((1, 4), np.float32)) != content_hashes(np.ones((1, 2, 2), np.float32))


def test_the_hash_of_a_known_sample_never_changes() -> None:
    # BLAKE2b-128 over b"(2,)" and the little-endian bytes of 1.0 and 2.0; stored hashes must stay comparable
    assert content_hashes(np.array([[1, 2]], np.float32)).tolist() == [b"d4b4a4e9b18978cd4f28044f541c005f"]


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1))
def test_exactly_the_shared_samples_are_refused_and_dropped(evaluation: set[int], calibration: set[int]) -> None:
    a, b = (make(np.array(sorted(values))[:, None]) for values in (evaluation, calibration))
    shared = evaluation & calibration
    if not shared:
        refuse_shared(a.hashes, b.hashes)
        np.testing.assert_array_equal(drop_shared(a, b.hashes).x, a.x)
        return
    first = sorted(evaluation).index(min(shared))
    with pytest.raises(RangeError, match=f"^{len(shared)} of {len(evaluation)} .*first at {first}[,)]"):
        refuse_shared(a.hashes, b.hashes)
    if shared == evaluation:
        with pytest.raises(RangeError, match="all"):
            drop_shared(a, b.hashes)
        return
    kept = drop_shared(a, b.hashes)
    refuse_shared(kept.hashes, b.hashes)
    assert set(kept.x.ravel()) == evaluation - calibration
    np.testing.assert_array_equal(a.x[kept.y], kept.x)


def test_a_dataset_keeps_its_arrays_in_step() -> None:
    data = make(np.arange(12).reshape(4, 3))
    part = data.take(np.array([3, 1]))
    assert (len(part), part.features) == (2, (3,))
    np.testing.assert_array_equal(part.hashes, content_hashes(part.x))
    with pytest.raises(ShapeError, match="y has shape"):
        Dataset(data.x, np.arange(3), data.hashes, "made", Preprocessing())
    with pytest.raises(ShapeError, match="hashes has shape"):
        Dataset(data.x, None, data.hashes[:2], "made", Preprocessing())
