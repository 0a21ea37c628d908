"""Outputs, spikes and operations of every sample at every step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..networks.activity import ActivityMeter
from ..networks.graph import Graph
from ..networks.outputs import outputs_over_time
from ..networks.run import Observer


class Activity(NamedTuple):
    """outputs: (T, n, classes) cumulative; spikes, accumulates: (T, n), at each step, over all layers."""

    outputs: Tensor
    spikes: Tensor
    accumulates: Tensor


def measured(
    graph: Graph, x: np.ndarray, steps: int, progress: Callable[[float], None], *, batch_size: int = 64
) -> Activity:
    """Run all samples (n, *features) for ``steps`` steps and count what happens."""
    meters: list[ActivityMeter] = []

    def observe(first: int) -> Observer:
        meters.append(ActivityMeter(graph))
        return meters[-1].observe

    outputs = outputs_over_time(graph, x, steps, batch_size=batch_size, observe=observe, progress=progress)
    return Activity(
        outputs,
        torch.cat([_total(meter.spikes, steps) for meter in meters], 1),
        torch.cat([_total(meter.accumulates, steps) for meter in meters], 1),
    )


def _total(by_layer: dict[str, Tensor], steps: int) -> Tensor:
    total = torch.stack([counts.double() for counts in by_layer.values()]).sum(0)
    return total[:steps]
