"""``spikeport finetune``: a trained network in, a folder with the spiking one out that needs few steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .convert import conversion_tables, missed_accuracy, read_model
from .output import epochs_of, finish, percent, progress_bar, rows

if TYPE_CHECKING:
    from ..conversion.source import Source
    from ..data import Dataset, Preprocessing

__all__ = ["finetune"]


Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help=f"The folder of a conversion; or {options.MODEL_HELP}", show_default=False),
]
Spikes = Annotated[
    str,
    typer.Option(
        "--spikes",
        metavar="binary|signed|burst[:N]",
        help="binary: 0 or 1; signed: also -1, which takes one back; burst: up to N a step (with N = --levels "
        "one step says a whole activation).",
    ),
]

SpikeEpochs = Annotated[
    int,
    typer.Option("--spike-epochs", min=0, help="Then train the spikes themselves: so many passes over the samples."),
]
SpikeRate = Annotated[
    float, typer.Option("--spike-rate", min=0.0, max=1e3, help="The learning rate of the spikes, at its highest.")
]
WeightNoise = Annotated[
    float,
    typer.Option("--weight-noise", min=0.0, max=1.0, help="Noise on weights in training, for analog hardware: 0.05."),
]


Accelerator = Annotated[str, typer.Option("--accelerator", metavar="auto|cpu|cuda|mps", help="The device that trains.")]


def finetune(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to make.", show_default=False)],
    data: Annotated[str, typer.Option("--data", metavar="DATA", help=options.DATA_HELP, show_default=False)],
    levels: Annotated[int, typer.Option("--levels", min=1, max=64, help="Levels of an activation.")] = 4,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training samples.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Samples of a step.")] = 64,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0.0, max=1e3, help="At its highest; it falls along half a cosine.")
    ] = 1e-3,
    augment: Annotated[
        str, typer.Option("--augment", metavar="A[,A...]", help='Random changes of images: "flip", "shift 2", ...')
    ] = "",
    weight_noise: WeightNoise = 0.0,
    spike_epochs: SpikeEpochs = 0,
    spike_rate: SpikeRate = 5e-4,
    accelerator: Accelerator = "auto",
    spikes: Spikes = "binary",
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", min=1, max=4096, help="The longest window; by default --levels.")
    ] = None,
    limit: options.Limit = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    weights: options.Weights = None,
    min_accuracy: options.MinAccuracy = None,
    seed: options.Seed = 0,
    allow_code: options.AllowCode = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Train MODEL for a little longer with activations in whole levels, and convert it.

    The spiking network needs about as many steps as there are levels, with thresholds that were learned; with
    --spike-epochs its own spikes are trained on, and fewer steps do. A fifth of DATA trains nothing: it chooses the
    epoch, calibrates, and gives the accuracies. DIR is a folder as `spikeport convert` writes it; its analog network
    is the one in levels.
    """
    from ..evaluation.finetune import Finetuning, finetune_network
    from ..evaluation.folder import require_free, write_folder
    from ..evaluation.spike_tuning import SpikeTuning
    from ..evaluation.train import parse_augmentation
    from ..report import render_report
    from ..training.settings import OptimizerSettings, TrainingSettings

    require_free(out, overwrite=overwrite)
    training = TrainingSettings(
        epochs=epochs, batch_size=batch_size, accelerator=accelerator, seed=seed, weight_noise=weight_noise
    )
    changes = parse_augmentation(tuple(word.strip() for word in augment.split(",") if word.strip()))
    tuning = SpikeTuning(spike_epochs, spike_rate) if spike_epochs else None
    how = Finetuning(levels, training, OptimizerSettings(learning_rate=learning_rate), augment=changes, spikes=tuning)
    source, samples = _read(model, data, (scale, mean, std, layout), weights, limit, allow_code)
    with progress_bar() as progress:
        made = finetune_network(source, samples, how, code=spikes, timesteps=timesteps, progress=progress)
    result = write_folder(out, made, render_report, overwrite=overwrite)["convert"]
    shown = [_table(result["finetune"]), *conversion_tables(result), f"written: {out} (see {out / 'report.html'})"]
    finish(result, shown, as_json, missed_accuracy(result, min_accuracy, "more --epochs or --timesteps"))


def _read(
    model: str, spec: str, changes: tuple[str | None, ...], weights: Path | None, limit: int | None, allow_code: bool
) -> "tuple[Source, Dataset]":
    """The network and its data; a conversion's folder knows what its data went through."""
    from ..data import default_preprocessing

    if not Path(model).is_dir():
        preprocessing: Preprocessing = options.changed(default_preprocessing(spec), *changes)
        return read_model(model, spec, preprocessing, weights, limit, allow_code)
    from ..evaluation.finetune import folder_source

    source, preprocessing, shapes = folder_source(model)
    given = options.changed(preprocessing, *changes)
    return source, options.load_for(spec, "calibration", given, shapes, limit=limit, allow_code=allow_code)


def _table(about: dict[str, Any]) -> Any:
    change, low, high = (f"{100 * value:+.2f}" for value in about["quantised_difference"])
    spikes = about.get("spikes")
    return rows(
        f"Trained in {about['levels']} levels",
        [
            ("training samples", f"{about['n_train']:,} ({epochs_of(len(about['epochs']))})"),
            ("best epoch", about["best_epoch"]),
            ("accuracy before", percent(about["source_accuracy"], about["source_accuracy_ci95"], about["n"])),
            (
                "accuracy in levels",
                f"{percent(about['quantised_accuracy'])} (difference {change}, 95 % interval {low} to {high} points)",
            ),
            *([("spikes trained", _spikes(spikes))] if spikes else []),
        ],
    )


def _spikes(about: dict[str, Any]) -> str:
    before, after = (percent(value) for value in about["validation_accuracy"])
    kept = "" if about["kept"] else "; not kept, as it got worse"
    return f"{epochs_of(about['epochs'])}: {before} to {after} of the samples that chose the epoch{kept}"
