"""The options of ``spikeport run --backend analog``: a device, its age, the chips, and what is fitted to them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._check import RangeError
from . import options
from .output import faults_text, percent, progress_bar, rows, table

if TYPE_CHECKING:
    from ..data import Dataset
    from ..evaluation.analog import AnalogDesign
    from ..evaluation.folder import Conversion
    from ..evaluation.policies import Policy
    from ..inference import FixedSteps
    from ..networks.faults import Faults

__all__ = ["AnalogOptions", "analog_tables", "keep_run", "parse_time", "run_analog"]

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WITH = "With --backend analog: "

AdcBits = Annotated[
    int | None,
    typer.Option(
        "--adc-bits",
        min=2,
        max=16,
        help=f"{_WITH}bits of the column converters; needs --recalibrate (aihwkit: a fixed range).",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help=f"{_WITH}ideal, pcm (default), reram, or FILE.toml of your own."),
]
Instances = Annotated[
    int | None, typer.Option("--instances", min=1, metavar="N", help=f"{_WITH}simulate so many chips (default 5).")
]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor", metavar="NAME", help=f"{_WITH}own (default), or aihwkit: the float network on IBM's torch tiles."
    ),
]
NoCompensation = Annotated[
    bool, typer.Option("--no-compensation", help=f"{_WITH}leave the drift of conductances as it is.")
]
Prices = Annotated[str | None, typer.Option("--prices", metavar="NAME", help=f"{_WITH}isaac (default) or hermes.")]
Recalibrate = Annotated[
    str | None,
    typer.Option("--recalibrate", metavar="DATA", help=f"{_WITH}fit neurons and exit rule to the chips on DATA."),
]
RecalibrateSamples = Annotated[
    int | None,
    typer.Option(
        "--recalibrate-samples", min=1, metavar="N", help=f"{_WITH}take the first so many of --recalibrate (all)."
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=options.MOST_SEED, help=f"{_WITH}every chip and read follows from it (0)."),
]
Tile = Annotated[
    tuple[int, int] | None,
    typer.Option("--tile", metavar="R C", help=f"{_WITH}rows and columns of an array (256 256)."),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="T", help=f"{_WITH}after writing: 1s, 10min, 1h, 1d (default), 30d; reram: 1s, 1d or 2d."
    ),
]
Wires = Annotated[bool, typer.Option("--wires", help=f"{_WITH}count the resistance of the wires.")]


@dataclass(frozen=True)
class AnalogOptions:
    """What was said on the command line; None for what was not."""

    device: str | None = None
    time: str | None = None
    instances: int | None = None
    seed: int | None = None
    no_compensation: bool = False
    adc_bits: int | None = None
    tile: tuple[int, int] | None = None
    recalibrate: str | None = None
    recalibrate_samples: int | None = None
    prices: str | None = None
    executor: str | None = None
    wires: bool = False

    def require_none(self, backend: str) -> None:
        """Raise RangeError where an option of crossbars was given for another backend."""
        said = {f.name: getattr(self, f.name) for f in fields(self)}  # 0 is said, too, but equals False
        given = [
            f"--{name.replace('_', '-')}" for name, value in said.items() if value is not None and value is not False
        ]
        if given:
            raise RangeError(
                f"{', '.join(given)} and --backend {backend} came together; only --backend analog has them."
            )


def parse_time(text: str) -> float:
    """Seconds of a text such as 1s, 10min, 1.5h, 30d; raises RangeError for anything else.

    >>> parse_time("30d")
    2592000.0
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(s|min|h|d)", text.strip())
    if found is None:
        raise RangeError(f"the time is {text!r}; a number with s, min, h or d was wanted, such as 1s, 1h or 30d.")
    return float(found[1]) * _UNITS[found[2]]


def _duration(seconds: float) -> str:
    """Seconds in the largest unit of ``parse_time`` that is not longer."""
    unit = max((name for name in _UNITS if _UNITS[name] <= max(seconds, 1.0)), key=lambda name: _UNITS[name])
    return f"{seconds / _UNITS[unit]:g} {unit}"


