"""Leaky integrate-and-fire neurons that hear their own spikes a step later."""

from typing import NamedTuple, TypeVar, Unpack

import torch
from torch import Tensor, nn

from .._check import ShapeError
from .kernels.leaky_reference import Firing
from .kernels.recurrent import Population, Start, recurrent
from .layer import FiringOptions, SpikingLayer, decay_of

__all__ = ["OneToOne", "RecurrentLeaky", "RecurrentLeakyState", "RecurrentSynaptic", "RecurrentSynapticState"]


class OneToOne(nn.Module):
    """Each unit hears itself alone: y = weight * s; one weight, or a tensor that broadcasts against the features."""

    def __init__(self, weight: float | Tensor = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.get_default_dtype()).detach().clone())

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the spikes (batch, *features), weighted."""
        return spikes * self.weight


class RecurrentLeakyState(NamedTuple):
    """The membrane and the spikes of the last step, both (batch, *features)."""

    membrane: Tensor
    spikes: Tensor


class RecurrentSynapticState(NamedTuple):
    """The synaptic current, the membrane and the spikes of the last step, all (batch, *features)."""

    current: Tensor
    membrane: Tensor
    spikes: Tensor


def _heard(recurrent: nn.Module, spikes: Tensor, x: Tensor) -> Tensor:
    """What the recurrent module makes of the spikes of the last step, in their type."""
    heard: Tensor = recurrent(spikes.to(x.dtype))
    if heard.shape != spikes.shape:
        raise ShapeError(
            f"the recurrent module maps {tuple(spikes.shape)} to {tuple(heard.shape)}, but what it gives is added to "
            f"the input: give it as many outputs as inputs, {tuple(spikes.shape[1:])}."
        )
    return heard.to(spikes.dtype)


StateOf = TypeVar("StateOf", bound=NamedTuple)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class RecurrentLayer(SpikingLayer[StateOf]):
    """What both recurrent layers share: a linear recurrence runs in one node of the graph, others in plain autograd."""

    recurrent: nn.Module

    def _fused(self, x: Tensor, membrane: Tensor) -> nn.Linear | None:
        """The linear module, where ``kernels.recurrent`` can run it: one type throughout, and nothing watches it."""
        module = self.recurrent
        if torch.compiler.is_compiling():
            return None
        watched = torch.is_autocast_enabled(x.device.type) or any(getattr(module, hooks, None) for hooks in _HOOKS)
        if type(module) is not nn.Linear or x.ndim != 3 or watched or not isinstance(module.weight, nn.Parameter):
            return None
        if not x.dtype == membrane.dtype == module.weight.dtype or module.weight.shape != (x.shape[2],) * 2:
            return None
        kept = self.detach_reset or not (self.late_reset and self.reset == "zero")
        return module if kept else None

    def _firing(self) -> Firing:
        return Firing(self.reset, self.test == ">", self.late_reset, self.detach_reset)


class RecurrentLeaky(RecurrentLayer[RecurrentLeakyState]):
    """`Leaky` with its spikes fed back through a module, a step later.

    u = beta * v + x[t] + R(s[t - 1]);  s = [u >= threshold];  v = u - threshold * s, (1 - s) * u or u

    recurrent: R, any module that maps (batch, *features) to the same shape: ``nn.Linear(n, n)``, a padded convolution,
    `OneToOne`.  beta, threshold, options of firing: as `Synaptic`.  With ``late_reset`` it equals snnTorch's
    ``RLeaky``: reset "zero" then takes the input of the step after the spike out of the membrane too.

    >>> spikes, _ = RecurrentLeaky(OneToOne(1.0), beta=0.5)(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1))
    >>> spikes.flatten().tolist()
    [1.0, 1.0, 1.0]
    """

    state_type = RecurrentLeakyState

    def __init__(
        self,
        recurrent: nn.Module,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, learn_threshold=learn_threshold, **firing)
        self.recurrent = recurrent
        self._hold("beta", beta, 0, 1, learn=learn_beta)

    @classmethod
    def from_time_constant(
        cls, recurrent: nn.Module, tau_s: float, dt_s: float, threshold: float = 1.0, **firing: Unpack[FiringOptions]
    ) -> "RecurrentLeaky":
        """Return the neuron with beta = exp(-dt / tau); tau and dt in seconds."""
        return cls(recurrent, decay_of(tau_s, dt_s), threshold, **firing)

    def forward(self, x: Tensor, state: RecurrentLeakyState | None = None) -> tuple[Tensor, RecurrentLeakyState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        membrane, spike = self._begin(x, state)
        beta = self._unit("beta", x, membrane.dtype).clamp(0, 1)
        threshold = self._unit("threshold", x, membrane.dtype)
        if module := self._fused(x, membrane):
            population = Population(module.weight, module.bias, None, beta, threshold)
            start = Start(None, membrane, spike)
            fired, _, membrane = recurrent(x, start, population, self.surrogate, self._firing())
            return fired, RecurrentLeakyState(membrane, fired[-1].clone())
        spikes = []
        for step in x.to(membrane.dtype).unbind(0):
            u = beta * membrane + step + _heard(self.recurrent, spike, x)
            spike, membrane = self._fire(u, membrane, threshold)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), RecurrentLeakyState(membrane, spike)


class RecurrentSynaptic(RecurrentLayer[RecurrentSynapticState]):
    """`Synaptic` with its spikes fed back through a module, a step later.

    i = alpha * i + x[t] + R(s[t - 1]);  u = beta * v + i;  s = [u >= threshold];
    v = u - threshold * s, (1 - s) * u or u

    recurrent: R, as for `RecurrentLeaky`; alpha, beta, threshold, options of firing: as `Synaptic`.  With
    ``late_reset`` it equals snnTorch's ``RSynaptic``.

    >>> layer = RecurrentSynaptic(nn.Linear(3, 3), alpha=0.5, beta=0.5)
    >>> layer.initial_state((2, 3)).spikes.shape
    torch.Size([2, 3])
    """

    state_type = RecurrentSynapticState

    def __init__(
        self,
        recurrent: nn.Module,
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
        self.recurrent = recurrent
        self._hold("alpha", alpha, 0, 1, learn=learn_alpha)
        self._hold("beta", beta, 0, 1, learn=learn_beta)

    @classmethod
    def from_time_constant(
        cls,
        recurrent: nn.Module,
        tau_s: float,
        dt_s: float,
        *,
        tau_current_s: float,
        threshold: float = 1.0,
        **firing: Unpack[FiringOptions],
    ) -> "RecurrentSynaptic":
        """Return the neuron with beta = exp(-dt / tau) and alpha = exp(-dt / tau_current); all in seconds."""
        return cls(recurrent, decay_of(tau_current_s, dt_s), decay_of(tau_s, dt_s), threshold, **firing)

    def forward(self, x: Tensor, state: RecurrentSynapticState | None = None) -> tuple[Tensor, RecurrentSynapticState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        current, membrane, spike = self._begin(x, state)
        alpha, beta = (self._unit(name, x, membrane.dtype).clamp(0, 1) for name in ("alpha", "beta"))
        threshold = self._unit("threshold", x, membrane.dtype)
        if module := self._fused(x, membrane):
            population = Population(module.weight, module.bias, alpha, beta, threshold)
            start = Start(current, membrane, spike)
            fired, last, membrane = recurrent(x, start, population, self.surrogate, self._firing())
            return fired, RecurrentSynapticState(current if last is None else last, membrane, fired[-1].clone())
        spikes = []
        for step in x.to(membrane.dtype).unbind(0):
            current = alpha * current + step + _heard(self.recurrent, spike, x)
            spike, membrane = self._fire(beta * membrane + current, membrane, threshold)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), RecurrentSynapticState(current, membrane, spike)
