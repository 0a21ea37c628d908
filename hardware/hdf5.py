"""HDF5 files of others, read with bounds: a damaged or hostile file gives a CorruptFileError, and nothing in it runs.

Links to other files, virtual and object data are refused; every size is checked before a value is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._check import BackendUnavailable, CorruptFileError, SpikeportError

__all__ = ["h5py_module", "read_tree"]

MAX_BYTES = 1 << 32  # of the file, and of what is read from it
MAX_OBJECTS = 1 << 16
MAX_DEPTH = 16
MAX_TEXT = 1 << 26
_H5PY_ERRORS = (  # it raises whatever its C library says
    OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError,
)  # fmt: skip
Tree = dict[str, Any]  # of numpy arrays, numpy scalars, str and further trees


def h5py_module() -> Any:
    """h5py, or BackendUnavailable that says how to get it."""
    try:
        import h5py
    except Exception as error:
        raise BackendUnavailable(
            f"h5py cannot be imported ({type(error).__name__}: {error}); pip install 'spikeport[nir]'"
        ) from error
    return h5py


def read_tree(path: str | Path) -> Tree:
    """The whole file as nested dicts.

    Raises SpikeportError where it cannot be opened, CorruptFileError for all that is no sound HDF5 file.
    """
    h5py, path = h5py_module(), Path(path)
    try:
        if not path.is_file():
            raise SpikeportError(f"{path} is no file")
        if path.stat().st_size > MAX_BYTES:
            raise CorruptFileError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        path.open("rb").close()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        with h5py.File(path, "r") as file:
            return _Reader(h5py).group(file, 0)
    except SpikeportError as error:
        raise CorruptFileError(f"{path}: {error}") from None
    except _H5PY_ERRORS as error:
        reason = str(error)[:300]
        raise CorruptFileError(f"{path} is no sound HDF5 file ({type(error).__name__}: {reason})") from None


class _Reader:
    def __init__(self, h5py: Any) -> None:
        self.h5py, self.objects, self.bytes = h5py, 0, 0

    def group(self, group: Any, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise CorruptFileError(f"its groups are nested deeper than {MAX_DEPTH}")
        found: Tree = {}
        if self.objects + len(group) > MAX_OBJECTS:
            raise CorruptFileError(f"it holds more than {MAX_OBJECTS} objects")
        for name in group:
            self.objects += 1
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise CorruptFileError(f"{name!r} links to another place")
            item = group[name]
            found[name] = self.group(item, depth + 1) if isinstance(item, self.h5py.Group) else self.dataset(name, item)
        return found

    def dataset(self, name: str, item: Any) -> Any:
        text = self.h5py.check_string_dtype(item.dtype) is not None
        if item.shape is None or not (text or item.dtype.kind in "biuf"):
            raise CorruptFileError(f"{name!r} holds {item.dtype}; numbers or text were wanted")
        if item.is_virtual or item.external:
            raise CorruptFileError(f"{name!r} lies in another file")
        self.bytes += int(np.prod(item.shape, dtype=object)) * item.dtype.itemsize
        if self.bytes > MAX_BYTES:
            raise CorruptFileError(f"{name!r} has the shape {item.shape}; more than {MAX_BYTES} bytes are not read")
        value = item[()]
        return _texts(name, value) if text else value


def _texts(name: str, value: Any) -> Any:
    if isinstance(value, bytes | str):
        if len(value) > MAX_TEXT:
            raise CorruptFileError(f"{name!r} is a text of {len(value)} characters")
        return value.decode("utf-8") if isinstance(value, bytes) else value
    return np.array([_texts(name, item) for item in np.asarray(value).reshape(-1)], object).reshape(np.shape(value))


def entry(tree: Mapping[str, Any], key: str, where: str) -> Any:
    """An entry that must be there."""
    if key not in tree:
        raise CorruptFileError(f"{where} lacks {key!r}")
    return tree[key]
