"""``spikeport convert``: a trained network in, a folder with the spiking one out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._check import AccuracyGateMissed, RangeError
from . import options
from .output import finish, note, percent, progress_bar, rows, table

if TYPE_CHECKING:
    from ..conversion.methods import Auto, Recipe
    from ..conversion.source import Source
    from ..data import Dataset
    from ..evaluation.convert import Converted
    from ..evaluation.search import Search

__all__ = ["conversion_tables", "convert", "missed_accuracy", "network_shapes", "read_model"]

_ADVICE = "more --timesteps, more samples or another --method"
_TARGET_ADVICE = "more --timesteps, more samples or a smaller --target"

Spikes = Annotated[
    str | None,
    typer.Option(
        "--spikes",
        metavar="binary|signed|burst[:N]|differential[:N]",
        help="binary: 0 or 1 (default); signed: also -1, which takes one back; burst: up to N a step (4); "
        "differential: changes of a value in N sizes (8), which attention and norms need.",
    ),
]

Target = Annotated[
    float | None,
    typer.Option(
        "--target",
        metavar="POINTS",
        help="Try all kinds of spikes (or those of --spikes) for several numbers of steps, with mean-square "
        "thresholds, with and without biases by step; take the fewest operations at most POINTS below the ANN.",
    ),
]

Rounding = Annotated[
    str,
    typer.Option(
        "--rounding",
        metavar="nearest|fitted",
        help="How the integer network's weights become whole: fitted to DATA, errors cancel.",
    ),
]


def convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP, show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder to make.", show_default=False)],
    calibration: Annotated[
        str, typer.Option("--calibration", metavar="DATA", help=options.DATA_HELP, show_default=False)
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method", metavar="auto|percentile|mse|ltb|step-bias|reconstruct", help="How thresholds are chosen."
        ),
    ] = "auto",
    spikes: Spikes = None,
    timesteps: Annotated[int, typer.Option("--timesteps", min=1, max=4096, help="The longest window.")] = 32,
    target: Target = None,
    rounding: Rounding = "nearest",
    num_samples: Annotated[
        int | None, typer.Option("--num-samples", "--limit", min=1, help="Take the first so many samples of DATA.")
    ] = None,
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
    """Convert MODEL into a spiking network.

    It is calibrated on DATA and written with its report into DIR. DATA are split once, by the seed: to fit thresholds,
    to choose a method, and to calibrate the early exit. The accuracy, also that of --min-accuracy, is the one on the
    last part, after all time steps. DIR is written whole or not at all; where the accuracy is too low it is still
    written. With --target the second part chooses the spikes, the method and the steps together, and the front of what
    was tried is printed: what no other way beats in both accuracy and operations.
    """
    from ..data import default_preprocessing
    from ..evaluation.folder import left_behind, require_free, write_folder
    from ..report import render_report

    require_free(out, overwrite=overwrite)
    asked = _asked(target, method, spikes, timesteps)
    preprocessing = options.changed(default_preprocessing(calibration), scale, mean, std, layout)
    for path in left_behind(out):
        note(f"{path} is unfinished; a killed run left it, unless another one is at work. It can be removed.")
    source, data = read_model(model, calibration, preprocessing, weights, num_samples, allow_code)
    converted = _converted(source, data, asked, spikes or "binary", timesteps, seed, rounding)
    result = write_folder(out, converted, render_report, overwrite=overwrite)["convert"]
    missed = missed_accuracy(result, min_accuracy, _ADVICE if target is None else _TARGET_ADVICE)
    shown = [*conversion_tables(result), f"written: {out} (see {out / 'report.html'})"]
    finish(result, shown, as_json, missed)


def _asked(target: float | None, method: str, spikes: str | None, timesteps: int) -> "Recipe | Auto | Search":
    """The method; or what --target asks to try, which --spikes restricts to one code."""
    from ..conversion.codes import parse_code
    from ..conversion.methods import parse_method

    parse_code(spikes or "binary")
    chosen = parse_method(method)
    if target is None:
        return chosen
    from ..evaluation.search import CODES, WINDOWS, Search

    if method != "auto":
        raise RangeError(f"--target chooses the method itself, but --method {method} came too; leave one of them out.")
    windows = {window for window in WINDOWS if window < timesteps} | {timesteps}
    return Search(target, CODES if spikes is None else (spikes,), tuple(sorted(windows)))


def _converted(
    source: "Source",
    data: "Dataset",
    asked: "Recipe | Auto | Search",
    spikes: str,
    timesteps: int,
    seed: int,
    rounding: str,
) -> "Converted":
    from ..evaluation.convert import convert_network
    from ..evaluation.search import Search, search_network

    with progress_bar() as progress:
        if isinstance(asked, Search):
            return search_network(source, data, asked, seed=seed, rounding=rounding, progress=progress)
        return convert_network(
            source,
            data,
            method=asked,
            code=spikes,
            timesteps=timesteps,
            seed=seed,
            rounding=rounding,
            progress=progress,
        )


def missed_accuracy(result: Mapping[str, Any], min_accuracy: float | None, advice: str) -> AccuracyGateMissed | None:
    """What to end with where the accuracy is below the one that was asked for."""
    reached = result["accuracy_by_step"][-1]
    if min_accuracy is None or reached >= min_accuracy:
        return None
    return AccuracyGateMissed(
        f"the accuracy after {result['timesteps']} steps is {reached:.4f} on {result['n']} samples, below the "
        f"{min_accuracy} that was asked for; give {advice}."
    )


def network_shapes(source: "Source") -> tuple[tuple[int, ...], int]:
    """The shape of one sample, and the number of classes."""
    graph = source.graph
    return graph.shapes[graph.input.name], graph.shapes[graph.output.name][0]


def read_model(
    model: str, calibration: str, preprocessing: Any, weights: Path | None, limit: int | None, allow_code: bool
) -> "tuple[Source, Dataset]":
    """The network first, as it says what data it takes; a factory does not, so it is made for the data."""
    from ..conversion.open import is_factory, open_model

    features = None
    if is_factory(model) and allow_code:
        features = options.load_for(
            calibration, "calibration", preprocessing, None, limit=limit, allow_code=allow_code
        ).features
    source = open_model(model, features=features, weights=weights, allow_code=allow_code)
    shapes = network_shapes(source)
    return source, options.load_for(
        calibration, "calibration", preprocessing, shapes, limit=limit, allow_code=allow_code
    )


def conversion_tables(result: Mapping[str, Any]) -> list[Any]:
    """What a person wants to see of a conversion."""
    accuracy, intervals, n = result["accuracy_by_step"], result["accuracy_ci95_by_step"], result["n"]
    within = {points: result["steps_within"].get(points) for points in ("1.0", "0.5", "0.1")}
    needed = ", ".join(f"{points} point: {steps or f'more than {len(accuracy)}'}" for points, steps in within.items())
    summary = rows(
        f"Converted {result['model']}",
        [
            ("method", result["method"]),
            ("why", result["method_reason"]),
            ("spikes", result["spikes"]),
            ("labels", None if result["labels"] == "true" else "the ANN's own: the data have none"),
            ("ANN accuracy", percent(result["ann_accuracy"], result["ann_accuracy_ci95"], n)),
            (f"SNN accuracy after {len(accuracy)} steps", percent(accuracy[-1], intervals[-1], n)),
            ("steps to come within", needed),
            ("import error", f"{result['ann_output_max_error']:.1e} of the largest output"),
            ("stays analog", _analog(result.get("stays_analog", ()))),
            *(("note", text) for text in result["notes"]),
        ],
    )
    layers = table(
        "Layers (rates against the ANN's)",
        ("layer", "neurons", "correlation", "dead", "saturated", "spikes a sample"),
        [
            (
                layer["name"],
                layer["neurons"],
                _number(layer["rate_correlation"], ".3f"),
                _number(layer["dead_fraction"], ".1%"),
                _number(layer["saturated_fraction"], ".1%"),
                _number(layer["spikes_per_sample"], ",.0f"),
            )
            for layer in result["layers"]
        ],
    )
    return [summary, *_front(result.get("search")), layers]


def _front(search: Mapping[str, Any] | None) -> list[Any]:
    """The ways to run the network that no other beats, with the one that was taken marked."""
    if search is None:
        return []
    reached = "reached" if search["reached"] else "not reached"
    body = [
        (
            "*" if point == search["chosen"] else "",
            point["code"],
            point["steps"],
            percent(point["accuracy"]),
            f"{point['operations']:,.0f}",
            point["method"],
        )
        for point in search["front"]
    ]
    refused = [("", code, "", "", "", why) for code, why in search["refused"].items()]
    return [
        table(
            f"Front, {search['n']} samples (ANN {percent(search['ann_accuracy'])}, at most {search['points']:g} points "
            f"less: {reached})",
            ("", "spikes", "steps", "accuracy", "operations a sample", "method"),
            [*body, *refused],
        )
    ]


def _analog(found: Sequence[Mapping[str, Any]]) -> str | None:
    """Operators that are evaluated on whole values, by kind, with their operations a sample."""
    kinds: dict[str, list[float]] = {}
    for row in found:
        kinds.setdefault(row["operator"], []).append(row["operations_per_sample"])
    total = sum(map(sum, kinds.values()))
    said = ", ".join(f"{len(each)} × {kind} ({sum(each):,.0f})" for kind, each in kinds.items())
    return f"{total:,.0f} operations a sample: {said}" if kinds else None


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
