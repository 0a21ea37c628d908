"""From weights to conductances: which rows share an array, how far a column's range reaches, digits of slices."""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from ..._check import RangeError

__all__ = ["Mapped", "column_scale", "cut_rows", "slice_weights"]


def cut_rows(rows: int, tile_rows: int, group: int) -> tuple[slice, ...]:
    """Cut rows into as few arrays as they fit, of sizes as equal as whole groups allow.

    Raises RangeError for an array that cannot hold one group.

    >>> cut_rows(784, 256, 1)
    (slice(0, 196, None), slice(196, 392, None), slice(392, 588, None), slice(588, 784, None))
    """
    if tile_rows < group:
        raise RangeError(
            f"an array of {tile_rows} rows cannot hold a kernel of {group} inputs; "
            f"take tile_rows of {group} or more (256 is common)."
        )
    groups = rows // group
    tiles = ceil(groups / (tile_rows // group))
    small, more = divmod(groups, tiles)
    edges = [group * (i * small + min(i, more)) for i in range(tiles + 1)]
    return tuple(slice(a, b) for a, b in pairwise(edges))


def column_scale(weight: Tensor, rule: str | float) -> Tensor:
    """The weight that the largest conductance of each column stands for, (columns,); weight: (columns, rows).

    rule "maximum": the largest magnitude of the column.  "power_of_two": the power of two that holds it, by which
    whole weights stay exact in float arithmetic.  A number: that weight, for every column.
    A column of zeros gets 1.  Raises RangeError for weights beyond a given number.
    """
    largest = weight.abs().amax(1)
    if isinstance(rule, int | float):
        beyond = int((weight.abs() > rule).sum())
        if beyond:
            raise RangeError(
                f"{beyond} weights lie beyond the conductance range, which ends at {rule:g} (the largest is "
                f"{float(largest.max()):g}); give a larger scale, or 'maximum' to fit each column."
            )
        return torch.full_like(largest, float(rule))
    scale = largest.where(largest > 0, torch.ones_like(largest))
    if rule == "power_of_two":
        mantissa, exponent = torch.frexp(scale)  # scale = mantissa * 2^exponent, mantissa from 0.5 to below 1
        return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).to(exponent.dtype))
    return scale


@dataclass(frozen=True, eq=False)
class Mapped:
    """Weights as shares of the conductance range.

    share: (slices, 2, columns, rows), 0 to 1, the second axis positive and negative.
    factor: (slices, columns, rows): weight = sum over slices of factor * (positive share - negative share).
    """

    share: Tensor
    factor: Tensor


def slice_weights(weight: Tensor, scale: Tensor, *, slices: int, base: int, whole: bool) -> Mapped:
    """Write |weight| / scale as digits of a base, one device a digit, the least significant first.

    whole: every digit is a whole level, 0 to base - 1, and the value is rounded to the nearest that they make;
    otherwise the least significant digit is any number from 0 to base and nothing is rounded.
    weight, scale: (columns, rows).  One slice holds the whole value.
    """
    top = base - 1 if whole else base
    total = base**slices - 1 if whole else base**slices
    rest = weight.abs() / scale * (total if slices > 1 or whole else 1)
    if slices == 1 and not whole:
        digits, top, total = [rest], 1, 1
    else:
        rest = rest.round() if whole else rest
        digits = []
        for place in reversed(range(slices)):
            last = place == 0
            digit = rest if last else (rest / base**place).floor().clamp(max=base - 1)
            rest = rest - digit * base**place
            digits.insert(0, digit)
    share = torch.stack(digits) / top
    positive = (weight >= 0).to(share.dtype)
    factor = torch.stack([scale * (base**place * top / total) for place in range(slices)])
    return Mapped(torch.stack([share * positive, share * (1 - positive)], 1), factor)
