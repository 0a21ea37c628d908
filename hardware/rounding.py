"""Which way weights are rounded, fitted to what arrives: errors that cancel where inputs come together.

For the weights w of an output and inputs with mean m and covariance H, whole q are sought with a small
(w - s q)^T H (w - s q).  Columns are rounded one after the other, those of the largest variance first, and each passes
its error on to those that are still to come.  What is left on average, (w - s q)^T m, is for the bias to take over.
An input is the mean of what a place sends in the window: what spikes add up to decides, not their order.
Sources: Frantar et al. 2022 (arXiv 2210.17323), after Hassibi and Stork 1992; biases: Nagel et al. 2019 (1906.04721).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..networks.engine import Engine, Observer
from ..networks.graph import Graph, Node
from ..networks.outputs import outputs_of
from ..networks.recorded import RecordedEngine
from .quantise import rounded

__all__ = ["Moments", "input_moments", "rounded_to_inputs"]

PLACES = 32  # of an image, drawn once: neighbours tell much the same
WIDEST = 4096  # columns; a covariance beyond that costs more than it gains
_DAMPING = 0.01  # of the mean variance: what was never seen is rounded to the nearest


class Moments(NamedTuple):
    """Of what a synapse reads, by group of channels: mean (groups, columns), covariance (groups, columns, columns).

    Without a covariance weights are rounded to the nearest, and only the mean current is kept.
    """

    mean: np.ndarray
    covariance: np.ndarray | None

    def over(self, unit: np.ndarray) -> "Moments":
        """The moments of the inputs divided by ``unit`` (groups, columns)."""
        if self.covariance is None:
            return Moments(self.mean / unit, None)
        return Moments(self.mean / unit, self.covariance / (unit[:, :, None] * unit[:, None, :]))


def input_moments(graph: Graph, x: np.ndarray, steps: int, *, covariance: bool = True) -> dict[str, Moments]:
    """The moments of what each linear and convolution reads for the samples x (n, *features), or (n, steps, *features).

    A spiking ``graph`` runs ``steps`` steps.  covariance: False for the means alone; layers of more than 4096 columns
    have no more than these.
    """
    layers = [node for node in graph.nodes if node.operator in ("linear", "conv1d", "conv2d")]
    watched = _Watch(layers, covariance)
    constant = x.shape[1:] == graph.shapes[graph.input.name]
    engine = Engine(graph, max_steps=steps, constant_input=constant)
    classes = graph.shapes[graph.output.name]
    outputs_of(engine if constant else RecordedEngine(engine), classes, x, steps, observe=watched.batch)
    watched.finish()
    return {name: each.moments() for name, each in watched.sums.items()}


class _Watch:
    """Adds up what layers read, a batch at a time."""

    def __init__(self, layers: list[Node], covariance: bool) -> None:
        self.layers = layers
        self.sums = {node.name: _Sums(covariance and node.arrays["weight"][0].size <= WIDEST) for node in layers}
        self.seen: dict[str, tuple[Tensor, int]] = {node.sources[0]: (torch.zeros(()), 0) for node in layers}

    def batch(self, first: int) -> Observer:
        """The observer of the batch that begins at sample ``first``."""
        self.finish()
        return self.observe

    def observe(self, name: str, values: Tensor) -> None:
        """Take what a node gives: (steps, batch, *features), or (1, batch, *features) once for the window."""
        if name in self.seen:
            total, rows = self.seen[name]
            self.seen[name] = total + values.sum(0), rows + len(values)

    def finish(self) -> None:
        """Add the means of the batch that is done."""
        means = {name: total / rows for name, (total, rows) in self.seen.items() if rows}
        for node in self.layers:
            if node.sources[0] in means:
                self.sums[node.name].add(_columns(node, means[node.sources[0]]).double().numpy())
        self.seen = {name: (torch.zeros(()), 0) for name in self.seen}


class _Sums:
    """The count, sum and, if wanted, products of rows of (groups, rows, columns)."""

    def __init__(self, products: bool) -> None:
        self.count = 0
        self.total: np.ndarray | float = 0.0
        self.products: np.ndarray | float | None = 0.0 if products else None

    def add(self, rows: np.ndarray) -> None:
        """Add rows (groups, rows, columns)."""
        self.count += rows.shape[1]
        self.total = self.total + rows.sum(1)
        if self.products is not None:
            self.products = self.products + rows.transpose(0, 2, 1) @ rows

    def moments(self) -> Moments:
        """Mean and covariance of all rows so far."""
        mean = np.asarray(self.total) / self.count
        if self.products is None:
            return Moments(mean, None)
        return Moments(mean, np.asarray(self.products) / self.count - mean[:, :, None] * mean[:, None, :])


def _columns(node: Node, x: Tensor) -> Tensor:
    """What meets the weights of one output at some places: (groups, rows, columns) of x (n, *features)."""
    if node.operator == "linear":
        return x.reshape(1, -1, x.shape[-1])
    flat = len(node.attributes["stride"]) == 1
    image = x.unsqueeze(2) if flat else x
    size = node.arrays["weight"].shape[2:]
    kernel, stride, padding, dilation = (
        (fill, *each)[-2:]
        for fill, each in zip(
            (1, 1, 0, 1), (size, *(node.attributes[key] for key in ("stride", "padding", "dilation"))), strict=True
        )
    )
    patches = functional.unfold(image, kernel, dilation, padding, stride)  # (n, channels * kernel, places)
    chosen = torch.randperm(patches.shape[2], generator=torch.Generator().manual_seed(0))[:PLACES]
    groups = node.attributes["groups"]
    patches = patches[:, :, chosen].reshape(len(x), groups, -1, len(chosen))
    return patches.permute(1, 0, 3, 2).flatten(1, 2)


def rounded_to_inputs(rows: np.ndarray, scale: np.ndarray, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers q for rows (outputs, columns) with a scale each, and what the bias has to take over (outputs,).

    Outputs are spread evenly over the groups, in order.
    """
    groups = len(moments.mean)
    split = rows.reshape(groups, -1, rows.shape[1])
    scales = np.broadcast_to(scale, len(rows)).reshape(groups, -1)
    if moments.covariance is None:
        q = rounded(rows, np.reshape(scale, (-1, 1)))
    else:
        q = np.concatenate([_one_group(*each) for each in zip(split, scales, moments.covariance, strict=True)])
    left = (rows - np.reshape(scale, (-1, 1)) * q).reshape(split.shape)
    return q, np.einsum("grc,gc->gr", left, moments.mean).reshape(-1)


def _one_group(rows: np.ndarray, scale: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Column by column; ``after`` is the upper Cholesky factor of the inverse covariance, in the order of rounding."""
    variance = np.diag(covariance)
    if not variance.max() > 0:
        return rounded(rows, scale[:, None])
    order = np.argsort(-variance, kind="stable")
    damped = covariance + np.diag(np.full(len(variance), _DAMPING * variance.mean()))
    after = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    rest, q = rows[:, order].astype(np.float64), np.empty(rows.shape)
    for column in range(rest.shape[1]):
        whole = rounded(rest[:, column], scale)
        error = (rest[:, column] - scale * whole) / after[column, column]
        rest[:, column + 1 :] -= error[:, None] * after[column, column + 1 :]
        q[:, order[column]] = whole
    return q
