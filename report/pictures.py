"""Choose from the report what each picture needs, and set it with its heading and one line of explanation."""

from html import escape

from .._check import RangeError
from .charts import (
    FRONT_DEPTH,
    Paint,
    Point,
    cost_over_steps,
    dead_and_saturated,
    exit_histogram,
    front,
    over_steps,
    raster,
    rate_agreement,
    wilson,
)
from .figures import draw
from .markup import name, num, steps
from .reading import Part

__all__ = ["cost_pictures", "figure", "inner_pictures", "measure_of", "opening", "time_pictures"]

_WIDE = (840, 290)


def measure_of(evaluate: Part) -> str:
    """Return what is measured: without labels it is agreement with the ANN, and every picture says so."""
    return "agreement with the ANN" if evaluate["labels"].text() == "ann" else "accuracy"


def opening(text: str) -> str:
    """Return the text with a capital at its start, and ANN as it is."""
    return text[:1].upper() + text[1:]


def time_pictures(convert: Part, evaluate: Part) -> list[str]:
    """Accuracy over time steps, and when samples stop."""
    source = evaluate if evaluate["accuracy_by_step"] else convert
    found = [_accuracy(source, evaluate["early_exit"], measure_of(evaluate))] if source["accuracy_by_step"] else []
    counts, leaving = evaluate["figures"]["exit_step_histogram"].numbers(), evaluate["early_exit"]
    if counts:
        found.append(
            figure(
                "exits",
                "When samples are decided",
                "How many samples get their answer at each step. The others keep computing.",
                exit_histogram(counts, leaving["mean_steps"].number(), leaving["p95_steps"].number()),
                f"Histogram over {len(counts)} steps; most samples, {max(counts):g}, "
                f"are decided at step {counts.index(max(counts)) + 1}.",
            )
        )
    return found


def cost_pictures(evaluate: Part) -> list[str]:
    """Accuracy against steps and against operations, and what each further step costs."""
    found, fronts, measure = [], evaluate["figures"]["pareto"], measure_of(evaluate)
    for index, key, title, x, note in (
        (
            0,
            "frontsteps",
            "Accuracy against time",
            "mean time steps",
            "Every point is a fixed T or a threshold.",
        ),
        (2, "frontwork", "Accuracy against operations", "accumulates per sample", "Further left is less work."),
    ):
        fixed, confidence = _points(fronts["fixed"], index), _points(fronts["confidence"], index)
        if fixed or confidence:
            oracle, chosen = _points_of(fronts["oracle"], index), _chosen(evaluate["early_exit"], index)
            described = f"{measure} against {x}: {len(fixed)} fixed numbers of steps, {len(confidence)} thresholds" + (
                ", and the oracle, which knows the labels and so is unreachable." if oracle else "."
            )
            said = note + (" The oracle knows the answers: no rule reaches it." if oracle else "")
            heights = [accuracy for _, accuracy in (*fixed, *confidence)]
            if min(heights) < max(heights) - FRONT_DEPTH:
                said += f" The scale ends {100 * FRONT_DEPTH:.0f} percentage points below the best."
            found.append(figure(key, title, said, front(fixed, confidence, oracle, chosen, x, measure), described))
    operations = evaluate["synaptic_operations_by_step"].numbers()
    spikes = evaluate["spikes_per_sample_by_step"].numbers()
    if operations or spikes:
        found.append(
            figure(
                "cost",
                "What a longer run costs",
                "Work of one sample, added up from the first step. The scale is logarithmic.",
                cost_over_steps(operations, spikes),
                "Accumulates and spikes of one sample, added up to each step.",
            )
        )
    return found


