"""What became of each layer: thresholds, agreement of rates, dead and saturated units, spikes and operations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.activity import ActivityMeter, analog_synapses
from ..networks.engine import Engine
from ..networks.graph import Graph, Node

SATURATED = 0.99  # spikes a step


class _Counts:
    """Net spikes of each unit over the window."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.net: dict[str, Tensor] = {}

    def observe(self, name: str, values: Tensor) -> None:
        if name in self._names:
            self.net[name] = self.net.get(name, torch.zeros(())) + values.sum(0)


def layer_rows(
    spiking: Graph, analog: Graph | None, x: np.ndarray, timesteps: int, *, chunk: int = 4
) -> list[dict[str, Any]]:
    """One JSON row for each spiking layer, measured on x (n, *features) over ``timesteps`` steps.

    analog: the network that it was converted from, or None, and then there is nothing for the rates to agree with.

    rate_correlation: Pearson, of analog activation against theta * spikes / T, over samples and units (None if either
    is constant).  rate_error: mean |difference| / mean |activation|.  dead: units without a spike on any sample.
    saturated: share of samples and units with at least 0.99 spikes a step.
    """
    neurons = spiking.of_operator("neuron")
    block = torch.from_numpy(np.ascontiguousarray(x))
    activations: dict[str, Tensor] = {}
    if analog is not None:
        Engine(analog, max_steps=1).start(block, lambda name, values: activations.update({name: values[0]}))
    engine = Engine(spiking, max_steps=timesteps, chunk=chunk)
    meter, counts = ActivityMeter(spiking), _Counts({node.name for node in neurons})
    state = engine.start(block)

    def observe(name: str, values: Tensor) -> None:
        meter.observe(name, values)
        counts.observe(name, values)

    for done in range(0, timesteps, engine.chunk):
        _, state = engine.advance(block, state, min(engine.chunk, timesteps - done), observe)
    multiplies = _multiplies_before(spiking)
    return [
        {
            **_described(node, None if analog is None else analog.by_name[node.name], spiking),
            **_agreement(node, activations.get(node.name), counts.net[node.name] / timesteps),
            "spikes_per_sample": float(meter.spikes[node.name].sum(0).mean()),
            "accumulates_per_sample": float(meter.accumulates[node.name].sum(0).mean()),
            "multiply_accumulates_per_sample": multiplies.get(node.name, 0),
        }
        for node in neurons
    ]


def _described(node: Node, source: Node | None, graph: Graph) -> dict[str, Any]:
    theta = node.arrays["threshold"]
    return {
        "name": node.name,
        "source": "trained with spikes" if source is None else _activation_name(source),
        "became": f"{node.attributes['code']} integrate-and-fire, {theta.size} threshold{'s' * (theta.size > 1)}",
        "neurons": int(np.prod(graph.shapes[node.name])),
        "threshold": {"min": float(theta.min()), "mean": float(theta.mean()), "max": float(theta.max())},
    }


def _activation_name(node: Node) -> str:
    cut, levels = node.attributes["maximum"], node.attributes["levels"]
    if levels is not None:
        return f"ReLU in {levels} levels"
    return "ReLU" if cut is None else f"ReLU cut at {cut:g}"


def _agreement(node: Node, a: Tensor | None, spikes_per_step: Tensor) -> dict[str, Any]:
    shares = {
        "dead_fraction": float((spikes_per_step == 0).all(0).float().mean()),
        "saturated_fraction": float((spikes_per_step >= SATURATED).float().mean()),
    }
    if a is None:
        return {"rate_correlation": None, "rate_error": None, **shares}
    theta = torch.tensor(node.arrays["threshold"])
    rate = spikes_per_step * theta.reshape(-1, *([1] * (a.ndim - 2)))
    pair = torch.stack([a.flatten(), rate.flatten()]).double()
    constant = bool((pair.std(1) == 0).any())
    return {
        "rate_correlation": None if constant else float(torch.corrcoef(pair)[0, 1]),
        "rate_error": float((pair[0] - pair[1]).abs().mean() / pair[0].abs().mean().clamp(min=1e-12)),
        **shares,
    }


def _multiplies_before(graph: Graph) -> Mapping[str, int]:
    """Multiply-accumulates a sample of synapses that read analog values, by the first neuron layer after them."""
    found: dict[str, int] = {}
    for name, count in analog_synapses(graph).items():
        reader = name
        while graph.consumers[reader] and graph.by_name[reader].operator != "neuron":
            reader = graph.consumers[reader][0]
        found[reader] = found.get(reader, 0) + count
    return found
