"""Fresh memory in large pages, and freed memory kept: faults and look-ups of small pages take longer than a kernel."""

import ctypes
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["in_large_pages", "keep_freed_memory"]

LEAST_BYTES = 4 << 20  # two large pages: less gains nothing
_PAGE = 4096
_MADV_HUGEPAGE = 14  # linux/mman.h


def in_large_pages(x: Tensor) -> Tensor:
    """Ask Linux to back the memory of a fresh contiguous tensor with large pages, and return it.

    Only advice (madvise(2)): where it is not taken, on other systems and for small tensors nothing changes.
    """
    size = x.numel() * x.element_size()
    advise = _madvise()
    if size >= LEAST_BYTES and x.device.type == "cpu" and advise is not None:
        first = -(-x.data_ptr() // _PAGE) * _PAGE
        advise(first, (x.data_ptr() + size - first) // _PAGE * _PAGE, _MADV_HUGEPAGE)
    return x


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to 64 MiB, for the next tensors.

    It gives large blocks back to the system otherwise, and touching the fresh pages of the next ones takes longer than
    a kernel does.  Once a block of just under 32 MiB was freed it keeps them (M_MMAP_THRESHOLD in mallopt(3)).  The
    block is not touched, so it costs nothing; other systems do not care.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


@cache
def _madvise() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    return found
