"""What the activations of a network look like on the calibration data: one histogram a channel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..networks.engine import Engine
from ..networks.graph import Graph, Node

BINS = 2048
BATCH = 32
TINY = 1e-30  # below it a channel is dead: weight decay leaves such weights, and their inverse is no float32
SAMPLES = 256  # of the calibration data that a histogram sees: some 10^5 values a channel of a convolution


@dataclass(frozen=True)
class Histogram:
    """Activations a above 0 of one node, by channel (by unit after a linear layer); sizes |a| where signs may differ.

    maximum: (channels,), 0 where a channel never was active.  counts: (channels, BINS) over (0, maximum];
    bin b is centred on (b + 1/2) / BINS * maximum.  total: values seen a channel, zeros included.
    """

    maximum: np.ndarray
    counts: np.ndarray
    total: int

    def percentile(self, percent: float) -> np.ndarray:
        """The value that ``percent`` % of all values of a channel, zeros included, do not exceed: (channels,)."""
        zeros = self.total - self.counts.sum(1, keepdims=True)
        reached = zeros + np.cumsum(self.counts, 1) >= percent / 100 * self.total - 1e-9
        edge = (np.argmax(reached, 1) + 1) / BINS
        return np.asarray(np.where(reached.any(1), edge, 1.0) * self.maximum)

    def mean(self) -> np.ndarray:
        """The mean of all values of a channel, zeros included: (channels,)."""
        centres = (np.arange(BINS) + 0.5) / BINS
        return np.asarray(self.counts @ centres * self.maximum / max(self.total, 1))


def activation_histograms(graph: Graph, x: np.ndarray) -> Mapping[str, Histogram]:
    """Histograms of every activation node of ``graph`` over x (n, *features).

    Raises RangeError for a value that is not finite, SpikeportError for an empty x.
    """
    if len(x) == 0:
        raise SpikeportError("there is no calibration data; give at least one sample")
    x = x[:SAMPLES]
    nodes = graph.of_operator("activation")
    maxima = {node.name: torch.zeros(channels(graph, node)) for node in nodes}

    def widen(name: str, values: Tensor) -> None:
        sizes = by_channel(values.abs(), channel_axis(graph, graph.by_name[name]))
        maxima[name] = torch.maximum(maxima[name], sizes.amax(1))

    watch(graph, x, widen)
    bad = [name for name, maximum in maxima.items() if not torch.isfinite(maximum).all()]
    if bad:
        raise RangeError(f"activations of {bad} are not finite on the calibration data; check its scale")
    maxima = {name: torch.where(maximum > TINY, maximum, 0.0) for name, maximum in maxima.items()}
    counts = {name: torch.zeros(len(maximum), BINS) for name, maximum in maxima.items()}

    def count(name: str, values: Tensor) -> None:
        sizes = by_channel(values.abs(), channel_axis(graph, graph.by_name[name]))
        counts[name] += _counted(sizes, maxima[name])

    watch(graph, x, count)
    return {
        node.name: Histogram(
            maxima[node.name].double().numpy(),
            counts[node.name].double().numpy(),
            len(x) * int(np.prod(graph.shapes[node.name])) // channels(graph, node),
        )
        for node in nodes
    }


def _counted(values: Tensor, maximum: Tensor) -> Tensor:
    """Counts (channels, BINS) of the positive values (channels, n)."""
    scale = torch.where(maximum > 0, BINS / maximum, torch.zeros_like(maximum)).unsqueeze(1)
    bins = (values * scale).ceil().sub_(1).clamp_(-1, BINS - 1).long() + 1  # 0 holds what is not positive
    offsets = torch.arange(len(maximum)).unsqueeze(1) * (BINS + 1)
    flat = torch.bincount((bins + offsets).flatten(), minlength=len(maximum) * (BINS + 1))
    return flat.reshape(len(maximum), BINS + 1)[:, 1:].float()


def channels(graph: Graph, node: Node) -> int:
    """Channels of a node's value, or its units where it has no other axis."""
    return graph.shapes[node.name][channel_axis(graph, node)]


def channel_axis(graph: Graph, node: Node) -> int:
    """The feature axis of the channels: the first, but the last of a sequence of tokens, which linear layers read.

    Scales are looked through: a spiking Graph has them where the analog one has none.
    """
    return len(graph.shapes[node.name]) - 1 if _feeds_linear(graph, node.name) else 0


def _feeds_linear(graph: Graph, name: str) -> bool:
    readers = [graph.by_name[reader] for reader in graph.consumers[name]]
    return any(
        reader.operator == "linear" or (reader.operator == "scale" and _feeds_linear(graph, reader.name))
        for reader in readers
    )


def by_unit(graph: Graph, node: Node, array: np.ndarray) -> np.ndarray:
    """An array by channel as a neuron node takes it: (channels,) along the first axis, else of the whole shape."""
    array = np.asarray(array, np.float32)
    if array.ndim == 1 and channel_axis(graph, node):
        return np.broadcast_to(array, graph.shapes[node.name])
    return array


def by_channel(values: Tensor, axis: int = 0) -> Tensor:
    """(rows, batch, *features) -> (channels, everything else); axis: of the channels among the features."""
    return values.movedim(axis + 2, 0).reshape(values.shape[axis + 2], -1)


def watch(graph: Graph, x: np.ndarray, see: Callable[[str, Tensor], None]) -> None:
    """Run the analog network over x and show ``see`` the value of each activation node."""
    wanted = {node.name for node in graph.of_operator("activation")}
    engine = Engine(graph, max_steps=1)

    def observe(name: str, values: Tensor) -> None:
        if name in wanted:
            see(name, values)

    for first in range(0, len(x), BATCH):
        engine.start(torch.from_numpy(np.ascontiguousarray(x[first : first + BATCH])), observe)
