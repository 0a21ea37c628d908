"""Faults during a run in Brian2: operations that enter a population's slot between what it does there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..networks.transient import Transient, flip_whole
from .brian_build import BrianNetwork, Order, brian2_module
from .brian_plan import Plan, Population
from .hits import Hits, at_step, hits_of

__all__ = ["BrianFaults"]


class BrianFaults:
    """Takes lost spikes out of what a population sends, and flips bits of its membranes after their reset.

    A synaptic current is both what a filter holds and what it gave: it flips just before the next update, which then
    remembers what was given.
    """

    def __init__(self, plan: Plan, brian: BrianNetwork, copies: int, transient: Transient | None) -> None:
        self.plan, self.brian, self.copies = plan, brian, copies
        self._hits, self._first = hits_of(None, np.zeros(0), 0), 0
        self._given: dict[str, np.ndarray] = {}
        self.operations = [made for node in (transient.hit if transient else ()) for made in self._of(node.name)]

    def choose(self, hits: Hits, first: int) -> None:
        """Let these faults happen; the copies are the samples from ``first`` on."""
        self._hits, self._first = hits, first

    def _of(self, name: str) -> list[Any]:
        population = self.plan.by_stage[name]
        if population.kind == "neuron":
            return [self._operation(population, Order.RESET, self._after)]
        made = [self._operation(population, Order.BEFORE, self._before)]
        if "s_1" in population.variables:
            made.append(self._operation(population, Order.UPDATED, self._remember))
        return made

    def _operation(self, population: Population, order: Order, act: Callable[[Population], None]) -> Any:
        return brian2_module().NetworkOperation(
            partial(act, population),
            clock=self.brian.clock,
            when=self.plan.slot(population.name),
            order=order,
            name=f"{population.name}_faults_{order.name.lower()}",
        )

    def _after(self, population: Population) -> None:
        """Neurons, when they have been reset and before their synapses see the spikes."""
        group, step = self.brian.groups[population.stage], self._step
        sample, unit = self._own(at_step(self._hits.dropped.get(population.stage), step)[:2])
        lost = sample * population.size + unit
        if len(lost):
            if not population.binary:
                group.s_[lost] = 0
            _without(group.variables["_spikespace"].get_value(), lost)
        self._flip(population, "v", step)

    def _before(self, population: Population) -> None:
        """Filters, before they do their next step."""
        self._given[population.stage] = np.array(self.brian.groups[population.stage].s_[:])
        self._flip(population, "s", self._step - 1)

    def _remember(self, population: Population) -> None:
        """What was given in the last step, not what it has become."""
        self.brian.groups[population.stage].s_1_ = self._given[population.stage]

    def _flip(self, population: Population, variable: str, step: int) -> None:
        sample, unit, bit = self._own(at_step(self._hits.flipped.get(population.stage), step))
        if len(unit):
            group = self.brian.groups[population.stage]
            held = np.rint(getattr(group, f"{variable}_")[:]).astype(np.int64).reshape(self.copies, -1)
            flip_whole(held, sample, unit, bit)
            setattr(group, f"{variable}_", held.reshape(-1).astype(np.float64))

    @property
    def _step(self) -> int:
        return int(self.brian.clock.timestep_[:])

    def _own(self, hits: np.ndarray) -> np.ndarray:
        """Those of this block, counted from its first sample."""
        own = hits[:, (hits[0] >= self._first) & (hits[0] < self._first + self.copies)].astype(np.int64)
        own[0] -= self._first
        return own


def _without(spikespace: np.ndarray, lost: np.ndarray) -> None:
    """Take units out of Brian2's list of those that spike, in place; its last entry is their number."""
    spikes = spikespace[: spikespace[-1]]
    kept = spikes[~np.isin(spikes, lost)]
    spikespace[: len(kept)], spikespace[-1] = kept, len(kept)
