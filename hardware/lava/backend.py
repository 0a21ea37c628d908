"""``LavaBackend``: integer programs in Intel's Lava, bit for bit, in a worker process with a Python 3.10 of its own."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..._check import BackendUnavailable, RangeError, UnsupportedError, WorkerCrashed, WorkerTimeout
from ...networks.faults import Faults
from ...networks.transient import transient_of
from ..backend import Recording, Session
from ..hits import hits_of
from ..program import IntegerProgram, limit_problems
from ..stages import Stage, stages
from .batched import batched_message, batched_problems
from .faithful import Part, faithful_message, faithful_problems, parts
from .install import find_lava_python
from .schedule import Schedule, schedule
from .worker_process import WORKER, Limits, Worker

__all__ = ["LavaBackend", "LavaSession"]

T = TypeVar("T")
_SUMS_PER_SECOND = 2e8  # of a slow processor; only time limits depend on it
_BYTES_PER_SECOND = 5e6
_STEP_SECONDS = 0.002  # of each process
_PATIENCE = 20


@dataclass
class LavaBackend:
    """Lava 0.10, in simulation.

    faithful: False runs our own batched processes ("Loihi-2 style fixed point": every integer program, a whole batch
    at once).  True runs Lava's stock Sparse, DelaySparse and LIF, bit-accurate for Loihi, a copy of the network for
    each sample; it takes networks without leak whose neurons are reset to zero, and refuses the rest by name.
    batch: samples that run together; None takes all that are given.  A larger start compiles anew.
    python: an interpreter with Lava; None finds it (``find_lava_python``).
    hardware: compile faithful networks for a chip.  This needs Intel's extension; it is written against its public
    interface and has not been tested, for want of a chip.
    faults: those during the run, drawn from ``seed``; our own processes only.
    """

    faithful: bool = False
    batch: int | None = None
    python: str | None = None
    limits: Limits = field(default_factory=Limits)
    hardware: bool = False
    faults: Faults | None = None
    seed: int = 0
    script: Path = WORKER
    name: str = "lava"
    _unrolled: list[tuple[IntegerProgram, tuple[Stage, ...]]] = field(default_factory=list, init=False, repr=False)

    @property
    def engine(self) -> str:
        """What its arithmetic may be called."""
        return "Lava, stock processes" if self.faithful else "Lava, Loihi-2 style fixed point"

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Everything that the chosen processes cannot do, by name."""
        found = self.stages(program)
        if self.faithful:
            problems = limit_problems(program) + faithful_problems(program, found, schedule(found))
            if self.faults is not None and self.faults.transient:
                problems.append("faults during the run (Lava's own neurons know none: choose faithful=False)")
            return problems
        problems = limit_problems(program) + batched_problems(program, found)
        if self.hardware:
            problems.append("hardware (our own processes run in simulation only: choose faithful=True)")
        return problems

    def stages(self, program: IntegerProgram) -> tuple[Stage, ...]:
        """The populations of the program; those of the last one are kept, as unrolling a large network takes long."""
        if not (self._unrolled and self._unrolled[0][0] is program):
            self._unrolled = [(program, stages(program))]
        return self._unrolled[0][1]

    def available(self) -> None:
        """Raise BackendUnavailable unless a Python 3.10 with Lava is found."""
        if sys.platform == "win32":
            raise BackendUnavailable("Lava's worker needs process groups and so Linux or macOS; use WSL")
        self.interpreter()

    def interpreter(self) -> str:
        """The interpreter of the worker; raises BackendUnavailable."""
        return self.python or find_lava_python()

    def compile(self, program: IntegerProgram) -> "LavaSession":
        """Start a worker; the network is compiled when the first batch comes."""
        problems = self.unsupported(program)
        if problems:
            raise UnsupportedError(f"{self.engine} cannot run this network", problems)
        session = LavaSession(self, program)
        if self.hardware and not (session.worker and session.worker.versions.get("loihi")):
            session.close()
            raise BackendUnavailable("a chip needs Intel's extension lava-loihi in the Python 3.10 that has Lava")
        return session


