"""From an analog network to one trained in whole levels, and to the spiking network that says the same: one call."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..conversion.codes import parse_code
from ..conversion.methods import Auto, Choice, Recipe
from ..conversion.module_import import state_sha256
from ..conversion.reconstruct import Reconstruction
from ..conversion.rewrite import arranged, simplified, without_lines
from ..conversion.source import Source, analog_output, check_source
from ..conversion.spiking import require_convertible
from ..conversion.thresholds import MeanSquare, Trained
from ..data import Dataset, Direct, Preprocessing, split_calibration, split_validation
from ..inference import accuracy_interval, paired_difference_interval
from ..networks.graph import Graph
from ..networks.trainable import TrainableGraph
from ..training.losses import RateCrossEntropy
from ..training.processes import train
from ..training.qcfs import require_levels, with_quantised_activations
from ..training.settings import OptimizerSettings, TrainingSettings
from ..training.step import Task
from .convert import CHECK_SAMPLES, Converted, Progress, choice_of, convert_network, folds_of, require_labels
from .folder import read_folder
from .spike_tuning import SpikeTuning, require_window, samples_of, tuned

__all__ = ["Finetuning", "analog_source", "finetune_network", "folder_source", "held_out", "train_analog"]

HELD_SHARE = 0.2  # of the data: chooses the epoch, calibrates and measures; trains no weight
LEAST_HELD = 50
RECIPES = Auto(
    (
        Recipe(Trained(), False),
        Recipe(Trained(), True),
        Recipe(Trained(), True, step_biases=True),
        Recipe(Trained(), True, reconstruction=Reconstruction()),
    )
)


@dataclass(frozen=True)
class Finetuning:
    """How a network is trained in levels.

    levels: L of the activations, 1 to 64.  augment: random changes of training samples.  spikes: how the spiking
    network is trained on after it was converted; None for not at all.
    """

    levels: int = 4
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(epochs=5))
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-3))
    label_smoothing: float = 0.0
    augment: Callable[[Tensor], Tensor] | None = None
    spikes: SpikeTuning | None = None


def finetune_network(
    source: Source,
    data: Dataset,
    how: Finetuning,
    *,
    code: str = "binary",
    timesteps: int | None = None,
    method: Recipe | Auto = RECIPES,
    progress: Progress | None = None,
) -> Converted:
    """Train ``source`` with quantised activations on ``data`` and convert the result; the JSON gains ``finetune``.

    A fifth of the data trains nothing: of it, what calibrates the conversion also chooses the epoch, and the exit part
    (30 % of the fifth) chooses nothing and gives the accuracies.  The analog network of the result is the quantised
    one.  timesteps: T, None for as many as levels, where an even input gives the same in both.  With ``how.spikes`` the
    converted network is then trained on the same samples as it is, in spikes, and what chose the epoch chooses again.
    Raises SpikeportError without labels, RangeError for too few samples, and what conversion and training raise.
    """
    timesteps = timesteps or how.levels
    _require(how, code, timesteps)
    train_rows, held = held_out(data, how.training.seed)
    graph = arranged(source.graph)
    require_convertible(simplified(graph))
    error = check_source(source, data.x[train_rows[:CHECK_SAMPLES]])
    assert data.y is not None  # noqa: S101 - for the type checker: held_out asked for labels
    require_labels("the labels", data.y, graph.shapes[graph.output.name][0])
    ceilings = MeanSquare(how.levels).thresholds(graph, data.x[train_rows], how.levels)
    graph = with_quantised_activations(graph, ceilings, how.levels)
    split = split_calibration(len(held.x), how.training.seed, hashes=held.hashes)
    validation = held.take(np.sort(np.concatenate([split.fit, split.choose])))
    graph, result = train_analog(graph, data.take(train_rows), validation, how, progress)
    trained = analog_source(graph, source.name, source.notes)
    about = {"levels": how.levels, "import_error": error, "n_train": len(train_rows), **_training(result)}
    seed = how.training.seed
    found: Recipe | Auto | Choice = method
    if how.spikes is not None:
        choice = choice_of(method, folds_of(trained, held, code, seed), code, timesteps, progress)
        found, about["spikes"] = tuned(
            choice, data.take(train_rows), validation, how.spikes, how.training,
            timesteps=timesteps, augment=how.augment, progress=progress,
        )  # fmt: skip
    converted = convert_network(
        trained, held, method=found, code=code, timesteps=timesteps, seed=seed, progress=progress
    )
    report = {**converted.report, "finetune": {**about, **_against(source, trained.graph, held.take(split.exit))}}
    used = np.unique(np.concatenate([data.hashes[train_rows], held.hashes]))
    return replace(converted, report=report, exit=replace(converted.exit, calibration_hashes=used))


def _require(how: Finetuning, code: str, timesteps: int) -> None:
    require_levels(how.levels)
    if how.spikes is not None:
        require_window(timesteps)
    if parse_code(code).decodes:
        raise RangeError(
            f"{code} spikes decode any value, so levels are no use to them; choose binary, signed or burst"
        )


def folder_source(path: str | Path) -> tuple[Source, Preprocessing, tuple[tuple[int, ...], int]]:
    """The analog network of a conversion's folder, what its data went through, and the shapes of sample and output.

    Raises SpikeportError where the folder holds none, as its network was trained with spikes.
    """
    held = read_folder(path)
    if held.analog is None:
        raise SpikeportError(f"{path} holds no analog network: it was trained with spikes; give one that was converted")
    graph = without_lines(held.analog)
    about = held.report["convert"]
    source = Source(about["model"], graph, lambda x: analog_output(graph, x), about["source_sha256"])
    return source, held.preprocessing, held.shapes


def train_analog(
    graph: Graph, data: Dataset, validation: Dataset, how: Finetuning, progress: Progress | None = None
) -> tuple[Graph, dict[str, Any]]:
    """Train an analog Graph as it is, from the weights that it has; returns it with those of the best epoch.

    data, validation: labelled; ``how.levels`` is not looked at.  The history is that of ``train``.
    """
    network = TrainableGraph(graph)
    task = Task(
        network,
        samples_of(data),
        samples_of(validation),
        Direct(1),
        RateCrossEntropy(label_smoothing=how.label_smoothing),
        augment=how.augment,
    )
    result = train(task, how.training, how.optimizer, progress=progress)
    return network.cpu().eval().to_graph(), result


def held_out(data: Dataset, seed: int) -> tuple[np.ndarray, Dataset]:
    """Rows to train on, and the held-out samples, none of which is a copy of one that trains.

    Raises SpikeportError without labels, RangeError for too few samples.
    """
    if data.y is None:
        raise SpikeportError(f"{data.name} has no labels, and training needs them; name them: file.npz:xname,yname.")
    rows, out = split_validation(data.y, HELD_SHARE, seed)
    out = out[~np.isin(data.hashes[out], data.hashes[rows])]
    if len(out) < LEAST_HELD:
        raise RangeError(
            f"of {len(data.x)} samples {len(out)} different ones can be held out, but at least {LEAST_HELD} are "
            f"needed to choose the epoch, to calibrate and to measure; give more samples."
        )
    return rows, data.take(out)


def analog_source(graph: Graph, name: str, notes: tuple[str, ...] = ()) -> Source:
    """A trained analog network as a front end would hand it over."""
    sha256 = state_sha256(TrainableGraph(graph))
    graph = Graph.of(graph.nodes, {**graph.information, "source": {"name": name, "kind": "trained", "sha256": sha256}})
    return Source(name, graph, lambda x: analog_output(graph, x), sha256, notes)


def _training(result: dict[str, Any]) -> dict[str, Any]:
    best, history = result["best"], result["history"]
    curve = [
        {key: entry[key] for key in ("epoch", "train_loss", "train_accuracy", "validation_accuracy")}
        for entry in history
    ]
    return {"best_epoch": best["epoch"], "validation_accuracy": best["accuracy"], "epochs": curve}


def _against(source: Source, trained: Graph, data: Dataset) -> dict[str, Any]:
    """Accuracies on samples that trained and chose nothing: before, in levels, and the paired difference."""
    assert data.y is not None  # noqa: S101 - for the type checker: part of labelled data
    before, after = (torch.from_numpy(analog_output(graph, data.x).argmax(1)) for graph in (source.graph, trained))
    truth = torch.from_numpy(data.y)
    accuracies = [float((labels == truth).double().mean()) for labels in (before, after)]
    difference = paired_difference_interval(after, before, truth)
    return {
        "n": len(data.y),
        "source_accuracy": accuracies[0],
        "source_accuracy_ci95": list(accuracy_interval(accuracies[0], len(data.y))),
        "quantised_accuracy": accuracies[1],
        "quantised_difference": [difference.value, difference.low, difference.high],
    }
