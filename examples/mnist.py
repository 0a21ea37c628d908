"""A fully connected spiking network on MNIST, 784-256-10: ``python examples/mnist.py --data mnist.npz``.

Eight time steps of the same image; both layers are leaky neurons, and the class whose neuron fires most wins.  A tenth
of the training images chooses the epoch; the test images are looked at once.  Prints one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from spikeport.data import Direct, Preprocessing, Shift, load_data, split_validation
from spikeport.inference import accuracy_interval
from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.processes import measure, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

STEPS, HIDDEN = 8, 256


def network() -> Chain:
    """Return 784 → 256 → 10, spiking in both layers."""
    hidden, output = (Leaky(beta=0.9, learn_beta=True, detach_reset=True) for _ in range(2))
    return Chain(nn.Flatten(), nn.Linear(784, HIDDEN), hidden, nn.Linear(HIDDEN, 10), output)


def load(path: Path, part: str, limit: int | None) -> Samples:
    """Return the images of a part, as (N, 1, 28, 28) from 0 to 1."""
    spec = f"{path}:x_{part},y_{part}"
    data = load_data(spec, Preprocessing(1 / 255), part="calibration", limit=limit)
    return Samples(torch.from_numpy(data.x), torch.from_numpy(data.y))


def main() -> None:
    """Train, choose the epoch on validation images, and measure on test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, help="take the first so many images of each part")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    torch.manual_seed(given.seed)
    samples = load(given.data, "train", given.limit)
    fit, validation = (samples.take(torch.from_numpy(i)) for i in split_validation(samples.y.numpy(), 0.1, given.seed))
    # a rate is at most 1: the gain lets the softmax tell classes apart
    task = Task(network(), fit, validation, Direct(STEPS), RateCrossEntropy(gain=10.0), augment=Shift(1))
    settings = TrainingSettings(epochs=given.epochs, batch_size=128, seed=given.seed, tensorboard=False)
    result = train(task, settings, OptimizerSettings(learning_rate=2e-3, weight_decay=0.01))
    test = measure(task, load(given.data, "test", given.limit), settings)
    interval = accuracy_interval(test["accuracy"], test["n"])
    found = {"best_epoch": result["best"]["epoch"], "validation_accuracy": result["best"]["accuracy"]}
    found |= {"test_accuracy": test["accuracy"], "ci95": list(interval), "n": test["n"], "seed": given.seed}
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1), "rates": test["rates"]}))


if __name__ == "__main__":
    main()
