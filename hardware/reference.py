"""The integer network in plain NumPy, one step after the other, written to be read: the oracle of every backend."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..networks.fault_draws import content_keys
from ..networks.graph import Edge, Node
from ..networks.transient import Transient, flip_whole, step_keys
from .program import DECAY_BITS, STATE_BITS, IntegerProgram
from .windows import windows

__all__ = ["Values", "decay", "decays", "fire", "run_reference", "steps_of"]

Values = dict[str, np.ndarray]
Attributes = Mapping[str, Any]


def decay(v: np.ndarray, k: np.ndarray) -> np.ndarray:
    """sign(v) * ((|v| * k) >> 12): toward zero.

    >>> decay(np.array([-5, 5, 4096]), np.array(2048)).tolist()
    [-2, 2, 2048]
    """
    return np.asarray(np.sign(v) * ((np.abs(v) * k) >> DECAY_BITS))


def decays(node: Node) -> np.ndarray:
    """The whole k of a neuron (4096 where it has no leak) or of a synaptic filter."""
    array = node.arrays.get("alpha" if node.operator == "synaptic_filter" else "beta", np.float32(1))
    return np.rint(np.asarray(array, np.float64) * (1 << DECAY_BITS)).astype(np.int64)


def fire(v: np.ndarray, theta: np.ndarray, count: np.ndarray, node: Node) -> np.ndarray:
    """The spikes of membranes v: see ``neurons.kernels.fire_reference`` for the codes; count: net spikes so far."""
    strict = node.attributes["test"] == ">"
    if node.attributes["code"] == "graded":
        level = (v - 1) // theta if strict else v // theta
        return np.asarray(np.clip(level, 0, node.attributes["levels"]))
    fired = v > theta if strict else v >= theta
    if node.attributes["code"] == "binary":
        return fired.astype(np.int64)
    return fired.astype(np.int64) - (~fired & (v < 0) & (count > 0))


def run_reference(
    program: IntegerProgram,
    x: np.ndarray,
    steps: int,
    *,
    constant: bool = True,
    record: Sequence[str] = (),
    transient: Transient | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run ``steps`` steps from fresh states.

    x: (n, *features), the same at every step, or (steps, n, *features) with ``constant=False``; analog.
    transient: faults during the run.
    Returns the readout's current (steps, n, classes) int64, and for each recorded node (steps, n, *features) int64.
    Raises ShapeError and RangeError as ``IntegerProgram.require_input``.
    """
    outputs, recorded = [], {name: [] for name in record}  # type: ignore[var-annotated]
    for values in steps_of(program, x, steps, constant=constant, transient=transient):
        outputs.append(values[program.graph.output.name])
        for name in record:
            recorded[name].append(values[name])
    return np.stack(outputs), {name: np.stack(found) for name, found in recorded.items()}


def steps_of(
    program: IntegerProgram, x: np.ndarray, steps: int, *, constant: bool = True, transient: Transient | None = None
) -> Iterator[Values]:
    """All values of all nodes, step by step; the output node's value is its current."""
    program.require_input(x, steps=steps, constant=constant)
    code, graph = program.input(x).astype(np.int64), program.graph
    batch = len(x) if constant else x.shape[1]
    late = {  # what was given in the last steps, newest last
        node.name: [np.zeros((batch, *graph.shapes[node.name]), np.int64)] * depth
        for node in graph.nodes
        if (depth := _depth(program, node))
    }
    state = {node.name: _fresh(node, (batch, *graph.shapes[node.name])) for node in graph.nodes}
    hit = frozenset() if transient is None else frozenset(node.name for node in transient.hit)
    samples = content_keys(x) if constant and hit else np.zeros(batch, np.uint64)
    for t in range(steps):
        values: Values = {}
        samples = samples if constant or not hit else content_keys(x[t], samples)

        def read(edge: Edge, values: Values = values) -> np.ndarray:
            return late[edge.source][-edge.delay] if edge.delay else values[edge.source]

        for node in graph.nodes:
            if node.operator == "input":
                values[node.name] = code if constant else code[t]
            elif node.operator == "delay":
                values[node.name] = late[node.sources[0]][-_lag(node)]
            else:
                values[node.name] = _value(node, [read(edge) for edge in node.inputs], state[node.name])
            if transient is not None and node.name in hit:
                _hit(transient, node, step_keys(samples, np.array(t)), values, state[node.name])
        for name, line in late.items():
            late[name] = [*line[1:], values[name]]
        yield values


def _hit(transient: Transient, node: Node, keys: np.ndarray, values: Values, state: Values) -> None:
    """Lose spikes of this step, and flip bits of the state that is left after it."""
    if node.operator == "neuron":
        rows, units = transient.dropped(node, keys)
        sent = values[node.name].copy()
        sent.reshape(len(sent), -1)[rows, units] = 0
        values[node.name] = sent
    if transient.faults.state:
        key = "v" if node.operator == "neuron" else "i"
        held = np.array(state[key])
        flip_whole(held.reshape(len(held), -1), *transient.flipped(node, keys, STATE_BITS))
        state[key] = held


def _lag(node: Node) -> int:
    return node.inputs[0].delay + int(node.attributes["steps"])


def _depth(program: IntegerProgram, node: Node) -> int:
    """How many past values of the node some other reads."""
    readers = [program.graph.by_name[name] for name in program.graph.consumers[node.name]]
    lags = [_lag(r) if r.operator == "delay" else e.delay for r in readers for e in r.inputs if e.source == node.name]
    return max(lags, default=0)


