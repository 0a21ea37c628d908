"""Count the operations of spiking networks with NeuroBench: ``python benchmarks/neurobench_counts.py``.

Needs NeuroBench (2.3.0 wrote what lies there).  Writes benchmarks/results/neurobench.json, with which a test compares
what ``spikeport.networks.activity`` counts on the same networks.  Their weights and inputs are multiples of 1/64 and
1/16 and their decay is 1/2, so that every membrane is exact and each machine sees the same spikes.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky

RESULTS = Path(__file__).resolve().parent / "results" / "neurobench.json"
STEPS, SAMPLES = 6, 5


class Stepwise(nn.Module):
    """A chain that NeuroBench can watch: one call of each layer a step."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: Tensor) -> Tensor:
        """Return the spike counts for the same ``x`` at each step."""
        state, counts = None, torch.zeros(())
        for _ in range(STEPS):
            spikes, state = self.chain(x.unsqueeze(0), state)
            counts = counts + spikes[0]
        return counts


def exact(chain: Chain, seed: int) -> Chain:
    """Give every weight a multiple of 1/64 that is not 0, mostly positive, so that neurons fire."""
    draw = np.random.default_rng(seed)
    for parameter in chain.parameters():
        values = draw.integers(1, 13, parameter.shape) - 18 * (draw.random(parameter.shape) < 0.25)
        parameter.data = torch.from_numpy(np.where(values == 0, 1, values) / 64).float()
    return chain


def leaky() -> Leaky:
    """Neurons whose membranes stay multiples of powers of two."""
    return Leaky(beta=0.5)


def networks() -> dict[str, tuple[Chain, tuple[int, ...]]]:
    """Return chains and the shapes of their samples: layers, convolutions with padding, stride and groups."""
    layers = Chain(nn.Linear(40, 32, bias=False), leaky(), nn.Linear(32, 24, bias=False), leaky(), nn.Linear(24, 10))
    convolutions = Chain(
        *(nn.Conv2d(2, 8, 3, padding=1, bias=False), leaky()),
        *(nn.Conv2d(8, 12, 3, padding=1, stride=2, groups=4), leaky()),
        *(nn.Conv2d(12, 6, 2, bias=False), leaky(), nn.Flatten(), nn.Linear(96, 10), leaky()),
    )
    return {"layers": (exact(layers, 0), (40,)), "convolutions": (exact(convolutions, 1), (2, 10, 10))}


def inputs(shape: tuple[int, ...]) -> Tensor:
    """Samples of which no value is 0, so that NeuroBench leaves out none of their multiply-accumulates."""
    return torch.from_numpy(np.random.default_rng(2).integers(1, 17, (SAMPLES, *shape)) / 16).float()


def count(chain: Chain, x: Tensor) -> dict[str, float]:
    """NeuroBench's operations a sample, over all steps."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model = TorchModel(Stepwise(chain))
    model.add_activation_module(Leaky)
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x), dtype=torch.long)), batch_size=len(x))
    found = Benchmark(model, loader, [], [], [[], [SynapticOperations]]).run(quiet=True)
    return {name: float(value) for name, value in found["SynapticOperations"].items()}


def main() -> None:
    """Count and write."""
    found = {name: count(chain, inputs(shape)) for name, (chain, shape) in networks().items()}
    written = {"neurobench": version("neurobench"), "steps": STEPS, "samples": SAMPLES, "operations": found}
    RESULTS.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
