"""The NumPy reference behind the protocol of backends: slow, and what the others are compared with."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._check import SpikeportError
from ..networks.faults import Faults
from ..networks.transient import Transient, transient_of
from .backend import Recording, Session
from .program import IntegerProgram
from .reference import Values, steps_of

__all__ = ["ReferenceBackend", "ReferenceSession"]


class ReferenceSession(Session):
    """One batch, step by step; ``start`` takes a new one."""

    def __init__(self, program: IntegerProgram, transient: Transient | None = None) -> None:
        self.program, self._transient = program, transient
        self._steps: Iterator[Values] | None = None
        self._left = 0

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""
        self._left = self.program.steps if constant else len(x)
        self.program.require_input(x, steps=self._left, constant=constant)
        self._steps = steps_of(self.program, x, self._left, constant=constant, transient=self._transient)

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples; raises SpikeportError before ``start`` and beyond the last step."""
        if self._steps is None or not 1 <= steps <= self._left:
            raise SpikeportError(f"{steps} steps were asked for and {self._left} are left; start a batch first")
        self._left -= steps
        values = [next(self._steps) for _ in range(steps)]
        output = self.program.graph.output.name
        found = {name: np.stack([each[name] for each in values]) for name in (*record, output)}
        return Recording(found.pop(output), found)

    def report(self) -> dict[str, Any]:
        """The engine and NumPy's version."""
        return {"engine": "NumPy, step by step", "numpy": np.__version__}

    def close(self) -> None:
        """Forget the batch."""
        self._steps, self._left = None, 0


class ReferenceBackend:
    """Runs everything that an integer program can hold.  faults: those during the run, drawn from ``seed``."""

    name = "reference"

    def __init__(self, faults: Faults | None = None, *, seed: int = 0) -> None:
        self.faults, self.seed = faults, seed

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Nothing."""
        return []

    def available(self) -> None:
        """Always."""

    def compile(self, program: IntegerProgram) -> ReferenceSession:
        """A session."""
        return ReferenceSession(program, transient_of(program.graph, self.faults, self.seed))
