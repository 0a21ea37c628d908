"""The one neuron of snnTorch that no layer of ours is: reset by subtraction in the step of the spike."""

from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from ..neurons.layer import FiringOptions, SpikingLayer

__all__ = ["PromptReset", "PromptResetState"]


class PromptResetState(NamedTuple):
    """The synaptic current (0 where there is none), the membrane and the last spikes, all (batch, *features)."""

    current: Tensor
    membrane: Tensor
    spikes: Tensor


class PromptReset(SpikingLayer[PromptResetState]):
    """snnTorch's ``Leaky``, ``Synaptic`` or ``RLeaky`` with ``reset_delay=False`` and reset by subtraction.

    i = alpha * i + x[t] + R(s[t - 1]);  r = [v > threshold];  s = [beta * v + i - threshold * r > threshold];
    v = beta * v + i - threshold * s

    It is the reset in the same step, until a membrane passes twice the threshold: what the reset leaves is then above
    the threshold still (r = 1), and the next step's test, but not its membrane, is lowered by it.  The gradient flows
    through s, not through r.
    alpha: decay of the current, None for a neuron without one.  recurrent: R, None for none.  beta, threshold, options
    of firing: as `Synaptic`.
    Source: snnTorch 1.0.0, ``Leaky.forward``.

    >>> spikes, state = PromptReset(beta=1.0)(torch.tensor([2.5, 0.25, 0.0]).reshape(3, 1, 1))
    >>> spikes.flatten().tolist(), state.membrane.item()
    ([1.0, 0.0, 0.0], 1.75)
    """

    state_type = PromptResetState
    alpha: Tensor | None

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        alpha: float | Tensor | None = None,
        recurrent: nn.Module | None = None,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, **firing)
        self.recurrent = recurrent
        self._hold("beta", beta, 0, 1)
        if alpha is None:
            self.register_buffer("alpha", None)
        else:
            self._hold("alpha", alpha, 0, 1)

    def forward(self, x: Tensor, state: PromptResetState | None = None) -> tuple[Tensor, PromptResetState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        current, membrane, spike = self._begin(x, state)
        dtype = membrane.dtype
        beta, threshold = self._unit("beta", x, dtype).clamp(0, 1), self._unit("threshold", x, dtype)
        alpha = None if self.alpha is None else self._unit("alpha", x, dtype).clamp(0, 1)
        spikes = []
        for step in x.to(dtype).unbind(0):
            if alpha is not None:
                step = current = alpha * current + step
            u = beta * membrane + step
            if self.recurrent is not None:
                u = u + self.recurrent(spike.to(x.dtype)).to(dtype)
            left = self._spike(membrane, threshold).detach()
            u = u - left * threshold
            spike = self._spike(u, threshold)
            membrane = u - (spike - left) * threshold
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), PromptResetState(current, membrane, spike)
