"""Bias correction: layer by layer, let the mean rate of each spiking channel meet the mean activation it stands for.

A spiking layer reads spikes, not activations, and so its mean is a little off even where thresholds are right.  The
difference of the means, by channel, goes into the neuron's bias.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..networks.graph import Graph, Node
from ..networks.run import Engine
from .rewrite import mapped, with_arrays
from .statistics import by_channel

ELEMENTS = 1 << 26  # of the largest value held over the whole window (256 MiB of float32)
PASSES = 4


def corrected(spiking: Graph, analog: Graph, x: np.ndarray, timesteps: int, *, passes: int = PASSES) -> Graph:
    """The spiking Graph with b <- b + mean(activation) - theta * mean(spikes) applied from the first layer to the last.

    A layer is corrected on the spikes of layers that are corrected already; each of ``passes`` batches of x moves the
    bias by the remaining difference over its number, so that the last one is the mean over all.
    Source: Li et al. 2021 (arXiv 2106.06984), the "light pipeline", equation for the bias.
    """
    biggest = max(int(np.prod(shape)) for shape in spiking.shapes.values())
    size = int(np.clip(ELEMENTS // (biggest * timesteps), 1, max(1, len(x) // passes)))
    graph = spiking
    for index in range(min(passes, len(x) // size)):
        block = np.ascontiguousarray(x[index * size : (index + 1) * size])
        graph = _one_pass(graph, analog, block, timesteps, 1.0 / (index + 1))
    return graph


def _one_pass(graph: Graph, analog: Graph, x: np.ndarray, timesteps: int, rate: float) -> Graph:
    wanted = _mean_activations(analog, x)
    engine = Engine(graph, max_steps=timesteps)
    biases: dict[str, np.ndarray] = {}

    def give(node: Node, inputs: list[Tensor]) -> Tensor | None:
        if node.operator != "neuron":
            return None
        theta = torch.from_numpy(node.arrays["threshold"].copy())
        spikes = engine.neuron_sequence(node, inputs[0], timesteps)
        missing = wanted[node.name] - theta * by_channel(spikes).mean(1)
        biases[node.name] = node.arrays["bias"] + rate * missing.numpy()
        return engine.neuron_sequence(with_arrays(node, bias=biases[node.name]), inputs[0], timesteps)

    engine.walk(torch.from_numpy(x), timesteps, give)
    return mapped(graph, lambda node: with_arrays(node, bias=biases[node.name]), biases)


def _mean_activations(analog: Graph, x: np.ndarray) -> Mapping[str, Tensor]:
    means: dict[str, Tensor] = {}

    def observe(name: str, values: Tensor) -> None:
        if analog.by_name[name].operator == "activation":
            means[name] = by_channel(values).mean(1)

    Engine(analog, max_steps=1).start(torch.from_numpy(x), observe)
    return means