def _calibration(held: "Conversion", asked: AnalogOptions, allow_code: bool) -> "Dataset | None":
    """The samples of --recalibrate, if any."""
    spec, limit = asked.recalibrate, asked.recalibrate_samples
    if spec is None:
        if limit is not None:
            raise RangeError("--recalibrate-samples came without --recalibrate; say which samples.")
        return None
    return options.load_for(spec, "calibration", held.preprocessing, held.shapes, limit=limit, allow_code=allow_code)


def run_analog(
    folder: Path,
    held: "Conversion",
    samples: "Dataset",
    asked: AnalogOptions,
    policy: "FixedSteps | Policy",
    *,
    max_loss: float,
    steps: int | None,
    compare_with: str | None,
    allow_code: bool,
    hit: "tuple[Faults | None, int]" = (None, 0),
) -> dict[str, Any]:
    """Run the folder's integer network on chips and keep the result in its report.

    hit: faults of what it stores, before its weights are written into the chips, and during the run, and their seed.
    """
    from ..evaluation.analog import measure_on_chips
    from ..evaluation.faults import described
    from ..evaluation.folder import keep_integer, require_writable
    from ..hardware.faults import faulty_program
    from ..networks.transient import transient_of
    from ..report import render_report

    design = _design(asked)
    require_writable(folder)
    calibration = _calibration(held, asked, allow_code)
    program, said = keep_integer(folder, held, render_report), {}
    faults, seed = hit
    if faults is not None:
        program, injected = faulty_program(program, faults, seed=seed)
        said = {"faults": described(faults, seed, injected)}
    transient = transient_of(program.graph, faults, seed)
    with progress_bar() as progress:
        result = measure_on_chips(
            program,
            held.exit.of_integer,
            samples,
            design,
            policy=policy,
            max_loss=max_loss,
            steps=steps,
            calibration=calibration,
            compare_with=compare_with,
            prices=asked.prices or "isaac",
            transient=transient,
            progress=progress,
        )
    result = {**result, **said}
    keep_run(folder, result)
    return result


def _design(asked: AnalogOptions) -> "AnalogDesign":
    from ..evaluation.analog import AnalogDesign

    design = AnalogDesign.of(
        asked.device or "pcm",
        time_s=parse_time(asked.time or "1d"),
        instances=5 if asked.instances is None else asked.instances,
        seed=asked.seed or 0,
        compensation=not asked.no_compensation,
        adc_bits=asked.adc_bits,
        tile=asked.tile,
    )
    return replace(design, crossbar=replace(design.crossbar, wires=asked.wires))


def run_aihwkit(
    folder: Path,
    held: "Conversion",
    samples: "Dataset",
    asked: AnalogOptions,
    policy: "FixedSteps | Policy",
    *,
    max_loss: float,
    steps: int | None,
    compare_with: str | None,
) -> dict[str, Any]:
    """Run the folder's float network on aihwkit's tiles and keep the result in its report."""
    from ..evaluation.aihwkit_run import run_on_aihwkit
    from ..evaluation.folder import require_writable
    from ..inference import FixedSteps

    if asked.executor != "aihwkit":
        raise RangeError(f"--executor is {asked.executor!r}; choose own or aihwkit.")
    given = {
        "--recalibrate": asked.recalibrate,
        "--recalibrate-samples": asked.recalibrate_samples,
        "--prices": asked.prices,
        "--compare": compare_with,
    }
    if any(given.values()):
        names = ", ".join(name for name, value in given.items() if value)
        raise RangeError(f"{names} and --executor aihwkit came together; only our own arrays can do that.")
    most = len(held.exit.outputs)
    if steps is not None and steps > most:
        raise RangeError(f"{steps} steps were asked for; 1 to {most} are possible here")
    require_writable(folder)
    design = _design(asked)
    rule = policy if isinstance(policy, FixedSteps) else policy.rule(held.exit, max_loss=max_loss)
    crossbar = replace(design.crossbar, scale="maximum")
    with progress_bar() as progress:
        result = run_on_aihwkit(
            held.spiking,
            replace(design, crossbar=crossbar),
            samples,
            steps=steps or most,
            rule=rule,
            shared=held.exit.calibration_hashes,
            progress=progress,
        )
    keep_run(folder, result)
    return result


