"""What became of each layer: thresholds, agreement of rates, dead and saturated units, spikes and operations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.activity import ActivityMeter, analog_functions, analog_synapses, sent
from ..networks.engine import Engine, constant_nodes
from ..networks.graph import Graph, Node
from ..networks.outputs import Observed
from ..networks.reference import channelwise

SATURATED = 0.99  # of the spikes that a unit can send in a step


class _Counts:
    """Net spikes of each unit over the window, and what a unit has said by its end."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = {node.name: node for node in graph.of_operator("neuron")}
        self.net: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}

    def observe(self, name: str, values: Tensor) -> None:
        if name in self._nodes:
            spikes = sent(self._nodes[name], values, self.last.get(name))
            self.net[name] = self.net.get(name, torch.zeros(())) + spikes.sum(0)
            self.last[name] = values[-1]

    def said(self, name: str, steps: int) -> Tensor:
        """The mean activation over the window that the spikes stand for, or the decoded value at its end."""
        node = self._nodes[name]
        if node.attributes["code"] == "differential":
            return self.last[name]
        return self.net[name] / steps * channelwise(torch.tensor(node.arrays["threshold"]), self.net[name])


def layer_rows(
    spiking: Graph, analog: Graph | None, x: np.ndarray, timesteps: int, *, engine: Observed | None = None
) -> list[dict[str, Any]]:
    """One JSON row for each spiking layer, measured on x (n, *features) over ``timesteps`` steps.

    engine: what runs the network; by default one of constant inputs.
    analog: the network that it was converted from, or None, and then there is nothing for the rates to agree with.

    rate_correlation: Pearson, of analog activation against theta * spikes / T (differential: the decoded value at T),
    over samples and units (None if either is constant).  rate_error: mean |difference| / mean |activation|.
    dead: units without a spike on any sample.  saturated: share of samples and units that send at least 0.99 of the
    spikes that fit into the window; None for differential spikes, which clip nothing.
    """
    neurons = spiking.of_operator("neuron")
    block = torch.from_numpy(np.ascontiguousarray(x))
    activations: dict[str, Tensor] = {}
    if analog is not None:
        Engine(analog, max_steps=1).start(block, lambda name, values: activations.update({name: values[0]}))
    engine = engine or Engine(spiking, max_steps=timesteps)
    meter, counts = ActivityMeter(spiking), _Counts(spiking)
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
            **_shares(node, counts.net[node.name] / timesteps),
            **_agreement(activations.get(node.name), counts.said(node.name, timesteps)),
            "spikes_per_sample": float(meter.spikes[node.name].sum(0).mean()),
            "payload_bits_per_sample": float(meter.payload[node.name].sum(0).mean()),
            "accumulates_per_sample": float(meter.accumulates[node.name].sum(0).mean()),
            "multiply_accumulates_per_sample": multiplies.get(node.name, 0),
        }
        for node in neurons
    ]


def analog_rows(graph: Graph, timesteps: int) -> list[dict[str, Any]]:
    """One JSON row for each node that is evaluated on whole values, with its operations a sample over all steps.

    See ``analog_functions`` for what an operation is; what follows from a constant input alone is evaluated once.
    """
    fixed = constant_nodes(graph)
    return [
        {
            "name": name,
            "operator": graph.by_name[name].attributes.get("function", graph.by_name[name].operator),
            "evaluations": 1 if name in fixed else timesteps,
            "operations_per_sample": count * (1 if name in fixed else timesteps),
        }
        for name, count in analog_functions(graph).items()
    ]


def analog_operations(graph: Graph, timesteps: int) -> int:
    """The operations a sample of all ``analog_rows``."""
    return sum(row["operations_per_sample"] for row in analog_rows(graph, timesteps))


def _described(node: Node, source: Node | None, graph: Graph) -> dict[str, Any]:
    theta = node.arrays["threshold"]
    return {
        "name": node.name,
        "source": "trained with spikes" if source is None else _activation_name(source),
        "became": f"{_kind(node)}, {theta.size} threshold{'s' * (theta.size > 1)}",
        "neurons": int(np.prod(graph.shapes[node.name])),
        "threshold": {"min": float(theta.min()), "mean": float(theta.mean()), "max": float(theta.max())},
    }


def _kind(node: Node) -> str:
    code, levels = node.attributes["code"], node.attributes["levels"]
    return f"{code} integrate-and-fire" + (f" in {levels} levels" if levels > 1 else "")


def _activation_name(node: Node) -> str:
    cut, levels = node.attributes["maximum"], node.attributes["levels"]
    if node.attributes["function"] == "identity":
        return "a value before synapses"
    if levels is not None:
        return f"ReLU in {levels} levels"
    return "ReLU" if cut is None else f"ReLU cut at {cut:g}"


def _shares(node: Node, spikes_per_step: Tensor) -> dict[str, float | None]:
    full = SATURATED * node.attributes["levels"]
    clips = node.attributes["code"] != "differential"
    return {
        "dead_fraction": float((spikes_per_step == 0).all(0).float().mean()),
        "saturated_fraction": float((spikes_per_step >= full).float().mean()) if clips else None,
    }


def _agreement(a: Tensor | None, said: Tensor) -> dict[str, Any]:
    if a is None:
        return {"rate_correlation": None, "rate_error": None}
    pair = torch.stack([a.flatten(), said.flatten()]).double()
    constant = bool((pair.std(1) == 0).any())
    return {
        "rate_correlation": None if constant else float(torch.corrcoef(pair)[0, 1]),
        "rate_error": float((pair[0] - pair[1]).abs().mean() / pair[0].abs().mean().clamp(min=1e-12)),
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
