"""The compiled scan gives the reference's steps bit for bit, also where a layer is longer than a row and a task."""

from typing import Any

import numpy as np
import pytest
import torch

from spikeport.hardware import scans
from spikeport.hardware.scans import Extra, Neuron, _fire_slowly, fire_scan
from spikeport.networks.graph import make_node

SHAPES = [(24, 15, 15), (3, 50, 60), (5003,), (40, 130), (7,)]  # 5,400 units in rows of 1,008; 9,000; no whole rows ...
STEPS = 5
KINDS: list[dict[str, Any]] = [
    {"code": "binary", "test": ">=", "reset": "subtract"},
    {"code": "binary", "test": ">", "reset": "subtract"},
    {"code": "binary", "test": ">=", "reset": "zero"},
    {"code": "binary", "test": ">=", "reset": "none"},
    {"code": "binary", "test": ">=", "reset": "subtract", "late": 1},
    {"code": "signed", "test": ">=", "reset": "subtract"},
    {"code": "graded", "levels": 3, "test": ">=", "reset": "subtract"},
]


def neuron(shape: tuple[int, ...], kind: dict[str, Any], *, by_unit: bool, leaks: bool) -> Neuron:
    """A neuron with parameters by channel, or different at each unit."""
    rng = np.random.default_rng(1)
    size = shape if by_unit else shape[:1]
    arrays = {
        "threshold": rng.integers(20, 60, size).astype(float),
        "bias": rng.integers(-5, 6, size).astype(float),
        "initial": rng.integers(0, 30, size).astype(float),
    }
    if leaks:
        arrays["beta"] = rng.integers(3000, 4097, size) / 4096
    return Neuron(make_node("a", "neuron", ["x"], arrays=arrays, **kind), shape)


def both(unit: Neuron, batch: int, *, constant: bool, extra: bool) -> list[tuple[torch.Tensor, ...]]:
    """Spikes and state by the kernel and by the reference."""
    rng, units = np.random.default_rng(2), len(unit.theta)
    x = torch.from_numpy(rng.integers(-30, 60, (1 if constant else STEPS, batch, units)).astype(np.float32))
    factor = torch.from_numpy(rng.integers(1, 9, unit.period).astype(np.int32)).repeat(units // unit.period)
    values = torch.from_numpy(rng.integers(0, 4, (STEPS, batch, units)).astype(np.uint8))
    second = Extra(values, factor, 1) if extra else None
    count = [torch.zeros(batch, units, dtype=torch.int32)] if unit.signed else []
    state = (unit.initial.expand(batch, -1), *count)
    found = torch.empty(STEPS, batch, units, dtype=torch.uint8)
    short = Extra(values, unit.of_a_row(factor), 1) if extra else None
    offset = int(unit.signed)
    after = fire_scan(unit, x, state, found, offset, short)
    wanted = torch.empty_like(found)
    full = (state[0], count[0] if count else torch.zeros(1, 1, dtype=torch.int32))
    return [(found, *after), (wanted, *_fire_slowly(unit, x, full, wanted, offset, second))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize("leaks", [False, True])
@pytest.mark.parametrize("extra", [False, True])
def test_it_is_the_reference_bit_for_bit(
    kind: dict[str, Any], shape: tuple[int, ...], batch: int, by_unit: bool, leaks: bool, extra: bool
) -> None:
    unit = neuron(shape, kind, by_unit=by_unit, leaks=leaks)
    assert unit.periodic == (len(shape) == 1 or (len(shape) == 3 and not by_unit))  # images: channels last in memory
    for constant in (False, True):
        found, wanted = both(unit, batch, constant=constant, extra=extra)
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a, b)


def test_parameters_of_a_channel_are_held_for_one_row_only() -> None:
    unit = neuron((24, 15, 15), KINDS[0], by_unit=False, leaks=False)
    assert (unit.row, {len(part) for part in unit.arrays}) == (1008, {1008})
    own = neuron((24, 15, 15), KINDS[0], by_unit=True, leaks=False)
    assert (own.row, {len(part) for part in own.arrays}) == (scans._ROW, {5400})
    factor = torch.arange(5400, dtype=torch.int32)  # its own at each unit: not cut
    assert len(unit.of_a_row(factor)) == 5400


def test_a_small_batch_gets_tasks_of_one_row_so_that_all_threads_work() -> None:
    unit = neuron((24, 15, 15), KINDS[0], by_unit=False, leaks=False)
    threads = torch.get_num_threads()
    assert unit.block(64 * threads) == 4 * unit.row
    assert unit.block(1) == (unit.row if threads > 1 else unit.block(1))
