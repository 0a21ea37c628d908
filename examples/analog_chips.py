"""The digits on chips of memory devices: written, aged, fitted: ``python examples/analog_chips.py --device pcm``.

A small network is trained and converted; its spiking form is written into simulated chips and looked at some time
later, as it is and after thresholds, biases and the exit rule were fitted to the chips.  Prints one JSON object.
"""

import argparse
import json

import numpy as np
import torch
from torch import nn

from spikeport.conversion.methods import Recipe
from spikeport.conversion.module_import import import_module
from spikeport.conversion.thresholds import MeanSquare
from spikeport.data import Dataset, load_data
from spikeport.evaluation.analog import AnalogDesign, measure_on_chips
from spikeport.evaluation.convert import convert_network

STEPS = 16


def network(data: Dataset, epochs: int) -> nn.Sequential:
    """Return a network trained on the digits: 64 -> 128 -> 64 -> 10."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Train, convert, write into chips, and measure with and without fitting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="pcm", help="pcm, reram, ideal, or a .toml file")
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, help="test samples")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    data, test = load_data("digits", part="calibration"), load_data("digits", part="evaluation", limit=given.limit)
    half = len(data) // 2  # one half trains; the other calibrates the conversion, and then the chips
    model = network(data.take(np.arange(half)), given.epochs)
    rest = data.take(np.arange(half, len(data)))
    source = import_module(model, data.features, name="digits")
    made = convert_network(source, rest, method=Recipe(MeanSquare(), True), timesteps=STEPS, seed=given.seed)
    design = AnalogDesign.of(
        given.device, time_s=given.days * 86400, instances=given.instances, seed=given.seed, compensation=False
    )
    found = {}
    for name, calibration in (("as written", None), ("fitted", rest)):
        result = measure_on_chips(made.spiking, made.exit, test, design, calibration=calibration)
        chips = result["accuracy_over_chips"]
        found[name] = {"accuracy": chips["mean"], "ci95": chips["ci95"], "worst chip": chips["lowest"]}
        found[name]["mean_steps"] = result["mean_steps"]
    print(json.dumps({"digital": result["digital_accuracy"], "n": len(test), "device": given.device, **found}))


if __name__ == "__main__":
    main()
