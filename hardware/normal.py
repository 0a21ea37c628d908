"""A spiking Graph in the form that lowering reads: every sum of spikes stands behind a synapse.

A *message* is a count of spikes (or the quantised input): its unit is known.  A *current* is what synapses give: its
unit is free, and lowering chooses it.  Where the two meet, or a neuron reads a message, a synapse of weight 1 is put.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from .._check import UnsupportedError
from ..networks.graph import Edge, Graph, Node, make_node
from .program import STRUCTURAL

__all__ = ["SYNAPSES", "Normal", "normalised"]

SYNAPSES = frozenset({"linear", "conv1d", "conv2d", "scale"})
_POOLS = {"average_pool", "global_pool"}
_NEED_VALUES = {"function", "softmax", "layer_norm", "rms_norm", "matmul", "constant", "slice"}


@dataclass(frozen=True)
class Normal:
    """The graph, which nodes carry currents, and by what a node's unit is smaller than that of what it reads."""

    graph: Graph
    currents: frozenset[str]
    gains: Mapping[str, float]


def normalised(graph: Graph) -> Normal:
    """Raises one UnsupportedError that lists all that has no integer form, with the remedy."""
    problems = [f"{node.name} ({node.operator}): {said}" for node in graph.nodes if (said := _objection(graph, node))]
    if problems:
        raise UnsupportedError("this network has no integer form", problems)
    gains = {node.name: _gain(graph, node) for node in graph.nodes if node.operator in _POOLS}
    graph = Graph.of([_summing(node) for node in graph.nodes], graph.information)
    currents = _currents(graph)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        wants_current = node.operator in ("neuron", "synaptic_filter", "output") or (
            node.name in currents and node.operator not in SYNAPSES
        )
        edges = []
        for edge in node.inputs:
            if wants_current and edge.source not in currents:
                name = f"{edge.source}.unit.{edge.delay}"
                nodes[name] = make_node(name, "scale", [edge], arrays={"factor": np.float32(1)})
                edge = Edge(name)
            edges.append(edge)
        nodes[node.name] = replace(node, inputs=tuple(edges))
    graph = Graph.of(nodes.values(), graph.information)
    return Normal(graph, _currents(graph), gains)


def _objection(graph: Graph, node: Node) -> str:
    if node.operator in ("batch_norm", "activation"):
        return "convert the network first"
    if node.attributes.get("code") == "differential" or node.attributes.get("decoded"):
        return "differential coding decodes values; convert with binary or signed spikes"
    if node.operator in _NEED_VALUES:
        return "it needs whole values, not spikes"
    if node.operator == "step_bias":
        return "biases by step have no integer form; convert with a method without them"
    if node.operator == "multiply":
        return "a product of two values is no synapse"
    if node.operator == "pad" and node.attributes["value"]:
        return "a constant other than 0 around spikes; pad with 0"
    if node.operator == "average_pool" and _uneven(graph, node):
        return "its windows hold different numbers of places; use windows that fit, or count the padding"
    return ""


def _uneven(graph: Graph, node: Node) -> bool:
    padded = any(node.attributes["padding"]) and not node.attributes["count_include_pad"]
    if not node.attributes["ceil_mode"]:
        return padded
    sizes = zip(
        graph.shapes[node.sources[0]][1:],
        *(node.attributes[key] for key in ("kernel", "stride", "padding")),
        strict=True,
    )
    return padded or any((size + 2 * p - k) % s for size, k, s, p in sizes)


def _gain(graph: Graph, node: Node) -> float:
    if node.operator == "average_pool":
        return 1 / int(prod(node.attributes["kernel"]))
    mean = node.attributes["function"] == "mean"
    return 1 / prod(graph.shapes[node.sources[0]][1:]) if mean else 1.0


def _summing(node: Node) -> Node:
    """Averages become sums; the unit of what they give is smaller instead."""
    if node.operator == "average_pool":
        kept = {key: value for key, value in node.attributes.items() if key != "count_include_pad"}
        return make_node(node.name, "sum_pool", node.inputs, **kept)
    if node.operator == "global_pool" and node.attributes["function"] == "mean":
        return make_node(node.name, "global_pool", node.inputs, function="sum")
    return node


def _currents(graph: Graph) -> frozenset[str]:
    """Synapses and filters, and what is made of them without a neuron between."""
    found = {node.name for node in graph.nodes if node.operator in SYNAPSES or node.operator == "synaptic_filter"}
    grown = True
    while grown:
        passes = {
            node.name
            for node in graph.nodes
            if (node.operator in STRUCTURAL or node.operator == "global_pool") and found.intersection(node.sources)
        }
        grown = not passes <= found
        found |= passes
    return frozenset(found)
