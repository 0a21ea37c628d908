"""A small task that is learnt in seconds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport.neurons.leaky import Leaky
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

STEPS, FEATURES, CLASSES = 4, 12, 3


class SmallNetwork(nn.Module):
    """Linear, leaky, dropout, linear: the layer contract, with random numbers drawn while it trains."""

    def __init__(self, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(FEATURES, width), Leaky(0.9, learn_beta=True)
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        spikes, state = self.hidden(self.first(x), state)
        return self.last(self.dropout(spikes)), state


def direct(x: Tensor) -> Tensor:
    return x.expand(STEPS, *x.shape)


def noisy(x: Tensor) -> Tensor:
    return direct(x) + 0.1 * torch.randn(STEPS, *x.shape)


def samples(n: int, seed: int) -> Samples:
    """Three noisy patterns."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (n,), generator=generator)
    patterns = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    return Samples(patterns[y] + 0.5 * torch.randn(n, FEATURES, generator=generator), y)


def task(seed: int = 0, **changes: Any) -> Task:
    torch.manual_seed(seed)
    made = Task(SmallNetwork(), samples(90, 1), samples(40, 2), direct, RateCrossEntropy())
    return replace(made, **changes)


def settings(**changes: Any) -> TrainingSettings:
    quick: dict[str, Any] = {"epochs": 3, "batch_size": 16, "accelerator": "cpu", "tensorboard": False}
    return TrainingSettings(**(quick | changes))


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """Return a function that makes the task, its network from the seed."""
    return task


@pytest.fixture
def make_settings() -> Callable[..., TrainingSettings]:
    """Return a function that makes settings for seconds."""
    return settings


@pytest.fixture
def fast() -> OptimizerSettings:
    """An optimiser that learns the task in three epochs."""
    return OptimizerSettings(learning_rate=2e-2)
