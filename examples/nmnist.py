"""A spiking network on the events of N-MNIST, cross-validated: ``python examples/nmnist.py --data nmnist.npz``.

The recordings of an event camera are counted in frames.  They are few, so that each is turned, stretched, sheared and
moved anew each time it is learned from.  Each fold is measured by a network that has not seen it; of the others a tenth
chooses the epoch.  Prints one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikeport.data import Affine, Sequence, folds, load_events, split_validation
from spikeport.inference import accuracy_interval
from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky, LeakyIntegrator
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.processes import measure, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

STEPS = 10
CHANGES = Affine(degrees=12, stretch=0.15, shear=0.15, pixels=2)  # of digits that stay the same


def neurons() -> Leaky:
    """Leaky neurons whose decay is learned."""
    return Leaky(beta=0.8, learn_beta=True, detach_reset=True)


def network() -> Chain:
    """Return 2 × 17 × 17 → 32 maps → 64 maps → 10 classes."""
    return Chain(
        *(nn.Conv2d(2, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), neurons()),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64), neurons()),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10), LeakyIntegrator(beta=1.0, gain=1 / STEPS)),
    )


def main() -> None:
    """Train one network a fold, and add up what they decide."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with x, y, p, t, offsets and label")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--limit", type=int, help="take the first so many recordings")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    events = load_events(given.data, limit=given.limit)
    samples = Samples(torch.from_numpy(events.frames(STEPS, pool=2)), torch.from_numpy(events.labels))
    fold, right, chosen, rates = folds(events.labels, given.folds, given.seed), [], [], []
    for held_out in range(given.folds):
        torch.manual_seed(given.seed + held_out)
        rest = np.flatnonzero(fold != held_out)
        fit, validation = (
            samples.take(torch.from_numpy(rest[part]))
            for part in split_validation(events.labels[rest], 0.1, given.seed)
        )
        task = Task(network(), fit, validation, Sequence(), RateCrossEntropy(label_smoothing=0.1), augment=CHANGES)
        options = {"epochs": given.epochs, "first_best": given.epochs // 2 + 1, "seed": given.seed}
        settings = TrainingSettings(**options, batch_size=32, tensorboard=False)
        result = train(task, settings, OptimizerSettings(learning_rate=4e-3, weight_decay=0.05))
        chosen.append(result["best"]["accuracy"])
        measured = measure(task, samples.take(torch.from_numpy(np.flatnonzero(fold == held_out))), settings)
        right.append(round(measured["accuracy"] * measured["n"]))
        rates.append(measured["rates"])
    accuracy, n = sum(right) / len(events), len(events)
    found = {"accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, n)), "n": n, "folds": given.folds}
    found |= {"validation_accuracy": sum(chosen) / len(chosen), "seed": given.seed, "rates": rates[0]}
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
