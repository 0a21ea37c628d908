"""Encoders: from samples to sequences in time, (batch, \\*features) to (time, batch, \\*features).

Each is an object that is called with a batch.  Rate, Latency and Delta give what ``snntorch.spikegen`` gives.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["Delta", "Direct", "Latency", "Rate", "Sequence"]

_LONGEST = 10**6


def _require_steps(steps: int) -> None:
    require_in_range("steps", steps, 1, _LONGEST)


def _as_float(x: Tensor) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"an encoder takes (batch, *features), but the samples have shape {tuple(x.shape)}.")
    return x if x.is_floating_point() else x.float()


@dataclass(frozen=True)
class Direct:
    """The same values at each step, as a current; the first layer of neurons makes spikes of it.

    steps: length of the sequence.

    >>> Direct(3)(torch.ones(2, 5)).shape
    torch.Size([3, 2, 5])
    """

    steps: int

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Return a view: no value is copied."""
        x = _as_float(x)
        return x.expand(self.steps, *x.shape)


@dataclass(frozen=True)
class Rate:
    """Random spikes: at each step 1 with chance gain · x + offset, held in [0, 1].

    steps: length of the sequence; no spike before step ``first_spike_time`` (from 0).  Draws from torch's generator.
    This is ``snntorch.spikegen.rate``.
    """

    steps: int
    gain: float = 1.0
    offset: float = 0.0
    first_spike_time: int = 0

    def __post_init__(self) -> None:
        _require_steps(self.steps)
        require_in_range("first_spike_time", self.first_spike_time, 0, self.steps - 1)
        require_in_range("gain", self.gain, -1e6, 1e6)
        require_in_range("offset", self.offset, -1e6, 1e6)

    def __call__(self, x: Tensor) -> Tensor:
        """Return spikes, 0 or 1."""
        chance = (_as_float(x) * self.gain + self.offset).clamp(0, 1)
        spikes = torch.bernoulli(chance.expand(self.steps, *chance.shape))
        spikes[: self.first_spike_time] = 0
        return spikes


@dataclass(frozen=True)
class Latency:
    """One spike a value, the earlier the larger it is.

    x: 0 to 1.  linear: at step (1 − x) · tau; else when a neuron charged by x with time constant tau (steps) reaches
    ``threshold``, t = tau · ln(x / (x − threshold)); values at or below it come last.  clip: values below it never
    spike.  normalize: times are stretched so that the latest possible spike falls on the last step, whatever else is in
    the batch: that of x = threshold, or of 0 if linear (then on step (steps - 1)(1 - threshold), rounded).  Without it
    a spike may fall behind the sequence and is lost.
    This is ``snntorch.spikegen.latency`` with ``bypass=True``, of a batch that holds a value at or below the threshold.
    Raises RangeError for values outside 0 to 1.

    >>> Latency(5)(torch.tensor([[0.0, 0.5, 1.0]])).argmax(0)
    tensor([[4, 2, 0]])
    """

    steps: int
    threshold: float = 0.01
    tau: float = 1.0
    first_spike_time: int = 0
    linear: bool = True
    normalize: bool = True
    clip: bool = False
    _least: ClassVar[float] = 1e-7  # snnTorch's epsilon, which keeps the logarithm finite

    def __post_init__(self) -> None:
        _require_steps(self.steps)
        require_in_range("threshold", self.threshold, 1e-6, 1 - 1e-6)
        require_in_range("tau", self.tau, 1e-6, 1e6)
        require_in_range("first_spike_time", self.first_spike_time, 0, self.steps - 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return spikes, 0 or 1, at most one a value."""
        x = _as_float(x)
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise RangeError(
                f"values go from {float(x.min()):g} to {float(x.max()):g}, but latency coding takes 0 to 1; scale them."
            )
        at = self._spike_times(x).round().long()
        spikes = x.new_zeros(self.steps, *x.shape)
        inside = (at < self.steps) & ~((x < self.threshold) & self.clip)
        return spikes.scatter(0, at.clamp_max(self.steps - 1).unsqueeze(0), inside.to(x.dtype).unsqueeze(0))

    def _spike_times(self, x: Tensor) -> Tensor:
        span = self.steps - 1 - self.first_spike_time
        if self.linear:
            slope = span if self.normalize else self.tau
            return slope * (1 - x.clamp_min(self.threshold)) + self.first_spike_time
        charge = x.clamp_min(self.threshold + self._least)
        time = self.tau * torch.log(charge / (charge - self.threshold))
        if self.normalize:  # by the time of the smallest value that there can be, not that there is in this batch
            least = x.new_tensor(self.threshold) + self._least
            time = time * (span / (self.tau * torch.log(least / (least - self.threshold))))
        return time + self.first_spike_time


@dataclass(frozen=True)
class Delta:
    """Spikes where a sequence rises by at least ``threshold`` from one step to the next.

    Takes (batch, time, \\*features).  off_spikes: −1 where it falls as much.  from_zero: before it the value
    is 0; else it is that of the first step, which then has no spike.
    This is ``snntorch.spikegen.delta`` on (time, batch, \\*features), its ``padding`` being ``not from_zero``.
    """

    threshold: float = 0.1
    off_spikes: bool = False
    from_zero: bool = True

    def __post_init__(self) -> None:
        require_in_range("threshold", self.threshold, 0.0, 1e6)

    def __call__(self, x: Tensor) -> Tensor:
        """Return spikes, 0, 1 or −1."""
        sequence = Sequence()(x)
        first = torch.zeros_like(sequence[:1]) if self.from_zero else sequence[:1]
        change = sequence - torch.cat([first, sequence[:-1]])
        spikes = (change >= self.threshold).to(sequence.dtype)
        return spikes - (change <= -self.threshold).to(sequence.dtype) if self.off_spikes else spikes


@dataclass(frozen=True)
class Sequence:
    """Samples that are sequences, (batch, time, \\*features), such as events in frames: time comes to the front."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return (time, batch, \\*features)."""
        x = _as_float(x)
        if x.ndim < 3 or not x.shape[1]:
            raise ShapeError(
                f"the samples have shape {tuple(x.shape[1:])}, but (time, *features) with at least one step is wanted."
            )
        return x.transpose(0, 1)
