"""From an imported network to a spiking one, with what it costs: the main job, in one call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, ShapeError
from ..conversion.codes import parse_code
from ..conversion.layers import analog_rows, layer_rows
from ..conversion.methods import Auto, Choice, Recipe, chosen
from ..conversion.rewrite import simplified
from ..conversion.source import Source, analog_output, check_graph, check_source
from ..conversion.spiking import prepared, require_convertible
from ..data import Dataset, split_calibration
from ..hardware.program import IntegerProgram
from ..inference import accuracy_interval, paired_difference_interval, steps_within
from ..networks.graph import Graph
from ..networks.outputs import outputs_over_time
from .integer import ROUNDINGS, input_range, integer_part

__all__ = ["Converted", "ExitData", "Folds", "Progress", "choice_of", "convert_network", "folds_of"]

Progress = Callable[[str, float], None]
CHECK_SAMPLES = 16
LAYER_SAMPLES = 64
POINTS = (1.0, 0.5, 0.1)


@dataclass(frozen=True)
class ExitData:
    """What exit rules are calibrated on: samples that no method, threshold or weight has seen.

    outputs: (T, n, classes) cumulative, of the spiking network.  labels: (n,), -1 everywhere if the data had none.
    ann_labels: (n,), what the analog network says.  hashes: (n,), of these samples; calibration_hashes: of all.
    integer_outputs: as outputs, of the integer network; None where there is none.
    """

    outputs: np.ndarray
    labels: np.ndarray
    ann_labels: np.ndarray
    hashes: np.ndarray
    calibration_hashes: np.ndarray
    integer_outputs: np.ndarray | None = None

    @property
    def of_integer(self) -> "ExitData":
        """The same for rules that are to stop the integer network: with its outputs, where they are known."""
        return self if self.integer_outputs is None else replace(self, outputs=self.integer_outputs)

    @property
    def labelled(self) -> bool:
        """Whether true labels are known."""
        return bool((self.labels >= 0).all())


@dataclass(frozen=True)
class Converted:
    """A spiking network, the analog one it comes from, the held-out outputs, and the report as JSON.

    analog: None for a network that was trained with spikes and comes from no other.  integer: None for a network that
    has no integer form; the report says why.
    """

    spiking: Graph
    analog: Graph | None
    exit: ExitData
    report: dict[str, Any]
    integer: IntegerProgram | None = None


@dataclass(frozen=True)
class Folds:
    """A network made ready for a spike code, and the samples that fit, choose and calibrate the exit (rows of x).

    labels: the true ones, or the analog network's own.  error: the import's, see ``check_source``.
    """

    analog: Graph
    error: float
    x: np.ndarray
    labels: np.ndarray
    ann_output: np.ndarray
    fit: np.ndarray
    choose: np.ndarray
    exit: np.ndarray

    def accuracy(self, rows: np.ndarray) -> float:
        """Of the analog network, on some samples."""
        return float((self.ann_output[rows].argmax(1) == self.labels[rows]).mean())


def folds_of(source: Source, calibration: Dataset, code: str, seed: int) -> Folds:
    """Split the calibration data (seeded), simplify the network for the code, check it, and run it once.

    Raises UnsupportedError that lists every operator that spikes of this code cannot carry.
    """
    x, split = calibration.x, split_calibration(len(calibration.x), seed, hashes=calibration.hashes)
    analog, error = _imported(source, x[split.fit[:CHECK_SAMPLES]], code)
    ann_output = analog_output(analog, x)
    return Folds(analog, error, x, _labels(calibration, ann_output), ann_output, split.fit, split.choose, split.exit)


def convert_network(
    source: Source,
    calibration: Dataset,
    *,
    method: Recipe | Auto | Choice,
    code: str = "binary",
    timesteps: int = 32,
    seed: int = 0,
    rounding: str = "nearest",
    progress: Progress | None = None,
) -> Converted:
    """Convert a network with calibration data that are split, once, into *fit*, *choose* and *exit* (seeded).

    code: "binary"; "signed" (a spike of -1 takes one back that was given too early); "burst:4" (up to 4 spikes a step);
    "differential:8" (changes of a value in 8 sizes, between which any operator may stand).  timesteps: T, 1 to 4096.
    rounding: how the integer network's weights become whole: to the "nearest", or "fitted" to what arrives in *fit*;
    its biases keep the mean currents of *fit* either way.
    method: a Choice is taken as it was made, for this network, these data, this code and this seed.
    Accuracies in the report are measured on the exit split, which chose nothing; without labels, agreement with the
    analog network stands in their place.
    Raises UnsupportedError that lists every operator spikes cannot carry, and what the parts raise on bad input.
    """
    if not 1 <= timesteps <= 4096:
        raise RangeError(f"timesteps is {timesteps}; choose 1 to 4096")
    if rounding not in ROUNDINGS:
        raise RangeError(f"rounding is {rounding!r}; choose one of: {', '.join(ROUNDINGS)}")
    parse_code(code)
    tell = progress or _silent
    tell("check the import", 0.0)
    folds = folds_of(source, calibration, code, seed)
    analog, x, labels = folds.analog, folds.x, folds.labels
    choice = method if isinstance(method, Choice) else choice_of(method, folds, code, timesteps, tell)
    held = _exit_data(choice.graph, calibration, folds.exit, labels, folds.ann_output, timesteps, tell)
    tell("measure the layers", 0.0)
    report = {
        **_about(source, choice, calibration, folds, code, timesteps, seed),
        "ann_output_max_error": folds.error,
        **accuracy_rows(torch.from_numpy(held.outputs), labels[folds.exit], held.ann_labels),
        "layers": layer_rows(choice.graph, analog, x[folds.exit[:LAYER_SAMPLES]], timesteps),
        "stays_analog": analog_rows(choice.graph, timesteps),
    }
    information = {"preprocessing": calibration.preprocessing.to_json(), "seed": seed}
    conversion = {"method": choice.method, "timesteps": timesteps, "spikes": code}
    statistics = {"conversion": conversion, "input_range": input_range(x[folds.fit])}
    spiking = informed(choice.graph, {**information, **statistics})
    tell("lower to whole numbers", 0.0)
    integer, report["integer"], outputs = integer_part(
        spiking, x[folds.exit], labels[folds.exit], held.outputs, fit=x[folds.fit], rounding=rounding
    )
    held = replace(held, integer_outputs=outputs)
    return Converted(spiking, informed(analog, information), held, report, integer)


def choice_of(
    method: Recipe | Auto, folds: Folds, code: str, timesteps: int, progress: Progress | None = None
) -> Choice:
    """The spiking network of a method, made on *fit* and chosen on *choose*."""
    tell = progress or _silent
    return chosen(
        method,
        folds.analog,
        folds.x[folds.fit],
        folds.x[folds.choose],
        folds.labels[folds.choose],
        code=code,
        timesteps=timesteps,
        progress=lambda done: tell("choose thresholds", done),
    )


def _silent(stage: str, done: float) -> None:
    """Progress that nobody watches."""


def _imported(source: Source, x: np.ndarray, code: str) -> tuple[Graph, float]:
    """The simplified analog Graph, checked against the source before and after its rewrites."""
    error = check_source(source, x)
    analog = simplified(source.graph)
    require_convertible(analog, code)
    analog = prepared(analog, code)
    check_graph(analog, source, x)
    return analog, error


def _exit_data(
    graph: Graph,
    calibration: Dataset,
    index: np.ndarray,
    labels: np.ndarray,
    ann_output: np.ndarray,
    timesteps: int,
    tell: Progress,
) -> ExitData:
    outputs = outputs_over_time(
        graph, calibration.x[index], timesteps, progress=lambda done: tell("run the exit split", done)
    )
    return ExitData(
        outputs.numpy(),
        labels[index].astype(np.int64) if calibration.y is not None else np.full(len(index), -1, np.int64),
        ann_output[index].argmax(1),
        calibration.hashes[index],
        calibration.hashes,
    )


def _about(
    source: Source, choice: Choice, calibration: Dataset, folds: Folds, code: str, timesteps: int, seed: int
) -> dict[str, Any]:
    return {
        "model": source.name,
        "source_sha256": source.sha256,
        "method": choice.method,
        "method_reason": choice.reason,
        "candidates": [candidate.to_json() for candidate in choice.candidates],
        "spikes": code,
        "readout_ramp": choice.graph.output.attributes["ramp"],
        "timesteps": timesteps,
        "seed": seed,
        "n_fit": len(folds.fit),
        "n_choose": len(folds.choose),
        "n_exit": len(folds.exit),
        "labels": "true" if calibration.y is not None else "ann",
        "unsupported": [],
        "notes": list(source.notes),
    }


def _labels(calibration: Dataset, ann_output: np.ndarray) -> np.ndarray:
    classes = ann_output.shape[1] if ann_output.ndim == 2 else 0
    if classes < 2:
        raise ShapeError(
            f"the network's output has the shape {ann_output.shape[1:]}, but (classes,) was wanted, with 2 or more: "
            "end with global pooling or a flatten"
        )
    if calibration.y is None:
        return np.asarray(ann_output.argmax(1))
    require_labels("the calibration labels", calibration.y, classes)
    return calibration.y


def require_labels(name: str, labels: np.ndarray, classes: int) -> None:
    """Raise RangeError unless every label is one of the network's classes."""
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise RangeError(
            f"{name} go from {labels.min()} up to {labels.max()}, but the network has {classes} classes, "
            "counted from 0; use the labels it was trained with"
        )


