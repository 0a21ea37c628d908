"""Recordings through the engines that take a step of many samples at a time: each sample at its own place in time."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .._check import RangeError, ShapeError
from .engine import NetworkState, Observer

__all__ = ["RecordedEngine", "RecordedState"]


class RecordedState(NamedTuple):
    """What the network remembers, the samples' recordings (batch, time, *features), and how far each has come."""

    network: NetworkState
    x: Tensor
    at: Tensor


class _Sequential(Protocol):
    """An engine made with ``constant_input=False``."""

    max_steps: int
    chunk: int
    constant_input: bool

    def initial_state(self, batch: int) -> NetworkState: ...

    def advance(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None = None
    ) -> tuple[Tensor, NetworkState]: ...

    def select(self, state: NetworkState, index: Tensor) -> NetworkState: ...

    def join(self, a: NetworkState, b: NetworkState) -> NetworkState: ...


class RecordedEngine:
    """An engine whose samples are recordings (batch, time, *features).  Implements the protocol of ``inference``.

    Samples that are at different steps share a batch: each is shown its own next step.  After its last step, which is
    asked for only where it shares its batch with a younger sample, it is shown its last step again.
    Raises RangeError for an engine with a constant input, ShapeError for recordings shorter than ``max_steps``.
    """

    can_refill = True

    def __init__(self, engine: _Sequential) -> None:
        if engine.constant_input:
            raise RangeError("this engine shows the same input at each step; make it with constant_input=False")
        self.engine, self.max_steps, self.chunk = engine, engine.max_steps, engine.chunk

    def start(self, x: Tensor, observe: Observer | None = None) -> RecordedState:
        """The state before the first step of recordings (batch, time, *features)."""
        if x.ndim < 3 or x.shape[1] < self.max_steps:
            raise ShapeError(
                f"the recordings have the shape {tuple(x.shape)}; (n, at least {self.max_steps} steps, *features) was "
                "wanted"
            )
        return RecordedState(self.engine.initial_state(len(x)), x, torch.zeros(len(x), dtype=torch.int64))

    def advance(
        self, x: Tensor, state: RecordedState, steps: int, observe: Observer | None = None
    ) -> tuple[Tensor, RecordedState]:
        """The cumulative output (steps, batch, classes) of each sample's next steps; x is in the state already."""
        when = (state.at + torch.arange(steps)[:, None]).clamp(max=state.x.shape[1] - 1)
        shown = state.x[torch.arange(len(state.x)), when]
        output, network = self.engine.advance(shown, state.network, steps, observe)
        return output, RecordedState(network, state.x, state.at + steps)

    def select(self, state: RecordedState, index: Tensor) -> RecordedState:
        """The state of the samples that ``index`` names."""
        return RecordedState(self.engine.select(state.network, index), state.x[index], state.at[index])

    def join(self, a: RecordedState, b: RecordedState) -> RecordedState:
        """The state of the samples of ``a`` followed by those of ``b``."""
        network: Any = self.engine.join(a.network, b.network)
        return RecordedState(network, torch.cat([a.x, b.x]), torch.cat([a.at, b.at]))
