"""What every layer of this package keeps: the input's and the state's shape, values a unit, the options of firing."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError, SpikeportError
from .surrogates import Atan, Surrogate

__all__ = ["FiringOptions", "Layer", "SpikingLayer", "decay_of"]

RESETS = ("subtract", "zero", "none")
TESTS = (">=", ">")
State = TypeVar("State", bound=NamedTuple)


def decay_of(tau_s: float, dt_s: float) -> float:
    """Return exp(-dt / tau), the exact decay over a step of a quantity with tau dv/dt = -v; both in seconds.

    >>> round(decay_of(tau_s=0.020, dt_s=0.001), 4)
    0.9512
    """
    for name, value in (("time constant", tau_s), ("dt_s", dt_s)):
        if not 0 < value < math.inf:
            raise RangeError(f"the {name} is {value}, but it must be a finite number of seconds above 0.")
    return math.exp(-dt_s / tau_s)


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise RangeError unless the value is one of the choices."""
    if value not in choices:
        raise RangeError(f"{name} is {value!r}, but it must be one of {', '.join(map(repr, choices))}.")


def state_type(x: Tensor) -> torch.dtype:
    """The type of the states that go with input x: float32 for half precision too, float64 for float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def require_steps(name: str, x: Tensor) -> None:
    """Raise ShapeError unless x is (time, batch, *features) with a step at least."""
    if x.ndim < 2:
        raise ShapeError(f"{name} takes (time, batch, *features), but its input has shape {tuple(x.shape)}.")
    if x.shape[0] == 0:
        raise ShapeError(f"{name} was given an empty sequence, {tuple(x.shape)}; it needs one step of time at least.")


def require_sequence(name: str, x: Tensor) -> None:
    """As ``require_steps``; RangeError too unless x is floating."""
    require_steps(name, x)
    if not x.is_floating_point():
        raise RangeError(f"{name} takes floating-point input, not {x.dtype}; convert it with x.float().")


def require_state(layer: Any, state: object) -> None:
    """Raise SpikeportError unless the state is of the layer's own kind."""
    if not isinstance(state, layer.state_type):
        raise SpikeportError(
            f"{type(layer).__name__} was given a {type(state).__name__} as its state, but a "
            f"{layer.state_type.__name__} was wanted; hand over the one that it returned, or its initial_state(...)."
        )


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of this shape can be seen as one of the wanted shape, without more axes."""
    return len(shape) == len(wanted) and all(n == 1 or n == m for n, m in zip(shape, wanted, strict=True))


class Layer(nn.Module, Generic[State]):
    """Maps a sequence (time, batch, *features) and a state to the same; the state is explicit and nowhere else.

    state_type: the NamedTuple of the state; each part has the shape of a step of the input, (batch, *features).
    """

    state_type: type[State]
    held: tuple[str, ...] = ()
    """The values of neurons and synapses that may be learned and are no weights: decays, thresholds, delays."""

    def initial_state(
        self, shape: Sequence[int], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest; ``shape`` is (batch, *features), the shape of one step of the input."""
        device = self._device() if device is None else device
        return self.state_type._make(self._rest(tuple(shape), device, dtype))

    def _rest(
        self, shape: tuple[int, ...], device: torch.device | str | None, dtype: torch.dtype | None
    ) -> list[Tensor]:
        return [torch.zeros(shape, device=device, dtype=dtype) for _ in self.state_type._fields]

    def _device(self) -> torch.device | None:
        tensors = [*self.parameters(), *self.buffers()]
        return tensors[0].device if tensors else None

    def _begin(self, x: Tensor, state: State | None) -> State:
        """Check the input and return the state: a fresh one where none is given, float32 at least."""
        require_sequence(type(self).__name__, x)
        if state is None:
            return self.initial_state(x.shape[1:], device=x.device, dtype=state_type(x))
        require_state(self, state)
        for name, part, shape in zip(state._fields, state, self._shapes(x), strict=True):
            if part.shape != shape:
                raise ShapeError(
                    f"{type(self).__name__} state has a {name} of shape {tuple(part.shape)}, but input of shape "
                    f"{tuple(x.shape)} needs {tuple(shape)}; make a fresh one with initial_state({tuple(x.shape[1:])})."
                )
        return state

    def _shapes(self, x: Tensor) -> list[torch.Size]:
        """The shape of each part of the state that goes with this input."""
        return [x.shape[1:]] * len(self.state_type._fields)

    def _hold(self, name: str, value: float | Tensor, low: float, high: float, *, learn: bool = False) -> None:
        """Keep a value (or one a unit) as a parameter or a buffer; it lies above ``low`` and at most at ``high``."""
        value = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
        if not bool(((value > low) & (value <= high) & torch.isfinite(value)).all()):
            ends = (value.min().item(), value.max().item())
            shown = f"{value.item()}" if value.ndim == 0 else f"a tensor from {ends[0]} to {ends[1]}"
            upper = "and be finite" if high == math.inf else f"and at most at {high}"
            raise RangeError(f"{name} is {shown}, but it must lie above {low} {upper}.")
        self.held = (*self.held, name)
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _unit(self, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a held value that broadcasts against a step of x, in the type of the state."""
        value: Tensor = getattr(self, name)
        if value.ndim and not fits(value.shape, x.shape[2:]):
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}, but the input's features have {tuple(x.shape[2:])}; "
                "one value a channel of (C, H, W) has shape (C, 1, 1)."
            )
        return value.to(dtype)

    def _flat(self, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
        """As ``_unit``, as () or (features,)."""
        value = self._unit(name, x, dtype)
        return value if value.ndim == 0 else value.expand(x.shape[2:]).flatten()


def flat_features(x: Tensor, batch_axis: int) -> Tensor:
    """Return x with its features in one axis, of length 1 where there are none."""
    return x.flatten(batch_axis + 1) if x.ndim > batch_axis + 1 else x.unsqueeze(batch_axis + 1)


class FiringOptions(TypedDict, total=False):
    """How a neuron fires; the same keywords for all that have a threshold.

    reset: "subtract" (default), "zero" or "none".  test: ">=" (default) or ">".  surrogate: the gradient of the spike,
    `Atan()` by default.  late_reset: the spike of step t resets in step t + 1, as in snnTorch; the state is then the
    membrane before its reset.  detach_reset: no gradient flows through the spike that resets.
    """

    reset: str
    test: str
    late_reset: bool
    detach_reset: bool
    surrogate: Surrogate


class SpikingLayer(Layer[State]):
    """A layer that fires at a threshold and resets."""

    def __init__(
        self, threshold: float | Tensor, *, learn_threshold: bool = False, **firing: Unpack[FiringOptions]
    ) -> None:
        super().__init__()
        self._require_options(firing)
        self.reset, self.test = firing.get("reset", "subtract"), firing.get("test", ">=")
        require_choice("reset", self.reset, RESETS)
        require_choice("test", self.test, TESTS)
        self.late_reset, self.detach_reset = firing.get("late_reset", False), firing.get("detach_reset", False)
        self.surrogate = firing.get("surrogate", Atan())
        self._hold("threshold", threshold, 0, math.inf, learn=learn_threshold)

    def _require_options(self, firing: Mapping[str, Any]) -> None:
        known = list(FiringOptions.__annotations__)
        for key in set(firing) - set(known):
            near = difflib.get_close_matches(key, [*known, "threshold", "learn_threshold"], 1, cutoff=0.5)
            meant = f"did you mean {near[0]}" if near else f"its options are {', '.join(known)}"
            raise RangeError(f"{type(self).__name__} has no option {key!r}; {meant}?")
        surrogate = firing.get("surrogate", Surrogate)
        if surrogate is not Surrogate and not isinstance(surrogate, Surrogate):
            raise RangeError(f"the surrogate is {surrogate!r}, but an object such as Atan() is wanted.")

    def _spike(self, u: Tensor, threshold: Tensor) -> Tensor:
        return self.surrogate.spike(u - threshold, self.test == ">")

    def _resetting(self, spike: Tensor) -> Tensor:
        """The spike as the reset sees it."""
        return spike.detach() if self.detach_reset else spike

    def _fire(self, u: Tensor, before: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spikes and the new membrane; u: the membrane integrated, ``before``: that of the last step.

        now: s = [u >= threshold], v = u - threshold * s or (1 - s) * u.
        late: u loses what the spike of ``before`` takes, threshold * r or all of it; s = [u >= threshold], v = u.
        """
        if not self.late_reset:
            spike = self._spike(u, threshold)
            return spike, self._less(u, spike, threshold)
        if self.reset != "none":
            u = self._less(u, self._spike(before, threshold), threshold)
        return self._spike(u, threshold), u

    def _less(self, u: Tensor, spike: Tensor, threshold: Tensor) -> Tensor:
        """What the reset leaves of u."""
        spike = self._resetting(spike)
        if self.reset == "subtract":
            return u - spike * threshold
        return u - spike * u if self.reset == "zero" else u

    def extra_repr(self) -> str:
        """Say how this neuron fires, for ``repr``."""
        return f"reset={self.reset!r}, test={self.test!r}, late_reset={self.late_reset}, surrogate={self.surrogate}"
