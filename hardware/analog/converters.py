"""Converters between numbers and an array's voltages and currents."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Meter", "from_columns", "to_rows"]


@dataclass
class Meter:
    """Counts of what column converters did: all conversions, and those beyond the range."""

    conversions: int = 0
    saturated: int = 0


def to_rows(x: Tensor, bits: int | None, reach: float) -> Tensor:
    """Round inputs to what a converter of so many bits of magnitude can drive; None: unlimited.

    step = reach / (2^bits - 1);  x' = step * clamp(round(x / step), -(2^bits - 1), 2^bits - 1)

    The sign is a second pulse of opposite polarity, so one bit passes spikes of -1, 0 and 1 exactly at a reach of 1.

    >>> to_rows(torch.tensor([0.0, 1.0, -1.0]), 1, 1.0)
    tensor([ 0.,  1., -1.])
    """
    if bits is None:
        return x
    most = 2**bits - 1
    step = reach / most
    rounded: Tensor = (x / step).round().clamp(-most, most) * step
    return rounded


def from_columns(y: Tensor, bits: int, reach: Tensor, *, power_of_two: bool, meter: Meter | None = None) -> Tensor:
    """Round column outputs to a converter's codes.

    step = reach / (2^(bits - 1) - 1), raised to a power of two if so asked (whole outputs then stay whole where it is
    1 or more, or a fraction of 1);  y' = step * clamp(round(y / step), -(2^(bits-1) - 1), 2^(bits-1) - 1)

    reach: the largest magnitude, of a shape that broadcasts to y.  A reach of 0 passes nothing.
    """
    most = 2 ** (bits - 1) - 1
    step = reach.clamp(min=torch.finfo(y.dtype).tiny) / most
    if power_of_two:
        step = torch.exp2(step.log2().ceil())
    codes = (y / step).round()
    if meter is not None:
        meter.conversions += codes.numel()
        meter.saturated += int((codes.abs() > most).sum())
    rounded: Tensor = codes.clamp(-most, most) * step
    return rounded
