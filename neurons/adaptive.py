"""Leaky integrate-and-fire neurons whose threshold rises with each spike."""

import math
from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from .._check import RangeError
from .layer import FiringOptions, SpikingLayer, decay_of

__all__ = ["AdaptiveLeaky", "AdaptiveLeakyState"]


class AdaptiveLeakyState(NamedTuple):
    """The membrane and the adaptation (decaying number of spikes), both (batch, *features)."""

    membrane: Tensor
    adaptation: Tensor


class AdaptiveLeaky(SpikingLayer[AdaptiveLeakyState]):
    """Leaky integrate-and-fire with an adaptive threshold (ALIF).

    u = beta * v + x[t];  s = [u >= threshold + strength * a];
    v = u - threshold * s, (1 - s) * u or u;  a = rho * a + s

    beta: decay of the membrane a step; rho: of the adaptation, both in (0, 1]; threshold: at rest, above 0; strength:
    how much a spike raises it, 0 or above.  Each a number, or a tensor that broadcasts against the features; learned
    with its ``learn_`` option (beta and rho are held in [0, 1]).  The reset subtracts the threshold at rest, as the
    source does.  Options of firing: see `FiringOptions`; with ``late_reset``, as the source writes it, the state holds
    membrane and adaptation before the last spike has acted on them.
    Source: Bellec et al. 2020 (doi 10.1038/s41467-020-17236-y), the ALIF neuron of its methods.

    >>> spikes, _ = AdaptiveLeaky(beta=1.0, rho=1.0, strength=1.0)(torch.ones(6, 1, 1))
    >>> spikes.flatten().tolist()
    [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """

    state_type = AdaptiveLeakyState

    def __init__(
        self,
        beta: float | Tensor,
        rho: float | Tensor,
        strength: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_beta: bool = False,
        learn_rho: bool = False,
        learn_strength: bool = False,
        learn_threshold: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, learn_threshold=learn_threshold, **firing)
        self._hold("beta", beta, 0, 1, learn=learn_beta)
        self._hold("rho", rho, 0, 1, learn=learn_rho)
        if bool((torch.as_tensor(strength) < 0).any()):
            raise RangeError(f"strength is {strength}, but it must be 0 or above: a spike raises the threshold.")
        self._hold("strength", strength, -math.inf, math.inf, learn=learn_strength)

    @classmethod
    def from_time_constant(
        cls,
        tau_s: float,
        dt_s: float,
        *,
        tau_adaptation_s: float,
        strength: float,
        threshold: float = 1.0,
        **firing: Unpack[FiringOptions],
    ) -> "AdaptiveLeaky":
        """Return the neuron with beta = exp(-dt / tau) and rho = exp(-dt / tau_adaptation); all in seconds."""
        return cls(decay_of(tau_s, dt_s), decay_of(tau_adaptation_s, dt_s), strength, threshold, **firing)

    def forward(self, x: Tensor, state: AdaptiveLeakyState | None = None) -> tuple[Tensor, AdaptiveLeakyState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        v, a = self._begin(x, state)
        beta, rho = (self._unit(name, x, v.dtype).clamp(0, 1) for name in ("beta", "rho"))
        strength, threshold = (self._unit(name, x, v.dtype) for name in ("strength", "threshold"))
        spikes = []
        for step in x.to(v.dtype).unbind(0):
            u = beta * v + step
            if self.late_reset:
                before = self._spike(v, threshold + strength * a)
                u, a = self._less(u, before, threshold), rho * a + before
            spike = self._spike(u, threshold + strength * a)
            v, a = (u, a) if self.late_reset else (self._less(u, spike, threshold), rho * a + spike)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), AdaptiveLeakyState(v, a)
