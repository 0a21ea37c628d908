"""Protection of spiking networks: what their neurons do on calibration data, and what goes beyond it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, ShapeError, require_in_range
from ..hardware.faults import checked_program
from ..hardware.program import STATE_LIMIT, IntegerProgram
from ..networks.graph import Graph
from ..networks.protection import hyperactive, silenced, with_limits
from .engines import Network, engine_of, graph_of

__all__ = ["limited", "spike_counts", "spike_limits", "without_hyperactive"]

_BATCH = 64


def spike_counts(network: Network, x: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """How often each unit spikes in ``steps`` steps of each of x: int16 (n, *features) by neuron node.

    Raises ShapeError without samples, RangeError for differential spikes, which are changes of a value.
    """
    if not len(x):
        raise ShapeError("no samples came; give some to count the spikes of")
    graph, engine = graph_of(network), engine_of(network, max_steps=steps)
    neurons = {node.name for node in graph.of_operator("neuron")}
    changing = [name for name in neurons if graph.by_name[name].attributes["code"] == "differential"]
    if changing:
        raise RangeError(f"{', '.join(sorted(changing))} send differential spikes, whose number says little")
    found = {name: np.zeros((len(x), *graph.shapes[name]), np.int16) for name in sorted(neurons)}
    for first in range(0, len(x), _BATCH):
        block = torch.from_numpy(np.ascontiguousarray(x[first : first + _BATCH]))

        def observe(name: str, values: Tensor, first: int = first) -> None:
            if name in neurons:
                found[name][first : first + values.shape[1]] += values.abs().sum(0).to(torch.int16).numpy()

        state = engine.start(block, observe)
        for done in range(0, steps, engine.chunk):
            _, state = engine.advance(block, state, min(engine.chunk, steps - done), observe)
    return found


def spike_limits(network: Network, x: np.ndarray, steps: int, *, slack: float = 0.0) -> dict[str, np.ndarray]:
    """The most spikes that each unit sends in ``steps`` steps for any of x (n, *features), by neuron node.

    slack: a limit is so much larger, as a share, and rounded up; a unit that sent none gets 0.
    Raises RangeError for a slack below 0, and what ``spike_counts`` raises.
    """
    require_in_range("slack", slack, 0.0, 1e6)
    counts = spike_counts(network, x, steps)
    return {name: np.ceil(found.max(0) * np.float64(1 + slack)).astype(np.float32) for name, found in counts.items()}


def limited(network: Network, limits: Mapping[str, np.ndarray]) -> Network:
    """The network whose units fall silent after so many spikes; raises what ``with_limits`` raises."""
    return _with(network, with_limits(graph_of(network), limits))


def without_hyperactive(
    network: Network, x: np.ndarray, steps: int, limits: Mapping[str, np.ndarray], *, share: float
) -> tuple[Network, dict[str, int]]:
    """Silence the units that spike more than their limit in at least this share of x; also how many, by neuron node.

    x: samples on which a network that may have faults is tried.  limits: by neuron node, of the network without faults;
    0 everywhere is the published rule (see ``hyperactive``).  The result runs wherever networks run.
    Raises SpikeportError for limits of layers that are no neurons, and as ``hyperactive`` and ``spike_counts`` do.
    """
    with_limits(graph_of(network), limits)  # refuses what does not fit
    counts = spike_counts(network, x, steps)
    gone = {name: hyperactive(counts[name], limit, share=share) for name, limit in limits.items()}
    whole = isinstance(network, IntegerProgram)
    found = silenced(graph_of(network), gone, **({"unreachable": float(STATE_LIMIT)} if whole else {}))
    return _with(network, found), {name: int(mask.sum()) for name, mask in gone.items()}


def _with(network: Network, graph: Graph) -> Network:
    return checked_program(replace(network, graph=graph)) if isinstance(network, IntegerProgram) else graph
