"""Learn through hardware that nobody can differentiate: ``python examples/forward_forward.py``.

Two crossbars with read noise and amplifiers that saturate are the physical maps of a network; digital matrices behind
them learn from what they give.  Forward-forward knows nothing of the maps.  Beside it: a linear readout of the first
map alone, and backpropagation through a digital twin whose weights are wrong by a share of their deviation, which then
runs on the real maps.  Prints one JSON object.
"""

import argparse
import json
import math
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from spikeport.inference import accuracy_interval
from spikeport.networks.resistive import ResistiveDevice, ResistiveLinear
from spikeport.training.forward_forward import ForwardForwardSettings, Physical, fit_forward_forward
from spikeport.training.probe import fit_probe

WIDTH, OUTPUTS, Map = 200, 256, Callable[[Tensor], Tensor]


def backpropagated(x: Tensor, y: Tensor, weights: list[Tensor], maps: list[Physical], epochs: int) -> Map:
    """A network trained through twins r = tanh(z Wᵀ), and put on the real maps."""
    digital = nn.ModuleList((nn.Linear(OUTPUTS, WIDTH), nn.Linear(OUTPUTS, 10)))

    def scores(z: Tensor, first: Map, second: Map) -> Tensor:
        h = torch.relu(digital[0](first(normalize(z, dim=1))))
        return digital[1](second(normalize(h, dim=1)))

    twins: list[Map] = [lambda z, w=weight: torch.tanh(z @ w.T) for weight in weights]
    optimizer = torch.optim.Adam(digital.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(scores(x[index], *twins), y[index]).backward()
            optimizer.step()
    return torch.no_grad()(lambda z: scores(z, *maps))


def main() -> None:
    """Learn from 1,437 digits in each way, and decide on the other 360."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("epochs", 30), ("seed", 0), ("limit", 1437)):
        parser.add_argument(f"--{option}", type=int, default=default, help="default: %(default)s")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    bunch = load_digits()
    order = torch.randperm(1797)
    x, y = torch.tensor(bunch.data).float()[order] / 16, torch.tensor(bunch.target)[order]
    fit, test = slice(given.limit), slice(1437, None)
    generator, device = torch.Generator().manual_seed(given.seed), ResistiveDevice(read_noise=0.02)
    cells = [ResistiveLinear.formed(n, OUTPUTS, device, generator, gain=2 * math.sqrt(n)) for n in (74, WIDTH)]
    maps = [Physical(lambda z, each=each: torch.tanh(each(z))) for each in cells]
    settings = ForwardForwardSettings(epochs=given.epochs, label_strength=0.5, seed=given.seed)
    network = fit_forward_forward(maps, x[fit], y[fit], 10, WIDTH, settings)
    blank = torch.cat([x, torch.zeros(len(x), 10)], 1)  # where forward-forward has the class
    features = maps[0](normalize(blank, dim=1))
    readout = fit_probe(features[fit], y[fit]).scores(features[test]).argmax(1)
    said = {"forward-forward": network.predict(x[test]), "readout only": readout}
    true = [each.weight * float(each.gain) for each in cells]
    for wrong in (0.0, 0.3, 1.0):
        twins = [weight + wrong * weight.std() * torch.randn_like(weight) for weight in true]
        said[f"twin, wrong by {wrong}"] = backpropagated(blank[fit], y[fit], twins, maps, given.epochs)(
            blank[test]
        ).argmax(1)
    found: dict[str, object] = {"n": len(y[test]), "seed": given.seed, "reads": [each.reads for each in maps]}
    for name, classes in said.items():
        accuracy = float((classes == y[test]).double().mean())
        found[name] = {"test_accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(y[test])))}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
