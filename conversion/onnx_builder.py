"""Growing a Graph node by node while an ONNX graph is read.

A ``Value`` is what an ONNX tensor of the network is in the Graph: the node that computes it, and in which order ONNX
sees its axes.  The order is only written out (as a ``transpose`` node) where it matters, so the layout changes that
exporters put around every convolution cancel by themselves.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from .._check import RangeError, ShapeError, UnsupportedError
from ..networks.graph import Edge, Node, make_node
from ..networks.operators import OPERATORS

MAX_FEATURES = 1 << 24  # of one value of one sample; ImageNet networks stay below 1 << 22
MAX_NAME = 80
VALUES = ("function", "layer_norm", "matmul", "multiply", "rms_norm", "softmax")  # what no rate-coded spike passes
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor (batch, *shape) of the network as ONNX sees it; axis i of ``shape`` is axis ``order[i]`` of ``node``."""

    node: str
    shape: Shape
    order: Shape

    @property
    def plain(self) -> bool:
        """Whether ONNX and the Graph agree on the axes."""
        return self.order == tuple(range(len(self.shape)))

    @property
    def inner(self) -> Shape:
        """The shape as the Graph sees it."""
        sizes = dict(zip(self.order, self.shape, strict=True))
        return tuple(sizes[axis] for axis in range(len(self.shape)))

    def permuted(self, permutation: Sequence[int]) -> "Value":
        """Axis i of the result is axis ``permutation[i]`` of this one; costs nothing."""
        return Value(self.node, tuple(self.shape[a] for a in permutation), tuple(self.order[a] for a in permutation))


@dataclass(frozen=True)
class Selection:
    """A ``Value`` that only picks elements: along each axis ``count`` of them, from ``start`` in steps of ``step``.

    channels_before, channels_after: channels of zeros around what was picked.
    """

    source: str
    axes: tuple[tuple[int, int, int], ...]  # (start, step, count)
    channels_before: int = 0
    channels_after: int = 0


class Builder:
    """Collects nodes, gives them readable unique names, and knows the shape of each."""

    def __init__(self, batch: int) -> None:
        self.batch = batch  # the number of samples that shape computations are followed for
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.selections: dict[str, Selection] = {}
        self._non_negative: set[str] = set()

    def emit(
        self,
        name: str,
        operator: str,
        sources: Sequence[str] = (),
        *,
        arrays: Mapping[str, np.ndarray] | None = None,
        **attributes: Any,
    ) -> Value:
        """Add a node and return its value, its axes in the Graph's order."""
        node = make_node(
            self._unique(name), operator, [Edge(source) for source in sources], arrays=arrays, **attributes
        )
        shapes = [self.shapes[source] for source in sources]
        shape = OPERATORS[operator].shape(node.attributes, node.arrays, shapes)
        padding = node.attributes.get("padding", ())
        padded = (size + 2 * pad for size, pad in zip(shapes[0][1:], padding, strict=True)) if padding else ()
        if min(shape, default=1) < 1 or max(prod(shape), prod(padded)) > MAX_FEATURES:
            raise ShapeError(
                f"it would have the shape {shape}; each sample may have at most {MAX_FEATURES} values in one layer"
            )
        self.nodes[node.name], self.shapes[node.name] = node, shape
        if _is_non_negative(node, self._non_negative):
            self._non_negative.add(node.name)
        return Value(node.name, shape, tuple(range(len(shape))))

    def sliced(self, name: str, selection: Selection) -> Value:
        """A selection as slices, which move values and weigh nothing."""
        made = Value(selection.source, self.shapes[selection.source], ())
        for axis, (start, step, count) in enumerate(selection.axes):
            if count < self.shapes[made.node][axis]:
                stop = start + step * (count - 1) + 1
                made = self.emit(name, "slice", [made.node], axis=axis, start=start, stop=stop, step=step)
        self.selections[made.node] = selection
        return made

    def view(self, value: Value, order: Shape) -> Value:
        """A fresh value with its axes in the order in which ONNX saw those of the input."""
        return Value(value.node, tuple(value.shape[axis] for axis in order), order)

    def non_negative(self, value: Value) -> bool:
        """Whether the value can never be below 0."""
        return value.node in self._non_negative

    def plain(self, value: Value, name: str) -> Value:
        """The same value with the Graph's axes in ONNX's order: a ``transpose`` node unless they agree already."""
        return (
            value if value.plain else self.emit(f"{name}.transpose", "transpose", [value.node], permutation=value.order)
        )

    def reshaped(self, value: Value, shape: Shape, name: str) -> Value:
        """The value with other axes, row-major as ONNX counts; a chain of reshapes becomes one, or none."""
        value = self.plain(value, name)
        root = value.node
        while self.nodes[root].operator in ("reshape", "flatten"):
            root = self.nodes[root].sources[0]
        if self.shapes[root] == shape:
            return Value(root, shape, tuple(range(len(shape))))
        if len(shape) == 1:
            return self.emit(name, "flatten", [root])
        return self.emit(name, "reshape", [root], shape=shape)

    def finished(self, value: Value) -> list[Node]:
        """The nodes that the output needs, shifts merged into the synapses before them, and the output node itself."""
        value = self.plain(value, "output")
        nodes = {**self.nodes, "output": make_node("output", "output", [value.node])}
        needed, waiting = {"output"}, ["output"]
        while waiting:
            fresh = set(nodes[waiting.pop()].sources) - needed
            needed |= fresh
            waiting += fresh
        if not any(nodes[name].operator == "input" for name in needed):
            raise UnsupportedError("the output does not depend on the input; export the network itself")
        kept = [node for name, node in nodes.items() if name in needed]
        return merge_shifts(self._moving(kept), self.shapes)

    def _moving(self, nodes: Sequence[Node]) -> list[Node]:
        """Picks as slices where the network needs values anyway: a fixed convolution takes spikes, a slice does not."""
        if not any(node.operator in VALUES for node in nodes):
            return list(nodes)
        found: list[Node] = []
        for node in nodes:
            selection = self.selections.get(node.name)
            if selection is None or node.operator == "slice" or selection.channels_before or selection.channels_after:
                found.append(node)
                continue
            before = set(self.nodes)
            last = self.sliced(node.name, selection).node
            new = [made for name, made in self.nodes.items() if name not in before]
            found += [replace(made, name=node.name) if made.name == last else made for made in new]
        return found

    def _unique(self, name: str) -> str:
        name, number = readable(name), 2
        unique = name
        while unique in self.nodes or unique == "output":
            unique, number = f"{name}_{number}", number + 1
        return unique


