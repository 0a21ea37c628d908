"""Lowering: a spiking Graph becomes an integer program, once, for every backend.

A channel's unit u is the scale of its weights over 2^e: with e fractional bits thresholds, biases and membranes are
finer than weights.  e is as large as the proven range of the membrane allows, at most 6 (Loihi's shift); where not even
e = 0 fits, the weights are made coarser, and the lowering says where.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .._check import RangeError, SpikeportError
from ..networks.graph import Graph, Node, make_node
from .normal import SYNAPSES, Normal, normalised
from .program import DECAY_BITS, STATE_LIMIT, InputCode, IntegerProgram, information
from .quantise import best_scales, power_of_two_steps, rounded
from .ranges import Interval, state_interval, value_intervals
from .reference import channelwise
from .rounding import Moments, rounded_to_inputs
from .units import Group, groups, incoming, per_channel

__all__ = ["MOST_FRACTION_BITS", "input_code", "lower"]

MOST_FRACTION_BITS = 6
_LEVELS, _MOST_LEVELS = (1 << 8) - 1, (1 << 12) - 1  # of the input: as a rule, and where it comes in steps
_OUTPUT_LIMIT = 1 << 52
_ROOM = (1.03, 1.12, 1.4)  # between the real network's range and 24 bits, tried in turn: rounded weights reach further


def input_code(low: float, high: float, *, step: float | None = None) -> InputCode:
    """Whole numbers for inputs between ``low`` and ``high``: 256 of them, from 0 on where no input is below 0.

    step: all inputs are whole multiples of it (events, pixels, what was eight bits before); up to 4096 of these keep
    their value, so that nothing is lost.
    Raises RangeError for a range that is not finite or empty, or a step that is not above 0.

    >>> input_code(0.0, 1.0).scale == 1 / 255, input_code(-2.0, 0.55).low, input_code(0.0, 3.0, step=0.5).high
    (True, -200, 7)
    """
    if not (np.isfinite([low, high]).all() and low <= high):
        raise RangeError(f"the input lies between {low} and {high}; a finite range was wanted")
    if step is not None and not 0 < step < float("inf"):
        raise RangeError(f"the input's step is {step}; a number above 0 was wanted")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _LEVELS
    if step is not None and high - low <= _MOST_LEVELS * step:
        scale = step
    if scale == 0:
        return InputCode(1.0, 0, 1)
    bottom, top = round(low / scale), round(high / scale)
    room = (1 << (top - bottom).bit_length()) - 1  # later inputs may go further than those at hand
    return InputCode(scale, bottom, max(bottom + room, 1))


def lower(
    graph: Graph, code: InputCode, *, steps: int = 64, moments: Mapping[str, Moments] | None = None
) -> IntegerProgram:
    """Return the integer program of a spiking graph for inputs in ``code``, proven for up to ``steps`` steps.

    moments: of what synapses read (``rounding.input_moments``): biases take over what rounding changes of the mean
    current, and where covariances are known, weights are rounded so that the current changes least.  Otherwise each
    weight is rounded to the nearest.
    Raises UnsupportedError that lists all that has no integer form, RangeError for steps outside 1 to 4096, and
    SpikeportError where a range cannot be met even with the coarsest weights.
    """
    if not 1 <= steps <= 4096:
        raise RangeError(f"steps is {steps}; choose 1 to 4096")
    normal = normalised(graph)
    for room in _ROOM:
        program, beyond = _proven(_program(_Lowering(normal, code, steps, room, moments or {}), graph.information))
        if not beyond:
            return program
    raise SpikeportError(f"states leave 24 bits within {steps} steps: {beyond}; ask for fewer steps")


def _program(work: "_Lowering", facts: Mapping[str, Any]) -> IntegerProgram:
    for group in groups(work.normal):
        work.choose(group)
    nodes = [work.lowered(node) for node in work.normal.graph.nodes]
    said = information(work.code, work.output_scale(), work.steps, **work.notes())
    return IntegerProgram.of(Graph.of(nodes, {**facts, "integer": said}))


@dataclass
class _Lowering:
    normal: Normal
    code: InputCode
    steps: int
    room: float
    moments: Mapping[str, Moments] = field(default_factory=dict)
    units: dict[str, np.ndarray] = field(default_factory=dict)  # in full shape
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    left: dict[str, np.ndarray] = field(default_factory=dict)  # of the mean current, in units: biases take it over
    relative: dict[str, float] = field(default_factory=dict)  # to the unit of a node's group
    coarser: dict[str, int] = field(default_factory=dict)
    beta_error: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.code.low * self.code.scale, self.code.high * self.code.scale
        self.graph = self.normal.graph
        self.ranges: Mapping[str, Interval] = value_intervals(_real(self.normal), low, high, self.steps)
        for node in self.graph.nodes:
            if node.operator in ("input", "neuron"):
                unit = self.code.scale if node.operator == "input" else 1.0
                self.units[node.name] = np.full(self.graph.shapes[node.name], unit)

    def unit(self, name: str) -> np.ndarray:
        """The real value of one unit of each place of a node; of a current only once its group has been chosen."""
        if name not in self.units:
            node, shape = self.graph.by_name[name], self.graph.shapes[name]
            if node.operator == "concat":
                parts = [self.unit(source) for source in node.sources]
                self.units[name] = np.concatenate(parts, node.attributes["axis"])
            else:
                found = [incoming(node, self.unit(source), shape) for source in node.sources]
                if any(not np.allclose(other, found[0], rtol=1e-9) for other in found[1:]):
                    raise SpikeportError(f"{name} adds spikes of different worth; put a synapse before it")
                self.units[name] = found[0] * self.normal.gains.get(name, 1.0)
        return self.units[name]

    def choose(self, group: Group) -> None:
        """Choose the unit of a group and make its weights whole."""
        rows = {name: self.rows(self.graph.by_name[name], group) for name in group.synapses}
        self.relative.update(group.relative)
        first = max(rows, key=lambda name: (rows[name].size, -group.synapses.index(name)))
        spread = rows[first] if group.channels else rows[first].reshape(1, -1)
        scale, bound = best_scales(spread), self.bound(group)
        scale = np.where(scale > 0, scale, np.maximum(bound, np.finfo(np.float32).tiny) / (1 << 16))
        finest = bound * (self.room / STATE_LIMIT)
        bits = np.floor(np.log2(scale / np.maximum(finest, np.finfo(float).tiny)))
        bits = int(np.clip(np.quantile(bits, 0.1, method="lower"), 0, MOST_FRACTION_BITS))
        unit = np.maximum(scale / 2**bits, finest)
        wide = int((unit > scale / 2**bits).sum())
        if wide:
            self.coarser[first] = wide
        for name, relative in group.relative.items():
            shape = self.graph.shapes[name]
            spread = unit * relative
            self.units[name] = np.broadcast_to(spread.reshape(-1, *([1] * (len(shape) - 1))), shape)
        for name, wanted in rows.items():
            step = 2.0**bits if name == first else power_of_two_steps(
                wanted if group.channels else wanted.reshape(1, -1), unit
            )  # fmt: skip
            step = np.broadcast_to(np.asarray(step), unit.shape)
            self.weights[name] = self.rounded(name, wanted, unit * step) * step[:, None]

    def rounded(self, name: str, rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The whole weights of a synapse in units of ``scale``: by what it reads where that is known."""
        scale = np.broadcast_to(scale, len(rows))
        if name not in self.moments:
            return rounded(rows, scale[:, None])
        whole, left = rounded_to_inputs(rows, scale, self.moments[name].over(self.columns(self.graph.by_name[name])))
        self.left[name] = left * self.relative[name]
        return whole

    def columns(self, node: Node) -> np.ndarray:
        """The real value of one unit of what meets each weight of an output: (groups, columns)."""
        source, weight = self.unit(node.sources[0]), node.arrays["weight"]
        if node.operator == "linear":
            return np.asarray(source.reshape(-1, source.shape[-1])[:1])
        each = per_channel(node, source).reshape(node.attributes["groups"], -1)
        return np.repeat(each, weight[0, 0].size, 1)

    def rows(self, node: Node, group: Group) -> np.ndarray:
        """The weights of a synapse, a row an output channel, for inputs in whole numbers and a group of unit 1."""
        source = self.unit(node.sources[0])
        if node.operator == "scale":
            shape = self.graph.shapes[node.name]
            factor = np.asarray(node.arrays["factor"], np.float64)
            factor = factor if factor.ndim in (0, len(shape)) else factor.reshape(-1, *([1] * (len(shape) - 1)))
            wide = np.broadcast_to(factor, shape) * source
            weight = wide.reshape(shape[0], -1)
            if (weight == weight[:, :1]).all():
                weight = weight[:, :1]
        elif node.operator == "linear":
            per_place = source.reshape(-1, source.shape[-1])
            if not (per_place == per_place[:1]).all():
                raise SpikeportError(f"{node.name} reads spikes of different worth at different places")
            weight = node.arrays["weight"].astype(np.float64) * per_place[0]
        else:
            weight = node.arrays["weight"].astype(np.float64)
            groups = node.attributes["groups"]
            unit = np.repeat(per_channel(node, source).reshape(groups, -1), len(weight) // groups, 0)
            weight = (weight * unit.reshape(*unit.shape, *([1] * (weight.ndim - 2)))).reshape(len(weight), -1)
        return np.asarray(weight / group.relative[node.name])

    def bound(self, group: Group) -> np.ndarray:
        """The largest state or current of each channel of the group, in real units of the group."""
        largest = np.zeros(group.channels or 1)
        for name in [*group.relative, *group.sinks]:
            node = self.graph.by_name[name]
            source = node.sources[0] if node.operator in ("neuron", "output") else name
            value = self.ranges[source]
            if node.operator == "neuron":
                arrays = {key: np.asarray(array) for key, array in node.arrays.items()}
                value = state_interval(replace(node, arrays=arrays), value, self.steps)
            size = value.largest
            if node.operator == "neuron":  # a bias may be larger than all that it leads to
                size = np.maximum(size, np.abs(channelwise(node.arrays["bias"], size.ndim)))
            flat = (size / group.relative[source]).reshape(len(value.low), -1)
            largest = np.maximum(largest, flat.max(1) if group.channels else flat.max())
        return np.asarray(largest)

    def lowered(self, node: Node) -> Node:
        """The node with whole arrays."""
        arrays = {}
        if node.operator in SYNAPSES:
            key = "factor" if node.operator == "scale" else "weight"
            arrays = {key: _shaped(self.weights[node.name], node, self.graph.shapes[node.name])}
            shift = "shift" if node.operator == "scale" else "bias"
            if node.name in self.left:
                known = np.asarray(node.arrays.get(shift, 0.0), np.float64)
                node = replace(node, arrays={**node.arrays, shift: known + self.left[node.name]})
            if shift in node.arrays:
                arrays[shift] = self.whole(node, shift, self.unit(node.name))
        elif node.operator == "neuron":
            unit = self.unit(node.sources[0])
            arrays = {key: self.whole(node, key, unit) for key in ("initial", "bias")}
            # a threshold beyond the limit is one that no membrane reaches
            arrays["threshold"] = np.clip(self.whole(node, "threshold", unit), 1, STATE_LIMIT)
            if "limit" in node.arrays:
                arrays["limit"] = np.floor(node.arrays["limit"])
            if "beta" in node.arrays:
                arrays["beta"] = self.decay(node, "beta")
        elif node.operator == "synaptic_filter":
            arrays = {"alpha": self.decay(node, "alpha")}
        return make_node(node.name, node.operator, node.inputs, arrays=arrays, **node.attributes)

    def whole(self, node: Node, key: str, unit: np.ndarray) -> np.ndarray:
        """round(array / unit), of as few axes as serve."""
        array = np.asarray(node.arrays[key], np.float64)
        if node.operator == "linear":
            return np.asarray(np.rint(array / unit.reshape(-1, unit.shape[-1])[0]))
        shape = unit.shape
        wide = array if array.ndim in (0, len(shape)) else array.reshape(-1, *([1] * (len(shape) - 1)))
        found = np.rint(wide / unit)
        flat = found.reshape(shape[0], -1)
        return np.asarray(flat[:, 0] if (flat == flat[:, :1]).all() else found)

    def decay(self, node: Node, key: str) -> np.ndarray:
        """The nearest k / 4096, k from 1 to 4096; the largest error is kept for the report."""
        array = np.asarray(node.arrays[key], np.float64)
        k = np.clip(np.rint(array * (1 << DECAY_BITS)), 1, 1 << DECAY_BITS) / (1 << DECAY_BITS)
        self.beta_error[node.name] = float(np.abs(k - array).max())
        return np.asarray(k)

    def output_scale(self) -> float:
        """The real value of one unit of the readout's current: one for all classes."""
        return float(self.unit(self.graph.output.sources[0]).flat[0])

    def notes(self) -> dict[str, Any]:
        """What the lowering has to say, as JSON."""
        fitted = any(each.covariance is not None for each in self.moments.values())
        said = {"rounding": "fitted" if fitted else "nearest", "means_kept": bool(self.moments)}
        return {"channels_with_coarser_weights": self.coarser, "decay_error": self.beta_error, **said}


def _real(normal: Normal) -> Graph:
    """The normal graph with its averages again, for ranges in real units."""
    nodes = []
    for node in normal.graph.nodes:
        if node.name in normal.gains and node.operator == "sum_pool":
            node = make_node(node.name, "average_pool", node.inputs, **node.attributes)
        elif normal.gains.get(node.name, 1.0) != 1.0:
            node = make_node(node.name, "global_pool", node.inputs, function="mean")
        nodes.append(node)
    return Graph.of(nodes)


def _shaped(rows: np.ndarray, node: Node, shape: tuple[int, ...]) -> np.ndarray:
    if node.operator != "scale":
        return rows.reshape(node.arrays["weight"].shape)
    return rows[:, 0] if rows.shape[1] == 1 else rows.reshape(shape)


def _proven(program: IntegerProgram) -> tuple[IntegerProgram, dict[str, float]]:
    """Check the ranges of the whole numbers themselves, and write them down; also the states that leave 24 bits."""
    code, graph = program.input, program.graph
    ranges = value_intervals(graph, code.low, code.high, program.steps)
    states = {}
    for node in graph.nodes:
        if node.operator == "neuron":
            states[node.name] = float(
                state_interval(node, ranges[node.sources[0]], program.steps).largest.max(initial=0)
            )
        elif node.operator == "synaptic_filter":
            states[node.name] = float(ranges[node.name].largest.max(initial=0))
    beyond = {name: value for name, value in states.items() if value > STATE_LIMIT}
    last = float(ranges[graph.output.sources[0]].largest.max(initial=0))
    if last * program.steps ** (1 + graph.output.attributes["ramp"]) > _OUTPUT_LIMIT:
        raise SpikeportError(f"the output leaves 53 bits within {program.steps} steps; ask for fewer steps")
    said = {**graph.information["integer"], "largest_state": states, "largest_output": last}
    return replace(program, graph=Graph.of(graph.nodes, {**graph.information, "integer": said})), beyond
