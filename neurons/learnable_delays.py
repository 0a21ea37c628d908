"""Delays that are learned: each synapse hears its input through a window of delays, and training narrows it."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from .delays import DelayedLinear, DelayState, SynapticHistoryLayer, delayed_linear
from .layer import fits

__all__ = ["DelayWindow", "GaussianWindow", "LearnableDelays", "TriangularWindow"]


class DelayWindow(Protocol):
    """The shape of the window: how much of the weight each whole delay gets, and how its width shrinks."""

    def taps(self, delay: Tensor, width: Tensor, longest: int) -> Tensor:
        """Return delay.shape + (longest + 1,), the shares of the delays 0 to ``longest``; their sum is 1."""
        ...

    def width(self, first: float, progress: float) -> float:
        """Return the width at ``progress`` (0 to 1) of the annealing that began with ``first``."""
        ...


def _normalised(taps: Tensor) -> Tensor:
    return taps / taps.sum(-1, keepdim=True).clamp(min=1e-7)


def _distance(delay: Tensor, longest: int) -> Tensor:
    return torch.arange(longest + 1, device=delay.device, dtype=delay.dtype) - delay.unsqueeze(-1)


@dataclass(frozen=True)
class GaussianWindow:
    """share of d ~ exp(-((d - delay) / (width + 0.27))^2 / 2); the width falls geometrically to ``last``.

    Even at its last width (0.23: a standard deviation of half a step) it is wider than one delay: evaluate the frozen
    layer.  Source: Hammouamri et al. 2024 (arXiv 2306.17670) and Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817).
    """

    last: float = 0.23

    def taps(self, delay: Tensor, width: Tensor, longest: int) -> Tensor:
        """The normalised Gaussian."""
        return _normalised(torch.exp(-(_distance(delay, longest) / (width + 0.27)).square() / 2))

    def width(self, first: float, progress: float) -> float:
        """First * (last / first)^progress."""
        return first * math.pow(self.last / first, progress)


@dataclass(frozen=True)
class TriangularWindow:
    """share of d ~ max(0, width + 1 - |d - delay|); the width falls linearly to 0.

    At width 0 a whole delay gets all, and one between two whole delays is shared by them.
    Source: Khalfaoui-Hassani et al. 2023 (arXiv 2306.00817).
    """

    def taps(self, delay: Tensor, width: Tensor, longest: int) -> Tensor:
        """The normalised triangle."""
        return _normalised((width + 1 - _distance(delay, longest).abs()).clamp(min=0))

    def width(self, first: float, progress: float) -> float:
        """First * (1 - progress)."""
        return first * (1 - progress)


class LearnableDelays(SynapticHistoryLayer):
    """A linear layer that learns a weight and a delay for each synapse (DCLS).

    y[t, n, o] = bias[o] + sum over i, d of weight[o, i] * share(d; delay[o, i], width) * x[t - d, n, i]

    The window is wide at first, so that a delay far from the right one feels a gradient, and narrows by ``anneal``; at
    the end ``freeze`` gives the layer of whole delays.  What is learned around windows that are still wider than one
    step fits whole delays badly: ``settle`` makes them whole before the end, and the weights learn on.

    ``delay`` is a parameter in steps; the layer holds it in 0 to ``longest`` (a value beyond counts as the end, and
    still feels the gradient there).  It wants a learning rate of about 100 times that of the weights, and no weight
    decay (see the source's settings).
    inputs, outputs, longest: numbers of units and the longest delay in steps; window: `GaussianWindow` or
    `TriangularWindow`, or one of your own; delay: the first delays, (outputs, inputs), (1, inputs) or (outputs, 1),
    drawn uniformly if left out; first_width: in steps, half of ``longest`` if left out.
    Source: Hammouamri et al. 2024 (arXiv 2306.17670).

    >>> layer = LearnableDelays(2, 3, longest=10)
    >>> y, state = layer(torch.ones(5, 4, 2))
    >>> y.shape, state.history.shape, layer.freeze().delays.dtype
    (torch.Size([5, 4, 3]), torch.Size([4, 10, 2]), torch.int64)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        longest: int,
        *,
        window: DelayWindow | None = None,
        delay: Tensor | None = None,
        first_width: float | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if min(inputs, outputs, longest) < 1:
            raise RangeError(
                f"inputs, outputs and longest are {inputs}, {outputs} and {longest}; each must be 1 at least."
            )
        self.inputs, self.longest, self.window = inputs, longest, GaussianWindow() if window is None else window
        self.first_width = longest / 2 if first_width is None else first_width
        if not 0 < self.first_width < math.inf:
            raise RangeError(f"first_width is {first_width}, but it must be a number of steps above 0.")
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None
        self.delay = nn.Parameter(self._first_delay(delay))
        self.held = ("delay",)
        self.register_buffer("width", torch.tensor(self.first_width))
        self.register_buffer("settled", torch.tensor(False))

    width: Tensor
    settled: Tensor

    def _first_delay(self, delay: Tensor | None) -> Tensor:
        if delay is None:
            return torch.rand_like(self.weight) * self.longest
        if not fits(delay.shape, self.weight.shape):
            raise ShapeError(
                f"delay has shape {tuple(delay.shape)}, but it must be {tuple(self.weight.shape)}; "
                "it may have one row or one column."
            )
        if not bool(((delay >= 0) & (delay <= self.longest)).all()):
            raise RangeError(f"delay must lie from 0 to {self.longest} steps.")
        return delay.detach().to(self.weight.dtype).clone()

    def anneal(self, progress: float) -> None:
        """Set the width of the window for ``progress`` from 0 (as at first) to 1 (as narrow as it gets)."""
        if not 0 <= progress <= 1:
            raise RangeError(
                f"progress is {progress}, but it goes from 0 to 1; the source reaches 1 at a quarter of the epochs."
            )
        self.width.fill_(self.window.width(self.first_width, progress))

    def settle(self) -> None:
        """Round the delays from now on: they are what ``freeze`` gives, and feel no gradient any more."""
        self.settled.fill_(True)

    def _held_delay(self) -> Tensor:
        """The delay in its range; a delay beyond its end keeps the gradient that it has there."""
        return self.delay + (self.delay.clamp(0, self.longest) - self.delay).detach()

    def forward(self, x: Tensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:
        """Return (time, batch, outputs) for ``x`` (time, batch, inputs), and the state after the last step."""
        whole, state = self._with_history(x, state)
        delay = self._held_delay()
        taps = self.window.taps(delay, self.width, self.longest)
        taps = torch.where(self.settled, (_distance(delay.detach().round(), self.longest) == 0).to(taps.dtype), taps)
        return delayed_linear(whole, self.weight.unsqueeze(2) * taps, self.bias), state

    def freeze(self) -> DelayedLinear:
        """Return the layer with each delay rounded to the nearest step; it takes this layer's state.

        Its kernel is one-hot: bit for bit that of a `TriangularWindow` of width 0 at those delays.
        """
        delays = self._held_delay().detach().round().to(torch.int64)
        return DelayedLinear(self.weight, delays, bias=self.bias, longest=self.longest)
