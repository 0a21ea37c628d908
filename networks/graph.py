"""``Graph``: the narrow waist between everything that makes a network and everything that runs one.

A graph holds operators, arrays and shapes; no code, no device, no framework object.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from .._check import RangeError, ShapeError, SpikeportError, UnsupportedError
from .operators import OPERATORS, REQUIRED, Field
from .shape_rules import Shape

MAX_ELEMENTS = 1 << 28  # of one value: 1 GiB a sample and step; larger ones are a mistake or an attack
MAX_AXES = 8
MAX_NODES = 1 << 16
_BOUNDS = {  # arrays in which not every finite value makes sense
    ("neuron", "threshold"): (np.nextafter(np.float32(0), np.float32(1)), np.inf, "above 0"),
    ("neuron", "beta"): (0.0, 1.0, "between 0 and 1"),
    ("neuron", "limit"): (0.0, np.inf, "at least 0"),
    ("activation", "ceiling"): (np.nextafter(np.float32(0), np.float32(1)), np.inf, "above 0"),
    ("activation", "bound"): (0.0, np.inf, "at least 0"),
    ("batch_norm", "variance"): (0.0, np.inf, "at least 0"),
    ("synaptic_filter", "alpha"): (0.0, 1.0, "between 0 and 1"),
}


@dataclass(frozen=True)
class Edge:
    """Where an input comes from, and by how many steps it is late."""

    source: str
    delay: int = 0


@dataclass(frozen=True)
class Node:
    """One operator with its attributes and arrays (float32), fed by ``inputs``."""

    name: str
    operator: str
    inputs: tuple[Edge, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the nodes it reads."""
        return tuple(edge.source for edge in self.inputs)


def make_node(
    name: str,
    operator: str,
    inputs: Sequence[str | Edge] = (),
    *,
    arrays: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Node:
    """Build a checked node; attributes that are left out take the defaults of the operator table.

    >>> make_node("relu1", "activation", ["conv1"]).attributes["function"]
    'relu'
    """
    edges = tuple(item if isinstance(item, Edge) else Edge(item) for item in inputs)
    frozen = {key: _frozen(value) for key, value in (arrays or {}).items()}
    return checked(Node(name, operator, edges, attributes, frozen))


def _frozen(value: Any) -> np.ndarray:
    array = np.array(value, dtype=np.float32, order="C")
    array.setflags(write=False)
    return array


def checked(node: Node) -> Node:
    """Return the node with every attribute present and typed, or raise an error that names it."""
    if not isinstance(node.name, str) or not node.name or not node.name.isprintable():
        raise SpikeportError(f"a node is named {node.name!r}; a name is text that can be printed")
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise UnsupportedError("unknown operator", [f"{node.name} ({node.operator})"])
    unknown = [*(set(node.attributes) - set(operator.fields)), *(set(node.arrays) - set(operator.arrays))]
    if unknown:
        raise SpikeportError(f"{node.name} ({node.operator}) has fields that its operator lacks: {sorted(unknown)}")
    low, high = operator.inputs
    if not low <= len(node.inputs) <= high:
        raise ShapeError(f"{node.name} ({node.operator}) has {len(node.inputs)} inputs; it takes {low} to {high}")
    attributes = {key: _attribute(node, key, spec) for key, spec in operator.fields.items()}
    for key, required in operator.arrays.items():
        if key in node.arrays:
            _check_array(node, key)
        elif required:
            raise SpikeportError(f"{node.name} ({node.operator}) lacks the array {key!r}")
    return replace(node, attributes=MappingProxyType(attributes), arrays=MappingProxyType(dict(node.arrays)))


def _attribute(node: Node, key: str, spec: Field) -> Any:
    value = node.attributes.get(key, spec.default)
    where = f"{key} of {node.name} ({node.operator})"
    if value is REQUIRED:
        raise SpikeportError(f"{where} is missing")
    if value is None and spec.optional:
        return None
    if spec.kind is tuple:
        value = tuple(value) if isinstance(value, list | tuple) else value
        items = value if isinstance(value, tuple) else ()
        valid = isinstance(value, tuple) and all(type(item) is int for item in items)
    else:
        value = float(value) if spec.kind is float and type(value) is int else value
        items, valid = (value,), type(value) is spec.kind
    if not valid:
        raise SpikeportError(f"{where} is {value!r}, but {spec.kind.__name__} was wanted")
    if spec.choices and value not in spec.choices:
        raise RangeError(f"{where} is {value!r}; choose one of {', '.join(spec.choices)}")
    if spec.lengths and len(items) not in spec.lengths:
        raise ShapeError(f"{where} is {value!r}; {' or '.join(map(str, spec.lengths))} values were wanted")
    for item in items:
        inside = (spec.low is None or item >= spec.low) and (spec.high is None or item <= spec.high)
        if spec.kind is not str and not (inside and abs(item) < float("inf")):
            raise RangeError(f"{where} is {value!r}; each value must lie between {spec.low} and {spec.high}")
    return value


def _check_array(node: Node, key: str) -> None:
    array = node.arrays[key]
    if array.dtype != np.float32:
        raise SpikeportError(f"array {key!r} of {node.name} is {array.dtype}; the graph holds float32")
    if not np.isfinite(array).all():
        raise RangeError(f"array {key!r} of {node.name} holds NaN or infinity; repair the source network")
    low, high, wanted = _BOUNDS.get((node.operator, key), (-np.inf, np.inf, ""))
    if not ((array >= low) & (array <= high)).all():
        raise RangeError(f"{key} of {node.name} lies between {array.min()} and {array.max()}; it must be {wanted}")


@dataclass(frozen=True)
class Graph:
    """A network: nodes in an order in which each comes after what it reads (delayed edges aside).

    Exactly one ``input`` and one ``output`` node.  A cycle is allowed (it is recurrence) when its total delay is at
    least one step; a cycle without delay is refused.  ``information`` is JSON: where the network comes from.

    >>> graph = Graph.of([make_node("x", "input", shape=(3,)), make_node("y", "output", ["x"])])
    >>> graph.shapes["y"]
    (3,)
    """

    nodes: tuple[Node, ...]
    information: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node], information: Mapping[str, Any] | None = None) -> "Graph":
        """Check the nodes as a whole, order them and infer every shape."""
        nodes = tuple(checked(node) for node in nodes)
        if len(nodes) > MAX_NODES:
            raise RangeError(f"{len(nodes)} nodes came; a graph has at most {MAX_NODES}")
        names = Counter(node.name for node in nodes)
        if len(names) < len(nodes):
            raise SpikeportError(f"node names are not unique: {sorted(name for name in names if names[name] > 1)}")
        for operator in ("input", "output"):
            found = [node.name for node in nodes if node.operator == operator]
            if len(found) != 1:
                raise SpikeportError(f"a graph has exactly one {operator} node, but {len(found)} came: {found}")
        for node in nodes:
            for edge in node.inputs:
                if edge.source not in names:
                    raise SpikeportError(f"{node.name} reads {edge.source!r}, which is not in the graph")
                if type(edge.delay) is not int or not 0 <= edge.delay <= 4096:
                    raise RangeError(f"{edge.source} -> {node.name} has the delay {edge.delay!r}; 0 to 4096 is allowed")
        graph = cls(_ordered(nodes), MappingProxyType(dict(information or {})))
        _ = graph.shapes
        return graph

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by their name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nodes that read each node, one entry an edge."""
        readers: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for source in node.sources:
                readers[source].append(node.name)
        return {name: tuple(found) for name, found in readers.items()}

    @cached_property
    def input(self) -> Node:
        """The input node."""
        return next(node for node in self.nodes if node.operator == "input")

    @cached_property
    def output(self) -> Node:
        """The output node."""
        return next(node for node in self.nodes if node.operator == "output")

    @cached_property
    def recurrent(self) -> bool:
        """Whether some edge leads back to an earlier node."""
        position = {node.name: index for index, node in enumerate(self.nodes)}
        return any(position[source] >= position[node.name] for node in self.nodes for source in node.sources)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The feature shape of every node."""
        return _inferred(self.nodes)

    def of_operator(self, operator: str) -> tuple[Node, ...]:
        """All nodes of one operator, in order."""
        return tuple(node for node in self.nodes if node.operator == operator)


