"""Leaky integrate-and-fire neurons with a synaptic current that decays: the second order."""

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from .kernels.decay import decaying_sum
from .kernels.leaky import leaky
from .layer import FiringOptions, SpikingLayer, decay_of, flat_features

__all__ = ["Synaptic", "SynapticState"]


class SynapticState(NamedTuple):
    """The synaptic current and the membrane, both (batch, *features)."""

    current: Tensor
    membrane: Tensor


class Synaptic(SpikingLayer[SynapticState]):
    """Leaky integrate-and-fire with a current that jumps with the input and decays (current-based, second order).

    i = alpha * i + x[t];  u = beta * v + i;  s = [u >= threshold];  v = u - threshold * s, (1 - s) * u or u

    alpha: decay of the current a step; beta: of the membrane, both in (0, 1]; threshold: above 0.  Each a number, or a
    tensor that broadcasts against the features, learned with its ``learn_`` option (alpha and beta are held in [0, 1]).
    Options of firing: see `FiringOptions`.  With ``late_reset`` it equals snnTorch's ``Synaptic``: reset "zero" then
    takes the current of the step after the spike out of the membrane too, u = (1 - r) * (beta * v + i).

    >>> spikes, state = Synaptic(alpha=0.5, beta=0.5)(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1))
    >>> spikes.flatten().tolist(), state.current.item(), state.membrane.item()
    ([1.0, 0.0, 0.0], 0.25, 0.5)
    """

    state_type = SynapticState

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, learn_threshold=learn_threshold, **firing)
        self._hold("alpha", alpha, 0, 1, learn=learn_alpha)
        self._hold("beta", beta, 0, 1, learn=learn_beta)

    @classmethod
    def from_time_constant(
        cls, tau_s: float, dt_s: float, *, tau_current_s: float, threshold: float = 1.0, **firing: Unpack[FiringOptions]
    ) -> "Synaptic":
        """Return the neuron with these time constants of the membrane and the current, in steps of ``dt_s``.

        beta = exp(-dt / tau), alpha = exp(-dt / tau_current); all in seconds.
        """
        return cls(decay_of(tau_current_s, dt_s), decay_of(tau_s, dt_s), threshold, **firing)

    def forward(self, x: Tensor, state: SynapticState | None = None) -> tuple[Tensor, SynapticState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        current, membrane = (flat_features(part, 0) for part in self._begin(x, state))
        alpha, beta, threshold = (self._flat(name, x, membrane.dtype) for name in ("alpha", "beta", "threshold"))
        currents = decaying_sum(flat_features(x.to(membrane.dtype), 1), current, alpha.clamp(0, 1))
        if self.late_reset and self.reset == "zero":
            spikes, membrane = self._late_zero(currents, membrane, beta.clamp(0, 1), threshold)
        else:
            spikes, membrane = leaky(
                currents,
                membrane,
                beta.clamp(0, 1),
                threshold,
                self.surrogate,
                reset=self.reset,
                strict=self.test == ">",
                late_reset=self.late_reset,
                detach_reset=self.detach_reset,
            )
        step = x.shape[1:]
        return spikes.to(x.dtype).reshape(x.shape), SynapticState(
            currents[-1].clone().reshape(step), membrane.reshape(step)
        )

    def _late_zero(self, currents: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """u = (1 - r) * (beta * v + i[t]) with r = [v >= threshold], the spike of the step before."""
        spikes = []
        for current in currents.unbind(0):
            spike, membrane = self._fire(beta * membrane + current, membrane, threshold)
            spikes.append(spike)
        return torch.stack(spikes), membrane
