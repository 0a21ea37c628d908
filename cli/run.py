"""``spikeport run``: the integer network of a conversion on a backend."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._check import RangeError
from . import analog, options
from .output import faults_text, finish, percent, progress_bar, rows, table

if TYPE_CHECKING:
    from ..networks.faults import Faults

__all__ = ["run_backend", "run_tables"]

CHIP = "loihi2"

Backend = Annotated[
    str,
    typer.Option("--backend", metavar="NAME", help="torch, reference, lava, brian2[:TARGET], or analog (crossbars)."),
]
Chip = Annotated[
    str | None,
    typer.Option(
        "--chip",
        metavar="NAME",
        help="Map to and price on: loihi1, loihi2 (default), speck, truenorth, generic, or FILE.toml of your own.",
    ),
]
Compare = Annotated[
    str | None, typer.Option("--compare", metavar="reference", help="Compare every spike with the reference.")
]
Data = Annotated[str, typer.Option("--data", metavar="DATA", help=options.DATA_HELP, show_default=False)]
FaultSeed = Annotated[
    int | None,
    typer.Option("--fault-seed", min=0, max=options.MOST_SEED, help="Where faults fall follows from it (default 0)."),
]
FaultsOption = Annotated[
    str | None,
    typer.Option(
        "--faults",
        metavar="F",
        help="Hit it with faults: weights:1e-4,dropped_spikes:0.01,layers:conv1+fc1, or a .toml file.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that spikeport wrote.", show_default=False)]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Run at most so many steps; those of the conversion if not given.")
]


def run_backend(
    folder: Folder,
    data: Data,
    backend: Backend = "torch",
    policy: options.PolicyOption = "confidence",
    min_steps: options.MinSteps = 1,
    steps: Steps = None,
    max_loss: options.MaxLoss = None,
    chip: Chip = None,
    compare: Compare = None,
    device: analog.Device = None,
    time: analog.Time = None,
    instances: analog.Instances = None,
    seed: analog.Seed = None,
    no_compensation: analog.NoCompensation = False,
    adc_bits: analog.AdcBits = None,
    tile: analog.Tile = None,
    recalibrate: analog.Recalibrate = None,
    recalibrate_samples: analog.RecalibrateSamples = None,
    prices: analog.Prices = None,
    executor: analog.Executor = None,
    wires: analog.Wires = False,
    faults: FaultsOption = None,
    fault_seed: FaultSeed = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    limit: options.Limit = None,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Run the integer network in DIR on a backend.

    It has eight-bit weights and is the same on every backend, spike for spike (--compare reference shows it). Where DIR
    has none yet, it is made from the statistics of the calibration. The exit rule is calibrated as for evaluate. Shows
    accuracy, steps, operations, energy by cited prices, and the cores that the chip needs; the result also goes into
    DIR's report. --backend analog simulates chips of memory devices, each of them another, and shows their spread.

    Faults: targets with rates from 0 to 1. Bits that flip in weights, biases, thresholds, initial (membranes) and
    bounds (of protection); stuck_at_0 and stuck_at_1 of the bits of weights; dead_neurons; and during the run
    dropped_spikes and bits of the state.
    """
    from ..evaluation.folder import read_folder

    chosen = options.parse_policy(policy, min_steps, max_loss)
    of_chips = device, time, instances, seed, no_compensation, adc_bits, tile, recalibrate, recalibrate_samples
    asked = analog.AnalogOptions(*of_chips, prices, executor, wires)
    run, hit = _runner(backend, faults, fault_seed, chip, asked)
    held = read_folder(folder)
    preprocessing = options.changed(held.preprocessing, scale, mean, std, layout)
    samples = options.samples_for(held, data, preprocessing, limit=limit, allow_code=allow_code)
    common: dict[str, Any] = {"max_loss": options.loss_of(max_loss), "steps": steps, "compare_with": compare}
    if run is None and executor not in (None, "own"):
        result = analog.run_aihwkit(folder, held, samples, asked, chosen, **common)
    elif run is None:
        result = analog.run_analog(folder, held, samples, asked, chosen, allow_code=allow_code, hit=hit, **common)
    else:
        result = _run(folder, held, run, samples, chosen, chip=chip or CHIP, **common)
    finish(result, analog.analog_tables(result) if run is None else run_tables(result), as_json)


