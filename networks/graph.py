"""``Graph``: the narrow waist between everything that makes a network and everything that runs one.

A graph holds operators, arrays and shapes; no code, no device, no framework object.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from .._check import RangeError, ShapeError, SpikeportError, UnsupportedError
from .operators import OPERATORS, REQUIRED, Field
from .shape_rules import Shape

MAX_ELEMENTS = 1 << 31  # of one value or array; larger ones are a mistake or an attack


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
    name: str, operator: str, inputs: Sequence[str | Edge] = (), *, arrays: Mapping[str, Any] | None = None, **attributes: Any
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
    positive = (node.operator, key) in (("neuron", "threshold"),)
    if positive and not (array > 0).all():
        raise RangeError(f"threshold of {node.name} must be above 0, but its smallest value is {array.min()}")


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
        names = [node.name for node in nodes]
        if len(set(names)) != len(names):
            raise SpikeportError(f"node names are not unique: {sorted({n for n in names if names.count(n) > 1})}")
        for operator in ("input", "output"):
            found = [node.name for node in nodes if node.operator == operator]
            if len(found) != 1:
                raise SpikeportError(f"a graph has exactly one {operator} node, but {len(found)} came: {found}")
        for node in nodes:
            for edge in node.inputs:
                if edge.source not in set(names):
                    raise SpikeportError(f"{node.name} reads {edge.source!r}, which is not in the graph")
                if type(edge.delay) is not int or not 0 <= edge.delay <= 4096:
                    raise RangeError(f"the edge {edge.source} -> {node.name} has delay {edge.delay}; 0 to 4096 is allowed")
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
    """Topological order over the edges without delay, stable in the given order (Kahn)."""
    waiting = {node.name: {edge.source for edge in node.inputs if edge.delay == 0} for node in nodes}
    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for name, sources in waiting.items():
        for source in sources:
            readers[source].append(name)
    by_name = {node.name: node for node in nodes}
    ready = [node.name for node in reversed(nodes) if not waiting[node.name]]
    order: list[Node] = []
    while ready:
        name = ready.pop()
        order.append(by_name[name])
        for reader in readers[name]:
            waiting[reader].discard(name)
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = sorted(name for name, sources in waiting.items() if sources)
        raise SpikeportError(f"these nodes form a cycle without delay: {stuck}; give one of its edges a delay of 1 or more")
    return tuple(order)


def _inferred(nodes: tuple[Node, ...]) -> dict[str, Shape]:
    """Shapes by the operator table; in a cycle, from the inputs that are known first, then checked again."""
    shapes: dict[str, Shape] = {}
    for _ in range(len(nodes) + 1):
        before = len(shapes)
        for node in nodes:
            known = [shapes[source] for source in node.sources if source in shapes]
            partial = node.operator == "add" and known
            if node.name not in shapes and (len(known) == len(node.inputs) or partial):
                shapes[node.name] = _shape(node, known)
        if len(shapes) == before:
            break
    unknown = [node.name for node in nodes if node.name not in shapes]
    if unknown:
        raise ShapeError(f"the shapes of {unknown} follow from nothing; a recurrent loop must be entered through an add")
    for node in nodes:
        if _shape(node, [shapes[source] for source in node.sources]) != shapes[node.name]:
            raise ShapeError(f"the recurrent loop through {node.name} changes its shape {shapes[node.name]}")
    return shapes


def _shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    try:
        shape = OPERATORS[node.operator].shape(node.attributes, node.arrays, shapes)
    except ShapeError as error:
        raise ShapeError(f"{node.name} ({node.operator}): {error}") from None
    size = 1
    for axis in shape:
        size *= axis
    if min(shape, default=1) < 1 or size > MAX_ELEMENTS:
        raise ShapeError(f"{node.name} ({node.operator}) would have the shape {shape}")
    return shape
