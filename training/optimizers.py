"""Optimisers from their settings, and the learning rate as a function of the step."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._check import RangeError
from ..neurons.learnable_delays import LearnableDelays
from .settings import OptimizerSettings
from .weights import weights_of

__all__ = ["learning_rate", "make_optimizer"]


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """Return the optimiser of all parameters; only weights decay.

    Delays are learned at ``delay_factor`` times the rate and do not decay: they are steps, not weights.
    Raises RangeError for a network without parameters.
    """
    delays = {module.delay for module in network.modules() if isinstance(module, LearnableDelays)}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise RangeError("the network has no parameter to train; give it a layer with weights.")
    weights = set(weights_of(network))
    rest = [parameter for parameter in trained if parameter not in delays and parameter not in weights]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p in weights], "weight_decay": settings.weight_decay, "factor": 1.0},
        {"params": rest, "weight_decay": 0.0, "factor": 1.0},
        {
            "params": [p for p in trained if p in delays],
            "weight_decay": 0.0,
            "factor": settings.delay_factor,
            "delays": True,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate)


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The rate of step ``step`` (from 0) of ``steps``: a linear rise, then constant or half a cosine down to 0.

    >>> settings = OptimizerSettings(learning_rate=1.0, warmup_share=0.1)
    >>> [round(learning_rate(settings, step, 100), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    rise = int(settings.warmup_share * steps)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    if settings.schedule == "constant":
        return settings.learning_rate
    share = min((step - rise) / max(steps - rise, 1), 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
