"""Leaky integrate-and-fire over a chunk of time in plain PyTorch, to be read: the oracle of the other kernels."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..surrogates import Surrogate

__all__ = ["Firing", "leaky_reference"]


class Firing(NamedTuple):
    """How a neuron fires and resets.

    reset: "subtract" (the threshold), "zero" or "none".  strict: fire at u > threshold instead of u >= threshold.
    late: the spike of step t resets the membrane in step t + 1, and not in step t.
    detach: no gradient flows through the spike that resets.
    """

    reset: str
    strict: bool
    late: bool
    detach: bool


def leaky_reference(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, surrogate: Surrogate, firing: Firing
) -> tuple[Tensor, Tensor]:
    """Advance leaky integrate-and-fire neurons by ``current.shape[0]`` steps.

    u = beta * v + current[t];  s = [u >= threshold];  v = u - threshold * s, (1 - s) * u or u
    late: r = [v >= threshold];  s = [u >= threshold];  v = u
    u = beta * v + current[t] - threshold * r, or beta * (1 - r) * v + current[t], or without r

    current: (time, batch, features), membrane: (batch, features), beta, threshold: () or (features,), in units of the
    membrane.  Computed in the type of the membrane; the spikes have the type of the current.
    Returns spikes like ``current`` and the new membrane.  Source of the late form: snnTorch 1.0, ``Leaky``.
    """
    spikes = []
    for step in current.to(membrane.dtype).unbind(0):
        if firing.late:
            membrane = _integrate_late(step, membrane, beta, threshold, surrogate, firing)
        else:
            membrane = beta * membrane + step
        spike = surrogate.spike(membrane - threshold, firing.strict)
        spikes.append(spike)
        if not firing.late:
            membrane = _reset(membrane, spike, threshold, firing)
    return torch.stack(spikes).to(current.dtype), membrane


def _integrate_late(
    step: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, surrogate: Surrogate, firing: Firing
) -> Tensor:
    """Apply the reset that the step before has caused: a subtraction after the leak, a zero before it."""
    if firing.reset == "none":
        return beta * membrane + step
    spike = surrogate.spike(membrane - threshold, firing.strict)
    spike = spike.detach() if firing.detach else spike
    if firing.reset == "zero":
        return beta * ((1 - spike) * membrane) + step
    return beta * membrane + step - spike * threshold


def _reset(membrane: Tensor, spike: Tensor, threshold: Tensor, firing: Firing) -> Tensor:
    spike = spike.detach() if firing.detach else spike
    if firing.reset == "subtract":
        return membrane - spike * threshold
    return (1 - spike) * membrane if firing.reset == "zero" else membrane