def _fresh(node: Node, shape: tuple[int, ...]) -> Values:
    if node.operator == "neuron":
        start = np.broadcast_to(whole(node, "initial", len(shape) - 1), shape)
        return {"v": start, "count": np.zeros(shape, np.int64), "fired": np.zeros(shape, np.int64)}
    return {"i": np.zeros(shape, np.int64)} if node.operator == "synaptic_filter" else {}


def whole(node: Node, key: str, rank: int) -> np.ndarray:
    """An array of the node as int64, so that it broadcasts against (batch, channels, *rest) of that many features."""
    return channelwise(node.arrays[key].astype(np.int64), rank)


def channelwise(array: np.ndarray, rank: int) -> np.ndarray:
    """View a (), (channels,) or whole-shape array so that it broadcasts against (batch, channels, *rest)."""
    return array if array.ndim in (0, rank) else array.reshape(-1, *([1] * (rank - 1)))


def _value(node: Node, inputs: list[np.ndarray], state: Values) -> np.ndarray:
    x, rank = inputs[0], inputs[0].ndim - 1
    if node.operator == "neuron":
        return _neuron(node, x, state)
    if node.operator == "synaptic_filter":
        state["i"] = decay(state["i"], channelwise(decays(node), rank)) + x
        return state["i"]
    if node.operator in ("add", "concat"):
        return np.concatenate(inputs, node.attributes["axis"] + 1) if node.operator == "concat" else sum(inputs[1:], x)
    return _FUNCTIONS[node.operator](node, x)


def _neuron(node: Node, x: np.ndarray, state: Values) -> np.ndarray:
    rank = x.ndim - 1
    theta, k = whole(node, "threshold", rank), channelwise(decays(node), rank)
    v = state["v"]
    before = fire(v, theta, state["count"], node) if node.attributes["late"] else 0
    v = decay(v, k) + x + whole(node, "bias", rank) - theta * before
    s = fire(v, theta, state["count"], node)
    if node.attributes["reset"] == "subtract" and not node.attributes["late"]:
        v = v - theta * s
    elif node.attributes["reset"] == "zero":
        v = np.where(s != 0, 0, v)
    state["v"], state["count"], state["fired"] = v, state["count"] + s, state["fired"] + np.abs(s)
    return np.where(state["fired"] <= whole(node, "limit", rank), s, 0) if "limit" in node.arrays else s


def _linear(node: Node, x: np.ndarray) -> np.ndarray:
    return _with_bias(node, _product(x, node.arrays["weight"].astype(np.int64).T))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b of whole numbers; float64 holds every partial sum (below 2^53) and is far faster than int64."""
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _convolution(node: Node, x: np.ndarray) -> np.ndarray:
    """Cross-correlation, group by group: a product of columns (one a place) and kernels."""
    weight, groups = node.arrays["weight"].astype(np.int64), node.attributes["groups"]
    seen = windows(node, x, 0)
    places, axes = seen.shape[2 : x.ndim], weight.ndim - 2
    seen = seen.reshape(len(x), groups, -1, *seen.shape[2:])  # (n, groups, channels, *places, *kernel)
    columns = np.moveaxis(seen, 2, 2 + axes).reshape(len(x), groups, int(np.prod(places)), -1)
    kernels = weight.reshape(groups, len(weight) // groups, -1).transpose(0, 2, 1)
    y = _product(columns, kernels).transpose(0, 1, 3, 2)
    return _with_bias(node, y.reshape(len(x), len(weight), *places))


def _with_bias(node: Node, y: np.ndarray) -> np.ndarray:
    if "bias" not in node.arrays:
        return y
    bias = node.arrays["bias"].astype(np.int64)
    return y + (bias if node.operator == "linear" else bias.reshape(-1, *([1] * (y.ndim - 2))))


def _scale(node: Node, x: np.ndarray) -> np.ndarray:
    y = x * whole(node, "factor", x.ndim - 1)
    return np.asarray(y + whole(node, "shift", x.ndim - 1) if "shift" in node.arrays else y)


def _sum_pool(node: Node, x: np.ndarray) -> np.ndarray:
    """The padding counts as 0."""
    seen = windows(node, x, 0)
    return np.asarray(seen.sum(tuple(range(x.ndim, seen.ndim))))


def _max_pool(node: Node, x: np.ndarray) -> np.ndarray:
    """The padding never wins."""
    seen = windows(node, x, int(np.iinfo(np.int64).min))
    return np.asarray(seen.max(tuple(range(x.ndim, seen.ndim))))


def _global_pool(node: Node, x: np.ndarray) -> np.ndarray:
    flat = x.reshape(*x.shape[:2], -1)
    return np.asarray(flat.max(2) if node.attributes["function"] == "max" else flat.sum(2))


def _pad(node: Node, x: np.ndarray) -> np.ndarray:
    widths = list(zip(node.attributes["before"], node.attributes["after"], strict=True))
    return np.pad(x, [(0, 0), *widths], constant_values=int(node.attributes["value"]))


_FUNCTIONS: Mapping[str, Callable[[Node, np.ndarray], np.ndarray]] = {
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "scale": _scale,
    "sum_pool": _sum_pool,
    "max_pool": _max_pool,
    "global_pool": _global_pool,
    "flatten": lambda node, x: x.reshape(len(x), -1),
    "reshape": lambda node, x: x.reshape(len(x), *node.attributes["shape"]),
    "transpose": lambda node, x: x.transpose(0, *(axis + 1 for axis in node.attributes["permutation"])),
    "pad": _pad,
    "output": lambda node, x: x,
}
