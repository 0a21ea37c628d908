"""A network on simulated crossbars: device, age, chips and their spread, energy, and accuracy over steps."""

from .charts import front
from .markup import count, duration, name, num, pairs, percent_fine, plain, span, steps, table
from .pictures import figure
from .reading import Part

__all__ = ["aihwkit", "analog"]


def analog(run: Part) -> str:
    """Return the panels of a run on chips; nothing where there is none."""
    if not run:
        return ""
    return f'<div class="grid">{_summary(run)}{_picture(run)}</div>' + _energy(run["energy"]) + _chips(run)


def aihwkit(run: Part) -> str:
    """Return the panel of a run on aihwkit's tiles."""
    bits = run["device"]["adc_bits"]
    rows = [
        *_over_chips(run),
        ("Drift compensation", "yes" if run["device"]["compensation"].value else "no"),
        ("Column converters", f"{num(bits, steps)} bits" if bits else "unlimited"),
        ("Mean steps", f"{num(run['mean_steps'], steps)} of {num(run['timesteps'], steps)}"),
    ]
    return f'<div class="card"><h3>On the torch tiles of aihwkit</h3>{pairs(rows)}</div>'


def _over_chips(run: Part) -> list[tuple[str, str]]:
    chips = run["accuracy_over_chips"]
    return [
        ("Device", name(run["device"]["name"].text() or "?")),
        ("Time after writing", num(run["time_seconds"], duration)),
        ("Chips", f"{num(run['instances'], steps)} (seed {num(run['seed'], plain)})"),
        ("Accuracy, mean over chips", f"{num(chips['mean'], percent_fine)}, {span(chips['ci95'], percent_fine)}"),
        ("Worst and best chip", f"{num(chips['lowest'], percent_fine)}, {num(chips['highest'], percent_fine)}"),
    ]


def _summary(run: Part) -> str:
    device, fitted = run["device"], run["recalibrated"]
    bits = run["converters"]["bits"]
    rows = [
        *_over_chips(run),
        ("Without crossbars", f"{num(run['digital_accuracy'], percent_fine)} (n = {num(run['n'], steps)})"),
        ("Mean steps", f"{num(run['mean_steps'], steps)} of {num(run['timesteps'], steps)}"),
        ("Drift compensation", "yes" if device["compensation"].value else "no"),
        ("Fitted to the chips", f"{num(fitted['n_neurons'], steps)} samples" if fitted else "no"),
        ("Column converters", f"{num(bits, steps)} bits" if bits else "unlimited"),
        ("Conversions beyond range", num(run["converters"]["saturated"], percent_fine) if bits else "–"),
    ]
    return f'<div class="card"><h3>On simulated crossbars</h3>{pairs(rows)}</div>'


def _picture(run: Part) -> str:
    fixed = [(float(t + 1), value) for t, value in enumerate(run["accuracy_by_step"].numbers()) if value is not None]
    rule = [(cost, right) for point in run["dynamic"].each()
            if (cost := point[0].number()) is not None and (right := point[1].number()) is not None]  # fmt: skip
    if not fixed:
        return ""
    return figure(
        "chips",
        "Steps average read noise out",
        "Accuracy, mean over chips, of a fixed number of steps and of dynamic confidence at every threshold.",
        front(fixed, rule, None, None, "mean time steps", "accuracy, mean over chips"),
        f"Accuracy against mean steps: {len(fixed)} fixed numbers of steps, {len(rule)} thresholds.",
    )


def _energy(energy: Part) -> str:
    early, whole = energy["early_exit"], energy["all_steps"]
    rows = [
        (
            name((first["term"].text() or "?").replace("_", " ")),
            num(first["count"], count),
            num(first["cost"], count),
            num(second["cost"], count),
            name(first["evidence"].text() or "no price"),
            name(first["source"].text() or "–"),
        )
        for first, second in zip(early["terms"].each(), whole["terms"].each(), strict=False)
    ]
    rows.append(("total", "", num(early["total"], count), num(whole["total"], count), "", ""))
    rows.append(("saved by early exit", "", num(energy["saving"], percent_fine), "", "", ""))
    rows.append(("area of the arrays, µm²", "", num(energy["area"]["total"], count), "", "", ""))
    head = ("Term", "Number", "pJ a decision", "pJ, all steps", "Evidence", "Source")
    return table(f"Energy on crossbars, prices of {early['scheme'].text() or '?'}", head, rows)


def _chips(run: Part) -> str:
    rows = [
        (str(number + 1), num(value, percent_fine))
        for number, value in enumerate(run["accuracy_over_chips"]["by_chip"].each())
    ]
    return table("Each chip's accuracy", ("Chip", "Accuracy"), rows)
