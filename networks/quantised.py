"""Activations in whole levels, as a neuron that counts spikes gives them, with a gradient that passes the rounding."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["quantised", "straight_floor"]


class _Floor(torch.autograd.Function):
    """The floor, whose gradient is taken to be 1 (straight-through: Bengio et al. 2013, arXiv 1308.3432)."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Round down."""
        return x.floor()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Pass the gradient on as it is."""
        return gradients[0]


def straight_floor(x: Tensor) -> Tensor:
    """The floor of x, with a gradient of 1.

    >>> straight_floor(torch.tensor([-0.5, 1.5])).tolist()
    [-1.0, 1.0]
    """
    floored: Tensor = _Floor.apply(x)  # type: ignore[no-untyped-call]
    return floored


def quantised(x: Tensor, ceiling: Tensor, levels: int) -> Tensor:
    """The quantisation-clip-floor-shift activation: a = c * clip(floor(L x / c + 1/2) / L, 0, 1).

    ceiling: c, above 0, in the units of x; it broadcasts against x.  levels: L, 1 or more.
    It is what an integrate-and-fire neuron of threshold c that starts at c / 2 says in L steps of the current x: c
    times its spikes, divided by L.  All gradients, also the ceiling's, are the formula's with that of the floor as 1.
    Source: Bu et al. 2022 (arXiv 2303.04347), equation 16; its equation 19 for the gradient of c has a known fault.

    >>> quantised(torch.tensor([-1.0, 0.2, 0.7, 9.0]), torch.tensor(1.0), 2).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    return ceiling * (straight_floor(x * (levels / ceiling) + 0.5) / levels).clamp(0.0, 1.0)
