"""The integer network as populations and weight matrices: what Lava, Brian2 and a chip mapper read.

Whatever lies between two populations (convolutions, pools, flatten, concat, residual adds, delays) is multiplied out
to one sparse matrix of whole numbers for each pair and delay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..networks.graph import Edge, Graph, Node
from .program import IntegerProgram
from .reference import channelwise, decays
from .windows import windows

__all__ = ["Projection", "Stage", "stages"]

Matrix = Any  # scipy.sparse.csr_array of int64
Key = tuple[str, int]


@dataclass(frozen=True)
class Projection:
    """matrix @ what ``source`` gave ``delay`` steps ago, 0 before the start; int64 (slots, size of the source)."""

    source: str
    delay: int
    matrix: Matrix


@dataclass(frozen=True)
class Stage:
    """One population.  Each step, in the order of the list: x = bias + sum of its projections, (slots,), then by kind

    input   gives the quantised input; no projections
    neuron  the neuron of ``IntegerProgram`` (its arrays ``theta``, ``b``, ``initial``, ``k`` are (size,) int64)
    filter  i <- decay(i, k) + x; gives i
    max     gives the maximum of x over each row of ``windows`` (size, places); one place: x itself
    output  gives x, the readout's current

    All arrays are flattened row-major from the node's feature shape.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    projections: tuple[Projection, ...]
    bias: np.ndarray
    arrays: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]

    @property
    def size(self) -> int:
        """How many units it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def slots(self) -> int:
        """How many sums its projections give; more than ``size`` before a maximum."""
        return len(self.bias)


def stages(program: IntegerProgram) -> tuple[Stage, ...]:
    """All populations, each after those it reads without delay."""
    return tuple(_Unroller(program.graph).all())


class _Unroller:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[str, tuple[dict[Key, Matrix], np.ndarray]] = {}
        self.relays: dict[str, Stage] = {}

    def all(self) -> list[Stage]:
        found: list[Stage] = []
        for node in self.graph.nodes:
            kind = _kind(node)
            if kind is None:
                continue
            stage = self.stage(node, kind)
            found += [relay for relay in self.relays.values() if relay.name not in {s.name for s in found}]
            found.append(stage)
        return found

    def stage(self, node: Node, kind: str) -> Stage:
        shape = self.graph.shapes[node.name]
        arrays: dict[str, np.ndarray] = {}
        if kind == "input":
            return Stage(node.name, kind, shape, (), np.zeros(0, np.int64), arrays, {})
        terms, bias = self.read(node.inputs[0])
        if kind == "neuron":
            arrays = {
                "theta": _flat(node.arrays["threshold"].astype(np.int64), shape),
                "b": _flat(node.arrays["bias"].astype(np.int64), shape),
                "initial": _flat(node.arrays["initial"].astype(np.int64), shape),
                "k": _flat(decays(node), shape),
            }
        elif kind == "filter":
            arrays = {"k": _flat(decays(node), shape)}
        elif kind == "max":
            arrays = {"windows": _maximum_windows(node, self.graph.shapes[node.sources[0]])}
        return Stage(node.name, kind, shape, _projections(terms), bias, arrays, node.attributes)

    def read(self, edge: Edge, late: int = 0) -> tuple[dict[Key, Matrix], np.ndarray]:
        """What an edge brings, as matrices by (population, delay) and a constant."""
        delay = edge.delay + late
        terms, bias = self.value(edge.source)
        if delay and bias.any():  # a constant that begins late is none: let it pass a population of its own
            self.relays.setdefault(edge.source, self.relay(edge.source, terms, bias))
            terms = {(f"{edge.source}.relay", 0): _identity(len(bias))}
            bias = np.zeros_like(bias)
        return {(source, steps + delay): matrix for (source, steps), matrix in terms.items()}, bias

    def relay(self, name: str, terms: dict[Key, Matrix], bias: np.ndarray) -> Stage:
        windows = np.arange(len(bias))[:, None]
        shape = self.graph.shapes[name]
        return Stage(f"{name}.relay", "max", shape, _projections(terms), bias, {"windows": windows}, {})

    def value(self, name: str) -> tuple[dict[Key, Matrix], np.ndarray]:
        if name in self.known:
            return self.known[name]
        node, shape = self.graph.by_name[name], self.graph.shapes[name]
        size = int(np.prod(shape, dtype=np.int64))
        if _kind(node) is not None:
            return {(name, 0): _identity(size)}, np.zeros(size, np.int64)
        total: dict[Key, Matrix] = {}
        constant = _constant(node, shape)
        for position, edge in enumerate(node.inputs):
            terms, bias = self.read(edge, node.attributes["steps"] if node.operator == "delay" else 0)
            matrix = _matrix(node, position, [self.graph.shapes[source] for source in node.sources], shape)
            constant = constant + matrix @ bias
            for key, term in terms.items():
                product = matrix @ term
                total[key] = total[key] + product if key in total else product
        self.known[name] = total, constant
        return self.known[name]


def _kind(node: Node) -> str | None:
    if node.operator in ("input", "neuron", "output"):
        return node.operator
    if node.operator == "synaptic_filter":
        return "filter"
    maximum = node.operator == "max_pool" or node.attributes.get("function") == "max"
    return "max" if maximum else None


def _projections(terms: Mapping[Key, Matrix]) -> tuple[Projection, ...]:
    return tuple(Projection(source, delay, _tidy(matrix)) for (source, delay), matrix in terms.items())


def _tidy(matrix: Matrix) -> Matrix:
    matrix = sparse.csr_array(matrix)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _identity(size: int) -> Matrix:
    return sparse.eye_array(size, dtype=np.int64, format="csr")


def _flat(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(channelwise(array, len(shape)), shape).reshape(-1).astype(np.int64)


def _constant(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    """The bias of a synapse, at every place."""
    key = "shift" if node.operator == "scale" else "bias"
    if key not in node.arrays:
        return np.zeros(int(np.prod(shape, dtype=np.int64)), np.int64)
    array = node.arrays[key].astype(np.int64)
    wide = array if node.operator == "linear" else channelwise(array, len(shape))
    return np.broadcast_to(wide, shape).reshape(-1)


def _matrix(node: Node, position: int, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> Matrix:
    """The (outputs, inputs) matrix of a linear node, for its input number ``position``."""
    source = shapes[position]
    places = np.arange(int(np.prod(source, dtype=np.int64))).reshape(source)
    if node.operator == "linear":
        weight = sparse.csr_array(node.arrays["weight"].astype(np.int64))
        return sparse.kron(_identity(places.size // source[-1]), weight, format="csr")
    if node.operator in ("conv1d", "conv2d"):
        return _convolution(node, places, shape)
    if node.operator == "scale":
        factor = np.broadcast_to(channelwise(node.arrays["factor"].astype(np.int64), len(shape)), shape)
        return sparse.diags_array(factor.reshape(-1), format="csr", dtype=np.int64)
    if node.operator == "concat":
        axis = node.attributes["axis"]
        before = sum(other[axis] for other in shapes[:position])
        rows = np.take(np.arange(int(np.prod(shape))).reshape(shape), range(before, before + source[axis]), axis)
        return _ones(rows.reshape(-1), places.reshape(-1), shape, places.size)
    if node.operator == "add":
        read = np.broadcast_to(places, shape).reshape(-1)
    elif node.operator == "transpose":
        read = places.transpose(node.attributes["permutation"]).reshape(-1)
    elif node.operator == "pad":
        widths = list(zip(node.attributes["before"], node.attributes["after"], strict=True))
        read = np.pad(places, widths, constant_values=-1).reshape(-1)
    elif node.operator in ("sum_pool", "global_pool"):
        return _pooled(node, places, shape)
    else:  # flatten, reshape, delay
        read = places.reshape(-1)
    return _ones(np.flatnonzero(read >= 0), read[read >= 0], shape, places.size)


def _ones(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...], width: int) -> Matrix:
    height = int(np.prod(shape, dtype=np.int64))
    return sparse.csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=(height, width))


def _convolution(node: Node, places: np.ndarray, shape: tuple[int, ...]) -> Matrix:
    weight, groups = node.arrays["weight"].astype(np.int64), node.attributes["groups"]
    seen = windows(node, places[None], -1)[0]  # (channels, *places out, *kernel)
    axes = len(shape) - 1
    outputs, own = weight.shape[:2]
    per_group = outputs // groups
    rows, columns, values = [], [], []
    at = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    for o in range(outputs):
        first = o // per_group * own
        moved = np.moveaxis(seen[first : first + own], 0, axes).reshape(at[o].size, -1)
        kernel = np.broadcast_to(weight[o].reshape(-1), moved.shape)
        inside = (moved >= 0) & (kernel != 0)
        rows.append(np.broadcast_to(at[o].reshape(-1, 1), moved.shape)[inside])
        columns.append(moved[inside])
        values.append(kernel[inside])
    joined = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(joined, shape=(at.size, places.size))


def _pooled(node: Node, places: np.ndarray, shape: tuple[int, ...]) -> Matrix:
    if node.operator == "global_pool":
        moved = places.reshape(len(places), -1)
    else:
        moved = windows(node, places[None], -1).reshape(int(np.prod(shape, dtype=np.int64)), -1)
    rows = np.broadcast_to(np.arange(len(moved))[:, None], moved.shape)
    return _ones(rows[moved >= 0], moved[moved >= 0], shape, places.size)


def _maximum_windows(node: Node, source: tuple[int, ...]) -> np.ndarray:
    """(size, places) indices; a place outside the image is replaced by one inside the same window."""
    places = np.arange(int(np.prod(source, dtype=np.int64))).reshape(source)
    if node.operator == "global_pool":
        return places.reshape(len(places), -1)
    flat = windows(node, places[None], -1).reshape(-1, int(np.prod(node.attributes["kernel"])))
    return np.where(flat >= 0, flat, flat.max(1, keepdims=True))
