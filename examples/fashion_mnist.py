"""A convolutional spiking network on Fashion-MNIST: ``python examples/fashion_mnist.py --data fashion_mnist.npz``.

Two convolutions with leaky neurons, four time steps of the same image, and a readout that sums up.  A tenth
of the training images chooses the epoch; the test images are looked at once.  Prints one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from spikeport.data import Direct, Flip, Preprocessing, load_data, split_validation
from spikeport.inference import accuracy_interval
from spikeport.networks.chain import Chain
from spikeport.neurons import Atan, Leaky, LeakyIntegrator
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.processes import measure, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

STEPS = 4


def neurons() -> Leaky:
    """Leaky neurons whose decay is learned, with the surrogate of Fang et al."""
    return Leaky(beta=0.5, surrogate=Atan(2.0), learn_beta=True, detach_reset=True)


def network() -> Chain:
    """Return 28 × 28 → 32 maps → 64 maps → 256 units → 10 classes; pools come first, so that all else is smaller."""
    return Chain(
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), neurons()),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64), neurons()),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 256), neurons(), nn.Dropout(0.2)),
        *(nn.Linear(256, 10), LeakyIntegrator(beta=1.0, gain=1 / STEPS)),
    )


def load(path: Path, part: str, limit: int | None) -> Samples:
    """Return the images of a part, as (N, 1, 28, 28) from −1 to 1."""
    spec = f"{path}:x_{part},y_{part}"
    data = load_data(spec, Preprocessing(1 / 255, (0.5,), (0.5,)), part="calibration", limit=limit)
    return Samples(torch.from_numpy(data.x), torch.from_numpy(data.y))


def main() -> None:
    """Train, choose the epoch on validation images, and measure on test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--limit", type=int, help="take the first so many images of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="32-true", help="32-true, or bf16-mixed on recent processors")
    given = parser.parse_args()
    began = time.perf_counter()
    torch.manual_seed(given.seed)
    samples = load(given.data, "train", given.limit)
    fit, validation = (samples.take(torch.from_numpy(i)) for i in split_validation(samples.y.numpy(), 0.1, given.seed))
    task = Task(network(), fit, validation, Direct(STEPS), RateCrossEntropy(label_smoothing=0.05), augment=Flip())
    settings = TrainingSettings(
        epochs=given.epochs, batch_size=64, seed=given.seed, precision=given.precision, tensorboard=False
    )
    result = train(task, settings, OptimizerSettings(learning_rate=2e-3, weight_decay=0.01))
    test = measure(task, load(given.data, "test", given.limit), settings)
    interval = accuracy_interval(test["accuracy"], test["n"])
    found = {"best_epoch": result["best"]["epoch"], "validation_accuracy": result["best"]["accuracy"]}
    found |= {"test_accuracy": test["accuracy"], "ci95": list(interval), "n": test["n"], "seed": given.seed}
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1), "rates": test["rates"]}))


if __name__ == "__main__":
    main()
