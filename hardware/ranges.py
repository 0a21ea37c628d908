"""Proven ranges: how far every value and state of a network can go within a number of steps, from its weights alone.

Intervals go through the operators, each of which is monotone once its weights are split by sign.  They are bounds, not
estimates: no input within the stated range leaves them.  On whole numbers below 2^53 the computation is exact.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._check import UnsupportedError
from ..networks.graph import Graph, Node
from ..networks.operators import OPERATORS

__all__ = ["Interval", "state_interval", "value_intervals"]

_SPLIT = {"weight", "factor"}


class Interval(NamedTuple):
    """Lowest and highest value of each unit, float64."""

    low: np.ndarray
    high: np.ndarray

    @property
    def largest(self) -> np.ndarray:
        """The largest magnitude of each unit."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))


def value_intervals(graph: Graph, low: float, high: float, steps: int) -> Mapping[str, Interval]:
    """The interval of each node's value at any of ``steps`` steps, for inputs between ``low`` and ``high``.

    Raises UnsupportedError for a loop of values that no neuron interrupts: it has no bound of its own.
    """
    return _Walk(graph, low, high, steps).all()


def state_interval(node: Node, current: Interval, steps: int) -> Interval:
    """The interval of a neuron's membrane before its reset, over ``steps`` steps of currents in ``current``.

    A spike takes a threshold away and only from a membrane that has reached it, so the lower end falls by the lowest
    current alone; the upper end grows by what the highest current exceeds the most that the spikes of a step take.
    """
    shape = current.low.shape
    arrays = {key: _spread(np.asarray(array, np.float64), shape) for key, array in node.arrays.items()}
    beta, theta = arrays.get("beta", np.ones(shape)), arrays["threshold"]
    low_in, high_in = current.low + arrays["bias"], current.high + arrays["bias"]
    low = high = arrays["initial"].copy()
    lowest, highest = low, high
    most = theta * (node.attributes["levels"] if node.attributes["code"] == "graded" else 1)
    for step in range(steps):
        tested = step or node.attributes["late"]  # an initial membrane meets its first test after the first current
        before = _after_reset(node, high, most, theta) if tested else high
        low = np.minimum(low, 0) * beta + low_in
        high = np.where(beta < 1, np.maximum(before * beta, 0), before) + high_in  # whole numbers decay toward zero
        if node.attributes["late"]:  # the decay is of what has not been taken away yet
            low = np.minimum(low, low_in + np.floor(theta * beta) - theta)
        lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
    return Interval(lowest, highest)


def _after_reset(node: Node, high: np.ndarray, most: np.ndarray, theta: np.ndarray) -> np.ndarray:
    reset = node.attributes["reset"]
    if reset == "none":
        return high
    below = theta if node.attributes["code"] == "signed" else np.minimum(high, theta)  # it has not fired, or took back
    return below if reset == "zero" else np.maximum(below, high - most)


def _spread(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.ndim in (0, len(shape)):
        return np.broadcast_to(array, shape)
    return np.broadcast_to(array.reshape(-1, *([1] * (len(shape) - 1))), shape)


class _Walk:
    """Intervals found so far; a node is visited when something needs it."""

    def __init__(self, graph: Graph, low: float, high: float, steps: int) -> None:
        self.graph, self.low, self.high, self.steps = graph, low, high, steps
        self.found: dict[str, Interval] = {}
        self.open: set[str] = set()

    def all(self) -> dict[str, Interval]:
        for node in self.graph.nodes:
            self.of(node.name)
        return self.found

    def of(self, name: str) -> Interval:
        if name in self.found:
            return self.found[name]
        if name in self.open:
            raise UnsupportedError("no bound exists for a loop without a neuron", [name])
        self.open.add(name)
        node = self.graph.by_name[name]
        shape = self.graph.shapes[name]
        if node.operator == "input":
            value = Interval(np.full(shape, float(self.low)), np.full(shape, float(self.high)))
        elif node.operator == "neuron":
            code, levels = node.attributes["code"], node.attributes["levels"]
            value = Interval(
                np.full(shape, -1.0 if code == "signed" else 0.0),
                np.full(shape, float(levels) if code == "graded" else 1.0),
            )
        else:
            value = self._computed(node)
        self.found[name] = value
        self.open.discard(name)
        return value

    def _computed(self, node: Node) -> Interval:
        inputs = []
        for edge in node.inputs:
            low, high = self.of(edge.source)
            if edge.delay or node.operator == "delay":  # before anything arrives it is 0
                low, high = np.minimum(low, 0), np.maximum(high, 0)
            inputs.append(Interval(low, high))
        if node.operator in ("delay", "output"):
            return inputs[0]
        if node.operator == "synaptic_filter":
            return self._filtered(node, inputs[0])
        return _through(node, inputs)

    def _filtered(self, node: Node, x: Interval) -> Interval:
        alpha = _spread(np.asarray(node.arrays["alpha"], np.float64), x.low.shape)
        grown = np.where(
            alpha < 1, (1 - alpha**self.steps) / np.maximum(1 - alpha, np.finfo(float).tiny), float(self.steps)
        )
        return Interval(np.minimum(x.low, x.low * grown), np.maximum(x.high, x.high * grown))


def _through(node: Node, inputs: list[Interval]) -> Interval:
    lows, highs = ([torch.from_numpy(np.array(x[end]))[None] for x in inputs] for end in (0, 1))
    arrays = {key: torch.from_numpy(np.array(array, np.float64)) for key, array in node.arrays.items()}
    positive = {key: array.clamp(min=0) if key in _SPLIT else array for key, array in arrays.items()}
    negative = {key: array.clamp(max=0) for key, array in arrays.items() if key in _SPLIT}
    low, high = _call(node, positive, lows), _call(node, positive, highs)
    if negative:
        low, high = low + _call(node, negative, highs), high + _call(node, negative, lows)
    return Interval(low[0].numpy(), high[0].numpy())


def _call(node: Node, tensors: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    function = OPERATORS[node.operator].function
    if function is None or node.operator == "multiply":
        raise UnsupportedError("no bound of", [f"{node.name} ({node.operator})"])
    return function(node.attributes, tensors, inputs)