def accuracy_rows(outputs: Tensor, labels: np.ndarray, ann_labels: np.ndarray | None) -> dict[str, Any]:
    """Accuracy by step with 95 % intervals, that of the analog network, and the steps needed to come within points.

    ann_labels: None where there is no analog network.
    """
    predicted = outputs.argmax(-1)
    right = (predicted == torch.from_numpy(labels)).double().mean(1).tolist()
    own = {
        "n": len(labels),
        "accuracy_by_step": right,
        "accuracy_ci95_by_step": [list(accuracy_interval(value, len(labels))) for value in right],
    }
    if ann_labels is None:
        return {**own, "ann_accuracy": None}
    ann = float((ann_labels == labels).mean())
    return {
        **own,
        "ann_accuracy": ann,
        "ann_accuracy_ci95": list(accuracy_interval(ann, len(labels))),
        "ann_difference_by_step": _differences(predicted, labels, ann_labels),
        "steps_within": {
            f"{points:g}" if points % 1 else f"{points:.1f}": steps_within(ann, right, points) for points in POINTS
        },
    }


def _differences(predicted: Tensor, labels: np.ndarray, ann_labels: np.ndarray) -> dict[str, list[float]]:
    """Accuracy minus the analog network's, with its paired 95 % interval, at 1, 2, 4, ... and T steps."""
    steps = len(predicted)
    shown = sorted({2**k for k in range(steps.bit_length()) if 2**k <= steps} | {steps})
    found = {}
    for step in shown:
        pair = torch.from_numpy(ann_labels), torch.from_numpy(labels)
        difference = paired_difference_interval(predicted[step - 1], *pair)
        found[str(step)] = [difference.value, difference.low, difference.high]
    return found


def informed(graph: Graph, information: dict[str, Any]) -> Graph:
    """The graph with more said about it."""
    return Graph.of(graph.nodes, {**graph.information, **information})
