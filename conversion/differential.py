"""From an analog Graph to one whose neurons send changes: between them every operator stays what it is.

A neuron gives its decoded value R[t]; what stands between two neurons, linear or not, is computed on decoded values,
which is expectation compensation under differential coding.  So no weight takes a threshold and nothing else moves.
Source: Huang et al. 2025 (ICML; DCGS), Huang et al. 2024 (MM; ECMT).
"""

from collections.abc import Mapping

import numpy as np

from ..networks.activity import carriers
from ..networks.graph import Edge, Graph, Node, make_node
from .rewrite import SYNAPSES, fresh, rebuilt
from .statistics import by_unit

__all__ = ["differential", "with_lines"]

PASSES = ("sum_pool", "average_pool", "max_pool", "global_pool", "pad", "flatten", "reshape", "transpose", "slice")


def with_lines(graph: Graph) -> Graph:
    """The analog Graph with an identity activation wherever a synapse reads what no neuron sends.

    Such a node becomes a neuron that passes any sign (a "line"), so that the synapse reads events and not values.
    The first synapses stay as they are: they read the input, and are evaluated once.
    """
    sent, raw = set(carriers(graph, "activation")), _raw(graph)
    lines: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        source = node.sources[0] if node.inputs else ""
        if node.operator in SYNAPSES and source not in sent and source not in raw:
            lines.setdefault(source, fresh(graph, f"{source}.line"))
            node = _reading(node, source, lines[source])
        nodes.append(node)
    added = [make_node(name, "activation", [source], function="identity") for source, name in lines.items()]
    return rebuilt(graph, [*nodes, *added]) if added else graph


def _raw(graph: Graph) -> set[str]:
    """The input, and what only moves or scales it."""
    found: set[str] = set()
    for node in graph.nodes:
        moves = node.operator == "input" or node.operator in (*PASSES, "scale", "concat", "add")
        if moves and all(source in found for source in node.sources):
            found.add(node.name)
    return found


def _reading(node: Node, old: str, new: str) -> Node:
    edges = [Edge(new, edge.delay) if edge.source == old else edge for edge in node.inputs]
    return make_node(node.name, node.operator, edges, arrays=node.arrays, **node.attributes)


def differential(graph: Graph, thresholds: Mapping[str, np.ndarray], levels: int) -> Graph:
    """Every activation as a neuron with differential coding; the output node reads decoded values.

    thresholds: (channels,) by activation, theta, the largest of the ``levels`` sizes of a spike.
    """
    return rebuilt(graph, [_converted(graph, node, thresholds, levels) for node in graph.nodes])


def _converted(graph: Graph, node: Node, thresholds: Mapping[str, np.ndarray], levels: int) -> Node:
    if node.operator == "output":
        return make_node(node.name, "output", node.inputs, decoded=1)
    if node.operator != "activation":
        return node
    theta, zero = by_unit(graph, node, thresholds[node.name]), np.zeros((), np.float32)
    return make_node(
        node.name,
        "neuron",
        node.inputs,
        arrays={"threshold": theta, "initial": zero, "bias": zero},
        code="differential",
        test=">=",
        reset="subtract",
        levels=levels,
        line=int(node.attributes["function"] == "identity"),
        maximum=node.attributes["maximum"],
    )
