"""Penalties on the activity of hidden layers, added to the loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .._check import RangeError, require_in_range

__all__ = ["RateBounds", "SpikeSparsity"]


@dataclass(frozen=True)
class SpikeSparsity:
    """Make spikes cost: L = weight · Σ_layers Σ s / batch.

    weight: loss a spike of one sample, at least 0.  Over a batch of one this is snnTorch's ``l1_rate_sparsity``, which
    does not divide by the batch and so grows with it.
    """

    weight: float = 1e-5

    def __post_init__(self) -> None:
        require_in_range("weight", self.weight, 0.0, 1e6)

    def __call__(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty. spikes: (time, batch, *features) of each layer by its name."""
        return self.weight * _total([each.sum() / each.shape[1] for each in spikes.values()])


@dataclass(frozen=True)
class RateBounds:
    """Keep each unit's rate r (spikes a step, over time and batch) between two bounds.

    L = weight · Σ_layers mean_units (max(0, low − r)² + max(0, r − high)²)
    low > 0 revives units that are silent, high < 1 calms those that always fire.
    Source: the bounds of Zenke and Vogels, The Remarkable Robustness of Surrogate Gradient Learning, Neural
    Computation 33 (2021), with rates in place of counts.
    """

    low: float = 0.01
    high: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        require_in_range("weight", self.weight, 0.0, 1e6)
        if not 0 <= self.low <= self.high <= 1:
            raise RangeError(f"the bounds are {self.low} and {self.high}, but 0 <= low <= high <= 1 is wanted.")

    def __call__(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Return the penalty. spikes: (time, batch, *features) of each layer by its name."""
        rates = [each.mean((0, 1)) for each in spikes.values()]
        parts = [((self.low - r).clamp_min(0).square() + (r - self.high).clamp_min(0).square()).mean() for r in rates]
        return self.weight * _total(parts)


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum() if parts else torch.zeros(())
