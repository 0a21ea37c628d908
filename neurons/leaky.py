"""Leaky integrate-and-fire neurons, and those without a leak: layers that map a sequence and a state to the same."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from .kernels.leaky import leaky
from .surrogates import Atan, Surrogate

__all__ = ["IntegrateAndFire", "Leaky", "LeakyState", "lapicque"]

RESETS = ("subtract", "zero", "none")
TESTS = (">=", ">")


class LeakyState(NamedTuple):
    """The membrane, (batch, *features), in units of the threshold's."""

    membrane: Tensor


class Leaky(nn.Module):
    """Leaky integrate-and-fire neurons.

    u = beta * v + gain * x[t];  s = [u >= threshold];  v = u - threshold * s, (1 - s) * u ("zero") or u ("none")

    beta: decay of the membrane a step, in (0, 1]; threshold: above 0.  A number, or a tensor with as many axes as the
    features that broadcasts against them: (C, 1, 1) is one value a channel of (C, H, W).  ``learn_beta`` and
    ``learn_threshold`` make parameters of them; beta is held in [0, 1] as snnTorch holds it.  gain: factor of the
    input.  reset: "subtract", "zero" or "none".  test: ">=" or ">".  late_reset: the spike of step t resets the
    membrane in step t + 1, as in snnTorch; the state is then the membrane before its reset.  detach_reset: no gradient
    through the spike that resets.  surrogate: the gradient of the spike (see ``surrogates``).  compact: save for the
    backward pass bfloat16 values, half the memory; the spikes stay exact, the gradient is about 0.1 % off.
    The state is float32, for input of half precision too, and float64 for float64 input.
    Raises RangeError for a value outside its range; ShapeError where the state does not fit or time has no steps.

    >>> spikes, state = Leaky(beta=0.5)(torch.ones(3, 1, 2))
    >>> spikes[:, 0, 0].tolist(), state.membrane[0, 0].item()
    ([1.0, 1.0, 1.0], 0.0)
    """

    def __init__(  # noqa: PLR0913 - what a neuron is made of
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        reset: str = "subtract",
        test: str = ">=",
        late_reset: bool = False,
        detach_reset: bool = False,
        surrogate: Surrogate | None = None,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        gain: float = 1.0,
        compact: bool = False,
    ) -> None:
        super().__init__()
        _require_choice("reset", reset, RESETS)
        _require_choice("test", test, TESTS)
        self.reset, self.test, self.late_reset, self.detach_reset = reset, test, late_reset, detach_reset
        self.surrogate = Atan() if surrogate is None else surrogate
        self.gain, self.compact = gain, compact
        beta, threshold = (torch.as_tensor(value, dtype=torch.get_default_dtype()) for value in (beta, threshold))
        if not bool(((beta > 0) & (beta <= 1)).all()):
            raise RangeError(f"beta is {_short(beta)}, but a decay a step lies in (0, 1]; 1 is no leak.")
        if not bool(((threshold > 0) & torch.isfinite(threshold)).all()):
            raise RangeError(f"threshold is {_short(threshold)}, but it must be finite and above 0.")
        if not math.isfinite(gain):
            raise RangeError(f"gain is {gain}, but it must be finite.")
        self._hold("beta", beta, learn_beta)
        self._hold("threshold", threshold, learn_threshold)

    beta: Tensor
    threshold: Tensor

    def _hold(self, name: str, value: Tensor, learn: bool) -> None:
        value = value.detach().clone()
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @classmethod
    def from_time_constant(cls, tau_s: float, dt_s: float, threshold: float = 1.0) -> "Leaky":
        """Return the neuron whose membrane decays with time constant ``tau_s`` (seconds) in steps of ``dt_s``.

        beta = exp(-dt / tau), the exact solution of tau dv/dt = -v over a step.

        >>> round(Leaky.from_time_constant(tau_s=0.020, dt_s=0.001).beta.item(), 4)
        0.9512
        """
        for name, value in (("tau_s", tau_s), ("dt_s", dt_s)):
            if not 0 < value < math.inf:
                raise RangeError(f"{name} is {value}, but it must be a number of seconds above 0.")
        return cls(math.exp(-dt_s / tau_s), threshold)

    def initial_state(
        self, shape: tuple[int, ...], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LeakyState:
        """Return the state at rest; ``shape`` is (batch, *features), the shape of one step of the input."""
        device = self.threshold.device if device is None else device
        return LeakyState(torch.zeros(shape, device=device, dtype=dtype))

    def forward(self, x: Tensor, state: LeakyState | None = None) -> tuple[Tensor, LeakyState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        _require_sequence(type(self).__name__, x)
        if state is None:
            wide = torch.float64 if x.dtype == torch.float64 else torch.float32
            state = self.initial_state(x.shape[1:], device=x.device, dtype=wide)
        if state.membrane.shape != x.shape[1:]:
            raise ShapeError(
                f"{type(self).__name__} state has shape {tuple(state.membrane.shape)} but a step of the input has "
                f"{tuple(x.shape[1:])}; make a fresh one with initial_state({tuple(x.shape[1:])})."
            )
        beta, threshold = (self._spread(name, x) for name in ("beta", "threshold"))
        to_rows, from_rows = _memory_order(x)
        spikes, membrane = leaky(
            to_rows(x if self.gain == 1 else x * self.gain).flatten(2),
            to_rows(state.membrane.unsqueeze(0)).flatten(2).squeeze(0),
            (beta if beta.ndim == 0 else to_rows(beta).flatten()).clamp(0, 1),
            threshold if threshold.ndim == 0 else to_rows(threshold).flatten(),
            self.surrogate,
            reset=self.reset,
            strict=self.test == ">",
            late_reset=self.late_reset,
            detach_reset=self.detach_reset,
            compact=self.compact,
        )
        rows = to_rows(x).shape
        return from_rows(spikes.reshape(rows)), LeakyState(from_rows(membrane.reshape(1, *rows[1:])).squeeze(0))

    def _spread(self, name: str, x: Tensor) -> Tensor:
        """Return a parameter as () or (1, 1, *features)."""
        value: Tensor = getattr(self, name)
        if value.ndim == 0:
            return value
        features = x.shape[2:]
        fits = value.ndim == len(features) and all(n in (1, m) for n, m in zip(value.shape, features, strict=True))
        if not fits:
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}, but the input's features have {tuple(features)}; "
                "one value a channel of (C, H, W) has shape (C, 1, 1)."
            )
        return value.expand(1, 1, *features)

    def extra_repr(self) -> str:
        """Say what makes this neuron, for ``repr``."""
        return f"reset={self.reset!r}, test={self.test!r}, late_reset={self.late_reset}, surrogate={self.surrogate}"


