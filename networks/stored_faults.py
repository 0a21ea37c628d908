"""Faults of what a network stores: Graph in, Graph out, so that the result runs wherever networks run.

An array lies in memory as words; bits of the words flip or are stuck, and the words are read again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from .._check import UnsupportedError
from .fault_draws import named_key, places
from .faults import STORED, Faults, require_layers
from .graph import Graph, Node, make_node

__all__ = ["Injected", "Memory", "WordsOf", "faulty_graph", "faulty_nodes", "float_words", "with_arrays"]

POSITIVE = frozenset({"threshold", "ceiling", "bound", "limit"})  # held without a sign
_CELLS = "weights"  # what stuck cells are in
_LARGEST = np.finfo(np.float32).max
_SMALLEST = np.nextafter(np.float32(0), np.float32(1))


@dataclass(frozen=True)
class Memory:
    """The words that hold an array, int64 and at least 0, of ``bits`` bits each; ``read`` makes values of them."""

    words: np.ndarray
    bits: int
    read: Callable[[np.ndarray], np.ndarray]


WordsOf = Callable[[Node, str], Memory]


@dataclass
class Injected:
    """What was hit.  bits: how many there are of each target; changed: how many of them now read otherwise.

    dead: units by node.
    """

    bits: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)

    def add(self, target: str, bits: int, changed: int) -> None:
        """Count the bits of one array."""
        self.bits[target] = self.bits.get(target, 0) + bits
        self.changed[target] = self.changed.get(target, 0) + changed

    def to_json(self) -> dict[str, dict[str, int]]:
        """As JSON."""
        return {"bits": self.bits, "changed": self.changed, "dead": self.dead}


def faulty_graph(graph: Graph, faults: Faults, *, seed: int) -> tuple[Graph, Injected]:
    """Return the network with faults in its float32 words, and what was hit.

    A Graph holds finite numbers: a word whose exponent becomes all ones (NaN, infinity) is held as the largest finite
    number of its sign, so that no fault becomes milder.  Thresholds and bounds have no sign bit, and one that becomes 0
    is held as the smallest number above it.  A dead neuron's threshold is the largest number; a dead unit of an analog
    activation falls to 0 above 0.  Spikes and states are left alone here (``transient``).
    Raises UnsupportedError for a target that the network does not have, SpikeportError for unknown layers.
    """
    require_layers(faults, graph)
    nodes, injected = faulty_nodes(graph, faults, float_words, float(_LARGEST), seed=seed)
    return Graph.of(nodes, graph.information), injected


def faulty_nodes(
    graph: Graph, faults: Faults, words_of: WordsOf, unreachable: float, *, seed: int
) -> tuple[list[Node], Injected]:
    """The nodes of a graph with faults in the words that ``words_of`` says; unreachable: a dead neuron's threshold."""
    injected = Injected()
    nodes = [_faulty(graph, node, faults, words_of, injected, seed) for node in graph.nodes]
    if faults.dead_neurons:
        nodes = [_with_dead(graph, node, faults, unreachable, injected, seed) for node in nodes]
    _require_targets(faults, injected)
    return nodes, injected


def float_words(node: Node, key: str) -> Memory:
    """The words of a float32 array: 32 bits, or 31 where there is no sign."""
    words = np.asarray(node.arrays[key], np.float32).view(np.uint32).astype(np.int64)
    if key not in POSITIVE:
        return Memory(words, 32, lambda found: _finite(found.astype(np.uint32).view(np.float32)))
    return Memory(
        words & 0x7FFFFFFF,
        31,
        lambda found: np.maximum(_finite(found.astype(np.uint32).view(np.float32)), _SMALLEST),
    )


def with_arrays(node: Node, arrays: Mapping[str, np.ndarray]) -> Node:
    """The node with some arrays in place of its own."""
    return make_node(node.name, node.operator, node.inputs, arrays={**node.arrays, **arrays}, **node.attributes)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.copysign(_LARGEST, values)).astype(np.float32)


