"""What the integer engine works out once: which nodes melt into a neuron's scan, and how long each value lives."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..networks.graph import Graph, Node
from ..networks.reference import physical
from .forms import Form
from .reference import channelwise

__all__ = ["Fused", "absorbed", "boundary", "dead_after", "fusions"]


class Fused(NamedTuple):
    """A neuron that reads first + factor * second; ``absorbed`` are the nodes between, which nobody else reads.

    factor: int32 (units,), in the order of memory.
    """

    first: str
    second: str
    factor: Tensor
    absorbed: tuple[str, ...]


def fusions(graph: Graph, forms: Mapping[str, Form], fixed: frozenset[str]) -> dict[str, Fused]:
    """For each neuron that reads a sum of two, one of them perhaps scaled, what its scan can read itself."""
    return {node.name: found for node in graph.of_operator("neuron") if (found := _fusion(graph, forms, fixed, node))}


def absorbed(fused: Mapping[str, Fused]) -> frozenset[str]:
    """The nodes that need not be computed."""
    return frozenset(name for found in fused.values() for name in found.absorbed)


def boundary(graph: Graph, fixed: frozenset[str], fused: Mapping[str, Fused]) -> frozenset[str]:
    """The values that follow from the constant input and that some other node reads."""
    gone = absorbed(fused)
    readers = [node for node in graph.nodes if node.name not in fixed and node.name not in gone]
    return frozenset(source for node in readers for source in _sources(node, fused) if source in fixed)


def dead_after(graph: Graph, fused: Mapping[str, Fused]) -> list[list[str]]:
    """For each position in the order of the nodes, the values that nothing reads later."""
    last, gone = {node.name: index for index, node in enumerate(graph.nodes)}, absorbed(fused)
    for index, node in enumerate(graph.nodes):
        if node.name not in gone:
            for source in _sources(node, fused):
                last[source] = max(last[source], index)
    for node in graph.nodes:
        for edge in node.inputs:
            if edge.delay:
                last[edge.source] = len(graph.nodes)
    dead: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        if index < len(graph.nodes):
            dead[index].append(name)
    return dead


def _sources(node: Node, fused: Mapping[str, Fused]) -> tuple[str, ...]:
    return fused[node.name][:2] if node.name in fused else node.sources


def _fusion(graph: Graph, forms: Mapping[str, Form], fixed: frozenset[str], neuron: Node) -> Fused | None:
    add, shape = graph.by_name[neuron.sources[0]], graph.shapes[neuron.name]
    if not _alone(graph, neuron, fixed) or add.operator != "add" or len(add.inputs) != 2:
        return None
    same = all(not edge.delay and graph.shapes[edge.source] == shape for edge in add.inputs)
    if not same or any(forms[name].dtype == torch.float64 for name in (add.name, *add.sources)):
        return None
    for first, second in (add.sources, add.sources[::-1]):
        scale = graph.by_name[second]
        if forms[first].dtype != torch.float32:
            continue
        if _alone(graph, add, fixed, second) and scale.operator == "scale" and "shift" not in scale.arrays:
            return Fused(first, scale.sources[0], _units(scale.arrays["factor"], shape), (add.name, second))
    for first, second in (add.sources, add.sources[::-1]):
        if forms[first].dtype == torch.float32:
            return Fused(first, second, _units(np.ones(()), shape), (add.name,))
    return None


def _alone(graph: Graph, reader: Node, fixed: frozenset[str], source: str | None = None) -> bool:
    """Whether ``reader`` alone reads a source (its only one, if none is named), at once, and the source is no constant.

    A scale's own source must come at once too.
    """
    name = reader.sources[0] if source is None else source
    late = any(edge.delay for edge in (*reader.inputs, *graph.by_name[name].inputs))
    return not late and name not in fixed and list(graph.consumers[name]) == [reader.name]


def _units(array: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    wide = np.broadcast_to(channelwise(np.asarray(array), len(shape)), shape).astype(np.int32)
    return physical(torch.from_numpy(wide.copy())[None])[0].contiguous()
