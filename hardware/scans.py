"""Neurons and filters in whole numbers over a chunk of time: the compiled kernel, or the NumPy reference's step."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..networks.graph import Node
from ..networks.reference import physical
from ..neurons.kernels.dispatch import numba_threads, threads_survive
from .program import DECAY_BITS
from .reference import channelwise, decay, decays, fire

__all__ = ["Extra", "Neuron", "filter_scan", "fire_scan", "sum_bytes"]

_ROW = 1024  # units of a loop: what it reads of a neuron stays in the first-level cache
_ROWS = 4  # of a task, unless the batch is so small that threads would have none
_CODES, _RESETS = {"binary": 0, "signed": 1, "graded": 2}, {"subtract": 0, "zero": 1, "none": 2}


class Extra(NamedTuple):
    """A second current factor * (values - offset).  values: (time or 1, batch, units).

    factor: int32 (units,), or those of a row (``Neuron.of_a_row``).
    """

    values: Tensor
    factor: Tensor
    offset: int


class Neuron:
    """The arrays of a neuron node (or the k of a filter), int32, spread over the units in the order of memory."""

    def __init__(self, node: Node, shape: tuple[int, ...]) -> None:
        def spread(array: np.ndarray) -> Tensor:
            wide = np.broadcast_to(channelwise(array, len(shape)), shape).astype(np.int32)
            return physical(torch.from_numpy(wide.copy())[None])[0].contiguous()

        self.node, self.k = node, spread(decays(node))
        if node.operator == "synaptic_filter":
            return
        self.theta, self.bias, self.initial = (
            spread(np.asarray(node.arrays[key], np.float64)) for key in ("threshold", "bias", "initial")
        )
        self.limit = spread(np.asarray(node.arrays["limit"], np.float64)) if "limit" in node.arrays else None
        strict, late = node.attributes["test"] == ">", bool(node.attributes["late"])
        self.at = self.theta + int(strict)
        subtracts = node.attributes["reset"] == "subtract" and not late
        self.taken = self.theta if subtracts else torch.zeros_like(self.theta)
        leak = bool((self.k != 1 << DECAY_BITS).any())
        self.signed = node.attributes["code"] == "signed"
        self.period, parts = shape[0], (self.theta, self.bias, self.k, self.taken, self.at)
        self.periodic = all(_repeats(part, self.period) for part in parts)
        self.row = _whole(_ROW, self.period) if self.periodic else _ROW
        self.arrays = tuple(self.of_a_row(part).numpy() for part in parts)
        code, reset, levels = (node.attributes[key] for key in ("code", "reset", "levels"))
        self.rule = (_CODES[code], _RESETS[reset], int(levels), leak, late)

    def of_a_row(self, values: Tensor) -> Tensor:
        """Those of a row of the kernel, if all rows have the same: fewer to read."""
        return values[: self.row].contiguous() if self.periodic and _repeats(values, self.period) else values

    def block(self, batch: int) -> int:
        """The units a task that serve a batch, in whole rows."""
        few = batch * -(-len(self.theta) // (_ROWS * self.row)) < 2 * torch.get_num_threads()
        return self.row if few else _ROWS * self.row


def _whole(size: int, period: int) -> int:
    """The most whole periods in ``size``, at least one."""
    return max(size // period, 1) * period


def _repeats(values: Tensor, period: int) -> bool:
    """Whether values in the order of memory, channels last, are the same at each place."""
    return len(values) % period == 0 and bool((values.reshape(-1, period) == values[:period]).all())


def fire_scan(
    neuron: Neuron, x: Tensor, state: tuple[Tensor, ...], out: Tensor, offset: int = 0, extra: Extra | None = None
) -> tuple[Tensor, ...]:
    """Fill ``out`` (time, batch, units) with spikes + offset and return the new state: membrane, for signed the count.

    x: (time or 1, batch, units), whole numbers in float32 or float64; one row is the same current at every step.
    With a limit the state's last part is how many spikes were fired, sent or not.
    """
    if neuron.limit is None:
        return _fire(neuron, x, state, out, offset, extra)
    *own, fired = state
    after = _fire(neuron, x, tuple(own), out, offset, extra)
    total = fired + (out.to(torch.int32) - offset).abs_().cumsum(0, dtype=torch.int32)
    out[total > neuron.limit] = offset
    return (*after, total[-1])


def _fire(
    neuron: Neuron, x: Tensor, state: tuple[Tensor, ...], out: Tensor, offset: int, extra: Extra | None
) -> tuple[Tensor, ...]:
    membrane, *counted = state
    count = counted[0].clone() if counted else torch.zeros(1, 1, dtype=torch.int32)
    if not threads_survive():
        return _fire_slowly(neuron, x, (membrane, count), out, offset, extra)
    from ..neurons.kernels.integer_cpu import integer_fire

    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    if extra is None:
        extra = Extra(out.new_empty(0, 0, 0), neuron.theta[:0], 0)
    held = tuple(part.numpy() for part in (membrane.contiguous(), after, count))
    with numba_threads():
        integer_fire(
            neuron.block(len(membrane)), neuron.row, x.numpy(), extra.values.numpy(), extra.factor.numpy(),
            extra.offset, held, neuron.arrays, neuron.rule, offset, out.numpy(),
        )  # fmt: skip
    return (after, count) if neuron.signed else (after,)


def filter_scan(neuron: Neuron, x: Tensor, state: Tensor, out: Tensor) -> Tensor:
    """Fill ``out`` (time, batch, units) with i <- decay(i, k) + x and return the new current."""
    steps = len(out)
    if not threads_survive():
        i = state.numpy().astype(np.int64)
        for t in range(steps):
            i = decay(i, neuron.k.numpy().astype(np.int64)) + x[t].numpy().astype(np.int64)
            out[t] = torch.from_numpy(i)
        return torch.from_numpy(i.astype(np.int32))
    from ..neurons.kernels.integer_cpu import integer_filter

    after = torch.empty_like(state, memory_format=torch.contiguous_format)
    with numba_threads():
        integer_filter(x.numpy(), state.contiguous().numpy(), after.numpy(), neuron.k.numpy(), out.numpy())
    return after


def sum_bytes(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Sums of the windows of bytes x (n, channels, height, width), as bytes (n, *shape), channels last in memory."""
    from ..neurons.kernels.integer_cpu import sum_windows

    channels, rows, columns = shape
    out = torch.empty(len(x), rows, columns, channels, dtype=torch.uint8)
    source = x.permute(0, 2, 3, 1).contiguous()
    if not threads_survive():
        windows = source.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
        out = windows[:, :rows, :columns].sum((4, 5)).to(torch.uint8)
    else:
        with numba_threads():
            sum_windows(source.numpy(), stride, kernel, out.numpy())
    return out.permute(0, 3, 1, 2)