def keep_run(folder: Path, result: Mapping[str, Any]) -> None:
    """Put a result among the runs of the folder's report, by the name of its backend; one with faults stands beside."""
    from ..evaluation.folder import read_folder, update_report
    from ..report import render_report

    report = read_folder(folder).report
    name = result["backend"] + (" with faults" if "faults" in result else "")
    update_report(folder, {**report, "run": {**report.get("run", {}), name: result}}, render_report)


def aihwkit_tables(result: Mapping[str, Any]) -> list[Any]:
    """What a person wants to see of a run on aihwkit's tiles."""
    last = [
        ("mean steps to a decision", f"{result['mean_steps']:.2f} of {result['timesteps']}"),
        ("seconds", f"{result['seconds']:.2f}"),
    ]
    title = f"Run on aihwkit, {result['data']}, {result['n']} samples"
    return [rows(title, [*_over_chips(result), *last])]


def _over_chips(result: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """What runs on our arrays and on aihwkit's tiles have in common."""
    chips, device = result["accuracy_over_chips"], result["device"]
    bits = "" if device["adc_bits"] is None else f", converters of {device['adc_bits']} bits"
    return [
        ("device", f"{device['name']}{bits}, {_duration(result['time_seconds'])} after writing"),
        ("chips", f"{result['instances']}, seed {result['seed']}"),
        ("accuracy, mean over chips", f"{percent(chips['mean'], chips['ci95'], None)} over chips, n = {result['n']:,}"),
        ("worst and best chip", f"{100 * chips['lowest']:.2f} % and {100 * chips['highest']:.2f} %"),
        ("after all steps", f"{100 * result['all_steps']['mean']:.2f} %"),
    ]


def analog_tables(result: Mapping[str, Any]) -> list[Any]:
    """What a person wants to see of a run on chips."""
    if result["backend"] == "aihwkit":
        return aihwkit_tables(result)
    energy, agreement = result["energy"], result["agreement"]
    fitted, converters = result["recalibrated"], result["converters"]
    summary = rows(
        f"Run on analog, {result['data']}, {result['n']} samples",
        [
            *_over_chips(result),
            ("without crossbars", percent(result["digital_accuracy"], None, result["n"])),
            ("mean steps to a decision", f"{result['mean_steps']:.2f} of {result['timesteps']}, {result['policy']}"),
            ("fitted to the chips", None if fitted is None else f"{fitted['n_neurons']} samples of {fitted['data']}"),
            ("agreement with the reference", None if agreement is None else _agreement(agreement)),
            ("faults", faults_text(result.get("faults"))),
            ("conversions beyond range", f"{100 * converters['saturated']:.3g} %" if converters["bits"] else None),
            ("energy a decision", _total(energy["early_exit"], 1e6, "µJ")),
            ("saved by early exit", None if energy["saving"] is None else f"{100 * energy['saving']:.1f} %"),
            ("area of the arrays", _total(energy["area"], 1e6, "mm²")),
            ("seconds", f"{result['seconds']:.2f}"),
        ],
    )
    terms = table(
        f"Energy a decision, by cited prices ({energy['early_exit']['scheme']})",
        ("term", "number", "pJ", "evidence"),
        [
            (
                term["term"].replace("_", " "),
                f"{term['count']:,.0f}",
                None if term["cost"] is None else f"{term['cost']:,.0f}",
                term["evidence"],
            )
            for term in energy["early_exit"]["terms"]
        ],
    )
    return [terms, summary]


def _total(bill: Mapping[str, Any], share: float, unit: str) -> str:
    if bill["total"] is None:
        return f"no total: no price for {', '.join(bill['unpriced']).replace('_', ' ')}"
    return f"{bill['total'] / share:.4g} {unit}"


def _agreement(agreement: Mapping[str, Any]) -> str:
    return f"{agreement['mismatches']:,} of {agreement['spikes_compared']:,} values differ"
