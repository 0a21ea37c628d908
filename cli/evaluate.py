"""``spikeport evaluate`` and ``spikeport report``: what a converted network is worth on other data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .._check import AccuracyGateMissed, RangeError
from . import options
from .output import finish, note, percent, progress_bar, rows, table

__all__ = ["evaluate", "evaluation_tables", "report"]

ATTACKED = 200  # samples
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that spikeport wrote.", show_default=False)]


def evaluate(
    folder: Folder,
    data: Annotated[str, typer.Option("--data", metavar="DATA", help=options.DATA_HELP, show_default=False)],
    policy: options.PolicyOption = "confidence",
    min_steps: options.MinSteps = 1,
    max_loss: options.MaxLoss = None,
    guarantee: options.GuaranteeOption = None,
    bits: Annotated[
        int | None,
        typer.Option("--bits", min=8, max=8, help="8: the integer network in DIR instead of the float one."),
    ] = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    limit: options.Limit = None,
    drop_shared: options.DropShared = False,
    timing: options.Timing = True,
    attack: options.Attack = None,
    attack_samples: options.AttackSamples = None,
    min_accuracy: options.MinAccuracy = None,
    seed: options.Seed = 0,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Measure the network in DIR on DATA.

    With early exit, and on DATA that it was not calibrated on. They go through what the calibration data went through,
    unless options say otherwise. The exit rule is calibrated on the part of the calibration data that was kept for it,
    never on DATA. The result also goes into DIR's report; --min-accuracy is held against the accuracy with early exit.
    """
    from ..data import drop_shared as without_shared
    from ..evaluation.evaluate import evaluate_network
    from ..evaluation.folder import keep_integer, read_folder, read_report, require_writable, update_report
    from ..report import render_report

    chosen, loss = options.parse_rule(policy, guarantee, min_steps, max_loss), options.loss_of(max_loss)
    if attack is None and attack_samples is not None:
        raise RangeError(f"--attack-samples {attack_samples} came without --attack; say how far inputs may be moved.")
    held = read_folder(folder)
    whole = bits is not None or "integer" in held.spiking.information  # as a .net file comes in
    if attack is not None and whole:
        raise RangeError("--attack needs gradients, and an integer network (--bits) has none; leave one of them out.")
    require_writable(folder)
    preprocessing = options.changed(held.preprocessing, scale, mean, std, layout)
    samples = options.samples_for(held, data, preprocessing, limit=limit, allow_code=allow_code)
    if drop_shared:
        before, samples = len(samples), without_shared(samples, held.exit.calibration_hashes)
        note(f"{before - len(samples)} of {before} samples are also in the calibration data and were left out.")
    network = keep_integer(folder, held, render_report) if whole else held.spiking
    exits = held.exit.of_integer if whole else held.exit
    asked: dict[str, Any] = {"policy": chosen, "max_loss": loss, "seed": seed, "timing": timing}
    with progress_bar() as progress:
        result = evaluate_network(network, held.analog, exits, samples, progress=progress, **asked)
        if attack is not None:
            size = {"epsilon": attack, "n": attack_samples or ATTACKED}
            result["robustness"] = _robustness(held, samples, chosen, loss, seed, progress=progress, **size)
    update_report(folder, {**read_report(folder), "evaluate": result}, render_report)
    missed = _missed(result, min_accuracy)
    finish(result, [*evaluation_tables(result), f"see {folder / 'report.html'}"], as_json, missed)


def _robustness(held: Any, samples: Any, chosen: Any, max_loss: float, seed: int, **asked: Any) -> dict[str, Any]:
    """The rule of the evaluation, under attack."""
    from ..evaluation.evaluate import exit_rule
    from ..evaluation.robustness import measure_robustness

    rule, _ = exit_rule(chosen, held.exit, max_loss, seed)
    asked |= {"max_loss": max_loss, "seed": seed}
    return measure_robustness(held.spiking, held.analog, held.exit, samples, rule, **asked)


def _missed(result: Mapping[str, Any], min_accuracy: float | None) -> AccuracyGateMissed | None:
    reached = result["early_exit"]["accuracy"]
    if min_accuracy is None or reached >= min_accuracy:
        return None
    return AccuracyGateMissed(
        f"the accuracy with early exit is {reached:.4f} on {result['n']} samples, below the {min_accuracy} that was "
        f"asked for; lower --max-loss, or convert with more --timesteps."
    )


