"""Messages to and from a worker: a length, a JSON header, the bytes of the arrays; see ``worker/worker.py``.

Large arrays go through .npy files in the scratch folder.  Nothing that comes in is trusted: it is bytes of a process
that may have gone mad.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Arrays", "Ended", "Garbage", "Header", "Silent", "Slow", "Wire"]

Header = dict[str, Any]
Arrays = dict[str, np.ndarray]
RAW_BYTES = 1 << 20
MOST_HEADER_BYTES = 1 << 24
MOST_ARRAY_BYTES = 1 << 40
DTYPES = frozenset({"|i1", "|u1", "<i2", "<i4", "<i8"})


class Ended(Exception):
    """The other side is gone."""


class Garbage(Exception):
    """What came is no message."""


class Silent(Exception):
    """Not even a sign of life within the time for one."""


class Slow(Exception):
    """No answer within the time for one."""


class Wire:
    """One connection.

    silence: seconds without a byte, once the first has come, after which the other side counts as stopped.
    """

    def __init__(self, connection: socket.socket, folder: Path, silence: float) -> None:
        self.connection, self.folder, self.silence = connection, folder, silence
        self.files = 0
        self.deadline = 0.0
        self.heard = False

    def send(self, header: Header, arrays: Mapping[str, np.ndarray]) -> None:
        """Send a message; raises Silent or Ended."""
        listed, raw = [], []
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            entry: Header = {"name": name, "dtype": array.dtype.newbyteorder("<").str, "shape": array.shape}
            if array.nbytes > RAW_BYTES:
                self.files += 1
                entry["file"] = f"message-{self.files}.npy"
                np.save(self.folder / entry["file"], array)
            else:
                raw.append(array.astype(entry["dtype"], copy=False).tobytes())
            listed.append(entry)
        text = json.dumps({**header, "arrays": listed}).encode()
        try:
            self.connection.settimeout(self.silence)
            self.connection.sendall(struct.pack("<I", len(text)) + text + b"".join(raw))
        except TimeoutError as error:
            raise Silent from error
        except OSError as error:
            raise Ended from error

    def receive(self, seconds: float) -> tuple[Header, Arrays]:
        """The next message that is no beat; raises Slow after ``seconds``, Silent, Ended or Garbage."""
        self.deadline = time.monotonic() + seconds
        while True:
            (length,) = struct.unpack("<I", self._read(4))
            if length > MOST_HEADER_BYTES:
                raise Garbage(f"a header of {length} bytes")
            header = _header(self._read(length))
            try:
                arrays = {entry["name"]: self._array(entry) for entry in header["arrays"]}
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise Garbage(f"an array: {error}") from error
            if header["op"] != "beat":
                return header, arrays

    def _array(self, entry: Header) -> np.ndarray:
        dtype, shape = entry["dtype"], tuple(map(int, entry["shape"]))
        if dtype not in DTYPES or min(shape, default=0) < 0:
            raise ValueError(f"{dtype} {shape}")
        count = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if count > (MOST_ARRAY_BYTES if "file" in entry else RAW_BYTES):
            raise ValueError(f"{count} bytes")
        if "file" not in entry:
            return np.frombuffer(self._read(count), dtype).reshape(shape)
        path = self.folder / Path(entry["file"]).name
        array: np.ndarray = np.load(path, allow_pickle=False)
        path.unlink()
        if array.shape != shape or array.dtype.str != dtype:
            raise ValueError(f"a file of {array.dtype} {array.shape}")
        return array

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Slow
            self.connection.settimeout(min(left, self.silence) if self.heard else left)
            try:
                part = self.connection.recv(min(count, RAW_BYTES))
            except TimeoutError as error:
                raise (Slow if time.monotonic() >= self.deadline else Silent) from error
            except OSError as error:
                raise Ended from error
            if not part:
                raise Ended
            self.heard = True
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _header(text: bytes) -> Header:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Garbage(f"a header that is no JSON: {text[:40]!r}") from error
    if not (isinstance(header, dict) and isinstance(header.get("op"), str) and isinstance(header.get("arrays"), list)):
        raise Garbage(f"a header without op and arrays: {text[:40]!r}")
    return header
