"""A leaky integrator: the membrane of a neuron that never fires, as a readout."""

from typing import NamedTuple

from torch import Tensor

from .kernels.decay import decaying_sum
from .layer import Layer, decay_of, flat_features

__all__ = ["LeakyIntegrator", "LeakyIntegratorState"]


class LeakyIntegratorState(NamedTuple):
    """The membrane, (batch, *features)."""

    membrane: Tensor


class LeakyIntegrator(Layer[LeakyIntegratorState]):
    """A membrane that never fires, for reading a network out.

    u[t] = beta * u[t - 1] + gain * x[t]; returns u at every step.

    beta: decay a step, in (0, 1], 1 is a plain sum; a number, or a tensor that broadcasts against the features; learned
    with ``learn_beta`` and held in [0, 1].  Equals the membrane of snnTorch's ``Leaky(beta, reset_mechanism="none")``.

    >>> import torch
    >>> membrane, state = LeakyIntegrator(beta=0.5)(torch.ones(3, 1, 1))
    >>> membrane.flatten().tolist()
    [1.0, 1.5, 1.75]
    """

    state_type = LeakyIntegratorState

    def __init__(self, beta: float | Tensor, *, gain: float = 1.0, learn_beta: bool = False) -> None:
        super().__init__()
        self._hold("beta", beta, 0, 1, learn=learn_beta)
        self.gain = gain

    @classmethod
    def from_time_constant(
        cls, tau_s: float, dt_s: float, *, gain: float = 1.0, learn_beta: bool = False
    ) -> "LeakyIntegrator":
        """Return the integrator with beta = exp(-dt / tau), the exact decay; tau and dt in seconds.

        With gain = 1 - beta it is the exact solution of tau du/dt = x - u over a step of constant x.
        """
        return cls(decay_of(tau_s, dt_s), gain=gain, learn_beta=learn_beta)

    def forward(self, x: Tensor, state: LeakyIntegratorState | None = None) -> tuple[Tensor, LeakyIntegratorState]:
        """Return the membranes like ``x`` (time, batch, *features) and the state after the last step."""
        (membrane,) = state = self._begin(x, state)
        current = x.to(membrane.dtype) if self.gain == 1 else x.to(membrane.dtype) * self.gain
        beta = self._flat("beta", x, membrane.dtype).clamp(0, 1)
        u = decaying_sum(flat_features(current, 1), flat_features(membrane, 0), beta).reshape(x.shape)
        return u.to(x.dtype), LeakyIntegratorState(u[-1].clone())
