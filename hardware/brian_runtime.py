"""A session of Brian2 in this process, for its NumPy and Cython targets."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._check import RangeError, SpikeportError
from ..networks.transient import Transient
from .backend import Recording, Session
from .brian_build import BrianNetwork, brian2_module, build
from .brian_faults import BrianFaults
from .brian_plan import Plan, Population, plan_of
from .hits import hits_of
from .program import IntegerProgram

__all__ = ["RuntimeSession"]

SYNAPSES_AT_ONCE = 4_000_000  # of all copies together; some 60 bytes each
_STATE = ("v", "received", "s", "count")


class _Snapshot(NamedTuple):
    """What a block of samples remembers between two windows: variables by group, spikes under way, the time."""

    variables: Mapping[str, Mapping[str, np.ndarray]]
    queues: Mapping[str, Any]
    time: float


class _Made(NamedTuple):
    """A built network with what to run it with."""

    plan: Plan
    copies: int
    brian: BrianNetwork
    recorder: "_Recorder"
    faults: "BrianFaults"


class RuntimeSession(Session):
    """A batch runs as blocks of copies side by side, one block after the other through the same Brian2 objects."""

    def __init__(
        self, program: IntegerProgram, target: str, cache_folder: Path | None, transient: Transient | None = None
    ) -> None:
        self.program, self.target = program, target
        self._cache, self._transient = cache_folder, transient
        self._hits = hits_of(None, np.zeros(0), 0)
        self._plans: dict[bool, Plan] = {}
        self._made: _Made | None = None
        self._blocks: list[np.ndarray] = []  # input, (1 or steps, copies * size)
        self._snapshots: list[_Snapshot] = []
        self._samples = self._done = self._limit = 0

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""
        self._limit = self.program.steps if constant else len(x)
        self.program.require_input(x, steps=self._limit, constant=constant)
        code = self.program.input(x).astype(np.float64)
        code = code.reshape(1, len(x), -1) if constant else code.reshape(len(x), x.shape[1], -1)
        self._samples, self._done = code.shape[1], 0
        self._hits = hits_of(self._transient, x, self._limit, constant=constant)
        made = self._built(constant)
        self._blocks = [
            _filled(code[:, first : first + made.copies], made.copies) for first in range(0, self._samples, made.copies)
        ]
        self._snapshots = [_fresh(made)] * len(self._blocks)

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples."""
        if self._made is None or not self._blocks:
            raise SpikeportError("this session has no samples; start it before it advances")
        if not 1 <= steps <= self._limit - self._done:
            raise RangeError(f"{steps} steps were asked for, but {self._limit - self._done} of {self._limit} are left")
        output = self.program.graph.output.name
        self._made.recorder.choose([output, *record])
        found = []
        for index, block in enumerate(self._blocks):
            found.append(self._run(self._made, index, block, steps))
        self._done += steps
        joined = {name: np.concatenate([part[name] for part in found], 1)[:, : self._samples] for name in found[0]}
        return Recording(joined[output], {name: joined[name] for name in record})

    def report(self) -> dict[str, Any]:
        """What was built, as JSON."""
        plan = self._made.plan if self._made else self._plan(constant=True)
        return {
            "engine": "brian2",
            "version": brian2_module().__version__,
            "target": self.target,
            "populations": len(plan.populations),
            "synapses_per_sample": plan.synapses,
            "samples_at_once": self._made.copies if self._made else None,
            "latency_steps": 0,
        }

    def close(self) -> None:
        """Free the Brian2 objects."""
        self._made, self._blocks, self._snapshots = None, [], []

    def _plan(self, *, constant: bool) -> Plan:
        if constant not in self._plans:
            self._plans[constant] = plan_of(self.program, sequence=not constant)
        return self._plans[constant]

    def _built(self, constant: bool) -> _Made:
        plan = self._plan(constant=constant)
        copies = max(1, min(self._samples, SYNAPSES_AT_ONCE // max(plan.synapses, 1)))
        if self._made is None or self._made.plan is not plan or self._made.copies != copies:
            self._made = None
            with _target(self.target, self._cache):
                brian = build(plan, copies)
            recorder = _Recorder(plan, brian, copies)
            faults = BrianFaults(plan, brian, copies, self._transient)
            brian.network.add(recorder.operation, *faults.operations)
            self._made = _Made(plan, copies, brian, recorder, faults)
        return self._made

    def _run(self, made: _Made, index: int, block: np.ndarray, steps: int) -> dict[str, np.ndarray]:
        brian2, brian = brian2_module(), made.brian
        group = brian.groups[self.program.graph.input.name]
        made.faults.choose(self._hits, index * made.copies)
        if len(self._blocks) > 1 or not self._done:
            _restore(made, self._snapshots[index])
        if "stimulus" in group.variables:
            group.stimulus_ = block[0]
        else:
            group.namespace["stimulus"] = brian2.TimedArray(block, dt=brian.clock.dt)
        with _target(self.target, self._cache):
            brian.network.run(steps * brian.clock.dt, namespace={})
        if len(self._blocks) > 1:
            self._snapshots[index] = _snapshot(made)
        return made.recorder.taken()


class _Recorder:
    """Takes what the chosen populations gave, at the end of each step."""

    def __init__(self, plan: Plan, brian: BrianNetwork, copies: int) -> None:
        self.plan, self.brian, self.copies = plan, brian, copies
        self.operation = brian2_module().NetworkOperation(self._take, clock=brian.clock, when="end", name="recorder")
        self._found: dict[str, list[np.ndarray]] = {}

    def choose(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self.plan.by_stage]
        if unknown:
            raise SpikeportError(f"{', '.join(unknown)}: no such population; record {', '.join(self.plan.by_stage)}")
        self._found = {name: [] for name in names}

    def taken(self) -> dict[str, np.ndarray]:
        shapes = self.plan.program.graph.shapes
        found = {
            name: np.stack(rows).reshape(len(rows), self.copies, *shapes[name]) for name, rows in self._found.items()
        }
        self._found = {name: [] for name in self._found}
        return found

    def _take(self) -> None:
        for name, rows in self._found.items():
            rows.append(_given(self.plan.by_stage[name], self.brian.groups[name]))


def _given(population: Population, group: Any) -> np.ndarray:
    """The whole numbers that a population gave in this step."""
    if not population.binary:
        return np.asarray(np.rint(group.s_[:]), np.int64)
    spikes = np.zeros(len(group), np.int64)
    spikes[group.spikes] = 1
    return spikes


def _filled(code: np.ndarray, copies: int) -> np.ndarray:
    """The samples of one block, with empty ones up to its size."""
    steps, samples, size = code.shape
    whole = np.zeros((steps, copies, size))
    whole[:, :samples] = code
    return whole.reshape(steps, -1)


def _variables(population: Population) -> list[str]:
    return [name for name in population.variables if name in _STATE or name.startswith("s_")]


def _all_groups(made: _Made) -> Iterator[tuple[Population, Any]]:
    for population in made.plan.populations:
        yield population, made.brian.network[population.name]


def _fresh(made: _Made) -> _Snapshot:
    variables = {}
    for population, group in _all_groups(made):
        start = population.arrays.get("v", np.zeros(population.size))
        wide = np.tile(np.asarray(start, np.float64), made.copies)
        variables[population.name] = {
            name: wide if name == "v" else np.zeros(len(group)) for name in _variables(population)
        }
    return _Snapshot(variables, dict.fromkeys(_queues(made)), 0.0)


def _snapshot(made: _Made) -> _Snapshot:
    variables = {
        population.name: {name: np.array(getattr(group, f"{name}_")[:]) for name in _variables(population)}
        for population, group in _all_groups(made)
    }
    queues = {name: made.brian.network[name].pre.queue._full_state() for name in _queues(made)}
    return _Snapshot(variables, queues, made.brian.network.t_)


def _restore(made: _Made, snapshot: _Snapshot) -> None:
    for population, group in _all_groups(made):
        for name, values in snapshot.variables[population.name].items():
            setattr(group, f"{name}_", values)
    for name in _queues(made):
        queue = made.brian.network[name].pre.queue
        if queue is not None:  # it is made by the first run
            queue._restore_from_full_state(snapshot.queues[name])
    made.brian.network.t_ = snapshot.time


def _queues(made: _Made) -> list[str]:
    return [wiring.name for wiring in made.plan.wirings]


@contextmanager
def _target(name: str, cache_folder: Path | None) -> Iterator[None]:
    """Let Brian2 use this code target, and its former one afterwards."""
    prefs = brian2_module().prefs
    keys = {"codegen.target": name}
    if name == "cython":
        keys["codegen.runtime.cython.cache_dir"] = str(cache_folder or _own_cache())
    before = {key: prefs[key] for key in keys}
    for key, value in keys.items():
        prefs[key] = value
    try:
        yield
    finally:
        for key, value in before.items():
            prefs[key] = value


@cache
def _own_cache() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="spikeport-brian2-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
