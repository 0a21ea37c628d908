"""Decisions on frames as they arrive: one sample at a time, in memory that does not grow."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .._check import RangeError, ShapeError, UnsupportedError
from .checks import require_window
from .rules import AnyRule, Decision, ask

__all__ = ["SequenceEngine", "StreamingSession"]

State = TypeVar("State")


class SequenceEngine(Protocol[State]):
    """A network that takes another input at each step (an ``Engine`` made with ``constant_input=False``)."""

    @property
    def max_steps(self) -> int:
        """Steps after which a sample must have decided."""
        ...

    def initial_state(self, batch: int) -> State:
        """The state before the first step."""
        ...

    def advance(self, x: Tensor, state: State, steps: int) -> tuple[Tensor, State]:
        """Cumulative output (steps, batch, classes) of the next steps of x (steps, batch, *features)."""
        ...


class StreamingSession(Generic[State]):
    """Push frames, get decisions.  A decision ends its sample; the next frame begins another from a fresh state.

    The rule is asked after every frame, so decisions do not depend on how the frames are cut into pushes.
    Raises RangeError if the rule cannot stop within the engine's steps, UnsupportedError for an engine that takes one
    constant input a sample.
    """

    def __init__(self, engine: SequenceEngine[State], rule: AnyRule) -> None:
        require_window(str(rule), rule.min_steps, engine.max_steps)
        if getattr(engine, "constant_input", False):
            raise UnsupportedError("the engine takes one constant input a sample; make it with constant_input=False")
        self._engine, self._rule = engine, rule
        self.reset()

    def reset(self) -> None:
        """Forget the sample that is under way."""
        self._state = self._engine.initial_state(1)
        self._memory: Tensor | None = None
        self.steps = 0

    def push(self, frames: Tensor) -> Iterator[Decision]:
        """Yield a decision for each sample that is decided within these frames (steps, *features).

        The frames are taken as the iteration goes; stop iterating and the rest is not looked at.
        Raises ShapeError for frames without a time axis, RangeError for NaN and infinity.
        """
        if not isinstance(frames, Tensor) or frames.ndim < 2:
            found = tuple(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
            raise ShapeError(f"the frames are {found}, but a tensor (steps, *features) was wanted")
        for frame in frames:
            if not bool(torch.isfinite(frame).all()):
                raise RangeError("a frame holds NaN or infinity; repair the source of the frames")
            output, self._state = self._engine.advance(frame[None, None], self._state, 1)
            done = torch.tensor([self.steps])
            self.steps += 1
            stops, self._memory = ask(self._rule, output, done, self._memory)
            if self.steps >= self._engine.max_steps or bool(stops):
                decision = Decision(int(output[0, 0].argmax()), self.steps, float(self._rule.confidence(output)))
                self.reset()
                yield decision