def _ordered(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Topological order, stable in the given one; in a recurrent graph over the edges without delay only."""
    for delayed in (True, False):
        order = _topological(nodes, delayed)
        if len(order) == len(nodes):
            return order
    stuck = sorted({node.name for node in nodes} - {node.name for node in order})
    raise SpikeportError(f"{stuck} form or follow a cycle without delay; give one of its edges a delay of 1 or more")


def _topological(nodes: tuple[Node, ...], delayed: bool) -> tuple[Node, ...]:
    """The nodes that can be ordered (Kahn), over all edges or over those without delay."""
    position = {node.name: index for index, node in enumerate(nodes)}
    waiting = [{edge.source for edge in node.inputs if delayed or not edge.delay} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(waiting):
        for source in sources:
            readers[position[source]].append(index)
    missing = [len(sources) for sources in waiting]
    ready = [index for index, count in enumerate(missing) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    return tuple(order)


def _inferred(nodes: tuple[Node, ...]) -> dict[str, Shape]:
    """Shapes by the operator table; a loop is entered through an add, from those of its inputs that are known."""
    by_name = {node.name: node for node in nodes}
    missing = {node.name: len(set(node.sources)) for node in nodes}
    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for source in set(node.sources):
            readers[source].append(node.name)
    shapes: dict[str, Shape] = {}
    ready, entries = deque(name for name, count in missing.items() if not count), deque[str]()
    while ready or entries:
        name = ready.popleft() if ready else entries.popleft()
        if name in shapes:
            continue
        shapes[name] = _shape(by_name[name], [shapes[s] for s in by_name[name].sources if s in shapes])
        for reader in readers[name]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
            elif by_name[reader].operator == "add":
                entries.append(reader)
    unknown = [node.name for node in nodes if node.name not in shapes]
    if unknown:
        raise ShapeError(f"the shapes of {unknown} follow from nothing; a recurrent loop must be entered by an add")
    for node in nodes:
        if _shape(node, [shapes[source] for source in node.sources]) != shapes[node.name]:
            raise ShapeError(f"the recurrent loop through {node.name} changes its shape {shapes[node.name]}")
    return shapes


def _shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    try:
        shape = OPERATORS[node.operator].shape(node.attributes, node.arrays, shapes)
    except ShapeError as error:
        raise ShapeError(f"{node.name} ({node.operator}): {error}") from None
    if min(shape, default=1) < 1 or prod(shape) > MAX_ELEMENTS or len(shape) > MAX_AXES:
        limits = f"{MAX_AXES} axes and {MAX_ELEMENTS} values, none of them empty"
        raise ShapeError(f"{node.name} ({node.operator}) would have the shape {shape}; a graph holds at most {limits}")
    return shape
