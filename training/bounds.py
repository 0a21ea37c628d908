"""Bounds of activations, learned: as low as the network's answers allow, so that fewer faults pass below them.

Weights are frozen.  From the last activation to the first, one bound after the other is lowered by gradient descent
through a smooth fall, and kept where the accuracy with the sharp fall stays.
Source: ProAct (Mousavi et al. 2024, arXiv 2406.06313); ours falls at a share of the bound, as layers differ in scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .._check import RangeError, ShapeError
from ..networks.graph import Graph, Node
from ..networks.operators import OPERATORS
from ..networks.protection import with_bounds
from ..networks.reference import channelwise
from .step import Samples

__all__ = ["BoundFit", "fit_bounds"]

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class BoundFit:
    """How bounds are learned.

    allowed: the share of accuracy that all bounds together may cost on the samples that judge.  pressures: weights of
    the penalty on a bound's square (in units of where it began), tried from the strongest on.  steps: of Adam, before
    each look.  looks: at most so many for each pressure.  sharpness: k of the smooth fall x * sigmoid(k (1 - |x| / b)).
    Raises RangeError for what makes no sense.
    """

    allowed: float = 0.002
    pressures: tuple[float, ...] = (1.0, 0.1, 0.01)
    steps: int = 8
    looks: int = 3
    batch_size: int = 64
    learning_rate: float = 0.02
    sharpness: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        whole = min(self.steps, self.looks, self.batch_size) >= 1
        positive = self.learning_rate > 0 and self.sharpness > 0 and all(value > 0 for value in self.pressures)
        if not (0 <= self.allowed <= 1 and whole and positive and self.pressures):
            raise RangeError(
                f"{self} cannot fit bounds; a share allowed of 0 to 1, at least one pressure, and steps, looks, batch "
                "size, learning rate, sharpness and pressures above 0 were wanted"
            )


def fit_bounds(
    graph: Graph, bounds: Mapping[str, np.ndarray], samples: Samples, how: BoundFit, progress: Progress | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Lower the ``bounds`` of an analog network on labelled samples; returns them, and what it cost.

    Half of the samples lower the bounds, the other half judges whether the accuracy stays.  bounds: where to begin,
    such as ``maximum_bounds``; what is 0 stays so.  The loss is the cross-entropy to the labels and to the answers of
    the network without bounds.  The report: accuracy without and with bounds on the half that judges, and by layer the
    share of the first bound that is left.
    Raises ShapeError for fewer than two samples, and what ``with_bounds`` raises.
    """
    if len(samples) < 2:
        raise ShapeError(f"{len(samples)} samples came to fit bounds on; give some that nothing is measured on")
    with_bounds(graph, bounds)
    work = _Work(graph, samples, how)
    found = {name: torch.tensor(np.asarray(value, np.float32)) for name, value in bounds.items()}
    plain = work.accuracy({})
    least = plain - how.allowed
    order = [node.name for node in reversed(graph.of_operator("activation")) if node.name in found]
    for number, name in enumerate(order):
        work.lower(name, found, least)
        if progress is not None:
            progress("fit bounds", (number + 1) / len(order))
    left = {name: float(found[name].mean() / max(float(np.mean(bounds[name])), 1e-30)) for name in order}
    report = {"accuracy": plain, "bounded_accuracy": work.accuracy(found), "share_left": left}
    return {name: value.numpy() for name, value in found.items()}, report


class _Work:
    """The network with frozen weights, the samples, and what the network says of them without bounds."""

    def __init__(self, graph: Graph, samples: Samples, how: BoundFit) -> None:
        self.graph, self.how = graph, how
        self.generator = torch.Generator().manual_seed(how.seed)
        order = torch.randperm(len(samples), generator=self.generator)
        self.samples, self.judges = samples.take(order[: len(order) // 2]), samples.take(order[len(order) // 2 :])
        self.tensors = {
            node.name: {key: torch.tensor(array) for key, array in node.arrays.items()} for node in graph.nodes
        }
        with torch.no_grad():
            self.answers = torch.cat([self.output(x, {}) for x in self.samples.x.split(how.batch_size)]).softmax(1)

    def output(self, x: Tensor, bounds: Mapping[str, Tensor], soft: str | None = None) -> Tensor:
        """The output (n, classes); one activation may fall smoothly."""
        values: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            inputs = [values[source] for source in node.sources]
            values[node.name] = self._value(node, inputs, bounds, soft) if inputs else x
        return values[self.graph.output.name]

    def _value(self, node: Node, inputs: list[Tensor], bounds: Mapping[str, Tensor], soft: str | None) -> Tensor:
        function, tensors = OPERATORS[node.operator].function, self.tensors[node.name]
        if function is None:
            return inputs[0]
        if node.name not in bounds:
            return function(node.attributes, tensors, inputs)
        if node.name != soft:
            return function(node.attributes, {**tensors, "bound": bounds[node.name]}, inputs)
        inside = 1 - inputs[0].abs() / channelwise(bounds[node.name], inputs[0]).clamp(min=1e-12)
        return function(node.attributes, tensors, inputs) * torch.sigmoid(self.how.sharpness * inside)

    @torch.no_grad()
    def accuracy(self, bounds: Mapping[str, Tensor]) -> float:
        """Of those that judge, with sharp falls."""
        size = self.how.batch_size
        parts = zip(self.judges.x.split(size), self.judges.y.split(size), strict=True)
        return sum(int((self.output(x, bounds).argmax(1) == y).sum()) for x, y in parts) / len(self.judges)

    def lower(self, name: str, bounds: dict[str, Tensor], least: float) -> None:
        """Lower one bound, and keep it each time that the accuracy is at least ``least``."""
        first = bounds[name]
        share = torch.ones_like(first)
        for pressure in self.how.pressures:
            for _ in range(self.how.looks):
                tried = self._descended(name, first, share, bounds, pressure)
                if torch.equal(tried, share) or self.accuracy({**bounds, name: first * tried}) < least:
                    break
                share = tried
                bounds[name] = first * share

    def _descended(
        self, name: str, first: Tensor, share: Tensor, bounds: Mapping[str, Tensor], pressure: float
    ) -> Tensor:  # fmt: skip
        """The shares of the first bound after some steps."""
        share = share.clone().requires_grad_()
        optimizer = torch.optim.Adam([share], lr=self.how.learning_rate)
        size = min(self.how.batch_size, len(self.samples))
        for _ in range(self.how.steps):
            rows = torch.randperm(len(self.samples), generator=self.generator)[:size]
            output = self.output(self.samples.x[rows], {**bounds, name: first * share}, soft=name)
            loss = functional.cross_entropy(output, self.samples.y[rows])
            loss = loss + functional.cross_entropy(output, self.answers[rows]) + pressure * share.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return share.detach().clamp(0, 1)