def readable(name: str) -> str:
    """An ONNX name without characters that files and tables trip over.

    >>> readable("/layer1/layer1.0/conv1/Conv")
    'layer1.layer1.0.conv1.Conv'
    >>> readable("model/activation/Relu;model/conv2d/Conv2D")  # fused layers: the last one is the operator itself
    'model.conv2d.Conv2D'
    """
    last = [part for part in name.split(";") if part][-1:] or ["node"]
    clean = re.sub(r"[^A-Za-z0-9_.\-]+", ".", last[0]).strip(".")
    return clean[-MAX_NAME:] or "node"


_KEEPS_SIGN = (
    "add",
    "concat",
    "flatten",
    "global_pool",
    "max_pool",
    "average_pool",
    "multiply",
    "reshape",
    "sum_pool",
    "transpose",
)


def _is_non_negative(node: Node, known: set[str]) -> bool:
    keeps = node.operator in _KEEPS_SIGN or (node.operator == "pad" and node.attributes["value"] >= 0)
    return node.operator == "activation" or (keeps and all(source in known for source in node.sources))


def merge_shifts(nodes: Sequence[Node], shapes: Mapping[str, Shape]) -> list[Node]:
    """Make a constant that is added straight after a linear or convolution node the bias of that node."""
    kept: dict[str, Node] = {}
    readers = Counter(source for node in nodes for source in node.sources)
    became: dict[str, str] = {}
    for node in nodes:
        edges = tuple(Edge(became.get(edge.source, edge.source)) for edge in node.inputs)
        before = kept[edges[0].source] if node.operator == "scale" and readers[node.sources[0]] == 1 else None
        merged = _with_bias(before, node, shapes[node.name]) if before is not None else None
        if merged is None:
            kept[node.name] = replace(node, inputs=edges)
        else:
            kept[merged.name] = merged
            became[node.name] = merged.name
    return list(kept.values())


def _with_bias(synapse: Node, scale: Node, shape: Shape) -> Node | None:
    """The synapse with the shift of ``scale`` in its bias, or None where that is not the same thing."""
    shift = scale.arrays.get("shift")
    if (
        synapse.operator not in ("linear", "conv1d", "conv2d")
        or shift is None
        or not (scale.arrays["factor"] == 1).all()
    ):
        return None
    if synapse.operator == "linear" and len(shape) > 1 and shift.ndim:
        last = np.broadcast_to(shift.reshape(shape[:1] + (1,) * (len(shape) - 1)) if shift.ndim == 1 else shift, shape)
        shift = last.reshape(-1, shape[-1])[0]
        if not (last == shift).all():
            return None
    if shift.ndim > 1:
        return None
    bias = np.broadcast_to(shift, len(synapse.arrays["weight"]))
    with np.errstate(over="ignore"):
        total = bias + synapse.arrays["bias"] if "bias" in synapse.arrays else bias
    if not np.isfinite(total).all():
        raise RangeError(f"the bias of {synapse.name} is too large for float32; repair the source network")
    arrays = {**synapse.arrays, "bias": total}
    return make_node(synapse.name, synapse.operator, synapse.inputs, arrays=arrays, **synapse.attributes)
