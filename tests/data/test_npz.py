"""A damaged or hostile file is a typed error, never other data and never a traceback."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport import CorruptFileError, RangeError, SpikeportError
from spikeport.data import read_npz

Save = Callable[..., None]
X, Y = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 2, 1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.npz"


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


def write_member(path: Path, content: bytes, name: str = "x.npy") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_written_is_read(path: Path, save: Save) -> None:
    save(path, x=X, y=np.asfortranarray(X), other=np.array([{}]))
    arrays = read_npz(path, ["x"], optional=["y", "z"])
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], X)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_truncation_is_a_corrupt_file(path: Path, save: Save) -> None:
    save(path, x=X, y=Y)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError):
            read_npz(path, ["x"], optional=["y"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_bit_is_a_typed_error_or_changes_nothing(path: Path, save: Save) -> None:
    save(path, x=X, y=Y)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        bit = 1 << position % 8
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        try:
            arrays = read_npz(path, ["x"], optional=["y"])
        except SpikeportError:
            refused += 1
            continue
        np.testing.assert_array_equal(arrays["x"], X)
        np.testing.assert_array_equal(arrays["y"], Y)
    assert refused > len(whole) / 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("size", [1, 4096 - 128, 4096, 1 << 18, 300_000])
def test_a_wrong_checksum_is_a_corrupt_file(path: Path, save: Save, size: int) -> None:
    save(path, x=np.random.default_rng(size).integers(0, 256, size, np.uint8))
    whole = bytearray(path.read_bytes())
    whole[whole.rindex(b"PK\1\2") + 16] ^= 1  # in the central directory, where zipfile takes it from
    path.write_bytes(whole)
    with pytest.raises(CorruptFileError, match="CRC"):
        read_npz(path, ["x"])


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_header_is_a_typed_error_or_an_array(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "header.npz"
    write_member(path, b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(CorruptFileError):
        read_npz(path, ["x"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        header("(2,)"),
        header("(2,)") + b"\0" * 7,
        header("(2,)") + b"\0" * 9,
        header("(-1,)"),
        header("(-1, -2)") + b"\0" * 8,
        header("(1000000000000000,)") + b"\0" * 8,
        header("(2.0,)") + b"\0" * 8,
        header("(2,") + b"\0" * 8,
        header("2") + b"\0" * 8,
        header("(2,)", "'|O'") + b"\0" * 16,
        header("(2,)", "'nonsense'") + b"\0" * 8,
        header("(" * 3000 + ")" * 3000),
        header("(2,)").replace(b"\x01\x00", b"\x03\x00", 1) + b"\0" * 8,
        header("(2,)").replace(b"\x01\x00", b"\x09\x00", 1) + b"\0" * 8,
    ],
)
def test_a_member_that_is_no_array_is_a_corrupt_file(path: Path, content: bytes) -> None:
    write_member(path, content)
    with pytest.raises(CorruptFileError):
        read_npz(path, ["x"])


def test_a_header_of_python_2_is_read_without_a_warning(path: Path) -> None:
    write_member(path, header("(2L,)") + b"\0" * 8)
    np.testing.assert_array_equal(read_npz(path, ["x"])["x"], [0, 0])


def test_a_pickle_never_runs(path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("the pickle ran",))

    objects = header("(1,)", "'|O'") + pickle.dumps(Hostile())
    write_member(path, objects)
    with pytest.raises(CorruptFileError, match="Python objects"):
        read_npz(path, ["x"])
    for content in (pickle.dumps(Hostile()), objects):
        write_member(path, content)
        with pytest.raises(CorruptFileError):
            read_npz(path, ["x"])
        path.write_bytes(content)
        with pytest.raises(CorruptFileError):
            read_npz(path, ["x"])


def test_a_bomb_is_refused_by_its_declared_size(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header("(64, 1048576)", "'|u1'"))
        for _ in range(64):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(RangeError, match="limit"):
        read_npz(path, ["x"], max_bytes=1 << 25)


def test_the_limit_counts_what_is_read_together(path: Path) -> None:
    np.savez(path, x=X, y=X, z=np.zeros(10_000))
    read_npz(path, ["x", "y"], max_bytes=2 * X.nbytes)
    with pytest.raises(RangeError):
        read_npz(path, ["x", "y"], max_bytes=2 * X.nbytes - 1)


def test_a_missing_array_is_named_beside_those_there(path: Path) -> None:
    np.savez(path, images=X, labels=Y)
    with pytest.raises(SpikeportError, match=r"no array x; it holds images, labels\..*set.npz:xname,yname"):
        read_npz(path, ["x"])


def test_a_file_that_is_not_there_is_a_typed_error(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for wrong in (path, path.parent, tmp_path / "pipe.npz"):
        with pytest.raises(SpikeportError, match="cannot be read"):
            read_npz(wrong, ["x"])
