"""Biases by step: let the mean output of each spiking channel meet the mean activation at every step, not at the end.

In the first steps a layer reads too few spikes, as layers before it still fill; later it reads some too many.  A bias
that is the same at all steps, and a start of the membrane, can mend the sum; the steps themselves need their own.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..networks.engine import Engine, constant_nodes
from ..networks.graph import Edge, Graph, Node, make_node
from .correct import ELEMENTS, mean_activations
from .rewrite import fresh, rebuilt
from .statistics import by_channel, channel_axis

__all__ = ["step_corrected"]

ROUNDS, DAMPING = 8, 0.5
SAMPLES = 512


def step_corrected(graph: Graph, analog: Graph, x: np.ndarray, timesteps: int) -> Graph:
    """The spiking Graph with a ``step_bias`` before each neuron layer that reads spikes.

    beta[t] <- beta[t] + DAMPING * (mean(activation) - theta * mean(s[t])), over samples and places of a channel, for
    all t, some rounds for each layer, from the first layer to the last: each is calibrated on the spikes of layers that
    are calibrated already.  A layer that reads the constant input has nothing to wait for and stays as it is.
    After ``timesteps`` steps the biases are 0: what every step needs is a matter of the constant bias (see
    ``corrected``), and a sample that stops early has got the same biases up to there.
    Differential neurons, whose values are not sums over steps, stay as they are.
    Source: Wu et al. 2024 (arXiv 2403.18388), forward temporal bias correction; here no test sample chooses the round.
    """
    biggest = max(int(np.prod(shape)) for shape in graph.shapes.values())
    block = np.ascontiguousarray(x[: int(np.clip(ELEMENTS // (biggest * timesteps), 1, SAMPLES))])
    wanted, fixed = mean_activations(analog, block), constant_nodes(graph)
    engine = Engine(graph, max_steps=timesteps)
    found: dict[str, Tensor] = {}

    def give(node: Node, inputs: list[Tensor]) -> Tensor | None:
        if node.operator != "neuron" or node.attributes["code"] == "differential" or node.sources[0] in fixed:
            return None
        if channel_axis(graph, node):  # of a sequence of tokens: step biases are by the first axis
            return None
        current = inputs[0].expand(timesteps, *inputs[0].shape[1:])
        bias = found[node.name] = _biases(graph, engine, node, current, wanted[node.name])
        return engine.neuron_sequence(node, current + _over_channels(bias, current), timesteps)

    engine.walk(torch.from_numpy(block), timesteps, give)
    return _inserted(graph, found)


def _biases(graph: Graph, engine: Engine, node: Node, current: Tensor, wanted: Tensor) -> Tensor:
    """Beta: (steps, channels)."""
    axis = channel_axis(graph, node)
    steps, theta = len(current), torch.from_numpy(node.arrays["threshold"].copy())
    bias = torch.zeros(steps, len(wanted))
    for _ in range(ROUNDS):
        spikes = engine.neuron_sequence(node, current + _over_channels(bias, current), steps)
        if theta.ndim > 1:
            spikes = spikes * theta
        said = torch.stack([by_channel(step[None], axis).mean(1) for step in spikes])
        bias += DAMPING * (wanted - (said if theta.ndim > 1 else theta * said))
    return bias


def _over_channels(bias: Tensor, current: Tensor) -> Tensor:
    return bias.reshape(len(bias), 1, -1, *([1] * (current.ndim - 3)))


def _inserted(graph: Graph, biases: Mapping[str, Tensor]) -> Graph:
    nodes = list(graph.nodes)
    for name, bias in biases.items():
        node = graph.by_name[name]
        added = make_node(fresh(graph, f"{name}.step_bias"), "step_bias", node.inputs, arrays={"values": bias.numpy()})
        reads = make_node(name, "neuron", [Edge(added.name)], arrays=node.arrays, **node.attributes)
        nodes = [reads if each.name == name else each for each in nodes] + [added]
    return rebuilt(graph, nodes)
