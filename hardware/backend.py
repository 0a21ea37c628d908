"""What every backend is to the rest: say what it cannot do, compile, start, advance, close.

``Session`` is also what early exit sees: ``BackendEngine`` makes it the step engine of ``spikeport.inference``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, UnsupportedError
from ..networks.transient import Transient
from .program import IntegerProgram
from .reference import run_reference

__all__ = ["Agreement", "Backend", "BackendEngine", "Divergence", "Recording", "Session", "compare", "compiled"]


@dataclass(frozen=True)
class Recording:
    """What some steps gave.  output: the readout's current, int64 (steps, n, classes).

    spikes: by neuron node, integers (steps, n, *features); only for the nodes that were asked for.
    """

    output: np.ndarray
    spikes: Mapping[str, np.ndarray] = field(default_factory=dict)


class Session(Protocol):
    """A compiled network that holds the state of one batch."""

    program: IntegerProgram

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples."""

    def report(self) -> dict[str, Any]:
        """What was compiled, as JSON: the engine, its version, processes, threads, latency."""

    def close(self) -> None:
        """Free everything; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(Protocol):
    """One place where integer programs run."""

    name: str

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Everything of the program that this backend cannot do, each by name with the remedy."""

    def available(self) -> None:
        """Raise BackendUnavailable that says what is missing and how to get it."""

    def compile(self, program: IntegerProgram) -> Session:
        """A session; raises UnsupportedError with all of ``unsupported``, BackendUnavailable."""


def compiled(backend: Backend, program: IntegerProgram) -> Session:
    """Check first, then compile: the list of what is not covered comes before any work."""
    problems = backend.unsupported(program)
    if problems:
        raise UnsupportedError(f"{backend.name} cannot run this network", problems)
    backend.available()
    return backend.compile(program)


class Divergence(NamedTuple):
    """Where two recordings first differ, earliest step first, then the earliest layer."""

    layer: str
    step: int
    sample: int
    unit: int


@dataclass(frozen=True)
class Agreement:
    """How many of the compared values (spikes of each unit and step, and output currents) are not the same."""

    spikes_compared: int
    mismatches: int
    first_divergence: Divergence | None

    @property
    def exact(self) -> bool:
        """Whether every bit is the same."""
        return self.mismatches == 0


def compare(found: Recording, wanted: Recording) -> Agreement:
    """Compare two recordings of the same samples and steps, layer by layer in the order of ``wanted``.

    >>> a = Recording(np.zeros((2, 1, 3), np.int64))
    >>> compare(a, Recording(np.ones((2, 1, 3), np.int64))).mismatches
    6
    """
    compared = mismatches = 0
    first: Divergence | None = None
    for name, expected in [*wanted.spikes.items(), ("output", wanted.output)]:
        values = found.output if name == "output" and name not in found.spikes else found.spikes[name]
        if values.shape != expected.shape:
            raise RangeError(f"{name} was recorded as {values.shape} and {expected.shape}; compare the same run")
        differ = values.reshape(*expected.shape[:2], -1) != expected.reshape(*expected.shape[:2], -1)
        compared, mismatches = compared + differ.size, mismatches + int(differ.sum())
        if differ.any():
            step, sample, unit = (int(index[0]) for index in np.nonzero(differ))
            if first is None or step < first.step:
                first = Divergence(name, step, sample, unit)
    return Agreement(compared, mismatches, first)


def reference_recording(
    program: IntegerProgram,
    x: np.ndarray,
    steps: int,
    *,
    constant: bool = True,
    record: Sequence[str] = (),
    transient: Transient | None = None,
) -> Recording:
    """What the NumPy reference gives (with the same faults during the run): the truth to compare with."""
    return Recording(*run_reference(program, x, steps, constant=constant, record=record, transient=transient))


class BackendEngine:
    """A session as the step engine of early exit.  It cannot drop samples: it stops when all of a batch are sure.

    Implements the protocol of ``spikeport.inference.engine``; ``chunk`` is the window between two looks.
    """

    can_refill = False

    def __init__(self, session: Session, *, max_steps: int, chunk: int = 4) -> None:
        if not 1 <= chunk <= max_steps <= session.program.steps:
            raise RangeError(
                f"max_steps is {max_steps} and chunk {chunk}; 1 <= chunk <= max_steps <= {session.program.steps} "
                "was wanted"
            )
        self.session, self.max_steps, self.chunk = session, max_steps, chunk
        self._currents: list[np.ndarray] = []

    def start(self, x: Tensor) -> int:
        """Take fresh states; the state that is handed on is the number of steps done."""
        self.session.start(x.numpy())
        self._currents = []
        return 0

    def advance(self, x: Tensor, state: int, steps: int) -> tuple[Tensor, int]:
        """The cumulative output of the next steps in real units, and the steps done."""
        self._currents.append(self.session.advance(steps).output)
        whole = self.session.program.real_output(np.concatenate(self._currents))
        return torch.from_numpy(whole[state : state + steps]), state + steps

    def select(self, state: int, index: Tensor) -> int:
        """Refused: the samples of a session stay together."""
        raise UnsupportedError("this backend cannot drop samples", ["run it with can_refill = False"])

    def join(self, a: int, b: int) -> int:
        """Refused: the samples of a session stay together."""
        raise UnsupportedError("this backend cannot join batches", ["run it with can_refill = False"])
