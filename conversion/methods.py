"""Whole recipes of conversion, and the one that tries several and says why it chose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._check import RangeError, SpikeportError
from ..networks.graph import Graph
from ..networks.outputs import outputs_over_time
from .codes import parse_code
from .correct import corrected
from .readout import with_readout
from .reconstruct import Reconstruction
from .source import analog_output
from .spiking import spiking
from .step_bias import step_corrected
from .thresholds import LocalThresholdBalancing, MeanSquare, Percentile, ThresholdMethod, Thresholds

CHOOSE_SAMPLES = 512


@dataclass(frozen=True)
class Recipe:
    """How thresholds are chosen, and what is calibrated after it: biases, weights, and biases by step."""

    thresholds: ThresholdMethod
    bias_correction: bool = True
    step_biases: bool = False
    reconstruction: Reconstruction | None = None

    @property
    def name(self) -> str:
        """How the recipe is called in reports."""
        after = [
            *(["bias correction"] if self.bias_correction else []),
            *([self.reconstruction.name] if self.reconstruction else []),
            *(["biases by step"] if self.step_biases else []),
        ]
        return " + ".join([self.thresholds.name, *after])

    def convert(
        self, analog: Graph, x: np.ndarray, *, code: str, timesteps: int, thresholds: Thresholds | None = None
    ) -> Graph:
        """The spiking Graph of a simplified analog one, calibrated on x (n, *features).

        thresholds: those that the method gave on the same data before, or None.
        """
        spikes = parse_code(code)
        thresholds = thresholds or self.thresholds.thresholds(analog, x, spikes.grid(timesteps))
        graph = spiking(analog, thresholds, code)
        graph = corrected(graph, analog, x, timesteps) if self.bias_correction else graph
        if self.reconstruction is not None:
            graph = self.reconstruction.reconstructed(graph, analog, x, timesteps)
        graph = step_corrected(graph, analog, x, timesteps) if self.step_biases else graph
        return graph if spikes.decodes else with_readout(graph, analog, x, timesteps)


DEFAULT_RECIPES = tuple(
    Recipe(method, correction)
    for method in (Percentile(99.9), MeanSquare(), LocalThresholdBalancing(iterations=500))
    for correction in (False, True)
)


@dataclass(frozen=True)
class Auto:
    """Tries every recipe and keeps the one that does best on samples that no recipe has seen."""

    recipes: tuple[Recipe, ...] = field(default=DEFAULT_RECIPES)


@dataclass(frozen=True)
class Candidate:
    """How one recipe did on the samples kept for the choice."""

    method: str
    accuracy_at_timesteps: float | None
    output_error: float | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A row of the report."""
        return {
            "method": self.method,
            "accuracy_at_timesteps": self.accuracy_at_timesteps,
            "output_error": self.output_error,
            "note": self.note,
        }


@dataclass(frozen=True)
class Choice:
    """The converted network, and why this one."""

    graph: Graph
    method: str
    reason: str
    candidates: tuple[Candidate, ...]


METHODS: dict[str, Recipe | Auto] = {
    "auto": Auto(),
    "percentile": Recipe(Percentile(99.9)),
    "mse": Recipe(MeanSquare()),
    "ltb": Recipe(LocalThresholdBalancing()),
    "step-bias": Recipe(MeanSquare(), step_biases=True),
    "reconstruct": Recipe(MeanSquare(), reconstruction=Reconstruction()),
}


def parse_method(text: str) -> Recipe | Auto:
    """The method that the command line calls ``text``.

    >>> parse_method("mse").name
    'mean square + bias correction'
    """
    if text not in METHODS:
        raise SpikeportError(f"there is no method {text!r}; choose one of {', '.join(METHODS)}")
    return METHODS[text]


