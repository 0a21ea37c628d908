"""The top of the page: what came out, in one sentence and six cards."""

from html import escape

from .markup import count, factor, interval, name, num, percent, plain, steps
from .pictures import measure_of, opening
from .reading import Part

__all__ = ["cards", "lead"]


def lead(convert: Part, evaluate: Part) -> str:
    """Return the result as a sentence or two."""
    leaving, measure = evaluate["early_exit"], measure_of(evaluate)
    if not evaluate:
        return f"{_made(convert)}. {_reached(convert)} after {num(convert['timesteps'], steps)} time steps."
    fixed = (
        f"On {num(evaluate['n'], steps)} samples of {name(evaluate['data'].text())}: {_reached(evaluate)} "
        f"after {num(evaluate['timesteps'], steps)} time steps."
    )
    if evaluate["labels"].text() == "ann":
        fixed = (
            f"On {num(evaluate['n'], steps)} samples without labels of {name(evaluate['data'].text())}, the spiking "
            f"network agrees with the ANN on {num(_last(evaluate['accuracy_by_step']), percent)} "
            f"after {num(evaluate['timesteps'], steps)} time steps."
        )
    if not leaving:
        return fixed
    return (
        f"{fixed} With {name(_rule(leaving))} it needs {num(leaving['mean_steps'], steps)} on average, "
        f"at {num(leaving['accuracy'], percent)} {measure}."
    )


def _made(convert: Part) -> str:
    """Where the network comes from, and on what it was measured."""
    n = num(convert["n"], steps)
    if convert["ann_accuracy"]:
        return f"Converted by {name(convert['method'].text())} and measured on {n} samples that no method saw"
    return f"Trained with spikes and measured on {n} samples held out of it, which may have chosen its epoch"


def _reached(part: Part) -> str:
    """What the two networks reach, or the one that there is."""
    spiking = num(_last(part["accuracy_by_step"]), percent)
    if not part["ann_accuracy"]:
        return f"The spiking network reaches {spiking}"
    return f"The ANN reaches {num(part['ann_accuracy'], percent)}, the spiking network {spiking}"


def _beside(part: Part) -> str:
    return f" · ANN {num(part['ann_accuracy'], percent)}" if part["ann_accuracy"] else ""


def cards(convert: Part, evaluate: Part) -> str:
    """Return the headline numbers, each with its interval or what it is to be compared with."""
    if not evaluate:
        chosen = _conversion_cards(convert)
    elif evaluate["early_exit"]:
        chosen = _exit_cards(evaluate)
    else:
        chosen = _fixed_cards(evaluate)
    return f'<div class="cards">{"".join(chosen)}</div>'


def _exit_cards(evaluate: Part) -> list[str]:
    leaving = evaluate["early_exit"]
    return [
        _card(
            f"{opening(measure_of(evaluate))}, {_rule(leaving)}",
            num(leaving["accuracy"], percent),
            interval(leaving["accuracy_ci95"], percent),
            f"n = {num(evaluate['n'], steps)}{_beside(evaluate)}",
        ),
        _card(
            "Mean time steps",
            num(leaving["mean_steps"], steps),
            f"95\u202f% are decided by step\u00a0{num(leaving['p95_steps'], steps)}",
            f"of {num(evaluate['timesteps'], steps)} · computed {num(leaving['mean_steps_computed'], steps)}",
        ),
        _card(
            "Fewer steps",
            num(leaving["speedup_steps"], factor),
            interval(leaving["speedup_steps_ci95"], factor),
            f"against the smallest fixed T of equal {_short(evaluate)}, "
            f"T = {num(leaving['smallest_fixed_steps_of_equal_accuracy'], steps)}",
        ),
        *([_clock_card(leaving)] if leaving["speedup_wall"] else []),
        _card(
            "Accumulates",
            num(leaving["synaptic_operations_per_sample"], count),
            f"per sample; {num(_last(evaluate['synaptic_operations_by_step']), count)} in a full run",
            f"besides {num(evaluate['multiply_accumulates_per_sample'], count)} multiply-accumulates on analog input",
        ),
        _card(
            "Spikes",
            num(leaving["spikes_per_sample"], count),
            f"per sample; {num(_last(evaluate['spikes_per_sample_by_step']), count)} in a full run",
            "of all layers, up to the decision",
        ),
    ]


def _clock_card(leaving: Part) -> str:
    return _card(
        "Faster on the clock",
        num(leaving["speedup_wall"], factor),
        f"{num(leaving['wall_seconds'], plain)} s instead of {num(leaving['fixed_wall_seconds'], plain)} s",
        f"n = {num(leaving['timing_n'], steps)} · medians, against the same fixed T",
    )


def _fixed_cards(evaluate: Part) -> list[str]:
    t, n = num(evaluate["timesteps"], steps), num(evaluate["n"], steps)
    accuracy = num(_last(evaluate["accuracy_by_step"]), percent)
    return [
        _card(f"{opening(measure_of(evaluate))}, fixed T", accuracy, f"T = {t}", f"n = {n}{_beside(evaluate)}"),
        _card("Accumulates per sample", num(_last(evaluate["synaptic_operations_by_step"]), count), f"T = {t}", ""),
        _card("Spikes per sample", num(_last(evaluate["spikes_per_sample_by_step"]), count), f"T = {t}", ""),
    ]


def _conversion_cards(convert: Part) -> list[str]:
    n = f"n = {num(convert['n'], steps)}, the <i>exit</i> part of the calibration data"
    made = [
        _card(
            "Accuracy after the last step",
            num(_last(convert["accuracy_by_step"]), percent),
            interval(_last(convert["accuracy_ci95_by_step"]), percent),
            f"T = {num(convert['timesteps'], steps)}, {n}",
        ),
    ]
    if convert["ann_accuracy"]:
        made.append(_card("Accuracy of the ANN", num(convert["ann_accuracy"], percent), "before conversion", n))
    for loss, needed in convert["steps_within"].named():
        shown = f"T = {num(needed, steps)}" if needed else num(needed, steps)
        reached = "time steps are enough" if needed else "not reached in this run"
        made.append(_card(f"Within {loss} points of the ANN", shown, reached, ""))
    return made


def _card(label: str, value: str, beside: str, below: str) -> str:
    """Return a headline number; label is plain text, the others are finished HTML."""
    inside = "".join(f"<p>{line}</p>" for line in (beside, below) if line)
    return f'<div class="card headline"><h3>{escape(label)}</h3><p class="big">{value}</p>{inside}</div>'


def _last(rows: Part) -> Part:
    return rows[max(0, len(rows.each()) - 1)]


def _rule(leaving: Part) -> str:
    """Return how the run is to be called: a fixed T is no early exit."""
    policy = leaving["policy"].text()
    return policy if policy.startswith("fixed") else "early exit"


def _short(evaluate: Part) -> str:
    return "agreement" if evaluate["labels"].text() == "ann" else "accuracy"
