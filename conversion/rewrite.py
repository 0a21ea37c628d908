"""Exact rewrites of a Graph: every one leaves the analog output as it is.

Batch norm is folded, fixed 1x1 convolutions are merged, and max-pool moves before the activation (ReLU is monotone),
where a spiking network can take it: the maximum of currents is known at each step, the maximum of rates is not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..networks.graph import Edge, Graph, Node, make_node

Nodes = dict[str, Node]
SYNAPSES = ("linear", "conv1d", "conv2d")
KEEP_SIGN = ("average_pool", "sum_pool", "global_pool", "flatten", "reshape", "transpose", "concat")


def simplified(graph: Graph) -> Graph:
    """Fold, merge and reorder until nothing changes."""
    return _repeated(graph, STEPS)


def arranged(graph: Graph) -> Graph:
    """The network with its activations merged and its pools moved; batch norm stays, so that it can be trained on."""
    return _repeated(graph, tuple(step for step in STEPS if step not in (_fold_batch_norm, _fold_scale)))


def folded(graph: Graph) -> Graph:
    """The network with its batch norms in the weights before them, also where a pool lies between; else as it was."""
    return _repeated(graph, (_fold_batch_norm, _scale_before_pool, _fold_scale))


def without_lines(graph: Graph) -> Graph:
    """The network without the identities that differential spikes put into it; they change nothing."""
    for node in graph.of_operator("activation"):
        if node.attributes["function"] == "identity":
            others = [each for each in graph.nodes if each.name != node.name]
            graph = rebuilt(graph, rewired(others, node.name, graph.by_name[node.name].sources[0]))
    return graph


def _repeated(graph: Graph, steps: Sequence[Callable[[Graph], Graph]]) -> Graph:
    for _ in range(4 * len(graph.nodes) + 4):
        after = graph
        for step in steps:
            after = step(after)
        if after is graph:
            return graph
        graph = after
    return graph


def rebuilt(graph: Graph, nodes: Iterable[Node]) -> Graph:
    """A graph of other nodes with the same information; nodes that nothing reads are left out."""
    kept = {node.name: node for node in nodes}
    while True:
        read = {source for node in kept.values() for source in node.sources}
        dead = [name for name, node in kept.items() if name not in read and node.operator not in ("output", "input")]
        if not dead:
            return Graph.of(kept.values(), graph.information)
        for name in dead:
            del kept[name]


def rewired(nodes: Iterable[Node], old: str, new: str) -> list[Node]:
    """Let every reader of ``old`` read ``new``."""
    return [
        replace(node, inputs=tuple(replace(e, source=new) if e.source == old else e for e in node.inputs))
        if old in node.sources
        else node
        for node in nodes
    ]


def with_arrays(node: Node, **arrays: np.ndarray) -> Node:
    """The node with some arrays replaced or added."""
    return make_node(node.name, node.operator, node.inputs, arrays={**node.arrays, **arrays}, **node.attributes)


def only_reader(graph: Graph, name: str) -> bool:
    """Whether exactly one edge reads the node."""
    return len(graph.consumers[name]) == 1


def plain(node: Node) -> bool:
    """Whether no input of the node is late."""
    return all(edge.delay == 0 for edge in node.inputs)


def _fold_batch_norm(graph: Graph) -> Graph:
    """Batch norm as scale: y = x * w / sqrt(v + e) + (b - m * w / sqrt(v + e))."""
    nodes = []
    for node in graph.nodes:
        if node.operator == "batch_norm":
            a = {key: array.astype(np.float64) for key, array in node.arrays.items()}
            factor = a["weight"] / np.sqrt(a["variance"] + node.attributes["epsilon"])
            node = make_node(
                node.name, "scale", node.inputs, arrays={"factor": factor, "shift": a["bias"] - a["mean"] * factor}
            )
        nodes.append(node)
    return rebuilt(graph, nodes) if graph.of_operator("batch_norm") else graph


def _fold_scale(graph: Graph) -> Graph:
    """A per-channel scale after a synapse that nothing else reads goes into its weights."""
    for node in graph.of_operator("scale"):
        source = graph.by_name[node.sources[0]]
        synapse = source.operator in SYNAPSES and only_reader(graph, source.name) and plain(node)
        if not synapse or _largest_rank(node) > 1:
            continue
        if source.operator == "linear" and len(graph.shapes[source.name]) != 1 and _largest_rank(node):
            continue  # channels are the first axis, but the rows of the weight give the last one
        outputs = source.arrays["weight"].shape[0]
        factor = np.broadcast_to(node.arrays["factor"].astype(np.float64), (outputs,))
        shift = np.broadcast_to(node.arrays.get("shift", np.zeros(())).astype(np.float64), (outputs,))
        weight = source.arrays["weight"] * factor.reshape(-1, *([1] * (source.arrays["weight"].ndim - 1)))
        arrays = {"weight": weight}
        if "bias" in source.arrays or shift.any():
            arrays["bias"] = source.arrays.get("bias", np.zeros(outputs)) * factor + shift
        folded = with_arrays(source, **arrays)
        kept = [folded if n.name == source.name else n for n in graph.nodes if n.name != node.name]
        return rebuilt(graph, rewired(kept, node.name, source.name))
    return graph


def _scale_before_pool(graph: Graph) -> Graph:
    """a pool(z) + b = pool(a z + b) by channel, z of a synapse: maxima where a > 0, means that count no padding."""
    for scale in graph.of_operator("scale"):
        pool = graph.by_name[scale.sources[0]]
        source = graph.by_name[pool.sources[0]] if pool.inputs else pool
        alone = only_reader(graph, pool.name) and only_reader(graph, source.name) and plain(scale) and plain(pool)
        if not alone or source.operator not in SYNAPSES or _largest_rank(scale) > 1 or not _passes(pool, scale):
            continue
        first = replace(scale, name=fresh(graph, f"{scale.name}.first"), inputs=pool.inputs)
        nodes = [n for n in graph.nodes if n.name not in (scale.name, pool.name)]
        return rebuilt(
            graph, [*rewired(nodes, scale.name, pool.name), first, replace(pool, inputs=(Edge(first.name),))]
        )
    return graph


def _passes(pool: Node, scale: Node) -> bool:
    if is_maximum(pool):
        return bool((scale.arrays["factor"] > 0).all())
    if pool.operator == "global_pool":
        return bool(pool.attributes["function"] == "mean")
    return pool.operator == "average_pool" and not any(pool.attributes["padding"]) and not pool.attributes["ceil_mode"]


def _largest_rank(scale: Node) -> int:
    return max(array.ndim for array in scale.arrays.values())


def _pointwise(node: Node) -> bool:
    """A 1x1 convolution without bias, padding or groups: a matrix at every kept place."""
    return (
        node.operator in ("conv1d", "conv2d")
        and "bias" not in node.arrays
        and node.attributes["groups"] == 1
        and not any(node.attributes["padding"])
        and all(size == 1 for size in node.arrays["weight"].shape[2:])
    )


def _merge_pointwise(graph: Graph) -> Graph:
    """Two 1x1 convolutions in a row are one (a slice of rows, then one of columns, say)."""
    for node in graph.nodes:
        source = graph.by_name[node.sources[0]] if node.inputs else node
        if not (_pointwise(node) and _pointwise(source) and only_reader(graph, source.name) and plain(node)):
            continue
        product = node.arrays["weight"][:, :, ...].reshape(node.arrays["weight"].shape[:2]) @ source.arrays[
            "weight"
        ].reshape(source.arrays["weight"].shape[:2])
        rank = len(node.attributes["stride"])
        strides = zip(node.attributes["stride"], source.attributes["stride"], strict=True)
        attributes = {**node.attributes, "stride": tuple(a * b for a, b in strides)}
        weight = product.reshape(*product.shape, *([1] * rank))
        merged = make_node(node.name, node.operator, source.inputs, arrays={"weight": weight}, **attributes)
        return rebuilt(graph, [merged if n.name == node.name else n for n in graph.nodes])
    return graph


def _merge_channel_pad(graph: Graph) -> Graph:
    """Zero channels added after a convolution are zero rows of its weight (option-A shortcuts)."""
    for node in graph.of_operator("pad"):
        source = graph.by_name[node.sources[0]]
        before, after = node.attributes["before"], node.attributes["after"]
        channels_only = not any(before[1:]) and not any(after[1:]) and node.attributes["value"] == 0.0
        if not (channels_only and _pointwise(source) and only_reader(graph, source.name) and plain(node)):
            continue
        weight = source.arrays["weight"]
        widths = [(before[0], after[0])] + [(0, 0)] * (weight.ndim - 1)
        arrays = {"weight": np.pad(weight, widths)}
        merged = make_node(node.name, source.operator, source.inputs, arrays=arrays, **source.attributes)
        return rebuilt(graph, [merged if n.name == node.name else n for n in graph.nodes])
    return graph


def is_maximum(node: Node) -> bool:
    """Whether the node gives the largest of several places."""
    return node.operator == "max_pool" or (node.operator == "global_pool" and node.attributes["function"] == "max")


def _merge_activations(graph: Graph) -> Graph:
    """relu(relu(z)) = relu(z), the lower cut counts; pools that keep values at 0 or above may lie between."""
    for node in graph.of_operator("activation"):
        source, cut = graph.by_name[node.sources[0]], node.attributes["maximum"]
        if not plain(node) or node.attributes["levels"] is not None:
            continue
        if cut is None and _at_least_zero(graph, source):
            return rebuilt(graph, rewired([n for n in graph.nodes if n.name != node.name], node.name, source.name))
        if source.operator == "activation" and source.attributes["levels"] is None:
            cuts = [each for each in (cut, source.attributes["maximum"]) if each is not None]
            merged = make_node(node.name, "activation", source.inputs, maximum=min(cuts))
            return rebuilt(graph, [merged if n.name == node.name else n for n in graph.nodes])
    return graph


def _at_least_zero(graph: Graph, node: Node) -> bool:
    return (node.operator == "activation" and node.attributes["function"] == "relu") or (
        node.operator in KEEP_SIGN
        and not is_maximum(node)
        and all(_at_least_zero(graph, graph.by_name[name]) for name in node.sources)
    )


def _pool_before_concat(graph: Graph) -> Graph:
    """max_pool(concat(a, b)) = concat(max_pool(a), max_pool(b)) where channels are joined."""
    for pool in filter(is_maximum, graph.nodes):
        concat = graph.by_name[pool.sources[0]]
        if concat.operator != "concat" or concat.attributes["axis"] != 0 or not plain(pool):
            continue
        pools = [
            replace(pool, name=fresh(graph, f"{pool.name}.{index}"), inputs=(edge,))
            for index, edge in enumerate(concat.inputs)
        ]
        joined = make_node(pool.name, "concat", [each.name for each in pools], axis=0)
        return rebuilt(graph, [joined if n.name == pool.name else n for n in graph.nodes] + pools)
    return graph


def _pool_before_scale(graph: Graph) -> Graph:
    """max_pool(a z + b) = a max_pool(z) + b where a > 0 by channel, for z an activation (batch norm after ReLU)."""
    for pool in filter(is_maximum, graph.nodes):
        scale = graph.by_name[pool.sources[0]]
        if scale.operator != "scale" or not plain(pool) or _largest_rank(scale) > 1:
            continue
        source = graph.by_name[scale.sources[0]]
        if source.operator != "activation" or not (scale.arrays["factor"] > 0).all():
            continue
        moved = replace(pool, name=fresh(graph, f"{pool.name}.max"), inputs=scale.inputs)
        after = replace(scale, name=pool.name, inputs=(Edge(moved.name),))
        return rebuilt(graph, [*(after if n.name == pool.name else n for n in graph.nodes), moved])
    return graph


def _pool_first(graph: Graph) -> Graph:
    """max_pool(relu(z)) = relu(max_pool(z)); an activation with other readers stays for them."""
    for pool in filter(is_maximum, graph.nodes):
        if not plain(pool) or graph.by_name[pool.sources[0]].operator != "activation":
            continue
        source = graph.by_name[pool.sources[0]]
        if source.attributes["levels"] is not None and source.arrays["ceiling"].ndim > 1:
            continue  # by unit: places in one window have ceilings of their own
        name = fresh(graph, f"{source.name}.pooled") if len(graph.consumers[source.name]) > 1 else source.name
        moved = replace(pool, inputs=source.inputs)
        activation = replace(source, name=name, inputs=(Edge(pool.name),))
        others = [n for n in graph.nodes if n.name != pool.name and n.name != name]
        return rebuilt(graph, [*rewired(others, pool.name, name), moved, activation])
    return graph


STEPS = (
    _fold_batch_norm,
    _fold_scale,
    _merge_pointwise,
    _merge_channel_pad,
    _merge_activations,
    _pool_before_concat,
    _pool_before_scale,
    _pool_first,
)


def fresh(graph: Graph, base: str) -> str:
    """A node name that is not taken."""
    name, number = base, 2
    while name in graph.by_name:
        name, number = f"{base}_{number}", number + 1
    return name


def mapped(graph: Graph, change: Callable[[Node], Node], only: Mapping[str, object] | None = None) -> Graph:
    """Replace nodes one by one (all of them, or those named in ``only``)."""
    return rebuilt(graph, [change(n) if only is None or n.name in only else n for n in graph.nodes])
