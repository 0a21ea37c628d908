"""Run an integer network on a backend: what it decides, what it costs there, and whether it is the same network."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .._check import RangeError, SpikeportError
from ..data import Dataset, refuse_shared
from ..hardware.backend import (
    Agreement,
    Backend,
    Divergence,
    Recording,
    Session,
    compare,
    compiled,
    reference_recording,
)
from ..hardware.chips import load_chip
from ..hardware.energy import Counts, bill, count, neurobench_metrics
from ..hardware.mapping import map_to_chip
from ..hardware.program import IntegerProgram
from ..inference import AnyRule, FixedSteps, accuracy_interval, ask, decide, percentile_steps
from ..networks.faults import Faults
from ..networks.transient import Transient
from .convert import Progress, require_labels
from .evaluate import policy_name
from .recordings import framing_of

__all__ = ["BACKENDS", "backend_named", "run_on"]

WINDOW = 4  # steps between two looks of early exit
_VALUES = 1 << 26  # spikes recorded at a time
_LARGEST_BATCH = 64
_SMALLEST = {"lava": 16}  # a batch costs a start there


def _torch(**faults: Any) -> Backend:
    from ..hardware.torch_backend import TorchBackend

    return TorchBackend(**faults)


def _reference(**faults: Any) -> Backend:
    from ..hardware.reference_backend import ReferenceBackend

    return ReferenceBackend(**faults)


def _lava(**faults: Any) -> Backend:
    from ..hardware.lava import LavaBackend

    return LavaBackend(**faults)


def _brian2(target: str = "numpy", **faults: Any) -> Backend:
    from ..hardware.brian import BrianBackend

    return BrianBackend(target, **faults)


BACKENDS: Mapping[str, Callable[..., Backend]] = {
    "torch": _torch,
    "reference": _reference,
    "lava": _lava,
    "brian2": _brian2,
}


def backend_named(name: str, *, faults: Faults | None = None, seed: int = 0) -> Backend:
    """The backend of that name, with these faults during the run; raises SpikeportError for others.

    "brian2:cython" and "brian2:cpp_standalone" are Brian2 with another target than NumPy's.
    """
    known, _, target = name.partition(":")
    if known not in BACKENDS or (target and known != "brian2"):
        raise SpikeportError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}, or analog")
    return BACKENDS[known](*([target] if target else []), faults=faults, seed=seed)


def run_on(  # noqa: PLR0913 - three parts and six options
    backend: Backend,
    program: IntegerProgram,
    data: Dataset,
    *,
    steps: int,
    rule: AnyRule,
    chip: str = "loihi2",
    compare_with: str | None = None,
    shared: np.ndarray | None = None,
    transient: Transient | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all samples for at most ``steps`` steps, each batch in windows until all of it have decided by ``rule``.

    compare_with: "reference" runs the NumPy reference too and counts every spike that differs.  shared: hashes of
    samples that must not be among ``data`` (the calibration's).  transient: the faults during the run that the backend
    has, for the comparison.
    The result is the JSON of ``spikeport run``.  Raises UnsupportedError, BackendUnavailable and what the parts raise.
    """
    tell = progress or (lambda stage, done: None)
    if compare_with not in (None, "reference"):
        raise SpikeportError(f"agreement with {compare_with!r} cannot be measured; choose reference")
    if rule.min_steps > steps:
        raise RangeError(f"the rule stops at step {rule.min_steps} or later, but {steps} steps are run")
    if not 1 <= steps <= program.steps:
        raise RangeError(f"{steps} steps were asked for; 1 to {program.steps} are possible here")
    if shared is not None:
        refuse_shared(data.hashes, shared)
    if data.y is not None:
        require_labels("the labels", data.y, program.classes)
    tell(f"compile for {backend.name}", 0.0)
    began = time.perf_counter()
    with compiled(backend, program) as session:
        ready = time.perf_counter()
        totals = _Totals(program, rule, steps, against=compare_with is not None, transient=transient)
        size = _batch_size(program, steps, backend.name)
        for first in range(0, len(data), size):
            totals.take(session, data.x[first : first + size])
            tell(f"run on {backend.name}", min(1.0, (first + size) / len(data)))
        report = session.report()
    tell("map to the chip", 0.0)
    return {
        "backend": backend.name,
        "data": data.name,
        "timesteps": steps,
        **totals.result(data.y),
        "compile_seconds": ready - began,
        "engine": report,
        "energy": bill(totals.counts(), chip).to_json(),
        "mapping": map_to_chip(program, load_chip(chip)).to_json(),
    }


