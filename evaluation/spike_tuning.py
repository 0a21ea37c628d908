"""A converted spiking network trained on with labels: what conversion left, its own spikes learn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .._check import RangeError
from ..conversion.methods import Choice
from ..data import Dataset, Direct
from ..networks.graph import Graph
from ..networks.outputs import outputs_over_time
from ..training.losses import AnytimeCrossEntropy
from ..training.processes import train
from ..training.settings import OptimizerSettings, TrainingSettings
from ..training.spikes import LONGEST, SpikingWindow
from ..training.step import Samples, Task
from .convert import Progress

__all__ = ["SpikeTuning", "require_window", "samples_of", "tuned"]


@dataclass(frozen=True)
class SpikeTuning:
    """How the spikes of a converted network are trained: passes over the samples, and the highest learning rate."""

    epochs: int
    learning_rate: float = 5e-4


def require_window(timesteps: int) -> None:
    """Raise RangeError for a window too long to be held for a gradient."""
    if timesteps > LONGEST:
        raise RangeError(
            f"spikes of {timesteps} steps cannot be trained, as all steps are held for the gradient; choose at most "
            f"{LONGEST}, or no epochs with spikes"
        )


def tuned(
    choice: Choice,
    data: Dataset,
    validation: Dataset,
    how: SpikeTuning,
    settings: TrainingSettings,
    *,
    timesteps: int,
    augment: Callable[[Tensor], Tensor] | None = None,
    progress: Progress | None = None,
) -> tuple[Choice, dict[str, Any]]:
    """Train the network of a Choice over its window; returns the Choice with it, and how it went, as JSON.

    The loss is the cross-entropy of what a sample that stops after t steps goes by, for every t up to ``timesteps``.
    validation: chooses the epoch, and whether the network is kept as it was; never give what measures it.
    Raises UnsupportedError for neurons that are no plain integrate-and-fire, RangeError for a window beyond 64 steps.
    """
    network = SpikingWindow(choice.graph, timesteps)
    before = _accuracy(choice.graph, validation, timesteps)
    task = Task(network, samples_of(data), samples_of(validation), Direct(1), AnytimeCrossEntropy(), augment=augment)
    optimizer = OptimizerSettings(learning_rate=how.learning_rate)
    result = train(task, replace(settings, epochs=how.epochs), optimizer, progress=progress)
    graph = network.cpu().eval().to_graph()
    after = _accuracy(graph, validation, timesteps)
    about = {
        "epochs": how.epochs,
        "learning_rate": how.learning_rate,
        "best_epoch": result["best"]["epoch"],
        "validation_accuracy": [before, after],
        "kept": after >= before,
    }
    if after < before:
        return choice, about
    return replace(choice, graph=graph, method=f"{choice.method} + training of the spikes"), about


def _accuracy(graph: Graph, data: Dataset, timesteps: int) -> float:
    labels = outputs_over_time(graph, data.x, timesteps)[-1].argmax(1).numpy()
    return float((labels == data.y).mean())


def samples_of(data: Dataset) -> Samples:
    """Labelled data as the training loop takes them."""
    return Samples(torch.from_numpy(data.x), torch.as_tensor(data.y))