def _fire_slowly(
    neuron: Neuron, x: Tensor, state: tuple[Tensor, Tensor], out: Tensor, offset: int, extra: Extra | None
) -> tuple[Tensor, ...]:
    """The reference's step, for processes in which the compiled kernel must not run."""
    node, reset = neuron.node, neuron.node.attributes["reset"]
    v, count = (part.numpy().astype(np.int64) for part in state)
    theta, bias, k = (part.numpy().astype(np.int64) for part in (neuron.theta, neuron.bias, neuron.k))
    for t in range(len(out)):
        current = x[0 if len(x) == 1 else t].numpy().astype(np.int64) + bias
        if extra is not None:
            more = extra.values[0 if len(extra.values) == 1 else t].numpy().astype(np.int64) - extra.offset
            current = current + more * np.resize(extra.factor.numpy(), current.shape[-1]).astype(np.int64)
        before = fire(v, theta, count, node) if node.attributes["late"] else 0
        v = decay(v, k) + current - theta * before
        s = fire(v, theta, count, node)
        if reset == "subtract" and not node.attributes["late"]:
            v = v - theta * s
        elif reset == "zero":
            v = np.where(s != 0, 0, v)
        count = count + s
        out[t] = torch.from_numpy(s + offset)
    after = torch.from_numpy(v.astype(np.int32))
    return (after, torch.from_numpy(count.astype(np.int32))) if neuron.signed else (after,)