class LavaSession(Session):
    """One network in one worker; made by ``LavaBackend.compile``.

    Where the worker crashes a fresh one does the same steps again, once for each call (``Limits.restarts``).
    """

    def __init__(self, backend: LavaBackend, program: IntegerProgram) -> None:
        self.backend, self.program = backend, program
        self._transient = transient_of(program.graph, backend.faults, backend.seed)
        self.worker: Worker | None = self._fresh()
        self.restarts = 0
        self._hits = hits_of(None, np.zeros(0), 0)
        self._loaded = 0  # the batch that the worker has compiled for
        self._input: np.ndarray | None = None
        self._constant = True
        self._done = 0

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The populations that run."""
        return self.backend.stages(self.program)

    @cached_property
    def schedule(self) -> Schedule:
        """When each population works."""
        return schedule(self.stages)

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``."""
        self.program.require_input(x, steps=1 if constant else len(x), constant=constant)
        code = self.program.input(x if not constant else x[None])
        self._input, self._constant, self._done = code.reshape(*code.shape[:2], -1), constant, 0
        self._hits = hits_of(self._transient, x, self.program.steps if constant else len(x), constant=constant)
        self._tried(self._begin)

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples."""
        if self._input is None:
            raise RangeError("no batch has been started; call start(x) first")
        most = self.program.steps if self._constant else len(self._input)
        if not 1 <= steps <= most - self._done:
            raise RangeError(f"{steps} steps were asked for after {self._done}; at most {most} in all are possible")
        unknown = sorted({*record} - {node.name for node in self.program.neurons})
        if unknown:
            raise RangeError(
                f"{unknown} are no neurons of this network; record {[n.name for n in self.program.neurons]}"
            )
        found = self._tried(lambda: self._run(steps, [*record, self.program.graph.output.name]))
        self._done += steps
        shapes = self.program.graph.shapes
        n = self._input.shape[1]
        whole = {name: values.reshape(steps, n, *shapes[name]) for name, values in found.items()}
        output = whole.pop(self.program.graph.output.name)
        return Recording(output.astype(np.int64), {name: whole[name] for name in record})

    def report(self) -> dict[str, Any]:
        """What runs where, as JSON."""
        versions = self.worker.versions if self.worker else {}
        return {
            "engine": self.backend.engine,
            "versions": {name: versions.get(name) for name in ("python", "lava", "numpy", "scipy")},
            "pid": versions.get("pid"),
            "tested_on_a_chip": False,
            "batch": self._loaded,
            "processes": len(self.stages) + sum(len(stage.projections) for stage in self.stages),
            "latency": self.schedule.last,
            "lava_steps_per_step": self.schedule.period,
            "restarts": self.restarts,
        }

    def close(self) -> None:
        """End the worker; may be called twice."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def _fresh(self) -> Worker:
        return Worker(self.backend.interpreter(), self.backend.limits, self.backend.script)

    def _tried(self, work: Callable[[], T]) -> T:
        """Do it; after a crash make a fresh worker, bring it to where the old one was, and do it again."""
        for left in reversed(range(self.backend.limits.restarts + 1)):
            try:
                if self.worker is not None and not self.worker.alive:
                    self._again()
                return work()
            except (WorkerCrashed, WorkerTimeout):
                if left == 0 or self.worker is None or self.worker.hopeless:
                    raise
        raise AssertionError("unreachable")

    def _again(self) -> None:
        self.worker, self._loaded = self._fresh(), 0
        self.restarts += 1
        self._begin()
        if self._done:
            self._run(self._done, [])

    def _begin(self) -> None:
        """Load the network where the batch does not fit, and hand over the input."""
        worker, x, limits = self._ready()
        frames, n, size = x.shape
        if self.backend.faithful:
            header, arrays = faithful_message(
                self.program, self.stages, self.schedule, x, hardware=self.backend.hardware
            )
            worker.request("load", _load_seconds(limits, arrays), arrays, **header)
            self._loaded = n
            worker.request("start", limits.load)
            return
        if n > self._loaded:
            self._loaded = max(n, self.backend.batch or 0)
            header, arrays = batched_message(self.stages, self.schedule, self._loaded)
            worker.request("load", _load_seconds(limits, arrays), arrays, **header)
        padded = np.zeros((frames, size, self._loaded), np.int32)
        padded[:, :, :n] = x.transpose(0, 2, 1)
        hits = self._hits._asdict()
        arrays = {f"{kind}.{i}": found for kind in hits for i, found in enumerate(hits[kind].values())}
        named = {kind: list(hits[kind]) for kind in hits}
        worker.request("start", limits.load, {"input": padded, **arrays}, **named)

    def _run(self, steps: int, record: Sequence[str]) -> dict[str, np.ndarray]:
        worker, x, _ = self._ready()
        if not self.backend.faithful:
            _, found = worker.request("advance", self._seconds(steps), steps=steps, record=list(record))
            return {name: np.ascontiguousarray(v[:, :, : x.shape[1]].transpose(0, 2, 1)) for name, v in found.items()}
        made = {stage.name: parts(stage) for stage in self.stages if stage.name in record}
        asked = [part.name for found in made.values() for part in found]
        _, found = worker.request("advance", self._seconds(steps), steps=steps, record=asked)
        return {name: _joined(own, found, x.shape[1]) for name, own in made.items()}

    def _ready(self) -> tuple[Worker, np.ndarray, Limits]:
        if self.worker is None or self._input is None:
            raise RangeError("this session is closed or has no batch; call start(x) first")
        return self.worker, self._input, self.backend.limits

    def _seconds(self, steps: int) -> float:
        """Twenty times what the run should take, and never less than the limit says."""
        matrices = [p.matrix.nnz for stage in self.stages for p in stage.projections]
        per_step = sum(matrices) * max(1, self._loaded) / _SUMS_PER_SECOND + _STEP_SECONDS * (2 * len(matrices) + 2)
        all_steps = self.schedule.period * steps + self.schedule.last
        return float(max(self.backend.limits.run, _PATIENCE * per_step * all_steps))


def _load_seconds(limits: Limits, arrays: Mapping[str, np.ndarray]) -> float:
    """The limit, and more for a large network."""
    return limits.load + sum(array.nbytes for array in arrays.values()) / _BYTES_PER_SECOND


def _joined(own: list[Part], found: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """(steps, n, units) from the parts of a population, each (steps, n * its units)."""
    sorting = np.argsort(np.concatenate([part.units for part in own]))
    joined = np.concatenate([found[part.name].reshape(-1, n, len(part.units)) for part in own], 2)
    return np.asarray(joined[:, :, sorting])
