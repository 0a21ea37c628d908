"""A converted spiking network as a network of the training loop: its own spikes learn, by surrogate gradients."""

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from ..networks.graph import Graph
from ..networks.reference import output_scan
from ..networks.unrolled import UnrolledGraph

__all__ = ["LONGEST", "SpikingWindow"]

LONGEST = 64  # steps that are kept for the gradient


class SpikingWindow(nn.Module):
    """A feed-forward spiking Graph over its first ``steps`` steps of a constant input: Graph in, Graph out.

    ``output, None = network(x)``, x (1, batch, *features), output (steps, batch, classes): what each step adds to the
    engine's output, so that its mean over t steps is what a sample that stops there goes by, whatever the readout's
    ramp.  What is trained, and with which gradient: see ``UnrolledGraph``.
    Raises UnsupportedError that lists neurons that are no plain integrate-and-fire, RangeError for steps outside 1 to
    64: all of them are held for the gradient.
    """

    def __init__(self, graph: Graph, steps: int) -> None:
        super().__init__()
        if not 1 <= steps <= LONGEST:
            raise RangeError(f"a window of {steps} steps cannot be trained; choose 1 to {LONGEST}")
        self.unrolled, self.steps = UnrolledGraph(graph, local=False), steps

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Run the window of each sample of x."""
        graph = self.unrolled.graph
        wanted = graph.shapes[graph.input.name]
        if len(x) != 1 or tuple(x.shape[2:]) != wanted:
            raise ShapeError(f"the input has the shape {tuple(x.shape)}, but (1, batch, *{wanted}) was wanted")
        added = self.unrolled(x[0], self.steps)[graph.output.name]
        fresh = added.new_zeros(added.shape[1:]), added.new_zeros(added.shape[1])
        total, _ = output_scan(graph.output.attributes, {}, added, fresh)
        return torch.cat([total[:1], total.diff(dim=0)]), None

    def to_graph(self) -> Graph:
        """The Graph with the arrays as they are now."""
        return self.unrolled.to_graph()
