"""Spikes and synaptic operations: what a network does, counted.

An accumulate (AC) is what one spike costs at one synapse; a multiply-accumulate (MAC) is what an analog value costs
there.  Every synapse that exists counts, whatever its weight; one that lies in the padding does not exist.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._check import SpikeportError
from . import reference
from .graph import Graph, Node
from .operators import OPERATORS
from .shape_rules import Shape
from .values import slice_axis

Route = Callable[[Mapping[str, Any], Mapping[str, Tensor], Sequence[Tensor]], Tensor]


def _global_sum(attributes: Mapping[str, Any], tensors: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].flatten(2).sum(2)


def _unchanged(attributes: Mapping[str, Any], tensors: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


# How a spike travels through an operator without synapses: a pool passes it to every window that holds it.
_ROUTES: Mapping[str, Route] = {
    "sum_pool": reference.sum_pool,
    "average_pool": reference.sum_pool,
    "max_pool": reference.sum_pool,
    "global_pool": _global_sum,
    "flatten": reference.flatten,
    "reshape": reference.reshape,
    "transpose": reference.transpose,
    "pad": reference.pad,
    "add": reference.add,
    "concat": reference.concat,
    "slice": slice_axis,
    "delay": _unchanged,
}


@torch.inference_mode(False)
def fan_out(graph: Graph) -> Mapping[str, Tensor]:
    """For each neuron node, the accumulates that one spike of each unit triggers: float32, in the node's feature shape.

    A spike travels through pools, flatten, reshape, transpose, pad, add, concat and delay to the next synapses
    (linear, convolution, scale) and is counted there, not beyond; several readers add up.  What ends in a synapse
    that reads analog values too (see ``analog_synapses``) is counted there, not here.
    """
    carrying, shapes = carriers(graph), graph.shapes
    found = {name: torch.zeros(shapes[name], dtype=torch.float64) for name in carrying}
    for node in graph.nodes:
        if OPERATORS[node.operator].synapse and node.sources[0] in found:
            found[node.sources[0]] += _reached(node, shapes[node.sources[0]])
    for name in reversed(carrying):
        node = graph.by_name[name]
        if node.operator in _ROUTES:
            inputs = [torch.zeros(1, *shapes[source], dtype=torch.float64) for source in node.sources]
            routed = _pulled_back(_ROUTES[node.operator], node, {}, inputs, found[name].unsqueeze(0))
            for source, share in zip(node.sources, routed, strict=True):
                found[source] += share.squeeze(0)
    return {node.name: found[node.name].float() for node in graph.of_operator("neuron")}


@torch.inference_mode(False)
def analog_synapses(graph: Graph) -> Mapping[str, int]:
    """Multiply-accumulates of one evaluation, per sample, of each synaptic node that reads anything but spikes.

    A node in ``constant_nodes(graph)`` of the engine is evaluated once a sample when the input is constant; the others
    are evaluated at every step.
    """
    carrying = set(carriers(graph))
    return {
        node.name: int(_reached(node, graph.shapes[node.sources[0]]).sum())
        for node in graph.nodes
        if OPERATORS[node.operator].synapse and node.sources[0] not in carrying
    }


def analog_functions(graph: Graph) -> Mapping[str, int]:
    """Operations of one evaluation, per sample, of each node that is no synapse and needs whole values.

    Elements of a function, a norm, a softmax or a product; multiply-accumulates of a matrix product; comparisons of a
    maximum.  Such a node is evaluated at every step unless it follows from a constant input alone.
    """
    found: dict[str, int] = {}
    for node in graph.nodes:
        elements = math.prod(graph.shapes[node.name])
        if node.operator in ("function", "softmax", "layer_norm", "rms_norm", "multiply", "batch_norm", "activation"):
            found[node.name] = elements
        elif node.operator == "matmul":
            found[node.name] = elements * graph.shapes[node.sources[0]][-1]
        elif node.operator == "max_pool":
            found[node.name] = elements * math.prod(node.attributes["kernel"])
        elif node.operator == "global_pool" and node.attributes["function"] == "max":
            found[node.name] = math.prod(graph.shapes[node.sources[0]])
    return found


class ActivityMeter:
    """Counts spikes, accumulates and payload while a network runs: hand ``meter.observe`` to the engine.

    A spike of -1 counts as one, a graded spike of level k as k, a differential one as one whatever its size (its sizes
    are theta / 2^k, so a synapse shifts and adds).  Sums are float32: exact up to 2^24 a sample and step.

    >>> from .graph import make_node
    >>> nodes = [make_node("x", "input", shape=(2,)), make_node("y", "output", ["x"])]
    >>> ActivityMeter(Graph.of(nodes)).spikes
    {}
    """

    def __init__(self, graph: Graph) -> None:
        self._weights: dict[str, Tensor] = {}
        for name, fan in fan_out(graph).items():
            flat = reference.physical(fan.unsqueeze(0))[0]
            self._weights[name] = torch.stack([torch.ones_like(flat), flat], 1)
        self._nodes = {node.name: node for node in graph.of_operator("neuron")}
        self._found: dict[str, list[Tensor]] = {}
        self._last: dict[str, Tensor] = {}

    def observe(self, name: str, values: Tensor) -> None:
        """Count one chunk of a node's values (steps, batch, *features); all but neurons are passed over."""
        if name not in self._nodes:
            return
        chunks = self._found.setdefault(name, [])
        if chunks and chunks[0].shape[1] != values.shape[1]:
            raise SpikeportError(
                f"{name} now has {values.shape[1]} samples and had {chunks[0].shape[1]}; use one meter for each batch"
            )
        counted = self.count(name, values, self._last.get(name))
        if counted is not None:
            chunks.append(counted)
            self._last[name] = values[-1].clone()

    def count(self, name: str, values: Tensor, before: Tensor | None = None) -> Tensor | None:
        """Spikes, accumulates and bits of payload of a neuron node's values, kept nowhere; None for other nodes.

        values: (steps, batch, *features); before: the last of the values before them, None at the start.  Returns
        (steps, batch, 3).
        """
        node = self._nodes.get(name)
        if node is None:
            return None
        spikes = reference.physical(sent(node, values, before).flatten(0, 1))
        sizes = (spikes.abs() if node.attributes["code"] == "signed" else spikes) @ self._weights[name].to(spikes.dtype)
        events = sizes[:, :1] if node.attributes["code"] != "graded" else spikes.count_nonzero(1).unsqueeze(1)
        return torch.cat([sizes, events * payload_bits(node)], 1).reshape(*values.shape[:2], 3)

    @property
    def spikes(self) -> dict[str, Tensor]:
        """For each neuron node, the spikes of each step and sample: (steps, batch)."""
        return {name: torch.cat(chunks)[..., 0] for name, chunks in self._found.items()}

    @property
    def accumulates(self) -> dict[str, Tensor]:
        """For each neuron node, the accumulates that its spikes trigger at the next synapses: (steps, batch)."""
        return {name: torch.cat(chunks)[..., 1] for name, chunks in self._found.items()}

    @property
    def payload(self) -> dict[str, Tensor]:
        """For each neuron node, the bits that its events carry beside their address: (steps, batch)."""
        return {name: torch.cat(chunks)[..., 2] for name, chunks in self._found.items()}


