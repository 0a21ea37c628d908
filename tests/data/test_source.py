"""Every form of DATA gives what the network sees, or a typed error that says what to do."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError
from spikeport.data import Dataset, Preprocessing, content_hashes, load_data, refuse_shared

Store = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    def write(**arrays: Any) -> str:
        np.savez(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return write


def load(spec: str, preprocessing: Preprocessing | None = None, **options: Any) -> Dataset:
    return load_data(spec, preprocessing, part="evaluation", **options)


def test_the_digits_are_split_once_and_for_all() -> None:
    calibration, evaluation = load_data("digits", part="calibration"), load("digits")
    assert (calibration.x.shape, evaluation.x.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    refuse_shared(evaluation.hashes, calibration.hashes)
    assert (evaluation.x.min(), evaluation.x.max()) == (0.0, 1.0)
    assert evaluation.y is not None
    np.testing.assert_array_equal(np.unique(evaluation.y), np.arange(10))
    np.testing.assert_array_equal(load("digits").hashes, evaluation.hashes)
    np.testing.assert_array_equal(load("digits", Preprocessing()).x, evaluation.x * 16)
    np.testing.assert_array_equal(load("digits", limit=7).x, evaluation.x[:7])


def test_a_file_gives_its_samples_and_labels(store: Store) -> None:
    x, y = np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.array([0.0, 2.0, 1.0, 0.0])
    data = load(store(x=x, y=y), Preprocessing(scale=0.5))
    np.testing.assert_array_equal(data.x, (x * 0.5)[:, None])
    assert data.y is not None
    assert (data.y.tolist(), data.y.dtype, data.name) == ([0, 2, 1, 0], np.int64, "set.npz:x,y")
    np.testing.assert_array_equal(data.hashes, content_hashes(data.x))


def test_names_choose_the_arrays(store: Store) -> None:
    spec = store(a=np.zeros((3, 2)), b=[1, 2, 3], y=[7, 8, 9])
    both, first = load(f"{spec}:a,b"), load(f"{spec}:a")
    assert both.y is not None
    assert first.y is not None
    assert (both.y.tolist(), first.y.tolist()) == ([1, 2, 3], [7, 8, 9])


def test_labels_may_be_absent_unless_they_are_named(store: Store) -> None:
    spec = store(x=np.zeros((3, 2)))
    assert load(spec).y is None
    with pytest.raises(SpikeportError, match="no array y; it holds x"):
        load(f"{spec}:x,y")


def test_samples_are_never_taken_for_absent_labels(store: Store) -> None:
    spec = store(y=np.zeros((3, 2)))
    assert load(f"{spec}:y").y is None
    with pytest.raises(ShapeError, match="y has shape"):
        load(f"{spec}:y,y")


def test_a_limit_takes_the_first_samples(store: Store) -> None:
    x = np.arange(10.0).reshape(5, 2)
    spec = store(x=x, y=np.arange(5))
    for limit in (1, 4, 5, 99):
        data = load(spec, limit=limit)
        assert data.y is not None
        np.testing.assert_array_equal(data.x, x[:limit])
        np.testing.assert_array_equal(data.y, np.arange(5)[:limit])


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(RangeError, match="at least 1"):
        load("digits", limit=limit)


@pytest.mark.parametrize(
    ("y", "error", "says"),
    [
        ([0, 1], ShapeError, r"y has shape \(2,\), but x has 3"),
        (3, ShapeError, "class numbers"),
        (np.eye(3), ShapeError, "argmax"),
        ([0, -1, 1], RangeError, r"y\[1\] is -1"),
        ([0, 1, 1.5], RangeError, r"y\[2\] is 1.5"),
        ([0, np.nan, 1], RangeError, r"y\[1\] is nan"),
        ([np.inf, 0, 1], RangeError, r"y\[0\] is inf"),
        (["a", "b", "c"], RangeError, "type <U1"),
        ([0j, 1, 2], RangeError, "type complex"),
        (np.array([0, 2**64 - 1, 0], np.uint64), RangeError, r"y\[1\] is 18446744073709551615"),
        (np.array([0, 2**62, 0]), RangeError, r"y\[1\]"),
        ([0, 1, 10], RangeError, "below 10, the network's number of classes"),
    ],
)
def test_bad_labels_are_typed_errors(store: Store, y: object, error: type[SpikeportError], says: str) -> None:
    with pytest.raises(error, match=says):
        load(store(x=np.zeros((3, 2)), y=y), classes=10)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((0, 2)), RangeError),
        (np.zeros(3), ShapeError),
        (3.0, ShapeError),
        (np.full((3, 2), np.nan), RangeError),
        (np.array([["a"]]), RangeError),
        (np.zeros((3, 2), "V4"), RangeError),
        (np.zeros((3, 5)), ShapeError),
        (np.array([[{}]]), CorruptFileError),
    ],
)
def test_bad_samples_are_typed_errors(store: Store, x: object, error: type[SpikeportError]) -> None:
    with pytest.raises(error):
        load(store(x=x), features=(2,))


def test_samples_that_would_not_fit_are_refused_before_they_are_made(store: Store) -> None:
    spec = store(x=np.zeros((1000, 100), np.uint8))
    with pytest.raises(RangeError, match=r"declares .* GiB"):
        load(spec, max_bytes=50_000)
    with pytest.raises(RangeError, match="as float32"):
        load(spec, max_bytes=200_000)
    assert len(load(spec, max_bytes=200_000, limit=10)) == 10


@pytest.mark.parametrize(
    "spec", ["", "set", "digit", "set.npy", "a.npz.gz", "a:b:c", "1a:b", "a:", ":b", "a b:c", "https://x.y/z", "\0"]
)
def test_what_names_no_data_is_told_the_three_forms(spec: str) -> None:
    with pytest.raises(SpikeportError, match=r"digits, file.npz.*package.module:function"):
        load(spec, allow_code=True)


@pytest.mark.parametrize("names", [",", "x,", ",y", "x,y,z"])
def test_names_that_name_nothing_are_refused(store: Store, names: str) -> None:
    with pytest.raises(SpikeportError, match="xname,yname"):
        load(f"{store(x=np.zeros((3, 2)))}:{names}")


@pytest.mark.parametrize("name", ["absent.npz", ".", "a" * 5000 + "/b.npz", "a\0.npz", "folder.npz"])
def test_a_file_that_is_not_there_is_a_typed_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(SpikeportError):
        load(str(tmp_path / name))


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(RangeError, match="calibration, evaluation"):
        load_data("digits", part="test")  # type: ignore[arg-type]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    code = """
        import numpy as np, torch
        open("ran", "w").close()
        def both(): return np.ones((2, 3)), [0, 1]
        def samples(): return torch.ones(2, 3)
        def listed(): return [[1.0], [2.0]]
        def ragged(): return [[1.0], [2.0, 3.0]], [0, 1]
        def needs_gradient(): return torch.ones(2, 3, requires_grad=True)
        def nothing(): return None
        def fails(): raise KeyError("lost")
        number = 3
    """
    (tmp_path / "spikeport_test_set.py").write_text("\n".join(line.strip() for line in code.splitlines()))
    monkeypatch.chdir(tmp_path)
    yield "spikeport_test_set"
    sys.modules.pop("spikeport_test_set", None)


def test_code_runs_only_when_it_is_allowed(module: str, tmp_path: Path) -> None:
    with pytest.raises(SpikeportError, match="--allow-code"):
        load(f"{module}:both")
    assert not (tmp_path / "ran").exists()
    path = list(sys.path)
    data = load(f"{module}:both", allow_code=True)
    assert (tmp_path / "ran").exists()
    assert sys.path == path
    assert data.y is not None
    assert (data.x.tolist(), data.y.tolist()) == ([[1.0] * 3] * 2, [0, 1])


@pytest.mark.parametrize("function", ["samples", "listed"])
def test_a_function_may_return_samples_alone(module: str, function: str) -> None:
    data = load(f"{module}:{function}", allow_code=True)
    assert len(data) == 2
    assert data.y is None


@pytest.mark.parametrize("function", ["ragged", "needs_gradient", "nothing", "fails", "number", "absent"])
def test_a_function_that_gives_no_data_is_a_typed_error(module: str, function: str) -> None:
    with pytest.raises(SpikeportError):
        load(f"{module}:{function}", allow_code=True)


def test_a_module_that_is_not_there_is_a_typed_error() -> None:
    with pytest.raises(SpikeportError, match="spikeport_no_such_module"):
        load("spikeport_no_such_module:f", allow_code=True)


def test_real_sets_share_no_sample(data_dir: Path) -> None:
    mnist, kws = data_dir / "mnist.npz", data_dir / "kws_mfcc_500.npz"
    calibration = load(f"{mnist}:x_train,y_train", features=(1, 28, 28), classes=10)
    evaluation = load(f"{mnist}:x_test,y_test", features=(1, 28, 28), classes=10)
    assert (len(calibration), len(evaluation)) == (60_000, 10_000)
    refuse_shared(evaluation.hashes, calibration.hashes)
    sounds = load(f"{kws}:x_int8,y", Preprocessing.parse("0.5847029", "48.53"), features=(49, 10, 1), classes=12)
    refuse_shared(sounds.hashes[150:], sounds.hashes[:150])
