"""``spikeport import`` and ``spikeport export``: networks of other frameworks, and networks for them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import finish, note, percent, rows

__all__ = ["export_network", "import_network"]

_STEP = "NIR only: the length of a step"
ReadStep = Annotated[
    float | None, typer.Option("--dt", metavar="SECONDS", help=f"{_STEP} (what the file says, else 0.0001).")
]
WrittenStep = Annotated[
    float | None, typer.Option("--dt", metavar="SECONDS", help=f"{_STEP} (the reader's own, else 0.0001).")
]


def import_network(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .nir file, or a .net file of lava-dl.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to make.", show_default=False)],
    calibration: Annotated[
        str, typer.Option("--calibration", metavar="DATA", help=options.DATA_HELP, show_default=False)
    ],
    timesteps: Annotated[int, typer.Option("--timesteps", min=1, metavar="N", help="The longest window.")] = 32,
    dt: ReadStep = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Take in a spiking network that another framework made.

    It is evaluated, exits early and runs on every backend like a converted one. DATA, which must have labels, only
    calibrate when it may stop; they change no weight. A .net file comes in as the integer network that it is, and
    is evaluated as such. Its inputs are whole numbers from 0 to 255, so give pixels as they are, without --scale 1/255.
    """
    from ..data import Preprocessing
    from ..evaluation.exchange import imported_network, read_foreign
    from ..evaluation.folder import require_free, write_folder
    from ..hardware.program import IntegerProgram
    from ..report import render_report

    require_free(out, overwrite=overwrite)
    network = read_foreign(file, timesteps, dt=dt)
    graph = network.graph if isinstance(network, IntegerProgram) else network
    if graph.information.get("source", {}).get("by_definition"):
        note(f"{file.name} was changed since spikeport wrote it, or --dt was said: it is read as NIR defines its nodes")
    shapes = graph.shapes[graph.input.name], graph.shapes[graph.output.name][0]
    preprocessing = options.changed(Preprocessing(), scale, mean, std, layout)
    samples = options.load_for(calibration, "calibration", preprocessing, shapes, limit=limit, allow_code=allow_code)
    made = imported_network(file, network, samples, timesteps=timesteps, seed=seed)
    report = write_folder(out, made, render_report, overwrite=overwrite)["convert"]
    accuracy = report["accuracy_by_step"][-1]
    pairs: list[tuple[str, Any]] = [
        ("from", report["method"]),
        ("accuracy, all steps", percent(accuracy, report["accuracy_ci95_by_step"][-1], report["n"])),
        ("layers", len(report["layers"])),
    ]
    finish(report, [rows(f"Imported {file.name} into {out}", pairs)], as_json)


def export_network(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that spikeport wrote.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file (or folder) to write.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="nir|brian2|lava|onnx|pt2", help="The format to write.", show_default=False)
    ],
    policy: options.PolicyOption = "confidence",
    min_steps: options.MinSteps = 1,
    max_loss: options.MaxLoss = None,
    reader: Annotated[
        str | None,
        typer.Option("--reader", metavar="NAME", help="Write NIR as this reader needs it: snntorch, norse or sinabs."),
    ] = None,
    dt: WrittenStep = None,
    chunk: Annotated[int, typer.Option("--chunk", min=1, metavar="N", help="Steps in one call of a program.")] = 1,
    overwrite: options.OverwriteFile = False,
    as_json: options.Json = False,
) -> None:
    """Write the network in DIR for another framework.

    nir: a file that other frameworks read, or with --reader one of them. brian2: a Python script with its arrays beside
    it. lava: the integer populations and sparse matrices as one .npz. onnx, pt2: a folder with the network and its exit
    rule as programs, and a host loop that runs them without spikeport; --policy, --min-steps and --max-loss are those
    of evaluate.
    """
    from .._check import SpikeportError
    from ..evaluation.compiled import FORMATS, export_programs
    from ..evaluation.exchange import TARGETS
    from ..evaluation.exchange import export_network as write
    from ..evaluation.folder import read_folder
    from ..inference import FixedSteps

    if to not in (*TARGETS, *FORMATS):
        raise SpikeportError(f"a network cannot go to {to!r}; choose one of {', '.join((*TARGETS, *FORMATS))}")
    chosen = options.parse_policy(policy, min_steps, max_loss)
    if to not in FORMATS:
        of_programs = {"--policy": policy != "confidence", "--min-steps": min_steps > 1, "--chunk": chunk > 1}
        given = [name for name, came in {**of_programs, "--max-loss": max_loss is not None}.items() if came]
        if given:
            raise SpikeportError(
                f"{', '.join(given)} say how a program runs; they go with {' and '.join(FORMATS)} only"
            )
    held = read_folder(folder)
    of_nir = [f"--reader {reader}"] * (reader is not None) + [f"--dt {dt}"] * (dt is not None)
    if of_nir and to != "nir":
        raise SpikeportError(f"{', '.join(of_nir)} says how to write a NIR file; it goes with --to nir only")
    if to in FORMATS:
        loss = options.loss_of(max_loss)
        rule = chosen if isinstance(chosen, FixedSteps) else chosen.rule(held.exit, max_loss=loss)
        limit = len(held.exit.outputs)
        about = export_programs(held.spiking, rule, file, to=to, max_steps=limit, steps=chunk, overwrite=overwrite)
        finish({"folder": str(file.resolve()), "to": to, **about}, [str(file)], as_json)
        return
    for written in (file, file.with_suffix(".npz")) if to == "brian2" else (file,):
        if written.exists() and not overwrite:
            raise SpikeportError(f"{written} is there already; choose another name, or pass --overwrite to replace it.")
    said = write(held, to, file, reader=reader, dt=dt)
    for line in said:
        note(line)
    finish({"file": str(file.resolve()), "to": to, "notes": list(said)}, [str(file)], as_json)
