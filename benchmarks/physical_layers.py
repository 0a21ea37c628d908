"""A network of crossbar tiles that cannot be differentiated, and what one can do instead of forward-forward.

The tile holds random weights that were written once to a simulated ReRAM array: write noise, drift, read noise, column
converters of 8 bits and an amplifier that saturates.  Its digital twin has other weights: w + ε σ N(0, 1), σ being the
weights' standard deviation, and neither noise nor converters.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from spikeport.hardware.analog.crossbar import Crossbar, program
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.seeds import generators
from spikeport.training.probe import fit_probe

GAIN = 2.0  # of the amplifier: currents of unit vectors have about this standard deviation
Map = Callable[[Tensor], Tensor]


class Tile:
    """r = tanh(GAIN · √inputs · read(z)): (samples, inputs) to (samples, outputs), a day after writing."""

    def __init__(self, inputs: int, outputs: int, seed: int, device: str = "reram", time_s: float = 86400.0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        weight = torch.randn(outputs, inputs, generator=drawn) / math.sqrt(inputs)
        typical = normalize(torch.rand(200, inputs, generator=drawn), dim=1)
        crossbar = Crossbar(load_device(device), adc_bits=8)
        self.array = program(weight, crossbar, instances=1, seed=seed).at(time_s, seed=seed).calibrated(typical[None])
        self.streams = generators(1, seed, "read")
        self.gain = GAIN * math.sqrt(inputs)

    def __call__(self, z: Tensor) -> Tensor:
        """Read once."""
        return torch.tanh(self.gain * self.array.read(z[None], self.streams)[0])

    def twin(self, mismatch: float, seed: int) -> Map:
        """A differentiable copy whose weights are wrong by so many of their standard deviations."""
        weight = self.array.weight[0]
        wrong = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1000 + seed)) * weight.std()
        weight = weight + mismatch * wrong
        return lambda z: torch.tanh(self.gain * (z @ weight.T))


class Deep(nn.Module):
    """Class scores: z → map → ReLU(W ·) → unit vector → map → ... → the last matrix, without a label in the input."""

    def __init__(self, maps: list[Map], outputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.maps, self.classes = maps, classes
        sizes = [width] * (len(maps) - 1) + [classes]
        self.digital = nn.ModuleList(nn.Linear(outputs, size) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of samples (samples, inputs); zeros stand where forward-forward has the class."""
        z = normalize(torch.cat([x, torch.zeros(len(x), self.classes)], 1), dim=1)
        for index, (each, digital) in enumerate(zip(self.maps, self.digital, strict=True)):
            z = digital(each(z))
            if index + 1 < len(self.maps):
                z = normalize(torch.relu(z), dim=1)
        return z

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of right decisions."""
        with torch.no_grad():
            return float((self(x).argmax(1) == y).double().mean())


def aware(tile: Tile, twin: Map) -> Map:
    """The tile forwards and its twin backwards, as in physics-aware training (Wright et al., Nature 2022)."""

    def both(z: Tensor) -> Tensor:
        guess = twin(z)
        with torch.no_grad():
            truth = tile(z)
        return guess + (truth - guess).detach()

    return both


def fit_backprop(network: Deep, x: Tensor, y: Tensor, *, epochs: int, rate: float, seed: int) -> Deep:
    """Train all matrices by backpropagation through the network's maps, in batches of 64."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).split(64):
            loss = cross_entropy(network(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def readout_only(tile: Tile, parts: list[tuple[Tensor, Tensor]], classes: int) -> float:
    """Test accuracy of a linear readout of the first tile; the validation part chooses its weight decay."""
    features = []
    for x, _ in parts:
        features.append(tile(normalize(torch.cat([x, torch.zeros(len(x), classes)], 1), dim=1)))
    probes = [fit_probe(features[0], parts[0][1], decay=decay) for decay in (1e-4, 1e-3, 1e-2, 1e-1)]
    best = max(probes, key=lambda probe: probe.accuracy(features[1], parts[1][1]))
    return best.accuracy(features[2], parts[2][1])
