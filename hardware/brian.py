"""Integer programs in Brian2, spike for spike: the backend, and a network to go on with.

Source: Stimberg, Brette, Goodman 2019 (doi 10.7554/eLife.47314).
"""

from pathlib import Path
from typing import Any

import numpy as np

from .._check import RangeError
from ..networks.faults import Faults
from ..networks.transient import transient_of
from .backend import Session
from .brian_build import BrianNetwork, brian2_module, build
from .brian_plan import plan_of
from .brian_runtime import RuntimeSession
from .program import IntegerProgram, limit_problems

__all__ = ["BrianBackend", "brian_network"]

TARGETS = ("numpy", "cython", "cpp_standalone")


class BrianBackend:
    """Runs integer programs in Brian2.

    target: ``numpy`` needs no compiler; ``cython`` compiles every group once (minutes on a first run);
    ``cpp_standalone`` makes one program of the whole run.  cache: where Cython keeps what it compiled (left out: a
    folder of this process alone, removed at its end).  faults: those during the run, drawn from ``seed``; not in
    ``cpp_standalone``, whose run nothing can enter.
    """

    name = "brian2"

    def __init__(
        self, target: str = "numpy", *, cache: Path | None = None, faults: Faults | None = None, seed: int = 0
    ) -> None:
        if target not in TARGETS:
            raise RangeError(f"the target is {target!r}; choose one of {', '.join(TARGETS)}")
        self.target, self.cache, self.faults, self.seed = target, cache, faults, seed

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Limits of spikes, and faults during the run of a standalone program; else nothing."""
        problems = limit_problems(program)
        if self.target == "cpp_standalone" and self.faults is not None and self.faults.transient:
            problems.append("faults during the run (a standalone program runs by itself: choose numpy or cython)")
        return problems

    def available(self) -> None:
        """Raise BackendUnavailable where Brian2 is missing."""
        brian2_module()

    def compile(self, program: IntegerProgram) -> Session:
        """A session.  The Brian2 objects are made when it starts, because their number depends on the batch."""
        self.available()
        if self.target == "cpp_standalone":
            from .brian_standalone import StandaloneSession

            return StandaloneSession(program)
        return RuntimeSession(program, self.target, self.cache, transient_of(program.graph, self.faults, self.seed))


def brian_network(
    program: IntegerProgram,
    x: np.ndarray,
    steps: int | None = None,
    *,
    constant: bool = True,
    step: Any = None,
    unit: Any = None,
) -> BrianNetwork:
    """The program with its input as a Brian2 network, to run, record and change as any other.

    x: (n, *features), or (steps, n, *features) with ``constant=False``; analog.  step: Brian2 time of one step, 1 ms if
    left out.  unit: the quantity of one unit of a membrane, for equations with units (a power of two of a base unit,
    such as ``volt * 2**-20``, keeps every spike; other values round); left out, membranes are whole numbers.
    Everything acts in slots of its own (``network.schedule``), after Brian's: what is added with ``when="start"`` or
    ``when="groups"`` comes before the step of every group.
    Raises ShapeError, RangeError as ``IntegerProgram.require_input``; BackendUnavailable without Brian2.
    """
    brian2 = brian2_module()
    steps = (program.steps if constant else len(x)) if steps is None else steps
    program.require_input(x, steps=steps, constant=constant)
    plan, code = plan_of(program, sequence=not constant), program.input(x)
    clock = brian2.ms if step is None else step
    stimulus = None if constant else brian2.TimedArray(code.reshape(steps, -1).astype(float), dt=clock)
    made = build(plan, len(x) if constant else x.shape[1], step=clock, unit=unit, stimulus=stimulus)
    if constant:
        made.groups[program.graph.input.name].stimulus_ = code.reshape(-1)
    return made
