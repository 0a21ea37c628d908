"""A layer's weights on crossbar arrays: program them once, look at them at any time, read them with inputs.

crossbar = Crossbar(load_device("pcm"), adc_bits=8)
programmed = program(weight, crossbar, instances=25, seed=0)
array = programmed.at(86400.0, seed=0).calibrated(x)
y = array.read(x, generators(25, 0, "read"))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from ..._check import RangeError, ShapeError
from .array import Array, Tile
from .cells import age, read_variance, write
from .device import Device
from .mapping import Mapped, column_scale, cut_rows, slice_weights
from .seeds import generators
from .wires import through_wires

__all__ = ["Crossbar", "Programmed", "program"]


@dataclass(frozen=True)
class Crossbar:
    """The design of an array.

    tile_rows, tile_columns: inputs and outputs that one array holds; an output is a pair of columns, whose currents
    are subtracted.
    slices: devices that share a weight as digits, in a base of the device's levels, or of slice_base where it has none.
    dac_bits, adc_bits: of inputs (magnitude) and of column outputs (with sign); None: unlimited.
    scale: what a column's largest conductance stands for: "maximum", "power_of_two" or a weight (see `column_scale`).
    compensation: each array's outputs are multiplied by the factor by which its mean conductance fell.
    wires: the wires' resistance counts (`through_wires`); each array and each slice has wires of its own.
    """

    device: Device
    tile_rows: int = 256
    tile_columns: int = 256
    slices: int = 1
    slice_base: int = 16
    dac_bits: int | None = None
    adc_bits: int | None = None
    scale: str | float = "maximum"
    compensation: bool = True
    wires: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}, below {least}"
            for name, least in (("tile_rows", 1), ("tile_columns", 1), ("slices", 1), ("slice_base", 2))
            if getattr(self, name) < least
        ]
        for name, least in (("dac_bits", 1), ("adc_bits", 2)):
            bits = getattr(self, name)
            if bits is not None and not least <= bits <= 24:
                problems.append(f"{name} is {bits}; {least} to 24, or None for no limit, were wanted")
        named = self.scale in ("maximum", "power_of_two")
        if not named and (isinstance(self.scale, str) or not 0 < self.scale < float("inf")):
            problems.append(f"scale is {self.scale!r}; 'maximum', 'power_of_two' or a weight above 0 was wanted")
        if problems:
            raise RangeError(f"the crossbar makes no sense: {'; '.join(problems)}.")


@dataclass(frozen=True, eq=False)
class Programmed:
    """Devices as they were written: conductance (instances, slices, 2, columns, rows) in microsiemens."""

    crossbar: Crossbar
    seed: int
    blocks: tuple[slice, ...]
    scale: Tensor  # (blocks, columns)
    mapped: Mapped
    conductance: Tensor

    @property
    def target(self) -> Tensor:
        """The conductances that were aimed at, (slices, 2, columns, rows)."""
        return _target(self.crossbar.device, self.mapped)

    def conductances(self, time_s: float, *, seed: int) -> Tensor:
        """The devices' conductances some time after writing; ``seed``: of the 1/f noise up to then.

        Raises RangeError for a time that the device's data do not speak of.
        """
        device = self.crossbar.device
        time_s = device.check_time(time_s)
        return age(device, self.target, self.conductance, time_s, self._streams(time_s, seed))

    def at(self, time_s: float, *, seed: int) -> Array:
        """The arrays some time after writing; see `conductances`."""
        aged = self.conductances(time_s, seed=seed)
        variance = read_variance(self.crossbar.device, self.conductance, aged, time_s)
        tiles = []
        for block, scale in zip(self.blocks, self.scale, strict=True):
            unit = self.mapped.factor[..., block] / self.crossbar.device.range_us
            gain = self._gain(aged, block, unit)
            for part in range(self.crossbar.slices):
                noise = None if variance is None else variance[:, part, ..., block]
                weight, noise = self._effective(aged[:, part, ..., block], noise, unit[part] * gain)
                tiles.append(Tile(block, weight, noise, scale, self.crossbar.adc_bits, self._whole))
        return Array(tuple(tiles), self.crossbar.dac_bits)

    @property
    def _whole(self) -> bool:
        return self.crossbar.scale == "power_of_two"

    def _effective(self, cells: Tensor, variance: Tensor | None, unit: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights and their variance of pairs of devices (instances, 2, columns, rows), seen through the wires.

        A pair's noise loses on its way what its current loses.  That leaves out what the other rows' voltages add to
        the voltage over it; varying every device gives within 2 % of it (128 x 128 at 0.35 ohm).
        """
        felt = self._through_wires(cells)
        weight = (felt[:, 0] - felt[:, 1]) * unit
        if variance is None:
            return weight, None
        noise = variance.sum(1) * unit**2
        if felt is not cells:
            whole = cells.sum(1)
            noise *= torch.where(whole > 0, felt.sum(1) / whole.clamp(min=1e-30), 1.0).clamp(0, 1) ** 2
        return weight, noise

    def _through_wires(self, cells: Tensor) -> Tensor:
        """Effective conductances; the two columns of a pair lie side by side."""
        ohm = self.crossbar.device.wire_ohm
        if not (self.crossbar.wires and ohm):
            return cells
        arrays = cells.transpose(1, 2).split(self.crossbar.tile_columns, 1)  # (instances, columns, 2, rows)
        felt = [through_wires(array.flatten(1, 2), ohm).reshape(array.shape) for array in arrays]
        return torch.cat(felt, 1).transpose(1, 2)

    def _gain(self, aged: Tensor, block: slice, factor: Tensor) -> Tensor:
        """mean |weight as written| / mean |weight now| of a block, (instances, 1, 1); 1 without compensation."""
        if not self.crossbar.compensation:
            return aged.new_ones(len(aged), 1, 1)
        written, now = (
            (factor * (g[..., 0, :, block] - g[..., 1, :, block])).sum(1).abs().mean((1, 2), keepdim=True)
            for g in (self.conductance, aged)
        )
        return torch.where(now > 0, written / now, torch.ones_like(now))

    def _streams(self, time_s: float, seed: int) -> Callable[[str], Sequence[Generator]]:
        def stream(purpose: str) -> Sequence[Generator]:
            extra = (time_s, seed) if purpose == "flicker" else ()
            return generators(len(self.conductance), self.seed, purpose, *extra)

        return stream


