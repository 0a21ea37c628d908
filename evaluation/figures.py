"""What the report's pictures are drawn from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inference import Decisions, decide, oracle, pareto_front
from ..networks.activity import sent
from .activity import Activity
from .engines import Network, engine_of, graph_of

RASTER_UNITS = 60


def exit_figures(
    network: Network, x: np.ndarray, activity: Activity, decisions: Decisions, labels: Tensor, steps: int
) -> dict[str, Any]:
    """Histogram of exit steps, the front of accuracy against steps and operations, and a spike raster of one sample.

    The front is drawn on the evaluated data, to be looked at: no threshold is taken from it.
    """
    operations = activity.accumulates.cumsum(0)
    bound = oracle(activity.outputs, labels)
    return {
        "exit_step_histogram": torch.bincount(decisions.steps - 1, minlength=steps).tolist(),
        "pareto": {
            "fixed": [
                [t + 1, float((activity.outputs[t].argmax(-1) == labels).double().mean()), float(operations[t].mean())]
                for t in range(steps)
            ],
            "confidence": _front(activity, operations, labels),
            "oracle": [bound.mean_steps, bound.accuracy],
        },
        "raster": _raster(network, x[:1], steps),
    }


def _front(activity: Activity, operations: Tensor, labels: Tensor) -> list[list[float]]:
    rows: list[list[float]] = []
    last = activity.outputs[-1]
    if bool((last == last[:, :1]).all()):  # a silent network is never sure of anything
        return rows
    for point in pareto_front(activity.outputs, labels, limit=25):
        at = decide(point.rule, activity.outputs).steps - 1
        rows.append([point.mean_steps, point.accuracy, float(operations.gather(0, at[None]).mean())])
    return rows


def _raster(network: Network, x: np.ndarray, steps: int) -> dict[str, Any]:
    """Spike times (steps from 1) of evenly spread units of the last spiking layer, for one sample."""
    neurons = graph_of(network).of_operator("neuron")
    if not neurons:
        return {"layer": "", "units": 0, "steps": steps, "times": []}
    neuron = neurons[-1]
    seen: list[Tensor] = []

    def observe(node: str, values: Tensor) -> None:
        if node == neuron.name:
            seen.append(values)

    engine = engine_of(network, max_steps=steps)
    block = torch.from_numpy(x)
    state = engine.start(block)
    for done in range(0, steps, engine.chunk):
        _, state = engine.advance(block, state, min(engine.chunk, steps - done), observe)
    spikes = sent(neuron, torch.cat(seen)[:steps])[:, 0].flatten(1)
    units = torch.linspace(0, spikes.shape[1] - 1, min(RASTER_UNITS, spikes.shape[1])).long()
    times = [((spikes[:, unit] != 0).nonzero().squeeze(1) + 1).tolist() for unit in units]
    return {"layer": neuron.name, "units": len(units), "steps": steps, "times": times}
