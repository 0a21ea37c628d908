"""Neurons whose membrane answers an input with an alpha function: it rises, then decays."""

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from .._check import RangeError
from .layer import FiringOptions, SpikingLayer, decay_of

__all__ = ["Alpha", "AlphaState"]


class AlphaState(NamedTuple):
    """The two currents and the membrane that they make, all (batch, *features)."""

    excitatory: Tensor
    inhibitory: Tensor
    membrane: Tensor


class Alpha(SpikingLayer[AlphaState]):
    """A spike-response neuron: the membrane is the difference of two exponentials.

    e = alpha * e + x[t];  i = beta * i - x[t];  u = tau * (e + i);  s = [u >= threshold]
    with tau = log(beta) / (log(beta) - log(alpha)).
    "zero": e and i become 0 where s.  "subtract": e loses s * threshold / tau, so that u loses the threshold.

    alpha, beta: decays a step with 0 < beta < alpha <= 1; threshold: above 0.  Each a number, or a tensor that
    broadcasts against the features; learned with its ``learn_`` option (alpha and beta are held in [0, 1]).  The answer
    to an input begins a step after it.
    Options of firing: see `FiringOptions`.  With ``late_reset`` it equals snnTorch's ``Alpha``, where r is the spike of
    the step before: "zero" leaves (1 - r) of e, i and u; "subtract" leaves e - r * threshold, (1 - r) * i and
    u + r * i_before.
    Raises RangeError where alpha is not above beta.

    >>> spikes, _ = Alpha(alpha=0.9, beta=0.8)(torch.tensor([4.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1))
    >>> spikes.flatten().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    state_type = AlphaState

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
        if bool((torch.as_tensor(alpha) <= torch.as_tensor(beta)).any()):
            raise RangeError(
                f"alpha ({alpha}) must be above beta ({beta}) everywhere, or the membrane falls with its input."
            )

    @classmethod
    def from_time_constant(
        cls, tau_s: float, dt_s: float, *, tau_rise_s: float, threshold: float = 1.0, **firing: Unpack[FiringOptions]
    ) -> "Alpha":
        """Return the neuron whose membrane decays with ``tau_s`` and rises with the shorter ``tau_rise_s``, in seconds.

        alpha = exp(-dt / tau), beta = exp(-dt / tau_rise).
        """
        return cls(decay_of(tau_s, dt_s), decay_of(tau_rise_s, dt_s), threshold, **firing)

    def forward(self, x: Tensor, state: AlphaState | None = None) -> tuple[Tensor, AlphaState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        state = self._begin(x, state)
        dtype = state.membrane.dtype
        alpha, beta = (self._unit(name, x, dtype).clamp(0, 1) for name in ("alpha", "beta"))
        threshold = self._unit("threshold", x, dtype)
        tau = alpha.log() / (beta.log() - alpha.log()) + 1
        spikes = []
        for step in x.to(dtype).unbind(0):
            e, i = alpha * state.excitatory + step, beta * state.inhibitory - step
            new = AlphaState(e, i, tau * (e + i))
            if self.late_reset:
                state = self._reset_late(new, state, threshold)
                spike = self._spike(state.membrane, threshold)
            else:
                spike = self._spike(new.membrane, threshold)
                state = self._reset_now(new, spike, threshold, tau)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), state

    def _reset_now(self, new: AlphaState, spike: Tensor, threshold: Tensor, tau: Tensor) -> AlphaState:
        s = self._resetting(spike)
        if self.reset == "zero":
            return AlphaState(*(part - s * part for part in new))
        if self.reset == "subtract":
            return AlphaState(new.excitatory - s * threshold / tau, new.inhibitory, new.membrane - s * threshold)
        return new

    def _reset_late(self, new: AlphaState, before: AlphaState, threshold: Tensor) -> AlphaState:
        """Term by term what snnTorch does."""
        r = self._resetting(self._spike(before.membrane, threshold))
        if self.reset == "zero":
            return AlphaState(*(part - part * r for part in new))
        if self.reset == "subtract":
            e, i, u = new
            return AlphaState(e - threshold * r, i - i * r, u + before.inhibitory * r)
        return new
