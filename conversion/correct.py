"""Mean correction: layer by layer, let the mean output of each spiking channel meet the mean activation it stands for.

A spiking layer reads spikes, not activations, and so its mean is a little off even where thresholds are right.  By
the end of t steps the output of a channel lacks D(t) = t * mean(activation) - theta * mean(sum of spikes).  What grows
with every step (clipping, say) is mended by the bias; what is lost once (spikes that come late, because layers before
it first have to fill) by the initial membrane.  D(t) = once + t * rate is read off at T / 2 and T.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..networks.engine import Engine
from ..networks.graph import Graph, Node
from .rewrite import mapped, with_arrays
from .statistics import by_channel, by_unit, channel_axis

ELEMENTS = 1 << 26  # of the largest value held over the whole window (256 MiB of float32)
PASSES = 4


def corrected(spiking: Graph, analog: Graph, x: np.ndarray, timesteps: int, *, passes: int = PASSES) -> Graph:
    """The spiking Graph with bias <- bias + rate and initial <- initial + once, from the first layer to the last.

    A layer is corrected on the spikes of layers that are corrected already; the k-th of ``passes`` batches of x moves
    both by 1 / k of what still is missing, so that in the end the mean over all batches counts.
    Source: Li et al. 2021 (arXiv 2106.06984), the "light pipeline", for bias and initial potential; the separation of
    the two by their growth in time is ours.
    """
    biggest = max(int(np.prod(shape)) for shape in spiking.shapes.values())
    size = int(np.clip(ELEMENTS // (biggest * timesteps), 1, max(1, len(x) // passes)))
    graph = spiking
    for index in range(min(passes, len(x) // size)):
        block = np.ascontiguousarray(x[index * size : (index + 1) * size])
        graph = _one_pass(graph, analog, block, timesteps, 1.0 / (index + 1))
    return graph


def _one_pass(graph: Graph, analog: Graph, x: np.ndarray, timesteps: int, share: float) -> Graph:
    wanted = mean_activations(analog, x)
    engine = Engine(graph, max_steps=timesteps)
    found: dict[str, Node] = {}

    def give(node: Node, inputs: list[Tensor]) -> Tensor | None:
        if node.operator != "neuron":
            return None
        spikes, axis = engine.neuron_sequence(node, inputs[0], timesteps), channel_axis(graph, node)
        missing = _missing(node, spikes, wanted[node.name], axis)
        once, rate = (by_unit(graph, node, part) for part in missing)
        arrays = {"bias": node.arrays["bias"] + share * rate, "initial": node.arrays["initial"] + share * once}
        found[node.name] = with_arrays(node, **arrays)
        return engine.neuron_sequence(found[node.name], inputs[0], timesteps)

    engine.walk(torch.from_numpy(x), timesteps, give)
    return mapped(graph, lambda node: found[node.name], found)


def _missing(node: Node, spikes: Tensor, activation: Tensor, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """What a channel's output lacks once, and at every step, in units of the membrane: (channels,) each.

    Of differential spikes, which give the decoded value, it is what that lacks at the end.
    """
    steps, theta = len(spikes), torch.from_numpy(node.arrays["threshold"].copy())
    if node.attributes["code"] == "differential":
        return np.zeros((), np.float32), (activation - by_channel(spikes[-1:], axis).mean(1)).numpy()
    if theta.ndim > 1:  # by unit: their sizes go into the mean
        spikes, theta = spikes * theta, torch.ones(())
    half = steps // 2
    by_half = half * activation - theta * half * by_channel(spikes[:half], axis).mean(1) if half else torch.zeros(())
    by_end = steps * activation - theta * steps * by_channel(spikes, axis).mean(1)
    rate = (by_end - by_half) / (steps - half)
    return (by_end - steps * rate).numpy(), rate.numpy()


def mean_activations(analog: Graph, x: np.ndarray) -> Mapping[str, Tensor]:
    """The mean of every channel of each activation over samples x (n, *features) and places: (channels,)."""
    means: dict[str, Tensor] = {}

    def observe(name: str, values: Tensor) -> None:
        if analog.by_name[name].operator == "activation":
            means[name] = by_channel(values, channel_axis(analog, analog.by_name[name])).mean(1)

    Engine(analog, max_steps=1).start(torch.from_numpy(x), observe)
    return means
