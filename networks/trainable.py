"""A Graph as a torch module whose arrays can be trained, and back."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .._check import ShapeError, UnsupportedError
from .graph import Graph, Node, make_node
from .operators import OPERATORS

__all__ = ["TrainableGraph"]

_STATISTICS = ("mean", "variance")  # of batch norm: followed, not trained
_SMALLEST = 1e-6  # of a ceiling: the gradient may push it below 0, where it means nothing


class _Layer(nn.Module):
    """One node: the function of its operator, on arrays that are parameters."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        for key, array in node.arrays.items():
            value = torch.from_numpy(np.array(array))
            if key in _STATISTICS:
                self.register_buffer(key, value)
            else:
                self.register_parameter(key, nn.Parameter(value))

    def tensors(self) -> dict[str, Tensor]:
        """The node's arrays as they are now."""
        found = {key: getattr(self, key) for key in self.node.arrays}
        return {key: value.clamp(min=_SMALLEST) if key == "ceiling" else value for key, value in found.items()}

    def forward(self, *inputs: Tensor) -> Tensor:
        tensors = self.tensors()
        if self.node.operator == "batch_norm" and self.training:
            statistics = tensors["mean"], tensors["variance"], tensors["weight"], tensors["bias"]
            return functional.batch_norm(inputs[0], *statistics, training=True, eps=self.node.attributes["epsilon"])
        function = OPERATORS[self.node.operator].function
        return inputs[0] if function is None else function(self.node.attributes, tensors, inputs)

    def trained(self) -> Node:
        """The node with its arrays as they are now."""
        arrays = {key: value.detach().cpu().numpy() for key, value in self.tensors().items()}
        return make_node(self.node.name, self.node.operator, self.node.inputs, arrays=arrays, **self.node.attributes)


class TrainableGraph(nn.Module):
    """A feed-forward Graph without memory, as a module of the training loop: Graph in, Graph out.

    ``output, None = network(x)``, x (time, batch, *features), output (time, batch, classes); every step for itself.
    Weights, biases, factors and the ceilings of quantised activations are parameters; batch norm follows its batches
    while it trains.  Dropout and the like are not in a Graph.
    Raises UnsupportedError that lists every node with memory (neurons, delays, recurrence) in it.

    >>> weight = {"weight": np.ones((1, 2))}
    >>> nodes = [make_node("x", "input", shape=(2,)), make_node("l", "linear", ["x"], arrays=weight)]
    >>> network = TrainableGraph(Graph.of([*nodes, make_node("y", "output", ["l"])]))
    >>> network(torch.ones(1, 3, 2))[0].shape
    torch.Size([1, 3, 1])
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        problems = [
            f"{node.name} ({node.operator}): it remembers; train spiking networks with spikeport train"
            for node in graph.nodes
            if (OPERATORS[node.operator].memory and node.operator != "output") or any(e.delay for e in node.inputs)
        ]
        if problems:
            raise UnsupportedError("this network cannot be trained as an analog one", problems)
        self.graph = graph
        self.layers = nn.ModuleList([_Layer(node) for node in graph.nodes])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Run every step of x for itself."""
        wanted = self.graph.shapes[self.graph.input.name]
        if tuple(x.shape[2:]) != wanted:
            raise ShapeError(f"the input has the shape {tuple(x.shape)}, but (time, batch, *{wanted}) was wanted")
        output = self.values(x.flatten(0, 1))[self.graph.output.name]
        return output.reshape(*x.shape[:2], *output.shape[1:]), None

    def values(self, x: Tensor) -> Mapping[str, Tensor]:
        """What every node gives for x (batch, *features)."""
        found: dict[str, Tensor] = {}
        for node, layer in zip(self.graph.nodes, self.layers, strict=True):
            found[node.name] = layer(*(found[source] for source in node.sources)) if node.inputs else x
        return found

    def to_graph(self) -> Graph:
        """The Graph with the arrays as they are now."""
        nodes = [layer.trained() for layer in self.layers if isinstance(layer, _Layer)]
        return Graph.of(nodes, self.graph.information)
