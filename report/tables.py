"""What stands below the pictures: layers, conversion, every step, and where all of it comes from."""

from collections.abc import Callable

from .markup import count, interval, name, num, pairs, percent, percent_fine, plain, span, steps, table
from .pictures import measure_of, opening
from .reading import Part

__all__ = ["conversion", "layers", "oracle", "sources", "step_by_step"]

_LAYER_HEAD = (
    "Layer",
    "What became what",
    "Neurons",
    "Threshold (min – max)",
    "Rate correlation",
    "Rate error",
    "Dead",
    "Saturated",
    "Spikes",
    "Payload bits",
    "Accumulates",
    "Multiply-accumulates",
)


def layers(convert: Part) -> str:
    """Return the table of layers; spikes and operations are per sample over the whole run."""
    rows = [_layer(number, layer) for number, layer in enumerate(convert["layers"].each(), 1)]
    if not rows:
        return "<p>The report names no layers.</p>"
    shown = table("Layers; spikes and operations per sample, over all time steps", _LAYER_HEAD, rows, kind="layers")
    analog = [
        (
            name(row["name"].text()),
            name(row["operator"].text()),
            num(row["evaluations"], steps),
            num(row["operations_per_sample"], count),
        )
        for row in convert["stays_analog"].each()
    ]
    if not analog:
        return shown
    return shown + table("What stays analog, per sample", ("Node", "Operator", "Evaluations", "Operations"), analog)


def _layer(number: int, layer: Part) -> tuple[str, ...]:
    threshold = layer["threshold"]
    spread = f"{num(threshold['mean'], plain)} ({num(threshold['min'], plain)} – {num(threshold['max'], plain)})"
    return (
        f'<span class="index">{number}</span>{name(layer["name"].text())}',
        f"{name(layer['source'].text())} → {name(layer['became'].text())}",
        num(layer["neurons"], steps),
        spread if threshold else "–",
        num(layer["rate_correlation"], plain),
        num(layer["rate_error"], plain),
        num(layer["dead_fraction"], percent),
        num(layer["saturated_fraction"], percent),
        num(layer["spikes_per_sample"], count),
        num(layer["payload_bits_per_sample"], count),
        num(layer["accumulates_per_sample"], count),
        num(layer["multiply_accumulates_per_sample"], count),
    )


def conversion(convert: Part) -> str:
    """Return how the network was converted, why so, what else was tried, and what to know about it."""
    within = [
        (f"T within {loss} points", num(needed, steps) + ("" if needed else " not reached"))
        for loss, needed in convert["steps_within"].named()
    ]
    used = (
        f"{num(convert['n_fit'], steps)} to fit, {num(convert['n_choose'], steps)} to choose the method, "
        f"{num(convert['n_exit'], steps)} to set the exit rule; no sample has two uses"
    )
    error, ann = convert["ann_output_max_error"], convert["ann_accuracy"]
    of_import = [("Error of the import", f"{num(error, plain)} at most, in an output of the ANN")] if error else []
    of_ann = [("ANN accuracy", f"{num(ann, percent_fine)} (n = {num(convert['n'], steps)})")] if ann else []
    chosen = pairs(
        [
            ("Method", name(convert["method"].text())),
            ("Why", name(convert["method_reason"].text() or "–")),
            ("Spikes", name(convert["spikes"].text())),
            ("Time steps", num(convert["timesteps"], steps)),
            *of_import,
            ("Samples", used),
            *of_ann,
            *within,
        ]
    )
    return f'<div class="columns"><div class="card">{chosen}</div><div class="card">{_tried(convert)}</div></div>'


