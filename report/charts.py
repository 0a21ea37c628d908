"""What each picture of the report shows, painted from plain numbers."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from .._check import require_in_range
from .figures import ANN, BAD, EXIT, FIXED, GRID, INK, ORACLE, axes

__all__ = [
    "FRONT_DEPTH",
    "cost_over_steps",
    "dead_and_saturated",
    "exit_histogram",
    "front",
    "over_steps",
    "raster",
    "rate_agreement",
    "searched",
    "trained",
    "wilson",
]

# A front is read at its top; the steps before it would take most of the height.
FRONT_DEPTH = 0.2

Paint = Callable[[Figure], None]
Point = tuple[float, float]


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n samples.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n),  z = 1.96
    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.  Raises RangeError unless 0 <= share <= 1 and n >= 1.

    >>> [round(bound, 3) for bound in wilson(0.9, 100)]
    [0.826, 0.945]
    """
    p = require_in_range("a share of right answers", share, 0.0, 1.0)
    require_in_range("the number of samples", n, 1, math.inf)
    z2 = 1.959964**2
    half = math.sqrt(z2 * p * (1 - p) / n + z2 * z2 / (4 * n * n))
    return (p + z2 / (2 * n) - half) / (1 + z2 / n), (p + z2 / (2 * n) + half) / (1 + z2 / n)


def over_steps(
    accuracy: Sequence[float],
    band: Sequence[Point],
    ann: float | None,
    exit_point: tuple[float, float, Point | None] | None,
    equal_steps: int | None,
    measure: str,
) -> Paint:
    """Accuracy at every step with its interval, the ANN's line, the early-exit point and the fixed T that equals it."""

    def paint(figure: Figure) -> None:
        ax, steps = axes(figure, "time steps", measure), range(1, len(accuracy) + 1)
        if band:
            low, high = zip(*band, strict=True)
            ax.fill_between(steps, low, high, color=FIXED, alpha=0.16, linewidth=0, label="95 % interval")
        if ann is not None:
            ax.axhline(ann, color=ANN, linewidth=1.6, linestyle=(0, (4, 3)), label="ANN")
        dots = "o" if len(accuracy) <= 40 else ""
        ax.plot(steps, accuracy, color=FIXED, marker=dots, markersize=4, label="fixed T")
        if equal_steps is not None and 1 <= equal_steps <= len(accuracy):
            at = accuracy[equal_steps - 1]
            ax.plot(equal_steps, at, "o", color=FIXED, fillstyle="none", markersize=11, label="fixed T that equals it")
        if exit_point is not None:
            mean, value, interval = exit_point
            if interval:
                ax.plot([mean, mean], interval, color=EXIT, linewidth=2)
            ax.plot(mean, value, "D", color=EXIT, markersize=8, label="early exit, at its mean")
        _percent(ax)
        _whole_steps(ax, len(accuracy))
        ax.legend(loc="lower right")

    return paint


def exit_histogram(counts: Sequence[float], mean: float | None, p95: float | None) -> Paint:
    """How many samples stop at each step."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, "time step of the decision", "samples")
        ax.bar(range(1, len(counts) + 1), counts, width=0.82, color=EXIT, alpha=0.85, linewidth=0)
        for at, style, label in ((mean, "-", "mean"), (p95, (0, (4, 3)), "95 % have decided")):
            if at is not None:
                ax.axvline(at, color=INK, linewidth=1.5, linestyle=style, label=label)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_ylim(0, 1.3 * max([1.0, *(value for value in counts if value == value)]))  # room for the legend
        _whole_steps(ax, len(counts))
        _legend(ax, "upper right")

    return paint


def front(
    fixed: Sequence[Point],
    confidence: Sequence[Point],
    oracle: Point | None,
    chosen: Point | None,
    x: str,
    measure: str,
) -> Paint:
    """Accuracy against a cost (first number of each point): fixed T, the exit rule at every threshold, the oracle."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, x, measure)
        for points, color, mark, label in ((fixed, FIXED, "o", "fixed T"), (confidence, EXIT, "s", "confidence")):
            if points:
                ordered = sorted(points)
                ax.plot(
                    *zip(*ordered, strict=True), color=color, marker=mark, markersize=3.5, linewidth=1.8, label=label
                )
        if chosen is not None:
            ax.plot(*chosen, "D", color=EXIT, markersize=8, label="chosen threshold")
        if oracle is not None:
            ax.plot(*oracle, "*", color=ORACLE, markersize=13, linestyle="none", label="oracle – unreachable")
        _percent(ax)
        best = max(accuracy for _, accuracy in (*fixed, *confidence))
        ax.set_ylim(bottom=max(ax.get_ylim()[0], best - FRONT_DEPTH))
        ax.xaxis.set_major_locator(MaxNLocator(6))
        if max(cost for cost, _ in (*fixed, *confidence)) >= 1000:
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_xlim(left=0)
        _legend(ax, "lower right")

    return paint


