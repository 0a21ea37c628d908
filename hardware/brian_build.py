"""A plan as Brian2 objects."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from .._check import BackendUnavailable
from .brian_plan import Plan, Population, Wiring, in_unit

__all__ = ["BrianNetwork", "Order", "brian2_module", "build", "copied", "spread"]


class Order(IntEnum):
    """What happens in the slot of a population, one after the other; faults enter in between."""

    BEFORE = 0
    UPDATE = 1
    UPDATED = 2
    EVENTS = 3
    RESETS = 4
    RESET = 5
    SYNAPSES = 6


class BrianNetwork(NamedTuple):
    """A Brian2 ``Network`` that has not run yet, its clock, and its objects by the names of the network's nodes.

    groups: NeuronGroup by node.  synapses: Synapses by (source, target, delay) of the nodes; w is their weight.
    In each group unit u of sample c has the index c * size + u.
    """

    network: Any
    clock: Any
    groups: Mapping[str, Any]
    synapses: Mapping[tuple[str, str, int], Any]


def brian2_module() -> Any:
    """Brian2, or BackendUnavailable that says how to get it."""
    try:
        import brian2
    except Exception as error:  # an unfit NumPy fails in other ways than by ImportError
        raise BackendUnavailable(
            f"Brian2 cannot be imported ({type(error).__name__}: {error}); pip install 'spikeport[brian2]'"
        ) from error
    return brian2


def build(plan: Plan, copies: int, *, step: Any = None, unit: Any = None, stimulus: Any = None) -> BrianNetwork:
    """Groups and synapses for ``copies`` samples side by side (block-diagonal).

    step: Brian2 time, 1 ms if left out.  unit: the Brian2 quantity of one unit of a membrane, a plain number if left
    out.  stimulus: a TimedArray, where the plan reads a sequence.
    """
    brian2 = brian2_module()
    clock = brian2.Clock(dt=brian2.ms if step is None else step)
    groups: dict[str, Any] = {}
    updates = []
    for population in plan.populations:
        group, update = _group(plan, population, copies, clock, unit)
        for variable, (source, places) in population.links.items():
            wide = copied(places, copies, groups[source].N // copies)
            setattr(group, variable, brian2.linked_var(groups[source], "s", index=wide))
        if stimulus is not None and population.kind == "input":
            group.namespace["stimulus"] = stimulus
        groups[population.name] = group
        updates.append(update)
    synapses = [_synapses(plan, wiring, groups, copies, unit) for wiring in plan.wirings]
    network = brian2.Network(*groups.values(), *updates, *synapses)
    network.schedule = plan.schedule
    stage = {population.name: population.stage for population in plan.populations}
    return BrianNetwork(
        network,
        clock,
        {name: groups[population.name] for name, population in plan.by_stage.items()},
        {
            (stage[wiring.source], stage[wiring.target], wiring.steps): made
            for wiring, made in zip(plan.wirings, synapses, strict=True)
        },
    )


def spread(array: np.ndarray, copies: int) -> np.ndarray:
    """The same values for every copy."""
    return np.tile(np.asarray(array, np.float64), copies)


def copied(places: np.ndarray, copies: int, size: int) -> np.ndarray:
    """Indices into a group of ``size`` units, once for each copy."""
    return np.asarray((np.arange(copies)[:, None] * size + places).reshape(-1))


def _group(plan: Plan, population: Population, copies: int, clock: Any, unit: Any) -> tuple[Any, Any]:
    brian2, slot = brian2_module(), plan.slot(population.name)
    units = "1" if unit is None else repr(brian2.get_unit(unit.dim))
    lines = [f"{name} : {units if carries else 1}" for name, carries in population.variables.items()]
    lines += [f"{name} : {units} (linked)" for name in population.links]

    def said(code: str) -> str | None:
        return in_unit(code, unit=unit is not None) or None

    group = brian2.NeuronGroup(
        population.size * copies,
        "\n".join(lines),
        method="euler",
        threshold=said(population.threshold),
        reset=(said(population.reset) or "") if population.threshold else None,
        events={name: said(code) for name, code in population.events.items()},
        clock=clock,
        name=population.name,
    )
    for event in group.thresholder:
        group.set_event_schedule(event, when=slot, order=Order.EVENTS)
    for resetter in group.resetter.values():
        resetter.when, resetter.order = slot, Order.RESETS
    if unit is not None:
        group.namespace["unit"] = unit
    for name, array in population.arrays.items():
        setattr(group, f"{name}_", spread(array, copies) * (float(unit) if unit and population.variables[name] else 1))
    code = in_unit("\n".join(population.update), unit=unit is not None)
    return group, group.run_regularly(code, when=slot, order=Order.UPDATE, name=f"{population.name}_update")


def _synapses(plan: Plan, wiring: Wiring, groups: Mapping[str, Any], copies: int, unit: Any) -> Any:
    brian2 = brian2_module()
    source, target = groups[wiring.source], groups[wiring.target]
    carries = unit is not None and not wiring.plain
    made = brian2.Synapses(
        source,
        target,
        f"w : {repr(brian2.get_unit(unit.dim)) if carries else 1}",
        on_pre=wiring.on_pre,
        on_event=wiring.event,
        delay=wiring.delay * source.clock.dt,
        clock=source.clock,
        name=wiring.name,
    )
    made.pre.when, made.pre.order = plan.slot(wiring.source), Order.SYNAPSES
    entries = wiring.matrix.tocoo()
    height, width = wiring.matrix.shape
    made.connect(i=copied(entries.col, copies, width), j=copied(entries.row, copies, height))
    made.w_ = spread(entries.data, copies) * (float(unit) if carries else 1)
    return made
