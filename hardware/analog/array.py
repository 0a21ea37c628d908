"""Arrays as their user sees them: linear maps with noise, between converters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..._check import RangeError, ShapeError
from .converters import Meter, from_columns, to_rows
from .seeds import normal

__all__ = ["Array", "Tile"]


@dataclass(frozen=True, eq=False)
class Tile:
    """One array: y = adc(weight x + noise), the noise's variance being variance x^2.

    rows: the inputs that it takes.  weight, variance: (instances, columns, rows), in the weights' own units, with
    drift, compensation and wires in them; variance None: reads have no noise.  Arrays over the same rows hold
    different digits of the same weights.
    scale: (columns,) the weight that the largest conductance of a column stands for.
    reach: (instances, columns) the largest output that the converter knows; None until calibrated.
    """

    rows: slice
    weight: Tensor
    variance: Tensor | None
    scale: Tensor
    adc_bits: int | None = None
    power_of_two: bool = False
    reach: Tensor | None = None

    def adc(self, y: Tensor, *, dim: int = -1, meter: Meter | None = None) -> Tensor:
        """Convert outputs (instances, ...) whose axis ``dim`` is the columns.

        Raises RangeError where the converter has bits but no range yet.
        """
        if self.adc_bits is None:
            return y
        if self.reach is None:
            raise RangeError("the column converters have no range yet; fit them with `calibrated` or `with_reach`.")
        shape = [1] * y.ndim
        shape[0], shape[dim] = self.reach.shape
        reach = self.reach.reshape(shape)
        return from_columns(y, self.adc_bits, reach, power_of_two=self.power_of_two, meter=meter)

    def read(self, x: Tensor, streams: Sequence[Generator]) -> Tensor:
        """Currents before the converter, (instances, batch, columns), for all rows' x (instances or 1, batch, rows)."""
        part = x[..., self.rows]
        y = part @ self.weight.transpose(1, 2)
        if self.variance is None:
            return y
        spread = ((part * part) @ self.variance.transpose(1, 2)).sqrt()
        return y + spread * normal(y.shape[1:], streams, y)


@dataclass(frozen=True, eq=False)
class Array:
    """All arrays of a layer.  dac_reach: the input that the converter's largest code stands for."""

    tiles: tuple[Tile, ...]
    dac_bits: int | None = None
    dac_reach: float = 1.0

    @property
    def weight(self) -> Tensor:
        """What all arrays make together, (instances, columns, rows)."""
        first = self.tiles[0].weight
        total = first.new_zeros(*first.shape[:2], max(tile.rows.stop for tile in self.tiles))
        for tile in self.tiles:
            total[..., tile.rows] += tile.weight
        return total

    def dac(self, x: Tensor) -> Tensor:
        """Inputs as the rows see them."""
        return to_rows(x, self.dac_bits, self.dac_reach)

    def read(self, x: Tensor, streams: Sequence[Generator], *, meters: Sequence[Meter] | None = None) -> Tensor:
        """Outputs (instances, batch, columns) for x (instances or 1, batch, rows).

        y = sum over arrays of adc(W dac(x) + N(0, V dac(x)^2))

        streams: a generator for each instance, for the read noise.  meters: one for each array.
        Raises ShapeError for other inputs.
        """
        instances, _, _ = self.tiles[0].weight.shape
        rows = max(tile.rows.stop for tile in self.tiles)
        if x.ndim != 3 or x.shape[0] not in (1, instances) or x.shape[2] != rows:
            raise ShapeError(f"the input has shape {tuple(x.shape)}; ({instances} or 1, batch, {rows}) was wanted.")
        x = self.dac(x)
        counts: Sequence[Meter | None] = meters or [None] * len(self.tiles)
        parts = [t.adc(t.read(x, streams), meter=m) for t, m in zip(self.tiles, counts, strict=True)]
        return torch.stack(parts).sum(0)

    def calibrated(self, x: Tensor) -> "Array":
        """The arrays with converters that just hold x (instances or 1, batch, rows), but for the noise."""
        fitted = replace(self, dac_reach=float(x.abs().max()) or 1.0)
        x = fitted.dac(x)
        return fitted.with_reach([(x[..., t.rows] @ t.weight.transpose(1, 2)).abs().amax(1) for t in self.tiles])

    def with_reach(self, reaches: Sequence[Tensor]) -> "Array":
        """The arrays with column converters that end at these outputs, (instances, columns) for each array."""
        tiles = (replace(t, reach=reach) for t, reach in zip(self.tiles, reaches, strict=True))
        return replace(self, tiles=tuple(tiles))
