"""bfloat16 in numba, which has no such type: its bits cross as uint16 and are widened a row at a time in the cache.

Each function takes a row that is float32, and passes through, or uint16, and uses the buffer (uint32, as long).
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

__all__ = ["read", "writable", "write"]


def read(row: Any, bits: Any) -> Any:
    """Return the values of the row, in the buffer if they had to be widened."""
    raise NotImplementedError("read is for compiled code.")


def writable(row: Any, bits: Any) -> Any:
    """Return where float32 values for the row are to be written: the row, or the buffer until ``write``."""
    raise NotImplementedError("writable is for compiled code.")


def write(row: Any, bits: Any) -> None:
    """Round the buffer into the row, to nearest and ties to even, if it is bfloat16."""
    raise NotImplementedError("write is for compiled code.")


@overload(read, inline="always")
def _read(row: Any, bits: Any) -> Any:
    def widened(row: Any, bits: Any) -> Any:
        for f in range(len(row)):
            bits[f] = np.uint32(row[f]) << np.uint32(16)
        return bits.view(np.float32)

    def itself(row: Any, bits: Any) -> Any:
        return row

    return widened if row.dtype == types.uint16 else itself


@overload(writable, inline="always")
def _writable(row: Any, bits: Any) -> Any:
    def buffer(row: Any, bits: Any) -> Any:
        return bits.view(np.float32)

    def itself(row: Any, bits: Any) -> Any:
        return row

    return buffer if row.dtype == types.uint16 else itself


@overload(write)
def _write(row: Any, bits: Any) -> Any:
    def rounded(row: Any, bits: Any) -> None:
        for f in range(len(row)):
            b = bits[f]
            nearest = (b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            not_a_number = (b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            row[f] = np.uint16(0x7FC0) if not_a_number else np.uint16(nearest)

    def nothing(row: Any, bits: Any) -> None:
        pass

    return rounded if row.dtype == types.uint16 else nothing
