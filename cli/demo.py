"""``spikeport demo``: train a small network, convert it, let it decide early."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .convert import conversion_tables
from .evaluate import evaluation_tables
from .output import finish, progress_bar

__all__ = ["demo"]

DEFAULT_FOLDER = Path("spikeport-demo")
MAX_LOSS = 0.01  # two of the 160 or so samples that the exit is calibrated on; less could not be told from chance


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to make.")] = DEFAULT_FOLDER,
    timesteps: Annotated[int, typer.Option("--timesteps", min=1, max=4096, help="The longest window.")] = 16,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Train, convert and evaluate a small CNN.

    On the embedded digits, with early exit and the report. It is trained and calibrated on the first 1,437 digits of a
    fixed order, each for one of the two, and measured on the other 360.
    """
    from ..conversion.methods import parse_method
    from ..evaluation.convert import convert_network
    from ..evaluation.demo import train_demo
    from ..evaluation.evaluate import evaluate_network
    from ..evaluation.folder import require_free, write_folder
    from ..report import render_report

    require_free(out, overwrite=overwrite)
    with progress_bar() as progress:
        network, calibration, evaluation = train_demo(seed, progress)
        method = parse_method("auto")
        converted = convert_network(
            network, calibration, method=method, timesteps=timesteps, seed=seed, progress=progress
        )
        result = evaluate_network(
            converted.spiking,
            converted.analog,
            converted.exit,
            evaluation,
            max_loss=MAX_LOSS,
            seed=seed,
            progress=progress,
        )
    report = write_folder(out, converted, render_report, evaluation=result, overwrite=overwrite)
    shown = [
        *conversion_tables(report["convert"]),
        *evaluation_tables(result),
        f"The network is in {out / 'network.safetensors'}; look at {out / 'report.html'}.",
    ]
    finish({**report, "folder": str(out.resolve())}, shown, as_json)
