"""Large pages: what is asked of the system, and that nothing else changes."""

import sys
from pathlib import Path

import pytest
import torch

from spikeport.neurons.kernels.memory import LEAST_BYTES, in_large_pages

LARGE = Path("/sys/kernel/mm/transparent_hugepage").exists()


def flags_at(address: int) -> list[str]:
    """The flags of the mapping that holds an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            low, high = (int(part, 16) for part in first.split("-"))
            inside = low <= address < high
        elif inside and first == "VmFlags:":
            return line.split()[1:]
    return []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_tensors_are_advised(dtype):
    x = in_large_pages(torch.empty(8 * LEAST_BYTES // dtype.itemsize, dtype=dtype))
    if sys.platform.startswith("linux"):
        assert ("hg" in flags_at(x.data_ptr() + x.nbytes // 2)) == LARGE
    x.fill_(1.0)
    assert float(x.float().mean()) == 1.0


@pytest.mark.parametrize("shape", [(0,), (5, 7), (LEAST_BYTES // 4 - 1,)])
def test_small_tensors_are_left_alone(shape):
    x = torch.ones(shape)
    assert in_large_pages(x) is x
    assert bool((x == 1).all())


def test_tensors_without_memory_are_left_alone():
    x = torch.empty(1 << 24, device="meta")
    assert in_large_pages(x) is x
