"""Weight reconstruction: let each spiking layer say, on the spikes that really reach it, what the analog one says.

Correction of means moves whole channels; here weights and biases learn from the difference of every unit.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.engine import Engine
from ..networks.graph import Graph
from ..networks.reference import channelwise
from ..networks.unrolled import UnrolledGraph

__all__ = ["Reconstruction"]

BATCH = 32
MAX_STEPS = 16  # the whole window is kept for the gradient


@dataclass(frozen=True)
class Reconstruction:
    """Adam on the squared difference between mean output and activation, layer by layer, all layers at once.

    L = sum over layers of sum_t t |theta / t * sum_{k <= t} s[k] - a|^2 / |a|^2 (t weighs late steps more), and of the
    output likewise.  No gradient leaves a layer for the one before it, so each has its own problem; the spikes that it
    reads are those of layers that learn too.  No labels are used.
    epochs: passes over at most ``samples`` samples.  rate: of a step, in root mean squares of the weights it moves.
    through: let gradients pass from layer to layer as well (backpropagation through the network).
    Source: Li et al. 2021 (arXiv 2106.06984), "advanced pipeline", whose activation has no time; here it has.
    """

    epochs: int = 4
    samples: int = 1024
    rate: float = 5e-3
    through: bool = False

    @property
    def name(self) -> str:
        """How reports call it."""
        return "weight reconstruction" + (" through layers" if self.through else "")

    def reconstructed(self, spiking: Graph, analog: Graph, x: np.ndarray, timesteps: int, *, seed: int = 0) -> Graph:
        """The spiking Graph with other weights and biases; x: (n, *features).

        Windows of more than 16 steps are reconstructed for their first 16.
        Raises UnsupportedError for neurons other than plain integrate-and-fire.
        """
        steps, x = min(timesteps, MAX_STEPS), x[: self.samples]
        network = UnrolledGraph(spiking, local=not self.through)
        wanted = _activations(analog, x)
        groups = [
            {"params": [p], "lr": self.rate * float(p.detach().square().mean().sqrt().clamp(min=1e-4))}
            for p in network.parameters()
        ]
        optimizer = torch.optim.Adam(groups)
        order = np.random.default_rng(seed)
        batches = math.ceil(len(x) / BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * batches)
        with torch.inference_mode(False), torch.enable_grad():
            for _ in range(self.epochs):
                for index in np.array_split(order.permutation(len(x)), batches):
                    optimizer.zero_grad()
                    found = network(torch.from_numpy(x[index]), steps)
                    _loss(spiking, found, {name: value[index] for name, value in wanted.items()}).backward()
                    optimizer.step()
                    schedule.step()
        return network.to_graph()


def _loss(graph: Graph, found: "dict[str, Tensor]", wanted: "dict[str, Tensor]") -> Tensor:
    total = torch.zeros(())
    for name, said in found.items():
        node, target = graph.by_name[name], wanted[name]
        if node.operator == "neuron":
            said = said * channelwise(torch.from_numpy(np.array(node.arrays["threshold"])), said[0])
        steps = torch.arange(1, len(said) + 1, dtype=said.dtype).reshape(-1, *([1] * (said.ndim - 1)))
        square = (said.cumsum(0) / steps - target).square().flatten(1).mean(1)
        weight = steps.flatten() / steps.sum()
        total = total + (weight * square).sum() / target.square().mean().clamp(min=1e-8)
    return total


def _activations(analog: Graph, x: np.ndarray) -> dict[str, Tensor]:
    """What each activation, and the output, gives in the analog network: (n, *features)."""
    parts: dict[str, list[Tensor]] = {}

    def observe(name: str, values: Tensor) -> None:
        if analog.by_name[name].operator == "activation":
            parts.setdefault(name, []).append(values[0].clone())

    engine = Engine(analog, max_steps=1)
    for first in range(0, len(x), BATCH):
        block = torch.from_numpy(np.ascontiguousarray(x[first : first + BATCH]))
        output, _ = engine.advance(block, engine.start(block, observe), 1)
        parts.setdefault(analog.output.name, []).append(output[0])
    with torch.inference_mode(False):
        return {name: torch.cat(found).clone() for name, found in parts.items()}
