"""The one protocol through which early exit drives a spiking network, whatever runs it."""

from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

__all__ = ["Replacing", "StepEngine"]

State = TypeVar("State")


class StepEngine(Protocol[State]):
    """A spiking network that is run a few steps at a time.

    The state belongs to the engine: nothing here looks inside it.  It holds everything that a
    sample remembers (membranes, accumulated output, its own step count where the engine needs
    one), one entry per sample, so that samples of different ages may share a batch.

    Laws that an engine keeps, and that the exit engine relies on:

    * splitting time changes nothing: ``advance(2)`` twice gives what ``advance(4)`` gives;
    * samples do not touch each other: ``select`` and ``join`` change no sample's output;
    * output is cumulative: entry ``t`` is the output summed from the sample's first step.
    """

    @property
    def max_steps(self) -> int:
        """Steps after which a sample must have decided (at least 1)."""
        ...

    @property
    def chunk(self) -> int:
        """Steps to compute in one call of ``advance`` (at least 1); the engine knows what is fast."""
        ...

    @property
    def can_refill(self) -> bool:
        """Whether ``select`` and ``join`` work; if not, a batch stays together until it is done."""
        ...

    def start(self, x: Tensor) -> State:
        """Return the state before the first step of the samples ``x``: (N, *features)."""
        ...

    def advance(self, x: Tensor, state: State, steps: int) -> tuple[Tensor, State]:
        """Compute the next ``steps`` steps of every sample.

        x: (N, *features), the same samples, in the same order, as ``state``.
        Returns the cumulative output (steps, N, classes) and the new state.

        An engine that can refill may be asked for up to ``chunk - 1`` steps past ``max_steps`` of a
        sample that shares its batch with a younger one; that output is ignored, but the call must
        not fail.  An engine that cannot refill is never asked for more than ``max_steps``.
        """
        ...

    def select(self, state: State, index: Tensor) -> State:
        """Return the state of the samples at ``index`` (int64), in that order."""
        ...

    def join(self, a: State, b: State) -> State:
        """Return the state of the samples of ``a`` followed by those of ``b``."""
        ...


@runtime_checkable
class Replacing(Protocol):
    """What an engine may offer beside ``StepEngine``, where a refill need not copy the samples that stay."""

    def put(self, state: Any, places: Tensor, fresh: Any) -> Any:
        """Return the state in which the samples of ``fresh`` have taken the ``places`` (int64) of others.

        It tells each sample the same as ``join(select(state, others), fresh)``, in another order; ``state`` itself may
        be written over.
        """
        ...
