"""Leaky integrate-and-fire neurons, and those without a leak: layers that map a sequence and a state to the same."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from .._check import RangeError
from .kernels import leaky_eager
from .kernels.leaky import leaky
from .kernels.leaky_plan_cpu import RATIONAL
from .kernels.leaky_reference import Firing
from .layer import FiringOptions, SpikingLayer, decay_of, flat_features, require_state, state_type

__all__ = ["IntegrateAndFire", "Leaky", "LeakyState", "lapicque"]


class LeakyState(NamedTuple):
    """The membrane, (batch, *features), in units of the threshold's."""

    membrane: Tensor


class Leaky(SpikingLayer[LeakyState]):
    """Leaky integrate-and-fire neurons.

    u = beta * v + gain * x[t];  s = [u >= threshold];  v = u - threshold * s, (1 - s) * u ("zero") or u ("none")

    beta: decay of the membrane a step, in (0, 1]; threshold: above 0.  A number, or a tensor with as many axes as the
    features that broadcasts against them: (C, 1, 1) is one value a channel of (C, H, W).  ``learn_beta`` and
    ``learn_threshold`` make parameters of them; beta is held in [0, 1] as snnTorch holds it.  gain: factor of the
    input.  Options of firing: see `FiringOptions`.  compact: save bfloat16 values for the backward pass, half the
    memory; the spikes stay exact, the gradient is about 0.1 % off.
    The state is float32, for input of half precision too, and float64 for float64 input.
    Raises RangeError for a value outside its range; ShapeError where the state does not fit or time has no steps.

    >>> import torch
    >>> spikes, state = Leaky(beta=0.5)(torch.ones(3, 1, 2))
    >>> spikes[:, 0, 0].tolist(), state.membrane[0, 0].item()
    ([1.0, 1.0, 1.0], 0.0)
    """

    state_type = LeakyState
    beta: Tensor
    threshold: Tensor

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        gain: float = 1.0,
        compact: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, learn_threshold=learn_threshold, **firing)
        self._hold("beta", beta, 0, 1, learn=learn_beta)
        if not math.isfinite(gain):
            raise RangeError(f"gain is {gain}, but it must be finite.")
        self.gain, self.compact = gain, compact

    @classmethod
    def from_time_constant(
        cls, tau_s: float, dt_s: float, threshold: float = 1.0, **firing: Unpack[FiringOptions]
    ) -> "Leaky":
        """Return the neuron whose membrane decays with time constant ``tau_s`` (seconds) in steps of ``dt_s``.

        beta = exp(-dt / tau), the exact solution of tau dv/dt = -v over a step.

        >>> round(Leaky.from_time_constant(tau_s=0.020, dt_s=0.001).beta.item(), 4)
        0.9512
        """
        return cls(decay_of(tau_s, dt_s), threshold, **firing)

    def forward(self, x: Tensor, state: LeakyState | None = None) -> tuple[Tensor, LeakyState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        if state is not None:
            require_state(self, state)
        started = None if state is None else state.membrane
        rule = self._eager_rule() if leaky_eager.serves(x, started) else None
        if rule is not None:
            spikes, membrane = leaky_eager.advance(x, started, rule)
            return spikes, LeakyState(membrane)
        (membrane,) = self._begin(x, self._nothing(x) if state is None else state)
        to_rows, from_rows = _memory_order(x)
        rows = to_rows(x)
        beta, threshold = (self._unit(name, x, membrane.dtype) for name in ("beta", "threshold"))
        if beta.ndim:
            beta = to_rows(beta.expand(1, 1, *x.shape[2:])).flatten()
        if threshold.ndim:
            threshold = to_rows(threshold.expand(1, 1, *x.shape[2:])).flatten()
        spikes, membrane = leaky(
            flat_features(rows if self.gain == 1 else rows * self.gain, 1),
            flat_features(to_rows(membrane.unsqueeze(0)), 1).squeeze(0),
            beta.clamp(0, 1),
            threshold,
            self.surrogate,
            reset=self.reset,
            strict=self.test == ">",
            late_reset=self.late_reset,
            detach_reset=self.detach_reset,
            compact=self.compact,
        )
        membrane = from_rows(membrane.reshape(1, *rows.shape[1:])).squeeze(0)
        return from_rows(spikes.reshape(rows.shape)), LeakyState(membrane)

    def _eager_rule(self) -> leaky_eager.EagerRule | None:
        """This layer for ``leaky_eager``, if that has its kind: fixed values for all neurons, a reset at once."""
        beta, threshold, formula = self.beta, self.threshold, self.surrogate.kernel_id
        if formula not in RATIONAL or self.gain != 1 or self.late_reset or self.reset == "zero":
            return None
        if not (leaky_eager.fixed(beta) and leaky_eager.fixed(threshold)):
            return None
        decay, level = beta.item(), threshold.item()
        firing = Firing(self.reset, self.test == ">", False, self.detach_reset)
        surrogate = formula, *self.surrogate.coefficients
        return leaky_eager.EagerRule(min(max(decay, 0.0), 1.0), level, *surrogate, firing, self.compact)

    def _nothing(self, x: Tensor) -> LeakyState | None:
        """A fresh state that is one zero in memory, which is quicker to read; None where `_begin` shall make it."""
        if x.device.type != "cpu" or x.ndim < 2 or not x.is_floating_point():
            return None
        return LeakyState(torch.zeros((), dtype=state_type(x)).expand(x.shape[1:]))


class IntegrateAndFire(Leaky):
    """Integrate-and-fire neurons: `Leaky` with beta = 1, fixed.

    >>> import torch
    >>> spikes, _ = IntegrateAndFire()(torch.full((4, 1, 1), 0.5))
    >>> spikes.flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        threshold: float | Tensor = 1.0,
        *,
        learn_threshold: bool = False,
        gain: float = 1.0,
        compact: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(1.0, threshold, learn_threshold=learn_threshold, gain=gain, compact=compact, **firing)

    @classmethod
    def from_time_constant(cls, *values: Any, **named: Any) -> "Leaky":
        """Raise RangeError: a membrane that keeps everything has no time constant."""
        raise RangeError("IntegrateAndFire loses nothing and has no time constant; use Leaky.from_time_constant")


def lapicque(
    resistance: float,
    capacitance: float,
    dt_s: float = 1.0,
    threshold: float | Tensor = 1.0,
    **firing: Unpack[FiringOptions],
) -> Leaky:
    """Return the `Leaky` of Lapicque's circuit: a resistance (ohm) beside a capacitance (farad), steps of ``dt_s``.

    beta = 1 - dt / (R C), gain = dt / C: one Euler step of C dv/dt = x - v / R, as snnTorch's ``Lapicque`` takes it.
    Raises RangeError for a step of R C or longer, with which the membrane would overshoot.

    >>> neuron = lapicque(resistance=5.0, capacitance=2.0)
    >>> round(neuron.beta.item(), 6), neuron.gain
    (0.9, 0.5)
    """
    for name, value in (("resistance", resistance), ("capacitance", capacitance), ("dt_s", dt_s)):
        if not 0 < value < math.inf:
            raise RangeError(f"{name} is {value}, but it must be a finite number above 0.")
    if dt_s >= resistance * capacitance:
        raise RangeError(f"dt_s is {dt_s}, but a step must be shorter than R C = {resistance * capacitance} seconds.")
    return Leaky(1 - dt_s / (resistance * capacitance), threshold, gain=dt_s / capacitance, **firing)


def _memory_order(x: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return views that put the channels last, and back, where a step lies so in memory; else they move nothing."""
    step = x[0]  # time may be a repetition of one step
    if x.ndim > 3 and not step.is_contiguous() and step.movedim(1, -1).is_contiguous():
        return lambda y: y.movedim(2, -1), lambda y: y.movedim(-1, 2)
    return (lambda y: y), (lambda y: y)
