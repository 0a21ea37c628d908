"""Synapses as linear filters of their input: one exponential, or two."""

from typing import NamedTuple

from torch import Tensor

from .kernels.decay import decaying_sum
from .layer import Layer, decay_of, flat_features

__all__ = ["DoubleExponential", "DoubleExponentialState", "Exponential", "ExponentialState"]


class ExponentialState(NamedTuple):
    """The synaptic current, (batch, *features)."""

    current: Tensor


class Exponential(Layer[ExponentialState]):
    """A synapse whose current jumps with its input and decays.

    i[t] = alpha * i[t - 1] + x[t]; returns i at every step.

    alpha: decay a step, in (0, 1]; a number, or a tensor that broadcasts against the features; learned with
    ``learn_alpha`` and held in [0, 1].

    >>> import torch
    >>> current, _ = Exponential(alpha=0.5)(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1))
    >>> current.flatten().tolist()
    [1.0, 0.5, 0.25]
    """

    state_type = ExponentialState

    def __init__(self, alpha: float | Tensor, *, learn_alpha: bool = False) -> None:
        super().__init__()
        self._hold("alpha", alpha, 0, 1, learn=learn_alpha)

    @classmethod
    def from_time_constant(cls, tau_s: float, dt_s: float, *, learn_alpha: bool = False) -> "Exponential":
        """Return the filter with alpha = exp(-dt / tau); tau and dt in seconds."""
        return cls(decay_of(tau_s, dt_s), learn_alpha=learn_alpha)

    def forward(self, x: Tensor, state: ExponentialState | None = None) -> tuple[Tensor, ExponentialState]:
        """Return the currents like ``x`` (time, batch, *features) and the state after the last step."""
        (current,) = self._begin(x, state)
        alpha = self._flat("alpha", x, current.dtype).clamp(0, 1)
        y = decaying_sum(flat_features(x.to(current.dtype), 1), flat_features(current, 0), alpha).reshape(x.shape)
        return y.to(x.dtype), ExponentialState(y[-1].clone())


class DoubleExponentialState(NamedTuple):
    """The fast current that drives, and the current that comes out; both (batch, *features)."""

    rising: Tensor
    current: Tensor


class DoubleExponential(Layer[DoubleExponentialState]):
    """A synapse whose current rises and then decays: two exponential filters, one after the other.

    h[t] = rise * h[t - 1] + x[t];  i[t] = decay * i[t - 1] + h[t]; returns i at every step.

    The answer to one input of 1 at t = 0 is (decay^(t+1) - rise^(t+1)) / (decay - rise), and (t + 1) * decay^t, the
    alpha function, where both are equal; it starts at 1 and its sum is 1 / ((1 - rise) (1 - decay)).
    rise, decay: per step, in (0, 1], in either order; as ``alpha`` of `Exponential`.

    >>> import torch
    >>> current, _ = DoubleExponential(rise=0.5, decay=0.5)(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1))
    >>> current.flatten().tolist()
    [1.0, 1.0, 0.75]
    """

    state_type = DoubleExponentialState

    def __init__(
        self, rise: float | Tensor, decay: float | Tensor, *, learn_rise: bool = False, learn_decay: bool = False
    ) -> None:
        super().__init__()
        self._hold("rise", rise, 0, 1, learn=learn_rise)
        self._hold("decay", decay, 0, 1, learn=learn_decay)

    @classmethod
    def from_time_constant(cls, tau_rise_s: float, tau_decay_s: float, dt_s: float) -> "DoubleExponential":
        """Return the filter with rise = exp(-dt / tau_rise), decay = exp(-dt / tau_decay); all in seconds."""
        return cls(decay_of(tau_rise_s, dt_s), decay_of(tau_decay_s, dt_s))

    def forward(self, x: Tensor, state: DoubleExponentialState | None = None) -> tuple[Tensor, DoubleExponentialState]:
        """Return the currents like ``x`` (time, batch, *features) and the state after the last step."""
        rising, current = self._begin(x, state)
        rise, decay = (self._flat(name, x, current.dtype).clamp(0, 1) for name in ("rise", "decay"))
        h = decaying_sum(flat_features(x.to(current.dtype), 1), flat_features(rising, 0), rise)
        y = decaying_sum(h, flat_features(current, 0), decay).reshape(x.shape)
        return y.to(x.dtype), DoubleExponentialState(h[-1].clone().reshape(x.shape[1:]), y[-1].clone())
