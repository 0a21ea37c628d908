"""Which values share a unit, and what the unit of a message is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .._check import UnsupportedError
from ..networks.graph import Graph, Node
from .normal import SYNAPSES, Normal

__all__ = ["Group", "groups", "incoming", "per_channel"]

_MOVES = {"flatten", "reshape", "transpose", "concat", "pad"}


@dataclass
class Group:
    """Currents that are added or compared, so that one unit, scaled by ``relative``, serves them all.

    synapses: the nodes whose weights take the unit.  sinks: the neurons, filters and outputs that read it.
    relative: by node, its unit as a multiple of the group's.  channels: how many units there are, one a channel; 0
    where all channels share one (they are mixed, or compared at the output).
    """

    synapses: list[str] = field(default_factory=list)
    sinks: list[str] = field(default_factory=list)
    relative: dict[str, float] = field(default_factory=dict)
    channels: int = 0


def groups(normal: Normal) -> list[Group]:
    """The groups, each after those whose currents its synapses read.

    Raises UnsupportedError where two ways through averages give one value two units.
    """
    graph = normal.graph
    found: list[Group] = []
    done: set[str] = set()
    for node in graph.nodes:
        if node.name in normal.currents and node.name not in done:
            group = _group(normal, node)
            done |= set(group.relative)
            found.append(group)
    return _ordered(graph, found)


def _group(normal: Normal, first: Node) -> Group:
    graph, group, waiting = normal.graph, Group(relative={first.name: 1.0}), [first]
    while waiting:
        node = waiting.pop()
        for other, factor in _neighbours(normal, node):
            value = group.relative[node.name] * factor
            if other.name not in group.relative:
                group.relative[other.name] = value
                waiting.append(other)
            elif not np.isclose(group.relative[other.name], value, rtol=1e-9):
                raise UnsupportedError("two averages of different sizes meet without a synapse between", [other.name])
    members = [node for node in graph.nodes if node.name in group.relative]
    group.synapses = [node.name for node in members if node.operator in SYNAPSES]
    readers = {name for node in members for name in graph.consumers[node.name]}
    group.sinks = [n.name for n in graph.nodes if n.name in readers and n.operator in ("neuron", "output")]
    group.sinks += [node.name for node in members if node.operator == "synaptic_filter"]
    group.channels = _channels(graph, members, [graph.by_name[name] for name in group.sinks])
    return group


def _neighbours(normal: Normal, node: Node) -> Iterator[tuple[Node, float]]:
    """Members of the same group that the node reads or that read it, with the ratio of their unit to the node's."""
    graph = normal.graph
    if node.operator not in SYNAPSES:
        for source in node.sources:
            yield graph.by_name[source], 1 / normal.gains.get(node.name, 1.0)
    for name in graph.consumers[node.name]:
        reader = graph.by_name[name]
        if reader.operator not in SYNAPSES and reader.operator not in ("neuron", "output"):
            yield reader, normal.gains.get(name, 1.0)


def _channels(graph: Graph, members: list[Node], sinks: list[Node]) -> int:
    shapes = [graph.shapes[node.name] for node in [*members, *sinks]]
    mixed = any(_mixes(graph, node) for node in members) or any(node.operator == "output" for node in sinks)
    return 0 if mixed or len({shape[0] for shape in shapes}) > 1 else shapes[0][0]


def _mixes(graph: Graph, node: Node) -> bool:
    shape = graph.shapes[node.name]
    if node.operator == "linear":
        return len(shape) > 1  # its rows are the last axis, not the first
    if node.operator == "flatten":
        return len(graph.shapes[node.sources[0]]) > 1
    if node.operator == "concat":
        return bool(node.attributes["axis"] == 0)
    if node.operator == "pad":
        return bool(node.attributes["before"][0] or node.attributes["after"][0])
    return node.operator in _MOVES


def _ordered(graph: Graph, found: list[Group]) -> list[Group]:
    of = {name: index for index, group in enumerate(found) for name in group.relative}
    needs = [{of[s] for name in g.synapses for s in graph.by_name[name].sources if s in of} for g in found]
    order: list[int] = []
    while len(order) < len(found):
        ready = [i for i in range(len(found)) if i not in order and needs[i] <= set(order)]
        if not ready:
            stuck = [found[i].synapses[0] for i in range(len(found)) if i not in order]
            raise UnsupportedError("synapses read each other in a loop without a neuron", stuck)
        order += ready
    return [found[i] for i in order]


def incoming(node: Node, unit: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The unit of a message that passes a structural node: ``unit`` is that of what it reads, in full shape.

    Raises UnsupportedError where the units of one window or channel differ.
    """
    if node.operator in ("flatten", "reshape"):
        return unit.reshape(shape)
    if node.operator == "transpose":
        return unit.transpose(node.attributes["permutation"])
    if node.operator == "pad":
        return np.pad(unit, list(zip(node.attributes["before"], node.attributes["after"], strict=True)), "edge")
    if node.operator in ("sum_pool", "max_pool", "global_pool"):
        return np.broadcast_to(per_channel(node, unit).reshape(-1, *([1] * (len(shape) - 1))), shape)
    return np.broadcast_to(unit, shape)


def per_channel(node: Node, unit: np.ndarray) -> np.ndarray:
    """One unit a channel, from the full shape; raises UnsupportedError where a channel has several."""
    flat = unit.reshape(len(unit), -1)
    if not (flat == flat[:, :1]).all():
        raise UnsupportedError("spikes of different worth meet in one window", [f"{node.name} ({node.operator})"])
    return flat[:, 0]
