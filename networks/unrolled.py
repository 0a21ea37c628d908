"""A spiking Graph over a short window as a torch module: the same spikes, with gradients that pass them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._check import UnsupportedError
from .graph import Graph, Node, make_node
from .operators import OPERATORS
from .reference import channelwise, step_bias_scan

__all__ = ["UnrolledGraph"]

_TRAINED = ("weight", "bias", "values")
_CODES = ("binary", "signed", "graded")


class UnrolledGraph(nn.Module):
    """A feed-forward spiking Graph of integrate-and-fire neurons, run for some steps of a constant input.

    Weights and biases of synapses, and biases of neurons, also those by step, are parameters; thresholds and initial
    membranes stay.  The gradient of s = clip(floor(u), low, high), u = v / threshold, is taken to be a triangle of
    height and half-width 1 at each jump of s; these add up to 1 between jumps and fall to 0 beyond the first and last.
    local: let no gradient pass from one layer of neurons to the one before it; each layer then learns from its own
    error alone, all of them at once.
    Raises UnsupportedError that lists neurons of another kind (that leak, or reset otherwise) and other memory.
    """

    def __init__(self, graph: Graph, *, local: bool = True) -> None:
        super().__init__()
        problems = [f"{node.name} ({node.operator}): {said}" for node in graph.nodes if (said := _objection(node))]
        if problems:
            raise UnsupportedError("the weights of this network cannot be reconstructed", problems)
        self.graph, self.local = graph, local
        self.held = nn.ModuleList([_arrays_of(node) for node in graph.nodes])

    def forward(self, x: Tensor, steps: int) -> Mapping[str, Tensor]:
        """The spikes of each neuron node and the summands of the output, by name: (steps, batch, *features)."""
        values: dict[str, Tensor] = {}
        for node, held in zip(self.graph.nodes, self.held, strict=True):
            inputs = [values[source] for source in node.sources]
            tensors = {key: getattr(held, key) for key in node.arrays}
            if node.operator == "neuron":
                spikes = _fired(node, tensors, inputs[0], steps)
                values[node.name] = spikes
                continue
            if self.local:
                inputs = [
                    value.detach() if self.graph.by_name[name].operator == "neuron" else value
                    for name, value in zip(node.sources, inputs, strict=True)
                ]
            if node.operator == "step_bias":
                every = inputs[0].expand(steps, *inputs[0].shape[1:])
                age = torch.zeros(len(x), dtype=torch.int64, device=x.device)
                values[node.name], _ = step_bias_scan(node.attributes, tensors, every, (age,))
                continue
            values[node.name] = _called(node, tensors, inputs) if inputs else x.unsqueeze(0)
        output = self.graph.output.name
        wanted = {output: values[output].expand(steps, *values[output].shape[1:])}
        return wanted | {node.name: values[node.name] for node in self.graph.of_operator("neuron")}

    def to_graph(self) -> Graph:
        """The Graph with the arrays as they are now."""
        nodes = []
        for node, held in zip(self.graph.nodes, self.held, strict=True):
            arrays = {key: getattr(held, key).detach().numpy() for key in node.arrays}
            nodes.append(make_node(node.name, node.operator, node.inputs, arrays=arrays, **node.attributes))
        return Graph.of(nodes, self.graph.information)


def _objection(node: Node) -> str:
    if any(edge.delay for edge in node.inputs):
        return "it reads a late value"
    if node.operator == "neuron":
        attributes = node.attributes
        plain = attributes["code"] in _CODES and attributes["test"] == ">=" and attributes["reset"] == "subtract"
        plain = plain and not attributes["late"] and not {"beta", "limit"} & set(node.arrays)
        return "" if plain else "it is no plain neuron"
    return "it remembers" if OPERATORS[node.operator].memory and node.operator not in ("output", "step_bias") else ""


def _arrays_of(node: Node) -> nn.Module:
    held = nn.Module()
    learns = OPERATORS[node.operator].synapse or node.operator in ("neuron", "step_bias")
    for key, array in node.arrays.items():
        value = torch.from_numpy(np.array(array))
        if learns and key in _TRAINED:
            held.register_parameter(key, nn.Parameter(value))
        else:
            held.register_buffer(key, value)
    return held


def _called(node: Node, tensors: Mapping[str, Tensor], inputs: list[Tensor]) -> Tensor:
    """The node's function with time folded into the batch; rows of 1 are the same at every step."""
    function = OPERATORS[node.operator].function
    if function is None:
        return inputs[0]
    rows, batch = max(len(x) for x in inputs), inputs[0].shape[1]
    folded = [x.expand(rows, *x.shape[1:]).flatten(0, 1) for x in inputs]
    output = function(node.attributes, tensors, folded)
    return output.reshape(rows, batch, *output.shape[1:])


def _fired(node: Node, tensors: Mapping[str, Tensor], x: Tensor, steps: int) -> Tensor:
    """Spikes (steps, batch, *features): s = clip(floor(v / threshold)), from -1 where a signed one may go back."""
    threshold, bias, initial = (channelwise(tensors[key], x[0]) for key in ("threshold", "bias", "initial"))
    signed = node.attributes["code"] == "signed"
    most = node.attributes["levels"] if node.attributes["code"] == "graded" else 1
    v, count = initial.expand_as(x[0]), torch.zeros_like(x[0])
    spikes = []
    for step in x.expand(steps, *x.shape[1:]):
        v = v + step + bias
        lowest = -(count > 0).to(x.dtype) if signed else torch.zeros_like(count)
        spike = _levels(v / threshold, lowest, most)
        v = v - threshold * spike
        count = count + spike.detach()
        spikes.append(spike)
    return torch.stack(spikes)


class _Levels(torch.autograd.Function):
    """clip(floor(u), lowest, most), with a triangle of height and half-width 1 at each jump as the gradient."""

    @staticmethod
    def forward(context: Any, u: Tensor, lowest: Tensor, most: int) -> Tensor:
        """Round down and clip."""
        context.save_for_backward(torch.minimum(u - lowest, most + 1 - u).clamp_(0, 1))
        return torch.maximum(u.floor(), lowest).clamp_(max=most)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Weigh the gradient."""
        (slope,) = context.saved_tensors
        return gradients[0] * slope, None, None


def _levels(u: Tensor, lowest: Tensor, most: int) -> Tensor:
    spikes: Tensor = _Levels.apply(u, lowest, most)  # type: ignore[no-untyped-call]
    return spikes
