"""Faults of what an integer network stores: IntegerProgram in, IntegerProgram out, the same on every backend.

Weights are words of eight bits, two's complement, times a power of two that a row shares (wider words where a network
that was not lowered here needs them); thresholds have 23 bits and no sign, biases and initial membranes 24 bits, limits
of spikes 8 or 16.
"""

from dataclasses import replace

import numpy as np

from .._check import SpikeportError
from ..networks.faults import Faults, require_layers
from ..networks.graph import Graph, Node
from ..networks.stored_faults import POSITIVE, Injected, Memory, faulty_nodes
from .program import STATE_BITS, STATE_LIMIT, IntegerProgram
from .ranges import state_interval, value_intervals

__all__ = ["checked_program", "faulty_program", "row_exponents"]

_WIDTHS = (8, 16, 24)
_LARGEST_STATE = 1 << 31  # what the registers of simulators hold


def faulty_program(program: IntegerProgram, faults: Faults, *, seed: int) -> tuple[IntegerProgram, Injected]:
    """Return the integer network with faults in its words, and what was hit.

    A threshold that becomes 0 is held as 1; what would leave 24 bits (-2^23) is held as the nearest number inside.  A
    dead neuron's threshold is the largest one.  How far states can go is proven anew, as bits that flip make weights
    larger: they may leave the 24 bits of the fault-free network, and simulators hold them in 32.
    Raises UnsupportedError for a target that the network does not have, SpikeportError for unknown layers and where a
    state could leave 32 bits.
    """
    require_layers(faults, program.graph)
    nodes, injected = faulty_nodes(program.graph, faults, integer_words, STATE_LIMIT, seed=seed)
    return checked_program(replace(program, graph=Graph.of(nodes, program.graph.information))), injected


def checked_program(program: IntegerProgram) -> IntegerProgram:
    """The program with other arrays than those it was lowered with, after checking it as a whole.

    Raises SpikeportError that lists the neurons and filters whose state could leave 32 bits within its steps.
    """
    program = IntegerProgram.of(program.graph)
    ranges = value_intervals(program.graph, program.input.low, program.input.high, program.steps)
    states = {node.name: state_interval(node, ranges[node.sources[0]], program.steps) for node in program.neurons}
    states |= {node.name: ranges[node.name] for node in program.graph.of_operator("synaptic_filter")}
    largest = {name: float(found.largest.max(initial=0)) for name, found in states.items()}
    beyond = [f"{name} ({bound:.3g})" for name, bound in largest.items() if bound >= _LARGEST_STATE]
    if beyond:
        raise SpikeportError(
            f"with these faults states could leave 32 bits within {program.steps} steps: {', '.join(beyond)}; lower "
            "the network for fewer steps, or choose lower rates for biases"
        )
    said = {**program.graph.information["integer"], "largest_state": largest}
    return replace(program, graph=Graph.of(program.graph.nodes, {**program.graph.information, "integer": said}))


def integer_words(node: Node, key: str) -> Memory:
    """The words of an array of an integer network."""
    values = node.arrays[key].astype(np.int64)
    if key in ("weight", "factor"):
        return _weight_words(values)
    if key == "limit":
        bits = 8 if values.max(initial=0) < 1 << 8 else 16
        return Memory(values, bits, lambda words: words)
    if key in POSITIVE:
        return Memory(values, STATE_BITS - 1, lambda words: np.maximum(words, 1))
    return Memory(_unsigned(values, STATE_BITS), STATE_BITS, lambda words: _inside(_signed(words, STATE_BITS)))


def row_exponents(weight: np.ndarray, bits: int = 8) -> np.ndarray | None:
    """The power of two that each row (first axis) of whole weights shares, so that what is left has ``bits`` bits.

    One for all rows where that fits, else for each row the least one that does; None where some row fits with none.

    >>> row_exponents(np.array([[4, -508], [2, 6]])).tolist(), row_exponents(np.array([[4000, 1]]))
    ([2, 1], None)
    """
    rows = weight.reshape(len(weight), -1) if weight.ndim else weight.reshape(1, 1)
    limit = (1 << (bits - 1)) - 1
    shared = np.full(len(rows), _power(np.bitwise_or.reduce(np.abs(rows), axis=None)))
    largest = np.abs(rows).max(1, initial=0)
    narrow = largest >> shared > limit
    shared[narrow] = [int(value).bit_length() - (bits - 1) for value in largest[narrow]]
    return None if (rows % (1 << shared)[:, None]).any() else np.asarray(shared)


def _power(number: np.integer) -> int:
    """The largest e for which 2^e divides the number; 0 for 0."""
    return (int(number) & -int(number)).bit_length() - 1 if number else 0


def _weight_words(values: np.ndarray) -> Memory:
    bits, exponents = next(
        (width, found) for width in _WIDTHS if (found := row_exponents(values, width)) is not None
    )  # fmt: skip
    spread = exponents.reshape(-1, *([1] * (values.ndim - 1))) if values.ndim else exponents[0]
    words = _unsigned(values >> spread, bits)
    return Memory(words, bits, lambda found: _inside(_signed(found, bits) << spread))


def _unsigned(values: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(values & ((1 << bits) - 1))


def _signed(words: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.asarray((words ^ half) - half)


def _inside(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(values, -STATE_LIMIT, STATE_LIMIT))
