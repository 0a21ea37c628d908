"""A layer of a network on its arrays: all chips in one batch, convolutions as convolutions with each chip's weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..._check import RangeError, UnsupportedError
from ...networks.graph import Graph, Node
from ...neurons.kernels.dispatch import numba_threads, threads_survive
from .array import Array
from .converters import Meter
from .noise import normal_table, normals

__all__ = ["SYNAPSES", "Synapse", "require_mappable", "taps", "weight_rows"]

SYNAPSES = ("linear", "conv1d", "conv2d")
_MOST_BITS = 22  # of a converter in the compiled kernel
_NONE = torch.zeros(0, 0, 0, 0)


def taps(node: Node) -> int:
    """Rows that must share an array: the places of a convolution's kernel."""
    return prod(node.arrays["weight"].shape[2:])


def weight_rows(node: Node, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weights as (columns, rows); rows in the order channel, then the kernel's places."""
    return torch.tensor(node.arrays["weight"], dtype=dtype).flatten(1)


def require_mappable(graph: Graph, tile_rows: int) -> tuple[Node, ...]:
    """The nodes whose weights go on arrays; raises UnsupportedError where there are none, or an array is too small."""
    nodes = tuple(node for node in graph.nodes if node.operator in SYNAPSES)
    if not nodes:
        raise UnsupportedError("nothing goes on a crossbar", ["the network has no linear layer and no convolution"])
    problems = [
        f"{node.name} (its groups read {rows} inputs each, but an array has {tile_rows} rows: take larger arrays)"
        for node in nodes
        if node.operator != "linear"
        and node.attributes["groups"] > 1
        and (rows := weight_rows(node).shape[1]) > tile_rows
    ]
    if problems:
        raise UnsupportedError("a grouped convolution cannot be cut", problems)
    return nodes


@dataclass
class _Part:
    """Arrays that one converter reads.  weight, variance: (instances, columns, *kernel shape)."""

    channels: slice | None
    weight: Tensor
    variance: Tensor | None
    stacked: Tensor | None  # both, where one convolution gives both: spikes of 0 and 1 are their own squares
    step: Tensor | None  # (instances, columns)
    most: float
    meter: Meter = field(default_factory=Meter)


class Synapse:
    """Reads the arrays of one linear layer or convolution.

    shape: of the output, without the batch.  spikes: the input holds 0 and 1 alone.  whole: currents are rounded to
    whole numbers.  largest: after ``watch``, for each array the largest output seen, by chip and column.
    """

    def __init__(
        self, node: Node, array: Array, shape: Sequence[int], *, spikes: bool = False, whole: bool = False
    ) -> None:
        self.node, self.array, self.whole, self._shape = node, array, whole, tuple(shape)
        self.spikes = spikes
        self.instances = len(array.tiles[0].weight)
        self.dtype = array.tiles[0].weight.dtype
        self.noisy = any(tile.variance is not None for tile in array.tiles)
        self._groups = 1 if node.operator == "linear" else int(node.attributes["groups"])
        self._parts = self._cut(spikes and self._groups == 1 and array.dac_bits is None)
        bias = node.arrays.get("bias", np.zeros(len(node.arrays["weight"]), np.float32))
        self._bias = torch.tensor(bias, dtype=self.dtype)
        self.largest: list[Tensor] | None = None
        self.largest_input = 0.0

    @property
    def meters(self) -> list[Meter]:
        """Conversions and saturations of each array since the start."""
        return [part.meter for part in self._parts]

    def watch(self) -> None:
        """From now on note the largest outputs of each array, before its converter, which is left out."""
        self._parts = self._cut(False, merge=False)
        for part in self._parts:
            part.step = None
        self.largest = [torch.zeros(part.weight.shape[:2], dtype=self.dtype) for part in self._parts]

    def _cut(self, stack: bool, *, merge: bool = True) -> list[_Part]:
        tiles = self.array.tiles
        if merge and tiles[0].adc_bits is None:  # nothing stands between the arrays' currents: one sum
            variance = None
            if self.noisy:
                variance = torch.zeros_like(self.array.weight)
                for tile in tiles:
                    if tile.variance is not None:
                        variance[..., tile.rows] += tile.variance
            return [self._part(None, self.array.weight, variance, None, 0.0, stack)]
        return [
            self._part(
                tile.rows, tile.weight, tile.variance, *_steps(tile.adc_bits, tile.reach, tile.power_of_two), stack
            )
            for tile in tiles
        ]

    def _part(
        self,
        rows: slice | None,
        weight: Tensor,
        variance: Tensor | None,
        step: Tensor | None,
        most: float,
        stack: bool,
    ) -> _Part:
        channels, kernel = rows, self.node.arrays["weight"].shape[2:]
        if kernel and rows is not None:
            channels = slice(rows.start // taps(self.node), rows.stop // taps(self.node)) if self._groups == 1 else None

        def shaped(part: Tensor) -> Tensor:
            return _last(part.reshape(*part.shape[:2], -1, *kernel) if kernel else part)

        stacked = shaped(torch.cat([weight, variance], 1)) if stack and variance is not None else None
        return _Part(channels, shaped(weight), None if variance is None else shaped(variance), stacked, step, most)

    def read(self, x: Tensor, words: np.ndarray | None) -> Tensor:
        """The layer's output (steps, batch, *features) for x (steps or 1, batch, *features).

        The rows of a chip stand together in the batch.  words: (steps, batch, 2) of ``noise.read_keys``; None for one
        step without noise.
        Raises RangeError for converters without range.
        """
        x = self.array.dac(x.to(self.dtype))
        if self.largest is not None:
            self.largest_input = max(self.largest_input, float(x.abs().max()))
        steps, batch, size = len(x) if words is None else len(words), x.shape[1], x.shape[1] // self.instances
        columns = len(self._bias)
        out = torch.empty(steps, batch, prod(self._shape) // columns, columns, dtype=self.dtype)
        for index, part in enumerate(self._parts):
            for chip in range(self.instances):
                rows = slice(chip * size, (chip + 1) * size)
                mean, variance = self._currents(part, chip, x[:, rows])
                if self.largest is not None:
                    seen = self.largest[index][chip]
                    torch.maximum(seen, mean.abs().flatten(0, 2).amax(0), out=seen)
                drawn = None if words is None else words[:, rows]
                base = self._bias if not self.whole else torch.zeros_like(self._bias)
                _convert(mean, variance, drawn, (part, chip), (base, index > 0), out[:, rows])
        if self.whole:  # what is counted further on are whole numbers
            out = out.round_().add_(self._bias)
        return self._logical(out)

    def _logical(self, out: Tensor) -> Tensor:
        if self.node.operator == "linear":
            return out.view(*out.shape[:2], *self._shape)
        return out.view(*out.shape[:2], *self._shape[1:], self._shape[0]).movedim(-1, 2)

    def _window(self) -> tuple[Sequence[int], Sequence[int], Sequence[int], int]:
        attributes = self.node.attributes
        return attributes["stride"], attributes["padding"], attributes["dilation"], self._groups

    def _currents(self, part: _Part, chip: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a chip's currents, (rows, n, places, columns) each; no rows for no variance."""
        rows, n = x.shape[:2]
        columns = part.weight.shape[1]
        if part.stacked is not None:
            both = self._apply(x, part.stacked[chip], part.channels).view(rows, n, -1, 2 * columns)
            return both[..., :columns], both[..., columns:]
        mean = self._apply(x, part.weight[chip], part.channels).view(rows, n, -1, columns)
        if part.variance is None:
            return mean, _NONE.to(self.dtype)
        return mean, self._apply(x * x, part.variance[chip], part.channels).view(rows, n, -1, columns)

    def _apply(self, x: Tensor, weight: Tensor, channels: slice | None) -> Tensor:
        """(rows, n, *features) -> (rows * n, *places, columns), columns last in memory."""
        if self.node.operator == "linear":
            part = x if channels is None else x[..., channels]
            return functional.linear(part.flatten(0, 1), weight)
        part = x if channels is None else x[:, :, channels]
        flat = part.movedim(2, -1).reshape(-1, *part.shape[3:], part.shape[2]).movedim(-1, 1)
        function = functional.conv2d if x.ndim == 5 else functional.conv1d
        found: Tensor = function(flat, weight, None, *self._window())
        return found.movedim(1, -1).contiguous()


def _convert(
    mean: Tensor,
    variance: Tensor,
    words: np.ndarray | None,
    where: tuple[_Part, int],
    base: tuple[Tensor, bool],
    out: Tensor,
) -> None:
    """Noise and converters of a chip's array; see ``noise_cpu.read_float32``."""
    part, chip = where
    step = mean.new_zeros(0) if part.step is None else part.step[chip]
    if part.step is not None:
        part.meter.conversions += out.numel()
    if words is None:
        variance = variance[:0]
        words = np.zeros((*out.shape[:2], 2), np.uint32)
    if mean.dtype != torch.float32 or part.most >= 1 << _MOST_BITS or not threads_survive():
        _convert_slowly(mean, variance, words, part, step, base, out)
        return
    from .noise_cpu import read_float32

    saturated = np.zeros(out.shape[:2], np.int64)
    arrays = (mean.numpy(), variance.numpy(), words, normal_table(), step.numpy(), np.float32(part.most))
    with numba_threads():
        read_float32(*arrays, base[0].numpy(), base[1], out.numpy(), saturated)
    part.meter.saturated += int(saturated.sum())


def _convert_slowly(
    mean: Tensor,
    variance: Tensor,
    words: np.ndarray,
    part: _Part,
    step: Tensor,
    base: tuple[Tensor, bool],
    out: Tensor,
) -> None:
    y = mean
    if len(variance):
        z = normals(words, prod(out.shape[2:])).view(out.shape).to(mean.dtype)
        y = mean + variance.clamp(min=0).sqrt() * z
    if len(step):
        codes = (y / step).round()
        part.meter.saturated += int((codes.abs() > part.most).sum()) * (len(out) // len(codes))
        y = codes.clamp(-part.most, part.most) * step
    out.copy_(out + y if base[1] else base[0] + y)


def _steps(bits: int | None, reach: Tensor | None, power_of_two: bool) -> tuple[Tensor | None, float]:
    """The step of each column's converter, and its largest code; without a range yet, none."""
    if bits is None or reach is None:
        return None, 0.0
    most = float(2 ** (bits - 1) - 1)
    step = reach.clamp(min=torch.finfo(reach.dtype).tiny) / most
    return torch.exp2(step.log2().ceil()) if power_of_two else step, most


def _last(weight: Tensor) -> Tensor:
    """Kernels with their channels last in memory, chip by chip."""
    if weight.ndim != 5:
        return weight.contiguous()
    return weight.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def require_ranges(synapses: Sequence[Synapse]) -> None:
    """Raise RangeError where converters with bits have no range."""
    bare = [each.node.name for each in synapses if each.array.tiles[0].adc_bits and each.array.tiles[0].reach is None]
    if bare:
        raise RangeError(
            f"the column converters of {', '.join(bare)} have no range; fit them with `fit_converters` on calibration "
            "samples."
        )