class IntegrateAndFire(Leaky):
    """Integrate-and-fire neurons: `Leaky` with beta = 1, fixed.

    >>> spikes, _ = IntegrateAndFire()(torch.full((4, 1, 1), 0.5))
    >>> spikes.flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(  # noqa: PLR0913 - what a neuron is made of
        self,
        threshold: float | Tensor = 1.0,
        *,
        reset: str = "subtract",
        test: str = ">=",
        late_reset: bool = False,
        detach_reset: bool = False,
        surrogate: Surrogate | None = None,
        learn_threshold: bool = False,
        gain: float = 1.0,
        compact: bool = False,
    ) -> None:
        super().__init__(
            1.0,
            threshold,
            reset=reset,
            test=test,
            late_reset=late_reset,
            detach_reset=detach_reset,
            surrogate=surrogate,
            learn_threshold=learn_threshold,
            gain=gain,
            compact=compact,
        )


def lapicque(  # noqa: PLR0913 - a circuit and a neuron
    resistance: float,
    capacitance: float,
    dt_s: float = 1.0,
    threshold: float | Tensor = 1.0,
    *,
    reset: str = "subtract",
    test: str = ">=",
    late_reset: bool = False,
    detach_reset: bool = False,
    surrogate: Surrogate | None = None,
) -> Leaky:
    """Return the `Leaky` of Lapicque's circuit: a resistance (ohm) beside a capacitance (farad), steps of ``dt_s``.

    beta = 1 - dt / (R C), gain = dt / C: one Euler step of C dv/dt = x - v / R, as snnTorch's ``Lapicque`` takes it.
    Raises RangeError for a step longer than R C, with which the membrane would overshoot.

    >>> neuron = lapicque(resistance=5.0, capacitance=2.0)
    >>> round(neuron.beta.item(), 6), neuron.gain
    (0.9, 0.5)
    """
    for name, value in (("resistance", resistance), ("capacitance", capacitance), ("dt_s", dt_s)):
        if not 0 < value < math.inf:
            raise RangeError(f"{name} is {value}, but it must be a finite number above 0.")
    if dt_s >= resistance * capacitance:
        raise RangeError(f"dt_s is {dt_s}, but a step must be shorter than R C = {resistance * capacitance} seconds.")
    return Leaky(
        1 - dt_s / (resistance * capacitance),
        threshold,
        reset=reset,
        test=test,
        late_reset=late_reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        gain=dt_s / capacitance,
    )


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RangeError(f"{name} is {value!r}, but it must be one of {', '.join(map(repr, choices))}.")


def _require_sequence(name: str, x: Tensor) -> None:
    if x.ndim < 2:
        raise ShapeError(f"{name} takes (time, batch, *features), but its input has shape {tuple(x.shape)}.")
    if x.shape[0] == 0:
        raise ShapeError(f"{name} was given an empty sequence, {tuple(x.shape)}; it needs one step of time at least.")
    if not x.is_floating_point():
        raise RangeError(f"{name} takes floating-point input, not {x.dtype}; convert it with x.float().")


def _short(value: Tensor) -> str:
    return f"{value.item()}" if value.ndim == 0 else f"a tensor from {value.min().item()} to {value.max().item()}"


def _memory_order(x: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return views that put the channels last, and back, where ``x`` lies so in memory; else they move nothing."""
    if x.ndim > 3 and not x.is_contiguous() and x.movedim(2, -1).is_contiguous():
        return lambda y: y.movedim(2, -1), lambda y: y.movedim(-1, 2)
    return (lambda y: y), (lambda y: y)
