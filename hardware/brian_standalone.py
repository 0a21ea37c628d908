"""A session of Brian2's C++ standalone target: each call of ``advance`` compiles and runs one program.

A standalone program cannot be continued, so a later window runs everything from the start again and gives the rest:
use one window.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._check import BackendUnavailable, RangeError, SpikeportError
from .backend import Recording, Session
from .brian_build import brian2_module, build
from .brian_plan import Plan, plan_of
from .program import IntegerProgram

__all__ = ["StandaloneSession"]


class StandaloneSession(Session):
    """All samples side by side in one C++ program."""

    def __init__(self, program: IntegerProgram) -> None:
        self.program = program
        self._code: np.ndarray | None = None  # (1 or steps, samples, size)
        self._constant = True
        self._done = self._limit = 0

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""
        self._limit = self.program.steps if constant else len(x)
        self.program.require_input(x, steps=self._limit, constant=constant)
        code = self.program.input(x).astype(np.float64)
        self._code = code.reshape(1, len(x), -1) if constant else code.reshape(len(x), x.shape[1], -1)
        self._constant, self._done = constant, 0

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples."""
        if self._code is None:
            raise SpikeportError("this session has no samples; start it before it advances")
        if not 1 <= steps <= self._limit - self._done:
            raise RangeError(f"{steps} steps were asked for, but {self._limit - self._done} of {self._limit} are left")
        plan, output = plan_of(self.program, sequence=not self._constant), self.program.graph.output.name
        with _standalone() as brian2:
            found = _run(brian2, plan, self._code, self._done + steps, [output, *record])
        self._done += steps
        shapes, samples = self.program.graph.shapes, self._code.shape[1]
        parts = {name: values[-steps:].reshape(steps, samples, *shapes[name]) for name, values in found.items()}
        return Recording(parts[output], {name: parts[name] for name in record})

    def report(self) -> dict[str, Any]:
        """What runs, as JSON."""
        return {"engine": "brian2", "version": brian2_module().__version__, "target": "cpp_standalone"}

    def close(self) -> None:
        """Forget the samples; nothing else is held between two calls."""
        self._code = None


@contextmanager
def _standalone() -> Iterator[Any]:
    """Brian2 with its C++ device, in a folder that is removed afterwards."""
    brian2 = brian2_module()
    with tempfile.TemporaryDirectory(prefix="spikeport-brian2-") as folder:
        brian2.set_device("cpp_standalone", directory=folder, with_output=False)
        key = "devices.cpp_standalone.extra_make_args_unix"  # six compilers at once otherwise, on however few cores
        before, brian2.prefs[key] = brian2.prefs[key], [f"-j{os.cpu_count() or 1}"]
        try:
            yield brian2
        except (RuntimeError, OSError) as error:
            raise BackendUnavailable(f"the C++ program of Brian2 failed ({error}); it needs g++ and make") from error
        finally:
            brian2.prefs[key] = before
            brian2.device.reinit()
            brian2.device.activate()
            brian2.set_device("runtime")


def _run(brian2: Any, plan: Plan, code: np.ndarray, steps: int, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What the named populations gave in all steps: (steps, samples * size) each."""
    rows = code.reshape(len(code), -1)
    constant = plan.by_stage[plan.program.graph.input.name].variables.get("stimulus") is not None
    stimulus = None if constant else brian2.TimedArray(rows, dt=brian2.ms)
    made = build(plan, code.shape[1], stimulus=stimulus)
    if constant:
        made.groups[plan.program.graph.input.name].stimulus_ = rows[0]
    monitors: dict[str, Any] = {}
    for name in names:
        group = made.groups[name]
        if plan.by_stage[name].binary:
            monitors[name] = brian2.SpikeMonitor(group)
        else:
            monitors[name] = brian2.StateMonitor(group, "s", record=True, when="end", clock=made.clock)
    made.network.add(*monitors.values())
    made.network.run(steps * made.clock.dt, namespace={})
    return {name: _taken(monitor, len(made.groups[name]), steps) for name, monitor in monitors.items()}


def _taken(monitor: Any, units: int, steps: int) -> np.ndarray:
    found = np.zeros((steps, units), np.int64)
    if hasattr(monitor, "s"):
        found[:] = np.rint(np.asarray(monitor.s_)).T
    else:
        found[np.rint(np.asarray(monitor.t_) * 1000).astype(int), np.asarray(monitor.i)] = 1
    return found
