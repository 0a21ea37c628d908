"""In what each value of an integer network is carried through PyTorch, so that nothing is ever rounded.

byte     a spike, or a sum of a few, plus an offset that makes it positive: what the int8 kernels read
float32  where no partial sum can reach 2^24 in units of the weights' common power of two
float64  where none can reach 2^53
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from .._check import UnsupportedError
from ..networks.graph import Graph, Node
from ..networks.operators import OPERATORS
from .int8 import EXACT, fits
from .program import IntegerProgram
from .ranges import Interval, value_intervals

__all__ = ["Form", "forms"]

_MOST = 1 << 53
_PASSING = ("sum_pool", "flatten", "reshape")  # what maps bytes to bytes


class Form(NamedTuple):
    """How a node's value is stored: value + offset, in ``dtype``; the offset is 0 except in bytes."""

    dtype: torch.dtype
    offset: int = 0


def forms(program: IntegerProgram, limit: int) -> tuple[dict[str, Form], frozenset[str]]:
    """The form of each node's value, and the synapses that run in int8; limit: the largest byte that is exact there.

    Raises UnsupportedError that names what no form holds.
    """
    graph, code = program.graph, program.input
    ranges = value_intervals(graph, code.low, code.high, program.steps)
    fitting = _bytes(graph, ranges, limit)
    int8 = frozenset(
        node.name for node in graph.nodes
        if node.operator in ("conv2d", "linear")
        and (offset := fitting.get(node.sources[0])) is not None
        and fits(node, -offset, float(ranges[node.sources[0]].high.max(initial=0)), limit)
    )  # fmt: skip
    wanted = {graph.by_name[name].sources[0] for name in int8}
    for node in reversed(graph.nodes):
        if node.name in wanted and node.operator in _PASSING:
            wanted.add(node.sources[0])
    bounds = {node.name: 0.0 if node.name in int8 else _bound(graph, node, ranges) for node in graph.nodes}
    beyond = [f"{name} (sums of {bound:.2g}, beyond 53 bits)" for name, bound in bounds.items() if bound >= _MOST]
    if beyond:
        raise UnsupportedError("no whole number holds the values of", beyond)
    wide = _wide(graph, {name for name, bound in bounds.items() if bound >= EXACT})
    found = {name: Form(torch.float64 if name in wide else torch.float32) for name in bounds}
    return found | {name: Form(torch.uint8, fitting[name]) for name in wanted}, int8


def _wide(graph: Graph, wide: set[str]) -> set[str]:
    """These nodes and whatever passes their values on."""
    before = -1
    while len(wide) > before:
        before = len(wide)
        for node in graph.nodes:
            if node.operator != "neuron" and any(source in wide for source in node.sources):
                wide.add(node.name)
    return wide


def _bytes(graph: Graph, ranges: Mapping[str, Interval], limit: int) -> dict[str, int]:
    """The offset of each node whose value can be a byte."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        low, high = min(0.0, float(ranges[node.name].low.min())), float(ranges[node.name].high.max())
        if high - low > limit:
            continue
        if node.operator in ("neuron", "input"):
            found[node.name] = int(-low)
        elif node.operator in _PASSING and node.sources[0] in found and not node.inputs[0].delay:
            places = 1
            if node.operator == "sum_pool":
                places = int(np.prod(node.attributes["kernel"]))
                plain = len(node.attributes["kernel"]) == 2 and not any(node.attributes["padding"])
                if not plain or node.attributes["ceil_mode"]:
                    continue
            if found[node.sources[0]] * places == -low:
                found[node.name] = int(-low)
    return found


def _bound(graph: Graph, node: Node, ranges: Mapping[str, Interval]) -> float:
    """What no partial sum of a node exceeds, in units of the largest power of two that divides all its terms."""
    function = OPERATORS[node.operator].function
    if function is None:
        return float(ranges[node.name].largest.max(initial=0))
    arrays = {key: torch.from_numpy(np.abs(array).astype(np.float64)) for key, array in node.arrays.items()}
    inputs = [torch.from_numpy(ranges[source].largest.copy())[None] for source in node.sources]
    attributes = (
        {**node.attributes, "value": abs(node.attributes["value"])} if node.operator == "pad" else node.attributes
    )
    largest = float(function(attributes, arrays, inputs).max()) if ranges[node.name].low.size else 0.0
    if not arrays:
        return largest
    common = 0
    for array in node.arrays.values():
        common |= int(np.bitwise_or.reduce(np.abs(array.astype(np.int64)), axis=None))
    return largest / max(common & -common, 1)