def cost_over_steps(operations: Sequence[float], spikes: Sequence[float]) -> Paint:
    """Accumulates and spikes of one sample up to each step."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, "time steps", "per sample, up to that step")
        for values, color, style, label in (
            (operations, FIXED, "-", "accumulates"),
            (spikes, ORACLE, (0, (5, 1.5)), "spikes"),
        ):
            if values:
                mark = "o" if len(values) <= 3 else ""
                ax.plot(range(1, len(values) + 1), values, color=color, linestyle=style, marker=mark, label=label)
        positive = [value for value in (*operations, *spikes) if value > 0]
        if positive:
            ax.set_yscale("log")  # spikes and what they cause are orders apart
            ax.set_ylim(10 ** math.floor(math.log10(min(positive))), 10 ** math.ceil(math.log10(1.2 * max(positive))))
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
        ax.yaxis.set_minor_locator(MaxNLocator(1))
        ax.minorticks_off()
        _whole_steps(ax, max(len(operations), len(spikes)))
        _legend(ax, "lower right")

    return paint


def rate_agreement(correlation: Sequence[float], error: Sequence[float]) -> Paint:
    """Per layer: correlation of the ANN's activations with the spike rates, and their difference."""

    def paint(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        layers = range(1, len(correlation) + 1)
        size = 5 if len(correlation) <= 40 else 3
        top.plot(layers, correlation, "o-", color=FIXED, markersize=size, linewidth=1.2)
        finite = [value for value in correlation if value == value]
        top.set_ylim(min([0.0, *finite]) - 0.05, 1.05)
        top.set_title("correlation of the rates (1 = the same)", loc="left", fontsize=11, color=ANN)
        bottom.bar(layers, error, color=EXIT, alpha=0.85, linewidth=0)
        bottom.set_title("error of the rates (0 = the same)", loc="left", fontsize=11, color=ANN)
        bottom.yaxis.set_major_locator(MaxNLocator(4))
        _layers(bottom, len(correlation))

    return paint


def dead_and_saturated(dead: Sequence[float], saturated: Sequence[float]) -> Paint:
    """Per layer: the share of units that never spike, and of samples and units that spike whenever they can."""

    def paint(figure: Figure) -> None:
        ax, layers = axes(figure, "", "share of units, of samples and units"), range(1, len(dead) + 1)
        ax.bar([at - 0.21 for at in layers], dead, width=0.4, color=ANN, linewidth=0, label="dead: never spikes")
        ax.bar(
            [at + 0.21 for at in layers],
            saturated,
            width=0.4,
            color=BAD,
            linewidth=0,
            label="saturated: spikes whenever it can",
        )
        _percent(ax)
        highest = max([value for value in (*dead, *saturated) if value == value], default=0.0)
        ax.set_ylim(0, max(1.3 * highest, 0.05))  # room for the legend
        _layers(ax, len(dead))
        ax.legend(loc="upper right", ncols=2, columnspacing=1.0, handlelength=1.2)

    return paint


def trained(epochs: Sequence[float], training: Sequence[float], held: Sequence[float], best: float | None) -> Paint:
    """Accuracy after every epoch, on the samples that train and on those that choose the epoch."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, "epoch", "accuracy")
        marks = "o" if len(epochs) <= 40 else ""
        for values, color, label in ((training, ANN, "training"), (held, FIXED, "validation")):
            if values:
                ax.plot(epochs, values, color=color, marker=marks, markersize=4, label=label)
        if best is not None:
            ax.axvline(best, color=EXIT, linewidth=1.5, linestyle=(0, (4, 3)), label="chosen")
        _percent(ax)
        ax.set_xlim(min(epochs) - 0.4, max(epochs) + 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        _legend(ax, "lower right")

    return paint


def searched(
    fronts: Sequence[tuple[str, Sequence[Point]]], ann: float | None, wanted: float | None, chosen: Point | None
) -> Paint:
    """Accuracy against operations of the ways that no other beats, by spike code; the analog network and the target."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, "operations per sample", "accuracy")
        for (code, points), color, mark in zip(fronts, cycle((FIXED, EXIT, ORACLE, BAD)), cycle("os^v"), strict=False):
            ax.plot(*zip(*points, strict=True), mark, color=color, markersize=6, linestyle="none", label=code)
        if chosen is not None:
            ax.plot(*chosen, "o", color=INK, fillstyle="none", markersize=13, linestyle="none", label="chosen")
        for height, style, label in ((ann, (0, (4, 3)), "ANN"), (wanted, (0, (1, 2)), "target")):
            if height is not None:
                ax.axhline(height, color=ANN, linewidth=1.6, linestyle=style, label=label)
        _percent(ax)
        if min(cost for _, points in fronts for cost, _ in points) > 0:
            ax.set_xscale("log")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.minorticks_off()
        _legend(ax, "lower right")

    return paint


def raster(times: Sequence[Sequence[float]], steps: int) -> Paint:
    """One row a unit, one mark a spike."""

    def paint(figure: Figure) -> None:
        ax = axes(figure, "time steps", "unit")
        xs = [x for row in times for at in row for x in (at, at, math.nan)]
        ys = [y for unit, row in enumerate(times, 1) for _ in row for y in (unit - 0.4, unit + 0.4, math.nan)]
        width = min(5.0, max(1.0, 150 / max(steps, 1)))
        ax.plot(xs, ys, color=FIXED, linewidth=width, solid_capstyle="butt")  # one path, however many spikes
        ax.set_ylim(len(times) + 0.7, 0.3)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        ax.grid(visible=False)
        _whole_steps(ax, steps)

    return paint


def _percent(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    ax.yaxis.set_major_locator(MaxNLocator(6))


def _whole_steps(ax: Axes, last: int) -> None:
    ax.set_xlim(0.4, last + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _layers(ax: Axes, number: int) -> None:
    ax.set_xlim(0.4, number + 0.6)
    ax.set_xlabel("layer, numbered as in the table")
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    ax.axhline(0, color=GRID, linewidth=1)


def _legend(ax: Axes, place: Literal["upper right", "lower right"]) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc=place)
