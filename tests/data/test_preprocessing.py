"""The network sees (x * scale - mean) / std per channel, in the shape that it takes, or a clear refusal."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError
from spikeport.data import Preprocessing, parse_numbers, parse_scale

FINITE = st.floats(-1e3, 1e3)
VALUES = st.floats(-1000, 1000, width=16)
POSITIVE = st.floats(1e-2, 1e3)


@st.composite
def preprocessings(draw: st.DrawFn, channels: int = 3) -> Preprocessing:
    def entries(values: st.SearchStrategy[float]) -> tuple[float, ...]:
        return tuple(draw(st.lists(values, min_size=(n := draw(st.sampled_from([1, channels]))), max_size=n)))

    scale = draw(FINITE.filter(lambda value: abs(value) > 1e-3))
    return Preprocessing(scale, entries(FINITE), entries(POSITIVE), draw(st.sampled_from(["NCHW", "NHWC"])))


@given(preprocessings(), st.sampled_from(["u1", "i1", "i2", "f2", "f4", "f8", ">f4", "?"]), st.data())
def test_each_channel_is_mapped_by_the_formula(p: Preprocessing, dtype: str, data: st.DataObject) -> None:
    x = data.draw(hnp.arrays(dtype, (2, 3, 4, 5), elements=VALUES if np.dtype(dtype).kind == "f" else None))
    source = x if p.layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    seen = p.apply(source)
    assert seen.dtype == np.float32
    assert seen.flags.c_contiguous
    for channel in range(3):
        mean, std = (entries[channel % len(entries)] for entries in (p.mean, p.std))
        expected = (x[:, channel].astype(np.float64) * p.scale - mean) / std
        np.testing.assert_array_equal(seen[:, channel], expected.astype(np.float32))


@given(preprocessings())
def test_json_round_trip_is_exact(p: Preprocessing) -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(p.to_json()))) == p


@pytest.mark.parametrize(
    ("layout", "came", "wanted", "seen"),
    [
        ("NCHW", (28, 28), None, (1, 28, 28)),
        ("NHWC", (28, 28), None, (1, 28, 28)),
        ("NCHW", (28, 28), (1, 28, 28), (1, 28, 28)),
        ("NCHW", (28, 28), (28, 28), (28, 28)),
        ("NCHW", (28, 28), (28, 28, 1), (28, 28, 1)),
        ("NCHW", (28, 28), (784,), (784,)),
        ("NCHW", (1, 28, 28), (784,), (784,)),
        ("NCHW", (784,), (1, 28, 28), (1, 28, 28)),
        ("NCHW", (784,), None, (784,)),
        ("NHWC", (784,), (784,), (784,)),
        ("NCHW", (49, 10, 1), (49, 10, 1), (49, 10, 1)),
        ("NCHW", (49, 10, 1), (1, 49, 10), (1, 49, 10)),
        ("NHWC", (49, 10, 1), (49, 10, 1), (49, 10, 1)),
        ("NHWC", (49, 10, 1), (1, 49, 10), (1, 49, 10)),
        ("NHWC", (49, 10, 1), (49, 10), (49, 10)),
        ("NHWC", (49, 10), (10, 49), (10, 49)),
        ("NHWC", (32, 30, 3), (3, 32, 30), (3, 32, 30)),
        ("NHWC", (32, 30, 3), (32, 30, 3), (32, 30, 3)),
        ("NHWC", (32, 30, 3), (2880,), (2880,)),
    ],
)
def test_shapes_meet(layout: Any, came: tuple[int, ...], wanted: tuple[int, ...] | None, seen: tuple[int, ...]) -> None:
    x = np.arange(2 * math.prod(came)).reshape(2, *came)
    result = Preprocessing(layout=layout).apply(x, wanted)
    assert result.shape == (2, *seen)
    np.testing.assert_array_equal(np.sort(result.reshape(2, -1)), x.reshape(2, -1))


def test_a_flat_network_sees_an_nhwc_source_channel_by_channel() -> None:
    x = np.arange(24).reshape(1, 2, 4, 3)
    flat = Preprocessing(layout="NHWC").apply(x, (24,))
    np.testing.assert_array_equal(flat.reshape(1, 3, 2, 4), np.moveaxis(x, -1, 1))


def test_a_flat_source_is_mapped_by_the_channels_of_the_network() -> None:
    x = np.ones((2, 12))
    seen = Preprocessing(mean=(1.0, 2.0, 3.0)).apply(x, (3, 2, 2))
    np.testing.assert_array_equal(seen[:, :, 0, 0], [[0.0, -1.0, -2.0]] * 2)


def test_a_network_with_the_channels_last_is_mapped_along_the_last_axis() -> None:
    seen = Preprocessing(mean=(1.0, 2.0, 3.0), layout="NHWC").apply(np.ones((2, 5, 4, 3)), (5, 4, 3))
    np.testing.assert_array_equal(seen[1, 4, 3], [0.0, -1.0, -2.0])


def test_a_batch_is_the_samples_one_by_one() -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 1500, 1000, 1), np.uint8)  # more than one work chunk
    p = Preprocessing(1 / 255, (0.5,), (0.25,), "NHWC")
    np.testing.assert_array_equal(p.apply(x), np.concatenate([p.apply(x[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize(
    ("layout", "came", "wanted", "says"),
    [
        ("NCHW", (28, 28), (3, 28, 28), r"\(28, 28\).*\(1, 28, 28\).*takes \(3, 28, 28\)"),
        ("NCHW", (32, 30, 3), (3, 32, 30), "--layout NHWC would fit"),
        ("NHWC", (3, 32, 30), (3, 32, 31), r"takes \(3, 32, 31\)"),
        ("NCHW", (10, 49), (49, 10), "--layout"),
        ("NCHW", (784,), (1, 28, 27), r"takes \(1, 28, 27\)"),
        ("NHWC", (2880,), (3, 32, 30), "the order of the axes is unknown"),
        ("NCHW", (4, 5, 6), (5, 4, 6), r"takes \(5, 4, 6\)"),
    ],
)
def test_shapes_that_cannot_meet_are_refused(
    layout: Any, came: tuple[int, ...], wanted: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ShapeError, match=says):
        Preprocessing(layout=layout).apply(np.zeros((2, *came)), wanted)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros(4), ShapeError),
        (np.float32(1), ShapeError),
        ([[1.0], [1.0, 2.0]], ShapeError),
        (np.zeros((0, 4)), RangeError),
        (np.zeros((4, 0)), RangeError),
        (np.zeros((2, 2), complex), RangeError),
        (np.zeros((2, 2), object), RangeError),
        (np.array([["a", "b"]]), RangeError),
        (np.zeros((2, 2), "m8[s]"), RangeError),
        (np.zeros((2, 2), [("a", "f4")]), RangeError),
        (np.array([[0.0], [np.nan]]), RangeError),
        (np.array([[0.0], [-np.inf]], np.float16), RangeError),
        (np.array([[0.0], [1e300]]), RangeError),
    ],
)
def test_bad_samples_are_typed_errors(x: object, error: type[SpikeportError]) -> None:
    with pytest.raises(error):
        Preprocessing().apply(x)


def test_the_first_bad_sample_is_named() -> None:
    x = np.zeros((3000, 2000), np.float32)
    x[2345, 678] = np.nan
    with pytest.raises(RangeError, match="sample 2345 "):
        Preprocessing().apply(x)


@pytest.mark.parametrize("entries", [{"mean": (1.0, 2.0)}, {"std": (1.0, 2.0)}])
def test_another_number_of_channels_is_refused(entries: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match="2 entries, but the data have 3"):
        Preprocessing(**entries).apply(np.zeros((2, 3, 4, 4)))


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 0.0},
        {"scale": math.nan},
        {"scale": math.inf},
        {"scale": "x"},
        {"scale": None},
        {"mean": ()},
        {"mean": (math.nan,)},
        {"mean": 0.5},
        {"mean": "12"},
        {"mean": (0.1, 0.2), "std": (1.0, 1.0, 1.0)},
        {"std": (0.0,)},
        {"std": (1.0, -1.0)},
        {"std": (math.inf,)},
        {"std": None},
        {"layout": "CHWN"},
        {"layout": ["NCHW"]},
    ],
)
def test_bad_fields_are_typed_errors(fields: dict[str, Any]) -> None:
    with pytest.raises((RangeError, ShapeError)):
        Preprocessing(**fields)
    with pytest.raises(CorruptFileError):
        Preprocessing.from_json(Preprocessing().to_json() | fields)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_other_json_is_a_corrupt_file(value: object) -> None:
    with pytest.raises(CorruptFileError):
        Preprocessing.from_json(value)


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_is_its_quotient(numerator: int, denominator: int) -> None:
    assert parse_scale(f"{numerator}/{denominator}") == numerator / denominator


@given(st.text())
def test_any_text_is_numbers_or_a_range_error(text: str) -> None:
    try:
        numbers = parse_numbers(text)
    except RangeError:
        return
    assert all(map(math.isfinite, numbers))
    assert len(numbers) == text.count(",") + 1


@pytest.mark.parametrize("text", ["", "1/0", "1/2/3", "a", "nan", "inf", "1e400", "1/", "/2", "1,"])
def test_no_number_is_refused(text: str) -> None:
    with pytest.raises(RangeError):
        parse_numbers(text)


def test_the_command_line_form() -> None:
    p = Preprocessing.parse("1/255", "0.485,0.456,0.406", "0.25", "nhwc")
    assert p == Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.25,), "NHWC")
