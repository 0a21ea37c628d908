"""Outputs, spikes and operations of every sample at every step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..networks.activity import ActivityMeter
from ..networks.engine import Observer
from ..networks.graph import Graph
from ..networks.outputs import outputs_of
from .engines import Network, engine_of, graph_of


class Activity(NamedTuple):
    """outputs: (T, n, classes) cumulative; spikes, accumulates, payload (bits): (T, n), at each step, of all layers."""

    outputs: Tensor
    spikes: Tensor
    accumulates: Tensor
    payload: Tensor


def measured(
    network: Network, x: np.ndarray, steps: int, progress: Callable[[float], None], *, batch_size: int = 64
) -> Activity:
    """Run all samples (n, *features) for ``steps`` steps and count what happens."""
    graph = graph_of(network)
    totals, engine = _Totals(graph, steps, len(x)), engine_of(network, max_steps=steps)
    classes = graph.shapes[graph.output.name]
    outputs = outputs_of(engine, classes, x, steps, batch_size=batch_size, observe=totals.batch, progress=progress)
    return Activity(outputs, *totals.sums.unbind(-1))


class _Totals:
    """Sums over the layers, in memory taken once: small pieces kept from each chunk would break up the heap."""

    def __init__(self, graph: Graph, steps: int, n: int) -> None:
        self._meter = ActivityMeter(graph)
        self.sums = torch.zeros(steps, n, 3, dtype=torch.float64)

    def batch(self, first: int) -> Observer:
        """An observer for the samples from ``first`` on."""
        done: dict[str, int] = {}
        last: dict[str, Tensor] = {}

        def observe(name: str, values: Tensor) -> None:
            counted = self._meter.count(name, values, last.get(name))
            if counted is not None:
                begin, last[name] = done.get(name, 0), values[-1]
                done[name] = begin + len(counted)
                self.sums[begin : done[name], first : first + counted.shape[1]] += counted

        return observe
