"""Leaky integrate-and-fire over a chunk of time: the tensor's device and type choose the kernel, never a flag."""

import torch
from torch import Tensor

from ..surrogates import Surrogate
from . import leaky_op
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
    compact: bool = False,
) -> tuple[Tensor, Tensor]:
    """Advance leaky integrate-and-fire neurons over ``current`` (formulas: ``leaky_reference``); differentiable.

    current: (time, batch, features); membrane: (batch, features); beta, threshold: () or (features,).
    The state is computed in float32 (float64 where an argument is); spikes have the type of the current.
    Returns the spikes (time, batch, features) and the new membrane.  Gradients reach all four tensors, but only once:
    the kernels cannot be differentiated twice.  float64 and surrogates of your own run on the reference.
    For the backward pass one value a neuron and step is saved: float32, or bfloat16 if the current is of half precision
    or ``compact`` is set (the spikes stay exact; the gradient is about 0.1 % off).
    """
    firing = Firing(reset, strict, late_reset, detach_reset)
    wide = torch.float64 in (current.dtype, membrane.dtype)
    state = torch.float64 if wide else torch.float32
    membrane, beta, threshold = membrane.to(state), beta.to(state), threshold.to(state)
    if wide or surrogate.kernel_id is None:
        return leaky_reference(current, membrane, beta, threshold, surrogate, firing)
    save = torch.is_grad_enabled() and any(part.requires_grad for part in (current, membrane, beta, threshold))
    rule = (surrogate.kernel_id, *surrogate.coefficients)
    spikes, after, _ = leaky_op.forward(current, membrane, beta, threshold, *rule, *firing, save, compact)
    return spikes, after
