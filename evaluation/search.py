"""Which method, spike code and number of steps reach a target at the fewest operations: all are tried, on one fold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from .._check import RangeError, UnsupportedError
from ..conversion.codes import parse_code
from ..conversion.layers import analog_operations
from ..conversion.methods import CHOOSE_SAMPLES, Choice, Recipe
from ..conversion.source import Source
from ..conversion.thresholds import MeanSquare, Trained
from ..data import Dataset
from ..networks.graph import Graph
from .activity import measured
from .convert import Converted, Folds, Progress, convert_network, folds_of
from .evaluate import multiplies

__all__ = ["Search", "search_network"]

CODES = ("binary", "signed", "burst:4", "differential")
WINDOWS = (4, 8, 16, 32)
DECODED_WINDOWS = (4, 8)  # differential spikes settle at once; each more step costs what stays analog


class _Point(NamedTuple):
    """One way to run the network, and what it did on the samples that chose."""

    code: str
    method: str
    steps: int
    accuracy: float
    operations: float  # a sample: accumulates, multiply-accumulates of what reads analog values, analog functions

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


@dataclass(frozen=True)
class Search:
    """What is tried, and what for: to lose at most ``points`` (percentage points) against the analog network.

    codes: see ``parse_code``.  windows: numbers of steps that a conversion is calibrated for; every smaller number is
    a way to run it, too.
    """

    points: float = 0.5
    codes: tuple[str, ...] = CODES
    windows: tuple[int, ...] = WINDOWS

    def __post_init__(self) -> None:
        if not 0 <= self.points <= 100:
            raise RangeError(f"the target is {self.points} points below the analog network; give 0 to 100")
        if not self.codes or not self.windows or not all(1 <= window <= 4096 for window in self.windows):
            raise RangeError(
                f"{self.codes} and {self.windows} leave nothing to try; give codes, and windows of 1 to 4096"
            )
        for code in self.codes:
            parse_code(code)


def search_network(
    source: Source,
    calibration: Dataset,
    search: Search,
    *,
    seed: int = 0,
    rounding: str = "nearest",
    progress: Progress | None = None,
) -> Converted:
    """Convert with the method, code and steps that reach the target at the fewest operations; the JSON has ``search``.

    All are fitted on the *fit* part of the calibration data and compared on the *choose* part; accuracies of the result
    come from the *exit* part, which chose nothing.  ``search`` has the front: the ways that no other beats in both
    accuracy and operations, by operations, and whether the target was reached; where it was not, the most accurate way
    is taken.  A code that cannot carry an operator of the network is left out, and ``search`` says why.
    Raises UnsupportedError where no code can carry the network, and what ``convert_network`` raises.
    """
    tell = progress or (lambda stage, done: None)
    points: dict[_Point, Graph] = {}
    refused: dict[str, UnsupportedError] = {}
    wanted, n = 0.0, 0
    for number, code in enumerate(search.codes):
        tell("search", number / len(search.codes))
        try:
            folds = folds_of(source, calibration, code, seed)
        except UnsupportedError as error:
            refused[code] = error
            continue
        folds = replace(folds, choose=folds.choose[:CHOOSE_SAMPLES])
        wanted, n = folds.accuracy(folds.choose), len(folds.choose)
        for window in _windows(code, search.windows):
            for recipe in _recipes(folds.analog):
                points |= _tried(folds, code, recipe, window)
    if not points:
        raise next(iter(refused.values()))
    front = _front(list(points))
    enough = [point for point in front if point.accuracy >= wanted - search.points / 100 - 1e-9]
    best = enough[0] if enough else front[-1]
    choice = Choice(points[best], best.method, _reason(best, search, wanted, n, len(points), bool(enough)), ())
    made = convert_network(
        source,
        calibration,
        method=choice,
        code=best.code,
        timesteps=best.steps,
        seed=seed,
        rounding=rounding,
        progress=progress,
    )
    about = {
        **asdict(search),
        "n": n,
        "ann_accuracy": wanted,
        "reached": bool(enough),
        "chosen": best.to_json(),
        "front": [point.to_json() for point in front],
        "refused": {code: str(error) for code, error in refused.items()},
    }
    return replace(made, report={**made.report, "search": about})


def _windows(code: str, windows: Sequence[int]) -> list[int]:
    """The windows that are tried with a code."""
    if not parse_code(code).decodes:
        return sorted(set(windows))
    return sorted({min(window, max(windows)) for window in DECODED_WINDOWS})


def _recipes(analog: Graph) -> tuple[Recipe, ...]:
    """Thresholds that were trained where there are such, else those of least square error; biases in two ways."""
    method = Trained() if all(n.attributes["levels"] for n in analog.of_operator("activation")) else MeanSquare()
    return Recipe(method), Recipe(method, step_biases=True)


def _tried(folds: Folds, code: str, recipe: Recipe, window: int) -> dict[_Point, Graph]:
    """Convert once and run the samples that choose: one point for each number of steps."""
    graph = recipe.convert(folds.analog, folds.x[folds.fit], code=code, timesteps=window)
    activity = measured(graph, folds.x[folds.choose], window, lambda done: None)
    right = activity.outputs.argmax(-1) == torch.from_numpy(folds.labels[folds.choose])
    accumulates = activity.accumulates.mean(1).cumsum(0)
    return {
        _Point(
            code,
            f"{recipe.name}, calibrated for {window} steps",
            step,
            float(right[step - 1].double().mean()),
            float(accumulates[step - 1]) + multiplies(graph, step) + analog_operations(graph, step),
        ): graph
        for step in range(1, window + 1)
    }


def _front(points: Sequence[_Point]) -> list[_Point]:
    """The points that no other one beats, by operations; of equal ones that with fewer steps."""
    found: list[_Point] = []
    for point in sorted(points, key=lambda p: (p.operations, -p.accuracy, p.steps)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def _reason(best: _Point, search: Search, wanted: float, n: int, tried: int, reached: bool) -> str:
    said = (
        f"of {tried} ways to run the network it takes the fewest operations ({best.operations:,.0f} a sample) of those "
        f"that lose at most {search.points:g} points"
        if reached
        else f"none of {tried} ways to run the network loses at most {search.points:g} points; it is the most accurate"
    )
    return f"{said}: {100 * best.accuracy:.1f} %, the analog network {100 * wanted:.1f} %, on {n} samples that chose it"