def sent(node: Node, values: Tensor, before: Tensor | None = None) -> Tensor:
    """What a neuron node sends when it gives ``values`` (steps, batch, *features): its spikes, or 1 for each change.

    before: the last of the values before them (batch, *features), None at the start.
    """
    if node.attributes["code"] != "differential":
        return values
    first = torch.zeros_like(values[:1]) if before is None else before.unsqueeze(0)
    return (values != torch.cat([first, values[:-1]])).to(values.dtype)


def payload_bits(node: Node) -> int:
    """Bits that one event of this neuron node carries beside its address: what tells its possible values apart.

    >>> from .graph import make_node
    >>> ones = dict.fromkeys(("threshold", "initial", "bias"), 1.0)
    >>> code = {"code": "differential", "levels": 8, "test": ">=", "reset": "subtract"}
    >>> payload_bits(make_node("n", "neuron", ["x"], arrays=ones, **code))  # 8 sizes of either sign
    4
    """
    code, levels = node.attributes["code"], node.attributes["levels"]
    values = {"binary": 1, "signed": 2, "graded": levels, "differential": 2 * levels}[code]
    return math.ceil(math.log2(values))


def carriers(graph: Graph, origin: str = "neuron") -> list[str]:
    """Neurons (or another operator) and what passes on nothing but their spikes, each after what it reads.

    A loop of such operators alone never starts from a neuron only, so it is none: it sums, and its values are analog.
    """
    found: dict[str, None] = {}
    before = -1
    while len(found) > before:
        before = len(found)
        for node in graph.nodes:
            passes = node.operator in _ROUTES and not node.attributes.get("value")
            if node.operator == origin or (passes and all(source in found for source in node.sources)):
                found.setdefault(node.name)
    return list(found)


def _reached(node: Node, shape: Shape) -> Tensor:
    """For each unit of the input, the number of synapses of this node that read it.

    All outputs of a group read the same units, so one row of ones a group is enough.
    """
    function = OPERATORS[node.operator].function
    if function is None:
        raise SpikeportError(f"{node.name} ({node.operator}) has no function to count synapses with")
    rows, ones = 1, {"factor": torch.ones((), dtype=torch.float64)}
    if "weight" in node.arrays:
        outputs, *window = node.arrays["weight"].shape
        groups = node.attributes.get("groups", 1)
        rows, ones = outputs // groups, {"weight": torch.ones(groups, *window, dtype=torch.float64)}
    x = torch.zeros(1, *shape, dtype=torch.float64)
    return _pulled_back(function, node, ones, [x], None)[0].squeeze(0) * rows


def _pulled_back(
    function: Route, node: Node, tensors: Mapping[str, Tensor], inputs: list[Tensor], at_output: Tensor | None
) -> list[Tensor]:
    """What each unit of the inputs adds up to at the output of a linear function, weighted by ``at_output`` (or 1)."""
    with torch.enable_grad():
        leaves = [x.clone().requires_grad_() for x in inputs]
        output = function(node.attributes, tensors, leaves)
        weights = torch.ones_like(output) if at_output is None else at_output
        return list(torch.autograd.grad(output, leaves, weights))