def program(weight: Tensor, crossbar: Crossbar, *, instances: int, seed: int, groups_of_rows: int = 1) -> Programmed:
    """Write weights into the devices of so many chips at once.

    weight: (columns, rows), outputs by inputs.  groups_of_rows: neighbouring rows that must share an array (the
    taps of a convolution's kernel).  The same seed gives the same devices, whatever the number of instances.
    Raises RangeError for no instances, weights that are not finite or beyond the range, and an array too small.
    """
    if instances < 1:
        raise RangeError(f"{instances} instances were asked for; one at least is needed.")
    if weight.ndim != 2 or not weight.numel() or weight.shape[1] % groups_of_rows:
        raise ShapeError(
            f"the weight has shape {tuple(weight.shape)}; (columns, rows) was wanted, "
            f"rows in groups of {groups_of_rows}."
        )
    if not (weight.is_floating_point() and bool(torch.isfinite(weight).all())):
        raise RangeError(f"the weights ({weight.dtype}) must be finite floating-point numbers.")
    blocks = cut_rows(weight.shape[1], crossbar.tile_rows, groups_of_rows)
    scale = torch.stack([column_scale(weight[:, block], crossbar.scale) for block in blocks])
    sizes = torch.tensor([block.stop - block.start for block in blocks], device=weight.device)
    by_row = scale.repeat_interleave(sizes, 0).T
    base, whole = crossbar.device.levels or crossbar.slice_base, crossbar.device.levels is not None
    mapped = slice_weights(weight.detach(), by_row, slices=crossbar.slices, base=base, whole=whole)
    streams = partial(generators, instances, seed)
    written = write(crossbar.device, _target(crossbar.device, mapped), streams)
    return Programmed(crossbar, seed, blocks, scale, mapped, written)


def _target(device: Device, mapped: Mapped) -> Tensor:
    return device.g_min_us + device.range_us * mapped.share
