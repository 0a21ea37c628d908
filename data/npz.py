"""Reading arrays from an .npz file that nobody has vouched for."""

import io
import math
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._check import CorruptFileError, RangeError, SpikeportError

__all__ = ["MAX_BYTES", "read_npz"]

MAX_BYTES = 8 << 30

_END_RECORD = struct.Struct("<4sHHHHIIH")  # APPNOTE.TXT 4.3.16

_format: Any = np.lib.format  # some versions of NumPy have no types for it
_HEADER_READERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): _format.read_array_header_1_0,
    (2, 0): _format.read_array_header_2_0,
}


def read_npz(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> dict[str, NDArray[Any]]:
    """Read the arrays ``names`` from ``path``, and those of ``optional`` that are there; each once, pickles never.

    The sizes that the file declares are checked before anything is allocated, checksums after.
    Raises CorruptFileError for a damaged or hostile file, RangeError for arrays above ``max_bytes`` in all,
    SpikeportError for a file or an array that is not there.
    """
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise FileNotFoundError("it is not there, or is no file")
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        raise SpikeportError(f"{path} cannot be read ({error}); check the path.") from error
    with stream:
        try:
            return _read(stream, path, names, optional, max_bytes)
        except SpikeportError:
            raise
        except MemoryError as error:
            raise SpikeportError(f"{path} does not fit into the memory; store fewer samples.") from error
        except Exception as error:  # damaged bytes reach zip, zlib, tokenizer and NumPy, each with errors of its own
            raise CorruptFileError(
                f"{path} is damaged, incomplete or no .npz file ({error or type(error).__name__}); "
                f"write it again with numpy.savez."
            ) from error


def _read(
    stream: IO[bytes], path: Path, names: Sequence[str], optional: Sequence[str], max_bytes: int
) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(stream) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header that Python's tokenizer complains about is judged by its content
        _check_entry_count(stream, archive, path)
        present = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
        if missing := [name for name in names if name not in present]:
            raise SpikeportError(
                f"{path} holds no array {' or '.join(missing)}; it holds {', '.join(present) or 'nothing'}. "
                f"Name the arrays after the path: {path.name}:xname,yname."
            )
        if not set(optional) <= set(present):
            for entry in archive.infolist():  # raises where a damaged name hides the array
                archive.open(entry).close()
        chosen = [*names, *(name for name in optional if name in present)]
        declared = sum(_declared_bytes(archive, name, path) for name in chosen)
        if declared > max_bytes:
            raise RangeError(
                f"{path} declares {declared / 2**30:.1f} GiB of arrays, but the limit is {max_bytes / 2**30:.1f} GiB; "
                f"store fewer samples."
            )
        return {name: _array(archive, name) for name in chosen}


def _check_entry_count(stream: IO[bytes], archive: zipfile.ZipFile, path: Path) -> None:
    """Raise unless zipfile found as many members as the archive counts in its end record, which it does not compare."""
    stream.seek(-_END_RECORD.size - len(archive.comment), io.SEEK_END)
    signature, *_, count, _, _, _ = _END_RECORD.unpack(stream.read(_END_RECORD.size))
    if signature != b"PK\5\6" or count != min(len(archive.infolist()), 0xFFFF):
        raise CorruptFileError(f"{path} is damaged: its list of arrays is incomplete; write it again with numpy.savez.")


def _declared_bytes(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    """Return the size of a member's data by its header, or raise if the header contradicts the archive."""
    with archive.open(f"{name}.npy") as member:
        version = _format.read_magic(member)
        if version not in _HEADER_READERS:
            raise CorruptFileError(f"{path}: array {name} has format {version}; write it with a type of plain numbers.")
        shape, _, dtype = _HEADER_READERS[version](member)
        header = member.tell()
    if dtype.hasobject:
        raise CorruptFileError(
            f"{path}: array {name} holds Python objects, which only code could read; store plain numbers, "
            f"for example x.astype('float32')."
        )
    data = math.prod(shape) * dtype.itemsize
    if header + data != archive.getinfo(f"{name}.npy").file_size:
        raise CorruptFileError(f"{path}: array {name} declares shape {shape}, which is not the size of its data.")
    return data


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = _format.read_array(member, allow_pickle=False)
    return array
