"""A network on many chips: what each says of every sample at every step, and what its arrays did meanwhile."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..hardware.analog.chips import Chips, program_network
from ..hardware.analog.counting import layer_reads
from ..hardware.analog.crossbar import Crossbar
from ..hardware.analog.engine import AnalogEngine, Listener, on_all
from ..hardware.analog.faulty import FaultyAnalogEngine, FaultyAnalogIntegerEngine
from ..hardware.analog.integer import AnalogIntegerEngine, program_integers
from ..hardware.analog.prices import LayerReads
from ..hardware.analog.ranges import fit_converters
from ..hardware.program import IntegerProgram
from ..networks.graph import Node
from ..networks.reference import physical
from ..networks.transient import Transient
from .engines import Network, graph_of
from .recordings import framing_of

__all__ = [
    "ChipActivity",
    "ChipEngine",
    "begun",
    "chip_activity",
    "chip_engine",
    "chip_outputs",
    "network_on_chips",
    "ranged",
    "reads_until",
]

ChipEngine = AnalogEngine | AnalogIntegerEngine
_ROWS = 400  # of a batch: instances times samples


class ChipActivity(NamedTuple):
    """outputs: (T, instances, n, classes), cumulative; spikes, active: by neuron and by layer, (T, instances, n).

    active: inputs other than 0, once for each read that they take part in.  conversions, saturated: of the columns.
    """

    outputs: Tensor
    spikes: Mapping[str, Tensor]
    active: Mapping[str, Tensor]
    conversions: int
    saturated: int


def network_on_chips(network: Network, crossbar: Crossbar, *, time_s: float, instances: int, seed: int) -> Chips:
    """Write a network's weights into so many chips and look at them ``time_s`` seconds later.

    Raises RangeError for a time that the device does not know and for no instances, UnsupportedError for what fits
    no array.
    """
    crossbar.device.check_time(time_s)
    if isinstance(network, IntegerProgram):
        return program_integers(network, crossbar, instances=instances, seed=seed).at(time_s)
    return program_network(network, crossbar, instances=instances, seed=seed).at(time_s)


def chip_engine(
    network: Network,
    chips: Chips,
    *,
    max_steps: int,
    chunk: int = 4,
    listen: Listener | None = None,
    transient: Transient | None = None,
) -> ChipEngine:
    """The engine of a network on chips, for constant inputs or the recordings that it was made for.

    transient: faults during the run.
    """
    constant = framing_of(graph_of(network)) is None
    asked: dict[str, Any] = {"max_steps": max_steps, "chunk": chunk, "constant_input": constant, "listen": listen}
    if isinstance(network, IntegerProgram):
        if transient is not None:
            return FaultyAnalogIntegerEngine(network, chips, transient, **asked)
        return AnalogIntegerEngine(network, chips, **asked)
    return AnalogEngine(chips, **asked) if transient is None else FaultyAnalogEngine(chips, transient, **asked)


def ranged(network: Network, chips: Chips, x: np.ndarray, steps: int) -> Chips:
    """The chips with converters fitted on calibration samples x (n, *features), or recordings."""
    constant = framing_of(graph_of(network)) is None
    block = torch.from_numpy(np.ascontiguousarray(x if constant else x[:, :steps].swapaxes(0, 1)))
    program = network if isinstance(network, IntegerProgram) else None
    return fit_converters(chips, block, steps=steps, program=program, constant=constant)


def chip_outputs(network: Network, chips: Chips, x: np.ndarray, steps: int) -> Tensor:
    """The cumulative outputs (T, instances, n, classes) for samples x (n, *features), or recordings."""
    return chip_activity(network, chips, x, steps, count=False).outputs


def chip_activity(
    network: Network,
    chips: Chips,
    x: np.ndarray,
    steps: int,
    *,
    count: bool = True,
    chunk: int = 4,
    transient: Transient | None = None,
    progress: Callable[[float], None] | None = None,
) -> ChipActivity:
    """Run all samples on all chips for ``steps`` steps; transient: with faults meanwhile."""
    graph, instances = graph_of(network), chips.instances
    engine = chip_engine(network, chips, max_steps=steps, chunk=chunk, transient=transient)
    outputs = torch.empty(steps, instances, len(x), *graph.shapes[graph.output.name])
    watched = [node.name for node in graph.of_operator("neuron")] if count else []
    spikes = {name: torch.zeros(steps, instances, len(x)) for name in watched}
    active = {name: torch.zeros(steps, instances, len(x)) for name in engine.reader.synapses} if count else {}
    size = max(1, _ROWS // instances)
    for first in range(0, len(x), size):
        rows = slice(first, min(first + size, len(x)))
        if count:
            engine.reader.count()
        seen: dict[str, list[Tensor]] = {name: [] for name in watched}
        outputs[:, :, rows] = _run(engine, x[rows], steps, instances, seen)
        for name, parts in seen.items():
            spikes[name][:, :, rows] = torch.cat(parts).unflatten(1, (instances, -1))
        for name, parts in (engine.reader.active or {}).items():
            active[name][:, :, rows] = torch.cat(parts).unflatten(1, (instances, -1))  # one row: the same at each step
        if progress is not None:
            progress(rows.stop / len(x))
    meters = [meter for synapse in engine.reader.synapses.values() for meter in synapse.meters]
    return ChipActivity(
        outputs, spikes, active, sum(meter.conversions for meter in meters), sum(meter.saturated for meter in meters)
    )


def _run(
    engine: ChipEngine,
    x: np.ndarray,
    steps: int,
    instances: int,
    seen: dict[str, list[Tensor]],
) -> Tensor:
    """The outputs of one batch (steps, instances, n, classes); counts the spikes of the nodes in ``seen``."""

    def observe(name: str, values: Tensor) -> None:
        if name in seen:
            seen[name].append(_counted(engine.graph.by_name[name], values))

    block, state = begun(engine, x, steps, instances)
    found = []
    for done in range(0, steps, engine.chunk):
        size = min(engine.chunk, steps - done)
        part = block if engine.constant_input else block[done : done + size]
        output, state = engine.advance(part, state, size, observe if seen else None)
        found.append(output)
    whole: Tensor = torch.cat(found)
    return whole.view(len(whole), instances, -1, *whole.shape[2:])


def _counted(node: Node, values: Tensor) -> Tensor:
    """Spikes of each step and row: (steps, batch)."""
    spikes = values if node.attributes["code"] == "binary" else (values != 0).to(torch.float32)
    flat = physical(spikes.flatten(0, 1).to(torch.float32))
    return (flat @ torch.ones(flat.shape[1])).view(values.shape[:2])


def begun(engine: ChipEngine, x: np.ndarray, steps: int, instances: int) -> tuple[Tensor, Any]:
    """What an engine is shown of samples (n, *features), or recordings, on so many chips, and its fresh state."""
    if engine.constant_input:
        block = on_all(torch.from_numpy(np.ascontiguousarray(x)), instances)
        return block, engine.start(block)
    shown = torch.from_numpy(np.ascontiguousarray(x[:, :steps].swapaxes(0, 1)))
    block = torch.cat([shown] * instances, 1)
    return block, engine.initial_state(block.shape[1])


def reads_until(
    network: Network, chips: Chips, activity: ChipActivity, decided: Tensor
) -> tuple[list[LayerReads], int]:
    """What the arrays did until each sample had decided, over all chips, and how often a neuron was updated.

    decided: (instances, n), steps from 1.  Layers that are held are read in the first step only.
    """
    graph, steps = graph_of(network), len(activity.outputs)
    alive = torch.arange(steps)[:, None, None] < decided
    first = torch.arange(steps)[:, None, None] == 0
    counted: dict[str, float] = {}
    for name, active in activity.active.items():
        counted[name] = float((active * (first if name in chips.held else alive)).double().sum())
    total = int(decided.sum())
    times = {name: decided.numel() if name in chips.held else total for name in counted}
    units = sum(int(np.prod(graph.shapes[node.name])) for node in graph.of_operator("neuron"))
    return layer_reads(graph, counted, times, dac_bits=chips.crossbar.dac_bits), units * total