def _faulty(graph: Graph, node: Node, faults: Faults, words_of: WordsOf, injected: Injected, seed: int) -> Node:
    arrays = {}
    for target, keys in STORED.items():
        rate = getattr(faults, target)
        cells = (faults.stuck_at_0, faults.stuck_at_1) if target == _CELLS else (0.0, 0.0)
        if not (rate or any(cells)) or not faults.hits(node.name):
            continue
        for key in sorted(keys & set(node.arrays)):
            memory = words_of(node, key)
            words = _corrupted(memory, rate, cells, (seed, target, node.name, key))
            changed = np.bitwise_count(words ^ memory.words)
            injected.add(target, memory.words.size * memory.bits, int(changed.sum()))
            if changed.any():
                arrays[key] = np.where(changed > 0, memory.read(words), node.arrays[key])
    return with_arrays(node, arrays) if arrays else node


def _corrupted(memory: Memory, rate: float, cells: tuple[float, float], name: tuple[object, ...]) -> np.ndarray:
    """The words after flips; then cells that are stuck, which no flip changes."""
    flat = memory.words.reshape(-1).copy()
    word, bit = _bits(named_key("flip", *name), memory, rate)
    np.bitwise_xor.at(flat, word, np.int64(1) << bit)
    word, bit = _bits(named_key("stuck", *name), memory, sum(cells))
    if len(word):
        # one draw for both, as a cell is stuck at one of them
        chosen = places(np.array([named_key("stuck at 1", *name)]), len(word), cells[1] / sum(cells))[1]
        ones = np.isin(np.arange(len(word)), chosen)
        np.bitwise_or.at(flat, word[ones], np.int64(1) << bit[ones])
        np.bitwise_and.at(flat, word[~ones], ~(np.int64(1) << bit[~ones]))
    return np.asarray(flat.reshape(memory.words.shape))


def _bits(key: np.uint64, memory: Memory, rate: float) -> tuple[np.ndarray, np.ndarray]:
    found = places(np.array([key]), memory.words.size * memory.bits, rate)[1]
    return found // memory.bits, found % memory.bits


def _with_dead(
    graph: Graph, node: Node, faults: Faults, unreachable: float, injected: Injected, seed: int
) -> Node:  # fmt: skip
    if node.operator not in ("neuron", "activation") or not faults.hits(node.name):
        return node
    shape = graph.shapes[node.name]
    dead = np.zeros(prod(shape), bool)
    dead[places(np.array([named_key("dead", seed, node.name)]), dead.size, faults.dead_neurons)[1]] = True
    injected.dead[node.name] = int(dead.sum())
    return without_units(node, dead.reshape(shape), unreachable) if dead.any() else node


def without_units(node: Node, gone: np.ndarray, unreachable: float) -> Node:
    """A neuron of which the units ``gone`` (*features) never fire, or an activation of which they always give 0.

    A threshold of whole numbers has an end, which a bias with faults could reach: what pushes such a unit goes as well.
    """
    if node.attributes.get("code") == "differential":
        raise UnsupportedError("units with differential spikes cannot fall silent", [f"{node.name}: use binary spikes"])
    key, value = ("threshold", unreachable) if node.operator == "neuron" else ("bound", 0.0)
    arrays = {key: np.where(gone, np.float32(value), _wide(node.arrays.get(key, np.asarray(_LARGEST)), gone))}
    for push in ("bias", "initial") if node.operator == "neuron" else ():
        held = _wide(node.arrays[push], gone)
        if (held[gone] > 0).any():
            arrays[push] = np.where(gone, np.minimum(held, 0), held)
    return with_arrays(node, arrays)


def _wide(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    spread = array if array.ndim in (0, like.ndim) else array.reshape(-1, *([1] * (like.ndim - 1)))
    return np.broadcast_to(spread, like.shape)


def _require_targets(faults: Faults, injected: Injected) -> None:
    """Raise UnsupportedError that lists what was to be hit and is nowhere."""
    asked = [target for target in STORED if getattr(faults, target)]
    missing = [f"{name} (none is stored in the layers that were named)" for name in asked if name not in injected.bits]
    if (faults.stuck_at_0 or faults.stuck_at_1) and _CELLS not in injected.bits:
        missing.append("stuck cells (the layers that were named have no weights)")
    if faults.dead_neurons and not injected.dead:
        missing.append("dead neurons (the layers that were named have none)")
    if missing:
        raise UnsupportedError("these faults hit nothing in this network", missing)