def _batch_size(program: IntegerProgram, steps: int, name: str) -> int:
    units = sum(int(np.prod(program.graph.shapes[node.name])) for node in program.neurons)
    return max(_SMALLEST.get(name, 1), min(_LARGEST_BATCH, _VALUES // max(units * steps, 1)))


@dataclass
class _Totals:
    """What has been seen so far, batch by batch; spikes are counted and let go."""

    program: IntegerProgram
    rule: AnyRule
    steps: int
    against: bool
    transient: Transient | None = None
    labels: list[np.ndarray] = field(default_factory=list)
    decided: list[np.ndarray] = field(default_factory=list)
    counted: list[Counts] = field(default_factory=list)
    agreement: Agreement = field(default_factory=lambda: Agreement(0, 0, None))
    seconds: float = 0.0
    computed: int = 0
    n: int = 0

    def take(self, session: Session, x: np.ndarray) -> None:
        """Run a batch until all have decided, or for all steps."""
        names = [node.name for node in self.program.neurons]
        began = time.perf_counter()
        recorded = framing_of(self.program.graph) is not None
        x = np.ascontiguousarray(x[:, : self.steps].swapaxes(0, 1)) if recorded else x
        session.start(x, constant=not recorded)
        parts: list[Recording] = []
        done = 0
        while done < self.steps:
            window = self._window(done)
            parts.append(session.advance(window, record=names))
            done += window
            output = torch.from_numpy(self.program.real_output(np.concatenate([part.output for part in parts])))
            if ask(self.rule, output, torch.zeros(output.shape[1], dtype=torch.int64), None)[0].any(0).all():
                break
        self.seconds += time.perf_counter() - began
        self._count(x, parts, output, constant=not recorded)

    def _window(self, done: int) -> int:
        left = self.steps - done
        return min(left, self.rule.steps if isinstance(self.rule, FixedSteps) else WINDOW)

    def _count(self, x: np.ndarray, parts: list[Recording], output: torch.Tensor, *, constant: bool) -> None:
        spikes = {name: np.concatenate([part.spikes[name] for part in parts]) for name in parts[0].spikes}
        decisions = decide(self.rule, output) if len(output) >= self.rule.min_steps else None
        if decisions is None:
            raise SpikeportError("the rule cannot stop within the steps that were run")
        decided = decisions.steps.numpy()
        self.labels.append(decisions.label.numpy())
        self.decided.append(decided)
        self.counted.append(count(self.program, spikes, constant=constant, decided=decided))
        self.computed += len(output) * output.shape[1]
        if self.against:
            whole = Recording(np.concatenate([part.output for part in parts]), spikes)
            shown = x if constant else x[: len(output)]
            wanted = reference_recording(
                self.program, shown, len(output), constant=constant, record=list(spikes), transient=self.transient
            )
            self.agreement = _joined(self.agreement, compare(whole, wanted), self.n)
        self.n += output.shape[1]

    def counts(self) -> Counts:
        """Of all batches."""
        spikes: dict[str, int] = {}
        for part in self.counted:
            for name, number in part.spikes.items():
                spikes[name] = spikes.get(name, 0) + number
        return Counts(
            self.n,
            sum(part.steps for part in self.counted),
            spikes,
            sum(part.accumulates for part in self.counted),
            sum(part.multiply_accumulates for part in self.counted),
            sum(part.neuron_updates for part in self.counted),
        )

    def result(self, labels: np.ndarray | None) -> dict[str, Any]:
        """The part of the JSON that the samples make."""
        steps, counts = np.concatenate(self.decided), self.counts()
        accuracy = None if labels is None else float((np.concatenate(self.labels) == labels).mean())
        found: dict[str, Any] = {
            "n": self.n,
            "accuracy": accuracy,
            "accuracy_ci95": None if accuracy is None else list(accuracy_interval(accuracy, self.n)),
            "policy": policy_name(self.rule),
            "rule": str(self.rule),
            "mean_steps": float(steps.mean()),
            "mean_steps_computed": self.computed / self.n,
            "p95_steps": percentile_steps(torch.from_numpy(steps)),
            "spikes_per_layer": {name: number / self.n for name, number in counts.spikes.items()},
            "synaptic_operations": counts.accumulates / self.n,
            "multiply_accumulates": counts.multiply_accumulates / self.n,
            "neurobench": neurobench_metrics(self.program, counts),
            "seconds": self.seconds,
            "agreement": None,
        }
        if self.against:
            first = self.agreement.first_divergence
            found["agreement"] = {
                "with": "reference",
                "spikes_compared": self.agreement.spikes_compared,
                "mismatches": self.agreement.mismatches,
                "first_divergence": None if first is None else first._asdict(),
            }
        return found


def _joined(before: Agreement, found: Agreement, samples: int) -> Agreement:
    """Both, with the second's samples counted on from ``samples``."""
    first = before.first_divergence
    other = found.first_divergence
    if other is not None:
        other = Divergence(other.layer, other.step, other.sample + samples, other.unit)
        first = other if first is None or other.step < first.step else first
    return Agreement(
        before.spikes_compared + found.spikes_compared, before.mismatches + found.mismatches, first
    )  # fmt: skip
