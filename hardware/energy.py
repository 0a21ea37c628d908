"""Counts of a run, and the bill that a chip's table makes of them.

The counts are exact.  A price is what a source says, with its evidence beside it; a bill that lacks a price has no
total, and figures that hold everything already are never added to others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._check import SpikeportError
from ..networks.activity import analog_synapses, fan_out
from .chips import Price, prices
from .program import IntegerProgram

__all__ = ["Bill", "Counts", "Line", "bill", "count", "neurobench_metrics"]


@dataclass(frozen=True)
class Counts:
    """What the samples of a run caused, summed over all of them.  n: samples; steps: sample-steps that were run.

    accumulates: one for each spike and synapse that it reaches (a graded spike of level k counts k).
    multiply_accumulates: synapses that read analog values; of a constant input once a sample.
    """

    n: int
    steps: int
    spikes: Mapping[str, int]
    accumulates: int
    multiply_accumulates: int
    neuron_updates: int


@dataclass(frozen=True)
class Line:
    """One term of a bill; energy in picojoules, None without a price."""

    term: str
    count: int
    price: Price | None

    @property
    def energy(self) -> float | None:
        """count * price, pJ."""
        return None if self.price is None else self.count * self.price.value


@dataclass(frozen=True)
class Bill:
    """The terms, and their sum in picojoules a sample where each has a price."""

    chip: str
    n: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> float | None:
        """pJ a sample, or None."""
        energies = [line.energy for line in self.lines if line.count]
        return None if None in energies else sum(e for e in energies if e is not None) / self.n

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        terms = [
            {
                "term": line.term,
                "count_per_sample": line.count / self.n,
                "picojoules_per_sample": None if line.energy is None else line.energy / self.n,
                **({} if line.price is None else {k: getattr(line.price, k) for k in ("evidence", "scope", "source")}),
            }
            for line in self.lines
        ]
        return {"chip": self.chip, "terms": terms, "total": self.total, "unit": "pJ a sample"}


def count(
    program: IntegerProgram,
    spikes: Mapping[str, np.ndarray],
    *,
    constant: bool = True,
    decided: np.ndarray | None = None,
) -> Counts:
    """Count a run.  spikes: by every neuron node (steps, n, *features).

    decided: (n,) the step at which each sample stopped, 1 to steps; what comes after it is not counted.
    """
    shape = next((values.shape for values in spikes.values()), None)
    if shape is None and decided is None:
        raise SpikeportError("a network without neurons has no spikes to count; say when each sample stopped")
    running = np.full(shape[1], shape[0]) if decided is None else np.asarray(decided)  # type: ignore[index]
    steps, n = shape[:2] if shape is not None else (int(running.max(initial=0)), len(running))
    alive = (np.arange(steps)[:, None] < running).astype(np.float64)
    fans = fan_out(program.graph)
    found, accumulates = {}, 0.0
    for name, values in spikes.items():
        size = np.abs(values.reshape(steps, n, -1)).astype(np.float64)
        found[name] = int((size.sum(2) * alive).sum())
        accumulates += float(((size @ fans[name].double().numpy().reshape(-1)) * alive).sum())
    analog = sum(analog_synapses(program.graph).values())
    units = sum(int(np.prod(program.graph.shapes[node.name])) for node in program.neurons)
    total = int(running.sum())
    return Counts(n, total, found, int(accumulates), analog * (n if constant else total), units * total)


def bill(counts: Counts, chip: str) -> Bill:
    """The bill of a chip's price rows: its terms, or the one row that holds them all."""
    rows = {row.term: row for row in prices() if row.chip == chip}
    whole: Sequence[Price] = [row for row in rows.values() if row.scope == "all"]
    counted = {
        "accumulate": counts.accumulates,
        "multiply_accumulate": counts.multiply_accumulates,
        "neuron_update": counts.neuron_updates,
        "spike": sum(counts.spikes.values()),
    }
    if whole:
        covered = ("accumulate", "multiply_accumulate")
        return Bill(chip, counts.n, tuple(Line(term, counted[term], rows.get(term)) for term in covered))
    return Bill(chip, counts.n, tuple(Line(term, number, rows.get(term)) for term, number in counted.items()))


def neurobench_metrics(program: IntegerProgram, counts: Counts) -> dict[str, float]:
    """The counts in NeuroBench's names, a sample (Yik et al. 2023, arXiv 2304.04640).

    Footprint: bytes of weights (one each), and of thresholds, biases and membranes (four each).
    """
    weights = [a for node in program.graph.nodes for key, a in node.arrays.items() if key in ("weight", "factor")]
    units = sum(int(np.prod(program.graph.shapes[node.name])) for node in program.neurons)
    size = sum(array.size for array in weights)
    other = sum(
        a.size for node in program.graph.nodes for key, a in node.arrays.items() if key not in ("weight", "factor")
    )
    return {
        "Footprint": float(size + 4 * (other + units)),
        "ConnectionSparsity": 1 - sum(int(np.count_nonzero(array)) for array in weights) / max(size, 1),
        "ActivationSparsity": 1 - sum(counts.spikes.values()) / max(units * counts.steps, 1),
        "Effective_ACs": counts.accumulates / counts.n,
        "Effective_MACs": counts.multiply_accumulates / counts.n,
        "MembraneUpdates": counts.neuron_updates / counts.n,
    }