def _runner(
    backend: str, said: str | None, fault_seed: int | None, chip: str | None, asked: analog.AnalogOptions
) -> "tuple[Any, tuple[Faults | None, int]]":
    """What runs the network on that backend (None for crossbars, which have options of their own), and the faults."""
    from ..evaluation.faults import parse_faults, runner
    from ..hardware.chips import load_chip

    if said is None and fault_seed is not None:
        raise RangeError("--fault-seed came without --faults; say what shall be hit.")
    faults, seed = None if said is None else parse_faults(said), fault_seed or 0
    load_chip(chip or CHIP)
    if backend == "analog":
        if chip is not None:
            raise RangeError("--chip and --backend analog came together; crossbars are described by --device.")
        if faults is not None and asked.executor not in (None, "own"):
            raise RangeError("--faults and --executor aihwkit came together; its tiles hold the float network")
        return None, (faults, seed)
    asked.require_none(backend)
    return runner(backend, faults, seed=seed), (faults, seed)


def _run(
    folder: Path,
    held: Any,
    run: Any,
    samples: Any,
    policy: Any,
    *,
    max_loss: float,
    steps: int | None,
    **asked: Any,
) -> dict[str, Any]:
    """Run the folder's integer network and keep the result in its report."""
    from ..evaluation.folder import keep_integer, require_writable
    from ..inference import FixedSteps
    from ..report import render_report

    require_writable(folder)
    program = keep_integer(folder, held, render_report)
    rule = policy if isinstance(policy, FixedSteps) else policy.rule(held.exit.of_integer, max_loss=max_loss)
    steps = steps or min(program.steps, len(held.exit.outputs))
    asked |= {"rule": rule, "shared": held.exit.calibration_hashes}
    with progress_bar() as progress:
        result = run(program, samples, steps=steps, progress=progress, **asked)
    analog.keep_run(folder, result)
    return dict(result)


def run_tables(result: Mapping[str, Any]) -> list[Any]:
    """What a person wants to see of a run."""
    energy, mapping, agreement = result["energy"], result["mapping"], result["agreement"]
    summary = rows(
        f"Run on {result['backend']}, {result['data']}, {result['n']} samples",
        [
            ("accuracy", percent(result["accuracy"], result["accuracy_ci95"], result["n"])),
            ("mean steps to a decision", f"{result['mean_steps']:.2f} of {result['timesteps']}, {result['policy']}"),
            ("synaptic operations a sample", f"{result['synaptic_operations']:,.0f}"),
            ("seconds", f"{result['seconds']:.2f}, and {result['compile_seconds']:.2f} to compile"),
            ("agreement with the reference", _agreement(agreement)),
            ("faults", faults_text(result.get("faults"))),
            (f"energy a sample ({energy['chip']})", _energy(energy["total"])),
            (f"cores ({mapping['chip']})", f"{mapping['cores']} of {mapping['cores_of_the_chip']}"),
            ("does not fit", "; ".join(mapping["violations"]) or None),
        ],
    )
    terms = table(
        "Energy a sample, by cited prices",
        ("term", "number", "pJ", "evidence"),
        [
            (
                term["term"].replace("_", " "),
                f"{term['count_per_sample']:,.0f}",
                None if term["picojoules_per_sample"] is None else f"{term['picojoules_per_sample']:,.0f}",
                term.get("evidence"),
            )
            for term in energy["terms"]
        ],
    )
    layers = table(
        "Spikes a sample", ("layer", "spikes"), [(k, f"{v:,.1f}") for k, v in result["spikes_per_layer"].items()]
    )
    return [layers, terms, summary]


def _energy(total: float | None) -> str:
    return "no total: a term has no published price" if total is None else f"{total / 1e6:.4g} µJ"


def _agreement(agreement: Mapping[str, Any] | None) -> str | None:
    if agreement is None:
        return None
    said = f"{agreement['mismatches']} of {agreement['spikes_compared']:,} values differ"
    first = agreement["first_divergence"]
    return said if first is None else f"{said}, first in {first['layer']} at step {first['step'] + 1}"