def inner_pictures(convert: Part, evaluate: Part) -> list[str]:
    """Rates, dead and saturated units of every layer, and the spikes of one layer."""
    found, layers = [], convert["layers"].each()
    columns = {
        key: Part([layer[key].number() for layer in layers], key).numbers()
        for key in ("rate_correlation", "rate_error", "dead_fraction", "saturated_fraction")
    }
    if layers:
        units = dead_and_saturated(columns["dead_fraction"], columns["saturated_fraction"])
        if any(layer["rate_error"] for layer in layers):  # without an ANN there is nothing to agree with
            rates = rate_agreement(columns["rate_correlation"], columns["rate_error"])
            said = "Do the spike rates equal the activations of the ANN?"
            found.append(figure("rates", "Agreement with the ANN", said, rates, f"Rates of {len(layers)} layers."))
        said = "Dead units are wasted; saturated ones clip what they should say."
        found.append(
            figure("units", "Dead and saturated units", said, units, f"Shares in each of {len(layers)} layers.")
        )
    spikes = evaluate["figures"]["raster"]
    if spikes["times"].each():
        found.append(_raster(spikes))
    return found


def _accuracy(source: Part, leaving: Part, measure: str) -> str:
    accuracy, n = source["accuracy_by_step"].numbers(), source["n"].number()
    given = [part.numbers() for part in source["accuracy_ci95_by_step"].each()]
    band: list[Point] = [(pair[0], pair[1]) for pair in given if len(pair) == 2]
    if len(band) != len(accuracy):
        band = [wilson(share, int(n)) for share in accuracy] if n and all(a == a for a in accuracy) else []
    point = _chosen(leaving, 0)
    ends = leaving["accuracy_ci95"].numbers()
    equal = leaving["smallest_fixed_steps_of_equal_accuracy"].number()
    paint = over_steps(
        accuracy,
        band,
        source["ann_accuracy"].number(),
        (point[0], point[1], (ends[0], ends[1]) if len(ends) == 2 else None) if point else None,
        int(equal) if equal else None,
        measure,
    )
    said = "What the spiking network answers if it is stopped after a fixed number of steps, for all samples alike."
    return figure(
        "accuracy",
        f"{opening(measure)} over time",
        said,
        paint,
        f"{measure} from {accuracy[0]:.1%} at step 1 to {accuracy[-1]:.1%} at step {len(accuracy)}.",
        wide=True,
    )


def _raster(spikes: Part) -> str:
    times, length = [row.numbers() for row in spikes["times"].each()], spikes["steps"].number()
    last = int(length or max((at for row in times for at in row if at == at), default=1))
    for unit, row in enumerate(times):
        if not all(1 <= at <= last for at in row):
            raise RangeError(
                f"{spikes['times'].path}[{unit}] holds a spike outside of the steps 1 to {last}; count steps from 1."
            )
    return figure(
        "raster",
        "Spikes of one sample",
        f"{num(spikes['units'], steps)} units of layer {name(spikes['layer'].text())}. Every mark is a spike.",
        raster(times, last),
        f"{sum(map(len, times))} spikes of {len(times)} units in {last} steps.",
    )


def figure(key: str, title: str, said: str, paint: Paint, description: str, *, wide: bool = False) -> str:
    """Return a picture as a card; a wide one is drawn twice, and the page shows the one that fits.

    title, description: plain text.  said: finished HTML.
    """
    small = draw(paint, name=f"plot-{key}", title=title, description=description)
    if wide:
        large = draw(paint, name=f"plot-{key}-wide", title=title, description=description, size=_WIDE)
        small = f'<div class="if-narrow">{small}</div><div class="if-wide">{large}</div>'
    return (
        f'<figure class="card{" wide" if wide else ""}" id="{key}"><figcaption><h3>{escape(title)}</h3>'
        f"<p>{said}</p></figcaption>{small}</figure>"
    )


def _points(rows: Part, index: int) -> list[Point]:
    points = (_points_of(row, index) for row in rows.each())
    return [point for point in points if point is not None]


def _points_of(row: Part, index: int) -> Point | None:
    """Return (cost, accuracy) of a row [steps, accuracy, operations]; None where the cost was not counted."""
    cost, accuracy = row[index].number(), row[1].number()
    return None if cost is None or accuracy is None else (cost, accuracy)


def _chosen(leaving: Part, index: int) -> Point | None:
    cost = leaving["mean_steps" if index == 0 else "synaptic_operations_per_sample"].number()
    accuracy = leaving["accuracy"].number()
    return None if cost is None or accuracy is None else (cost, accuracy)
