"""``spikeport train``: settings in, a trained spiking network out."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from .._check import AccuracyGateMissed
from . import options
from .output import epochs_of, finish, note, percent, progress_bar, rows, table

__all__ = ["train"]


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Settings: a .toml, .yaml or .yml file.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to make.", show_default=False)],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in DIR, where there is one.")
    ] = False,
    allow_code: options.AllowCode = False,
    min_accuracy: options.MinAccuracy = None,
    as_json: options.Json = False,
) -> None:
    """Train a spiking network with surrogate gradients, as CONFIG says.

    DIR keeps the checkpoint, which is written whole or not at all, and curves for TensorBoard. Part of the training
    data is held out and chooses the best epoch; test data, where CONFIG names some, are measured once, at the end.
    A network that sees the same sample at each step, or recordings of events, is written into DIR/network too, for
    `spikeport evaluate` and `report`. docs/training.md lists all settings.
    """
    from ..evaluation.train import train_network
    from ..report import render_report
    from ..training.config import read_config

    settings = read_config(config)
    with progress_bar() as progress:
        shown = _OwnBar() if settings.training.devices > 1 else progress
        result = train_network(
            settings, out, resume=resume, allow_code=allow_code, progress=shown, render=render_report
        )
    for text in result["notes"]:
        note(text)
    finish(result, _tables(result), as_json, _missed(result, min_accuracy))


class _OwnBar:
    """A bar that is opened where it is first used: it can be handed to another process, which an open one cannot."""

    def __init__(self) -> None:
        self._open: ExitStack | None = None

    def __call__(self, stage: str, done: float) -> None:
        if self._open is None:
            self._open = ExitStack()
            self._show = self._open.enter_context(progress_bar())
        self._show(stage, done)
        if done >= 1:
            self._open.close()


def _missed(result: dict[str, Any], min_accuracy: float | None) -> AccuracyGateMissed | None:
    measured, where = (result["test"], "test") if "test" in result else (result["best"], "validation")
    if min_accuracy is None or measured["accuracy"] >= min_accuracy:
        return None
    return AccuracyGateMissed(
        f"the {where} accuracy is {measured['accuracy']:.4f}, below the {min_accuracy} that was asked for; train for "
        f"more epochs, or with more data."
    )


def _tables(result: dict[str, Any]) -> list[Any]:
    best, n = result["best"], result["n"]
    measured = result.get("test")
    test = measured and percent(measured["accuracy"], measured["accuracy_ci95"], measured["n"])
    summary = rows(
        f"Trained on {result['data']}",
        [
            ("parameters", f"{result['parameters']:,}"),
            ("steps", f"{result['steps']:,} ({n['train']:,} samples, {epochs_of(len(result['history']))})"),
            ("best epoch", best["epoch"]),
            ("validation accuracy", percent(best["accuracy"], best["accuracy_ci95"], n["validation"])),
            ("test accuracy", test),
        ],
    )
    names = list(result["history"][-1]["rates"])
    epochs = table(
        "Epochs (rates: spikes a unit and step)",
        ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", *names),
        [
            (
                entry["epoch"],
                f"{entry['train_loss']:.4f}",
                percent(entry["train_accuracy"]),
                f"{entry['validation_loss']:.4f}",
                percent(entry["validation_accuracy"]),
                *(f"{entry['rates'].get(name, 0.0):.3f}" for name in names),
            )
            for entry in result["history"]
        ],
    )
    written = f"written: {result['folder']} (curves: tensorboard --logdir {result['folder']})"
    return [summary, epochs, written, *([f"evaluate it: {result['network']}"] if result["network"] else [])]