def chosen(
    method: Recipe | Auto,
    analog: Graph,
    fit: np.ndarray,
    choose: np.ndarray,
    labels: np.ndarray,
    *,
    code: str,
    timesteps: int,
    progress: Callable[[float], None] | None = None,
) -> Choice:
    """Convert with one recipe, or with the best of several on (choose, labels), which no recipe sees.

    The best: of all recipes whose accuracy after ``timesteps`` is within one standard error of the highest, the one
    whose output is nearest to the analog network's.
    """
    if isinstance(method, Recipe):
        return Choice(method.convert(analog, fit, code=code, timesteps=timesteps), method.name, "it was asked for", ())
    trial = _Trial(analog, fit, choose[:CHOOSE_SAMPLES], labels[:CHOOSE_SAMPLES], code, timesteps)
    graphs, candidates = [], []
    for index, recipe in enumerate(method.recipes):
        graph, candidate = trial.of(recipe)
        graphs.append(graph)
        candidates.append(candidate)
        if progress is not None:
            progress((index + 1) / len(method.recipes))
    return _best(graphs, candidates, len(trial.labels), timesteps)


class _Trial:
    """Converts with one recipe after the other and measures each on samples that no recipe sees."""

    def __init__(
        self, analog: Graph, fit: np.ndarray, choose: np.ndarray, labels: np.ndarray, code: str, timesteps: int
    ) -> None:
        self.analog, self.fit, self.choose, self.labels = analog, fit, choose, labels
        self.code, self.timesteps = code, timesteps
        self._wanted = analog_output(analog, choose)
        self._thresholds: dict[ThresholdMethod, Thresholds | RangeError] = {}

    def of(self, recipe: Recipe) -> tuple[Graph | None, Candidate]:
        """The converted network, or none where the method did not converge: a finding, not an end."""
        thresholds = self._thresholds_of(recipe.thresholds)
        if isinstance(thresholds, RangeError):
            return None, Candidate(recipe.name, None, None, str(thresholds))
        graph = recipe.convert(self.analog, self.fit, code=self.code, timesteps=self.timesteps, thresholds=thresholds)
        output = outputs_over_time(graph, self.choose, self.timesteps)[-1].numpy() / self.timesteps
        accuracy = float((output.argmax(1) == self.labels).mean())
        spread = max(float(np.square(self._wanted - self._wanted.mean()).mean()), 1e-12)
        return graph, Candidate(recipe.name, accuracy, float(np.square(output - self._wanted).mean()) / spread)

    def _thresholds_of(self, method: ThresholdMethod) -> Thresholds | RangeError:
        if method not in self._thresholds:
            try:
                self._thresholds[method] = method.thresholds(
                    self.analog, self.fit, parse_code(self.code).grid(self.timesteps)
                )
            except RangeError as error:
                self._thresholds[method] = error
        return self._thresholds[method]


def _best(graphs: Sequence[Graph | None], candidates: Sequence[Candidate], n: int, timesteps: int) -> Choice:
    done = [
        (graph, candidate.accuracy_at_timesteps, candidate.output_error, candidate)
        for graph, candidate in zip(graphs, candidates, strict=True)
        if graph is not None and candidate.accuracy_at_timesteps is not None and candidate.output_error is not None
    ]
    if not done:
        raise RangeError("no method converged: " + "; ".join(f"{c.method}: {c.note}" for c in candidates))
    top = max(accuracy for _, accuracy, _, _ in done)
    margin = float(np.sqrt(top * (1 - top) / n))
    near = [row for row in done if row[1] >= top - margin]
    graph, accuracy, error, winner = min(near, key=lambda row: row[2])
    reason = (
        f"of {len(done)} methods, {len(near)} lie within one standard error ({100 * margin:.1f} points) of the best "
        f"accuracy after {timesteps} steps on {n} samples that none of them saw; of these its output is nearest to the "
        f"analog network's (relative mean square error {error:.3g}, accuracy {100 * accuracy:.1f} %)"
    )
    return Choice(graph, winner.method, reason, tuple(candidates))
