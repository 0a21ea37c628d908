"""Leaky integrate-and-fire over a chunk of time: the tensor's device and type choose the kernel, never a flag."""

import torch
from torch import Tensor

from ..surrogates import Surrogate
from .leaky_reference import Firing, leaky_reference

__all__ = ["leaky"]


def leaky(  # noqa: PLR0913 - what a neuron is made of
    current: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    surrogate: Surrogate,
    *,
    reset: str = "subtract",
    strict: bool = False,
    late_reset: bool = False,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor]:
    """Advance leaky integrate-and-fire neurons over ``current`` (formulas: ``leaky_reference``); differentiable.

    current: (time, batch, features); membrane: (batch, features); beta, threshold: () or (features,).
    The state is computed in float32 (float64 where an argument is); spikes have the type of the current.
    Returns the spikes (time, batch, features) and the new membrane.  Gradients reach all four tensors.
    """
    wide = torch.float64 in (current.dtype, membrane.dtype)
    state = torch.float64 if wide else torch.float32
    membrane, beta, threshold = (part.to(state) for part in (membrane, beta, threshold))
    return leaky_reference(
        current, membrane, beta, threshold, surrogate, Firing(reset, strict, late_reset, detach_reset)
    )
