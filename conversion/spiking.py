"""Activations become neurons; what a spike stands for (its threshold) moves into the weights that read it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .._check import UnsupportedError
from ..networks.graph import Edge, Graph, Node, make_node
from ..networks.shape_rules import Shape
from .codes import parse_code
from .differential import differential, with_lines
from .rewrite import SYNAPSES, fresh, is_maximum, plain, rebuilt, rewired, with_arrays
from .statistics import by_unit

ANY_FUNCTION = "choose --spikes differential"
NEED_VALUES = {
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "silu": "SiLU",
    "hard_swish": "hard-swish",
    "hard_sigmoid": "hard-sigmoid",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "erf": "Erf",
    "softmax": "Softmax inside the network",
    "layer_norm": "LayerNorm",
    "rms_norm": "RMSNorm",
    "matmul": "a product of two rates",
}
PASSES_SCALE = ("sum_pool", "average_pool", "global_pool", "pad", "flatten", "reshape", "transpose")


def require_convertible(graph: Graph, code: str = "binary") -> None:
    """Raise one UnsupportedError that lists every operator that spikes of this code cannot pass."""
    decodes = parse_code(code).decodes
    problems = [
        f"{node.name} ({node.operator}): {reason}"
        for node in graph.nodes
        for reason in [_quantised(node) if decodes else _objection(graph, node)]
        if reason
    ]
    if problems:
        raise UnsupportedError(f"cannot convert {len(problems)} operator{'s' * (len(problems) > 1)}", problems)
    if not prepared(graph, code).of_operator("activation"):
        raise UnsupportedError(
            "nothing to convert",
            ["the network has no ReLU that could become a spiking neuron (remedy: retrain with ReLU)"],
        )


def prepared(graph: Graph, code: str) -> Graph:
    """The simplified analog Graph with a node for every neuron that the code needs; its output is the same."""
    return with_lines(graph) if parse_code(code).decodes else graph


def _quantised(node: Node) -> str:
    if "bound" in node.arrays:
        return "it falls to 0 above a bound, and differential spikes have none: convert the network without bounds"
    levels = node.attributes.get("levels")
    return f"it has {levels} levels, which binary or signed spikes say exactly: choose those" if levels else ""


def _objection(graph: Graph, node: Node) -> str:
    if "bound" in node.arrays:
        return "it falls to 0 above a bound: convert the network without bounds, and limit the spikes of the result"
    if node.operator in ("function", *NEED_VALUES):
        what = NEED_VALUES.get(node.attributes.get("function", node.operator), "no ReLU")
        return f"{what}: {ANY_FUNCTION}, or retrain with ReLU and batch norm"
    if node.operator == "multiply":
        return f"a product of two rates: {ANY_FUNCTION}, or replace it by a convolution or a constant factor"
    if is_maximum(node) and any(_carries_rates(graph, source) for source in node.sources):
        return (
            "the maximum of rates is not known at a step: put it directly after a ReLU, use average pooling, or "
            f"{ANY_FUNCTION}"
        )
    return ""


def _carries_rates(graph: Graph, name: str) -> bool:
    node = graph.by_name[name]
    if node.operator == "activation":
        return True
    passes = node.operator in (*PASSES_SCALE, "concat", "add", "max_pool", "scale")
    return passes and any(_carries_rates(graph, source) for source in node.sources)


def spiking(graph: Graph, thresholds: Mapping[str, np.ndarray], code: str) -> Graph:
    """The analog Graph with every activation replaced by integrate-and-fire neurons.

    A neuron starts at half its threshold, fires at v >= theta and resets by subtraction; its spike stands for theta,
    or for theta / levels where it may fire so many times a step (burst).  Differential codes: see ``differential``.
    code: see ``parse_code``.
    Source: Bu et al. 2022 (arXiv 2303.04347) for the start at theta / 2.
    """
    spikes = parse_code(code)
    if spikes.decodes:
        return differential(graph, thresholds, spikes.levels)
    nodes: list[Node] = list(graph.nodes)
    for node in graph.of_operator("activation"):
        theta = by_unit(graph, node, thresholds[node.name]) / np.float32(spikes.levels)
        neuron = make_node(
            node.name,
            "neuron",
            node.inputs,
            arrays={"threshold": theta, "initial": theta / 2, "bias": np.zeros_like(theta)},
            code="graded" if spikes.kind == "burst" else spikes.kind,
            levels=spikes.levels,
            test=">=",
            reset="subtract",
        )
        amplitude = fresh(graph, f"{node.name}.amplitude")
        nodes = rewired([neuron if n.name == node.name else n for n in nodes], node.name, amplitude)
        nodes.append(make_node(amplitude, "scale", [Edge(node.name)], arrays={"factor": theta}))
    return absorbed(rebuilt(graph, nodes))


def absorbed(graph: Graph) -> Graph:
    """Move scales forward into the weights that read them, until none can move."""
    after: Graph | None = graph
    while after is not None:
        graph, after = after, _one_move(after)
    return graph


def _one_move(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        if node.operator == "concat":
            moved = _past_concat(graph, node)
        elif node.operator in (*SYNAPSES, *PASSES_SCALE) and _movable(graph.by_name[node.sources[0]]):
            moved = _past(graph, graph.by_name[node.sources[0]], node)
        elif node.operator == "scale" and plain(node) and _movable(graph.by_name[node.sources[0]]):
            moved = _one_scale(graph, graph.by_name[node.sources[0]], node)
        else:
            moved = None
        if moved is not None:
            return moved
    return None


def _movable(node: Node) -> bool:
    return node.operator == "scale" and "shift" not in node.arrays and plain(node)


def _past(graph: Graph, scale: Node, reader: Node) -> Graph | None:
    """Let ``reader`` read what the scale reads; its weights take the factor, or a scale after it does."""
    factor, shape = scale.arrays["factor"], graph.shapes[scale.name]
    if not plain(reader) or reader.attributes.get("value"):
        return None
    if reader.operator in SYNAPSES:
        weight = _scaled_weight(reader, factor, shape)
        if weight is None:
            return None
        new = with_arrays(replace(reader, inputs=scale.inputs), weight=weight)
        return rebuilt(graph, [new if n.name == reader.name else n for n in graph.nodes])
    after = _factor_after(reader, factor, shape, graph.shapes[reader.name])
    if after is None:
        return None
    moved = make_node(fresh(graph, f"{reader.name}.amplitude"), "scale", [reader.name], arrays={"factor": after})
    nodes = rewired([n for n in graph.nodes if n.name != reader.name], reader.name, moved.name)
    return rebuilt(graph, [*nodes, replace(reader, inputs=scale.inputs), moved])


def _one_scale(graph: Graph, first: Node, second: Node) -> Graph:
    """b (a x) + c = (a b) x + c."""
    rank = len(graph.shapes[first.name])
    shapes = [scale.arrays["factor"].shape for scale in (first, second)]
    widest = max(len(shape) for shape in shapes)
    factors = [
        factor.reshape(-1, *([1] * (rank - 1))) if widest > 1 and factor.ndim == 1 else factor
        for factor in (first.arrays["factor"], second.arrays["factor"])
    ]
    merged = with_arrays(replace(second, inputs=first.inputs), factor=factors[0].astype(np.float64) * factors[1])
    return rebuilt(graph, [merged if n.name == second.name else n for n in graph.nodes])


def _scaled_weight(reader: Node, factor: np.ndarray, shape: Shape) -> np.ndarray | None:
    """W[o, i] * factor[i], or None where the factor is not constant over a channel."""
    weight = reader.arrays["weight"].astype(np.float64)
    if factor.ndim == 0:
        return np.asarray(weight * factor)
    if reader.operator == "linear":
        by_token = np.broadcast_to(factor, shape) if factor.ndim == len(shape) else None
        if by_token is None:
            return None
        rows = by_token.reshape(-1, shape[-1])
        return np.asarray(weight * rows[0]) if (rows == rows[:1]).all() else None
    if factor.ndim > 1:
        return None
    groups = reader.attributes["groups"]
    by_group = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, 0)  # (out, in / groups)
    return np.asarray(weight * by_group.reshape(*by_group.shape, *([1] * (weight.ndim - 2))))


def _factor_after(reader: Node, factor: np.ndarray, shape: Shape, new_shape: Shape) -> np.ndarray | None:
    """The factor in the shape that the reader gives, or None where it does not commute with the reader."""
    if factor.ndim == 0:
        return factor
    if reader.operator in ("flatten", "reshape", "transpose"):
        whole = np.broadcast_to(factor.reshape(-1, *([1] * (len(shape) - 1))) if factor.ndim == 1 else factor, shape)
        order = reader.attributes.get("permutation")
        return whole.transpose(order) if order else whole.reshape(new_shape)
    if factor.ndim > 1:
        return None
    if reader.operator == "pad":
        return np.pad(factor, (reader.attributes["before"][0], reader.attributes["after"][0]), constant_values=1.0)
    return factor


def _past_concat(graph: Graph, concat: Node) -> Graph | None:
    """A concat of scaled channels is a scale of concatenated channels."""
    scales = [graph.by_name[name] for name in concat.sources]
    if (
        concat.attributes["axis"] != 0
        or not plain(concat)
        or not all(_movable(s) and s.arrays["factor"].ndim < 2 for s in scales)
    ):
        return None
    factors = [np.broadcast_to(s.arrays["factor"], graph.shapes[s.name][:1]) for s in scales]
    name = fresh(graph, f"{concat.name}.amplitude")
    moved = make_node(name, "scale", [concat.name], arrays={"factor": np.concatenate(factors)})
    nodes = rewired([n for n in graph.nodes if n.name != concat.name], concat.name, name)
    return rebuilt(graph, [*nodes, replace(concat, inputs=tuple(s.inputs[0] for s in scales)), moved])