def report(folder: Folder, as_json: options.Json = False) -> None:
    """Write the page of DIR anew.

    Makes report.html from report.json, and says where it is.
    """
    from ..evaluation.folder import PAGE, read_report, update_report
    from ..report import render_report

    held = read_report(folder)
    update_report(folder, held, render_report)
    page = (folder / PAGE).resolve()
    finish({"report": str(page), "evaluated": "evaluate" in held}, [str(page)], as_json)


def evaluation_tables(result: Mapping[str, Any]) -> list[Any]:
    """What a person wants to see of an evaluation."""
    early, oracle, n, ann = result["early_exit"], result["oracle"], result["n"], result["ann_accuracy"]
    labels = "" if result["labels"] == "true" else " (agreement with the ANN: the data have no labels)"
    accuracy = result["accuracy_by_step"]
    fixed = early["smallest_fixed_steps_of_equal_accuracy"]
    low, high = early["speedup_steps_ci95"]
    summary = rows(
        f"Evaluated on {result['data']}, {n} samples{labels}",
        [
            ("ANN accuracy", None if ann is None else percent(ann, result["ann_accuracy_ci95"], n)),
            (f"SNN accuracy, all {len(accuracy)} steps", percent(accuracy[-1], result["accuracy_ci95_by_step"][-1], n)),
            (f"SNN accuracy, {early['policy']}", percent(early["accuracy"], early["accuracy_ci95"], n)),
            ("guaranteed", _guaranteed(early.get("guarantee"))),
            ("mean steps to a decision", f"{early['mean_steps']:.2f} (95 % of samples within {early['p95_steps']:g})"),
            ("fixed steps of equal accuracy", fixed),
            ("speed-up in steps", f"{early['speedup_steps']:.2f} ({low:.2f} to {high:.2f}, n = {n})"),
            ("speed-up in time", _times(early)),
            ("oracle (unreachable)", f"{percent(oracle['accuracy'])} in {oracle['mean_steps']:.2f} steps"),
        ],
    )
    shown = sorted({1, 2, 4, 8, 16, 32, 64, 128, len(accuracy)} & set(range(1, len(accuracy) + 1)))
    steps = table(
        "Everyone stops after the same number of steps",
        ("steps", "accuracy", "spikes a sample", "synaptic operations a sample"),
        [
            (
                step,
                percent(accuracy[step - 1]),
                f"{result['spikes_per_sample_by_step'][step - 1]:,.0f}",
                f"{result['synaptic_operations_by_step'][step - 1]:,.0f}",
            )
            for step in shown
        ],
    )
    return [steps, *_attacked(result.get("robustness")), summary]


def _attacked(robustness: Mapping[str, Any] | None) -> list[Any]:
    if robustness is None:
        return []
    rung = robustness["alarm"].get("rang_after", {})
    return [
        table(
            f"Early exit under attack, within {100 * robustness['epsilon']:g} % of the range, n = {robustness['n']}",
            ("input", "defence", "mean steps", "accuracy", "wrong only early", "alarm after"),
            [
                (
                    row["input"],
                    row["defence"] if row["defence"] != "cap" else f"at most {row['cap']} steps",
                    f"{row['mean_steps']:.2f}",
                    percent(row["accuracy"]),
                    percent(row["wrong_only_early"]),
                    rung.get(row["input"]) if row["defence"] == "none" else None,
                )
                for row in robustness["rows"]
            ],
        )
    ]


def _guaranteed(promised: Mapping[str, Any] | None) -> str | None:
    if promised is None:
        return None
    if promised["kind"] == "coverage":
        return (
            f"the set of a sample holds its class with {100 * promised['coverage']:g} %; here "
            f"{percent(promised['measured_coverage'])} with {promised['mean_set_size']:.2f} classes on average"
        )
    return (
        f"at most {100 * promised['loss']:g} points of accuracy lost, with {100 * promised['confidence']:g} % over "
        f"calibrations (n = {promised['n_tested']}, p = {promised['p_value']:.2g})"
    )


def _times(early: Mapping[str, Any]) -> str | None:
    if early.get("speedup_wall") is None:
        return None
    return (
        f"{early['speedup_wall']:.2f} ({early['wall_seconds']:.3f} s instead of {early['fixed_wall_seconds']:.3f} s, "
        f"n = {early['timing_n']}, medians of interleaved runs)"
    )
