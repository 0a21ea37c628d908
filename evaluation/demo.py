"""The demonstration: a small network for the embedded digits, trained here."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..conversion.module_import import import_module
from ..conversion.source import Source
from ..data import Dataset, load_data
from .convert import Progress

__all__ = ["Demo", "train_demo"]

NAME = "digits CNN"
TRAINING_SAMPLES = 900  # of 1,437; the rest is what the network has not learned, so that it can calibrate
EPOCHS = 15
BATCH = 32
RATE = 0.01


class Demo(NamedTuple):
    """A trained network, samples it was not trained on to calibrate with, and others to measure with."""

    source: Source
    calibration: Dataset
    evaluation: Dataset


def train_demo(seed: int = 0, progress: Progress | None = None) -> Demo:
    """Train a small CNN with batch norm and max-pool on 900 of the digits; the same seed gives the same network."""
    digits, evaluation = load_data("digits", part="calibration"), load_data("digits", part="evaluation")
    order = np.random.default_rng(seed).permutation(len(digits))
    training = digits.take(np.sort(order[:TRAINING_SAMPLES]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = demo_network()
        _train(network, training, progress or (lambda stage, done: None))
    source = import_module(network.eval(), digits.features, name=NAME)
    return Demo(source, digits.take(np.sort(order[TRAINING_SAMPLES:])), evaluation)


def demo_network() -> nn.Sequential:
    """Two convolutions with batch norm and max-pool, and two linear layers: (1, 8, 8) -> 10."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


def _train(network: nn.Module, data: Dataset, progress: Progress) -> None:
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    batches = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    network.train()
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            _loss(network, x[index], y[index]).backward()
            optimizer.step()
            schedule.step()
        progress("train", (epoch + 1) / EPOCHS)


def _loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(x), y)