def _tried(convert: Part) -> str:
    rows = [
        (
            name(candidate["method"].text()) + (" <b>chosen</b>" if _is_chosen(candidate, convert) else ""),
            num(candidate["accuracy_at_timesteps"], percent_fine),
            name(candidate["note"].text()),
        )
        for candidate in convert["candidates"].each()
    ]
    listed = table("Methods tried, on the samples to choose by", ("Method", "Accuracy", "Note"), rows) if rows else ""
    notes = [part.text() for part in (*convert["unsupported"].each(), *convert["notes"].each())]
    said = "".join(f"<li>{name(note)}</li>" for note in notes)
    return listed + (f"<h3>Notes</h3><ul>{said}</ul>" if said else "<h3>Notes</h3><p>None.</p>")


def _is_chosen(candidate: Part, convert: Part) -> bool:
    return bool(candidate["method"].text()) and candidate["method"].text() == convert["method"].text()


def oracle(evaluate: Part) -> str:
    """Return the settings of the exit rule and the bound that no rule reaches."""
    leaving, bound = evaluate["early_exit"], evaluate["oracle"]
    reached = (
        f"{num(leaving['accuracy'], percent_fine)}, {interval(leaving['accuracy_ci95'], percent_fine)} "
        f"(n = {num(evaluate['n'], steps)})"
    )
    limit = (
        f"{num(bound['accuracy'], percent_fine)} after {num(bound['mean_steps'], steps)} steps on average: it knows "
        "the answers and stops at the first right one. Charging the full length where none is right, it takes "
        f"{num(bound['mean_steps_never_correct_charged_full'], steps)} steps"
    )
    rows = [
        ("Exit rule", name(leaving["policy"].text()) if leaving["policy"] else "–"),
        ("Threshold", num(leaving["threshold"], plain)),
        ("Divisor α", num(leaving["divisor"], plain)),
        (opening(measure_of(evaluate)), reached),
        ("Oracle – unreachable", limit),
    ]
    return f'<div class="card">{pairs(rows)}</div>' if leaving or bound else ""


def step_by_step(convert: Part, evaluate: Part) -> str:
    """Return the numbers behind the curves, one row a time step, folded away."""
    source = evaluate if evaluate["accuracy_by_step"] else convert
    columns: list[tuple[str, Part, Callable[[Part], str]]] = [
        (opening(measure_of(evaluate)), source["accuracy_by_step"], lambda part: num(part, percent_fine)),
        ("95 % interval", source["accuracy_ci95_by_step"], lambda part: span(part, percent_fine)),
        ("Spikes per sample", source["spikes_per_sample_by_step"], lambda part: num(part, count)),
        ("Accumulates per sample", source["synaptic_operations_by_step"], lambda part: num(part, count)),
    ]
    columns = [column for column in columns if column[1]]
    rows = [
        (str(step + 1), *(write(values[step]) for _, values, write in columns))
        for step in range(len(source["accuracy_by_step"].each()))
    ]
    if not rows:
        return ""
    head = ("Time step", *(title for title, _, _ in columns))
    listed = table("Every time step; spikes and accumulates added up from the first", head, rows)
    return f'<details class="card"><summary>Every time step in numbers</summary>{listed}</details>'


def sources(root: Part) -> str:
    """Return what somebody needs to get the same numbers again."""
    convert, evaluate = root["convert"], root["evaluate"]
    rows = [
        ("Model", name(convert["model"].text())),
        ("SHA-256 of the model", f"<code>{name(convert['source_sha256'].text())}</code>"),
        ("Seed of the conversion", num(convert["seed"], _whole)),
    ]
    if evaluate:
        rows.append(("Data", name(evaluate["data"].text())))
        rows.append(("Labels", "the answers of the ANN" if evaluate["labels"].text() == "ann" else "true labels"))
        rows.append(("Seed of the evaluation", num(evaluate["seed"], _whole)))
    rows.append(("spikeport", name(root["spikeport"].text())))
    for versions in (root["versions"], convert["versions"], evaluate["versions"]):
        rows += [(package, name(version.text())) for package, version in versions.named()]
    rows += [(f"File {file}", f"<code>{name(value.text())}</code>") for file, value in convert["files"].named()]
    return f'<div class="card">{pairs(rows)}</div>'


def _whole(value: float) -> str:
    return str(value)
