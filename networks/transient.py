"""Faults during a run: spikes that are lost on their way, bits of states that flip after a step.

What is hit follows from the seed, the sample's values, the step, the node and the unit: not from batches, chunks of
time or the order of samples, so that every engine which can do this hits the same places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from .._check import UnsupportedError
from .fault_draws import mixed, named_key, places
from .faults import Faults, require_layers
from .graph import Graph, Node

__all__ = ["Transient", "flip_floats", "flip_whole", "memory_order", "step_keys", "transient_of"]


@dataclass(frozen=True)
class Transient:
    """The faults during a run of one network.

    Raises UnsupportedError where there is nothing to hit (no spikes, no states) or differential spikes would be, which
    are changes of a value; SpikeportError for unknown layers.
    """

    graph: Graph
    faults: Faults
    seed: int

    def __post_init__(self) -> None:
        require_layers(self.faults, self.graph)
        decoding = [node.name for node in self.hit if node.attributes.get("code") == "differential"]
        problems = [f"{name} (differential spikes: use binary, signed or burst)" for name in decoding]
        if self.faults.dropped_spikes and not self.graph.of_operator("neuron"):
            problems.append("dropped spikes (the network has no neurons)")
        if self.faults.transient and not self.hit:
            problems.append("the layers that were named (none of them spikes or remembers)")
        if problems:
            raise UnsupportedError("these faults cannot happen in this network", problems)

    @cached_property
    def hit(self) -> tuple[Node, ...]:
        """The neurons, and with flips in states the synaptic filters."""
        kinds = ("neuron", "synaptic_filter") if self.faults.state else ("neuron",)
        return tuple(node for node in self.graph.nodes if node.operator in kinds and self.faults.hits(node.name))

    def dropped(self, node: Node, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the keys and units (row-major) whose spikes are lost; keys: uint64 (rows,), of ``step_keys``."""
        own = mixed(keys ^ named_key("dropped", self.seed, node.name))
        return places(own, self._units(node), self.faults.dropped_spikes)

    def flipped(self, node: Node, keys: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the keys, units (row-major) and bits, of ``bits`` of each state, that flip after the step."""
        own = mixed(keys ^ named_key("state", self.seed, node.name))
        rows, found = places(own, self._units(node) * bits, self.faults.state)
        return rows, found // bits, found % bits

    def _units(self, node: Node) -> int:
        return prod(self.graph.shapes[node.name])


def transient_of(graph: Graph, faults: Faults | None, seed: int) -> Transient | None:
    """The faults during a run of this network; None where there are none."""
    return Transient(graph, faults, seed) if faults is not None and faults.transient else None


def step_keys(samples: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """The key of each sample's step: uint64, of the samples' keys and the steps done before, which broadcast."""
    with np.errstate(over="ignore"):
        return mixed(samples + mixed(ages.astype(np.uint64)))


def flip_whole(states: np.ndarray, rows: np.ndarray, units: np.ndarray, bits: np.ndarray) -> None:
    """Flip bits of states of 24 bits, two's complement, in place; states: whole numbers (rows, units).

    Bit 23 is the sign, so all bits above it follow it.
    """
    patterns = np.where(bits == 23, -(1 << 23), np.int64(1) << bits).astype(states.dtype)
    np.bitwise_xor.at(states, (rows, units), patterns)


def flip_floats(states: np.ndarray, rows: np.ndarray, units: np.ndarray, bits: np.ndarray) -> None:
    """Flip bits of float32 states in place; NaN and infinity are held as the largest number of their sign."""
    np.bitwise_xor.at(states.view(np.uint32), (rows, units), (np.uint64(1) << bits.astype(np.uint64)).astype(np.uint32))
    hit = states[rows, units]
    states[rows, units] = np.where(np.isfinite(hit), hit, np.copysign(np.finfo(np.float32).max, hit))


def memory_order(shape: Sequence[int]) -> np.ndarray:
    """Where each unit, counted row-major, lies in the order of memory: channels last for (channels, height, width)."""
    if len(shape) != 3:
        return np.arange(prod(shape))
    channels, height, width = shape
    return np.arange(prod(shape)).reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
