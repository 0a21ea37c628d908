"""What the arrays of a network are asked to do: reads, active rows and pulses of each layer."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from ...networks.graph import Graph, Node
from .prices import LayerReads
from .synapse import SYNAPSES, taps

__all__ = ["INPUT_BITS", "coverage", "layer_reads", "pulses", "reads_a_step"]

INPUT_BITS = 8  # of an analog input, one pulse each; where the drivers have fewer, those
_PASSING = ("flatten", "reshape", "transpose", "delay", "concat", "pad", "max_pool")
_POOLS = ("average_pool", "sum_pool")


@torch.inference_mode(False)
def coverage(node: Node, shape: tuple[int, ...]) -> Tensor:
    """How many reads (places of a convolution) each input of a layer takes part in, shaped like the input."""
    if node.operator == "linear":
        return torch.ones(shape)
    groups = node.attributes["groups"]
    weight = torch.ones(groups, *node.arrays["weight"].shape[1:])
    function = functional.conv2d if len(shape) == 3 else functional.conv1d
    with torch.enable_grad():
        x = torch.zeros(1, *shape, requires_grad=True)
        a = node.attributes
        total: Tensor = function(x, weight, None, a["stride"], a["padding"], a["dilation"], groups).sum()
        return torch.autograd.grad(total, x)[0][0]


def reads_a_step(graph: Graph, node: Node) -> int:
    """Matrix-vector products of a layer in one step: places of a convolution (for each group), rows of a sequence."""
    shape = graph.shapes[node.name]
    groups = node.attributes["groups"] if node.operator != "linear" else 1
    return int(prod(shape[:-1] if node.operator == "linear" else shape[1:])) * groups


def pulses(graph: Graph, name: str, dac_bits: int | None) -> int:
    """Pulses that one input of a layer needs, one a bit: 1 for spikes, the bits of a count for pools of spikes.

    name: of the node that the layer reads.  Analog values take ``dac_bits``, or 8 where that is unlimited.
    """
    most = _largest(graph, name)
    bits = INPUT_BITS if most is None else most.bit_length()
    return bits if dac_bits is None else min(bits, dac_bits)


def _largest(graph: Graph, name: str) -> int | None:
    """The largest count that a node passes on, in whole parts; None for analog values."""
    node = graph.by_name[name]
    if node.operator == "neuron":
        code = node.attributes["code"]
        return None if code == "differential" else int(node.attributes["levels"]) if code == "graded" else 1
    if node.operator in _PASSING:
        return _largest(graph, node.sources[0])
    if node.operator in _POOLS:
        inside = _largest(graph, node.sources[0])
        return None if inside is None else inside * prod(node.attributes["kernel"])
    return None


def layer_reads(
    graph: Graph, active: Mapping[str, float], steps: Mapping[str, int], *, dac_bits: int | None = None
) -> list[LayerReads]:
    """What each layer did.  active: inputs other than 0, summed over all reads; steps: sample-steps of reading."""
    found = []
    for node in graph.nodes:
        if node.operator not in SYNAPSES or node.name not in active:
            continue
        columns, rows = len(node.arrays["weight"]), prod(node.arrays["weight"].shape[1:])
        columns //= node.attributes["groups"] if node.operator != "linear" else 1
        found.append(
            LayerReads(
                node.name,
                columns,
                rows,
                reads_a_step(graph, node) * steps[node.name],
                round(active[node.name]),
                pulses(graph, node.sources[0], dac_bits),
                taps(node),
            )
        )
    return found
