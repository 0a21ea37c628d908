"""The exit rules that a user may ask for by name, each calibrated on the exit split."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError
from ..inference import (
    AnyRule,
    Delayed,
    DynamicConfidence,
    Energy,
    Margin,
    MaxSoftmax,
    MeanProbability,
    NormalisedEntropy,
    PerStepThresholds,
    Recall,
    Recalled,
    RunLength,
    Score,
    TopTwoGap,
    calibrate_confidence,
    calibrate_steps,
    confidence_candidates,
    correct_by_step,
    curve_of,
    decide,
    fit_gate,
    fitted_divisor,
    safe_threshold,
    trace,
)
from .convert import ExitData

__all__ = ["POLICIES", "Policy", "exit_labels"]

Calibrate = Callable[[Tensor, Tensor, float, int, int], AnyRule]


@dataclass(frozen=True)
class Policy:
    """A kind of rule, and the first step at which a sample may stop (deep networks fill before they say anything).

    Raises RangeError for a kind that is not in ``POLICIES`` and a first step below 1.
    """

    kind: str = "confidence"
    first: int = 1

    def __post_init__(self) -> None:
        if self.kind not in POLICIES:
            raise RangeError(f"there is no exit policy {self.kind!r}; choose one of {', '.join(POLICIES)}, or fixed:T.")
        if self.first < 1:
            raise RangeError(f"the first step is {self.first}, but steps count from 1.")

    def rule(self, exit_data: ExitData, *, max_loss: float = 0.001, seed: int = 0) -> AnyRule:
        """The rule calibrated on the exit split: on its labels, or on agreement with the analog network.

        Raises RangeError where the first step lies beyond the window, and what the calibration raises.
        """
        steps = len(exit_data.outputs)
        if self.first > steps:
            raise RangeError(
                f"the first step is {self.first}, but this network runs {steps} steps; start earlier, or convert with "
                "more --timesteps."
            )
        outputs = torch.from_numpy(exit_data.outputs)
        rule = POLICIES[self.kind](outputs, exit_labels(exit_data), max_loss, self.first - 1, seed)
        return rule if self.first == 1 else Delayed(rule, self.first)


def exit_labels(exit_data: ExitData) -> Tensor:
    """The true labels of the exit split, or what the analog network says where it has none."""
    return torch.from_numpy(exit_data.labels if exit_data.labelled else exit_data.ann_labels)


def _scored(make: Callable[[float], Score]) -> Calibrate:
    def calibrate(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> AnyRule:
        scores = [make(score.divisor) for score in confidence_candidates(outputs)]
        return calibrate_confidence(outputs[skip:], labels, max_loss=max_loss, scores=scores)

    return calibrate


def _temperature(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> DynamicConfidence:
    scores = [fitted_divisor(outputs, labels)]
    return calibrate_confidence(outputs[skip:], labels, max_loss=max_loss, scores=scores)


def _recalled(recalls: list[Recall], outputs: Tensor, labels: Tensor, max_loss: float, skip: int) -> Recalled:
    """The fastest of several, each with its own threshold."""
    right, found = correct_by_step(outputs, labels)[skip:], []
    for recall in recalls:
        threshold, steps = safe_threshold(curve_of(trace(recall, outputs)[skip:], right), max_loss)
        found.append((steps, Recalled(recall, threshold)))
    return min(found, key=lambda pair: pair[0])[1]


def _patience(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> Recalled:
    return _recalled([RunLength(len(outputs), fitted_divisor(outputs, labels))], outputs, labels, max_loss, skip)


def _average(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> Recalled:
    recalls: list[Recall] = [MeanProbability(score.divisor) for score in confidence_candidates(outputs)]
    return _recalled(recalls, outputs, labels, max_loss, skip)


def _gap(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> TopTwoGap:
    """The threshold is sought on lead / (lead + s), which lies between 0 and 1 and orders samples as the lead does."""
    scale = TopTwoGap(confidence_candidates(outputs)[-1].divisor)
    confidence = torch.stack([scale.confidence(step) for step in outputs[skip:]])
    threshold, _ = safe_threshold(curve_of(confidence, correct_by_step(outputs, labels)[skip:]), max_loss)
    return TopTwoGap(scale.gap * threshold / max(1 - threshold, 1e-12))


def _steps(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> PerStepThresholds:
    """Thresholds for each step, of the score that one threshold would take."""
    score = calibrate_confidence(outputs[skip:], labels, max_loss=max_loss).score
    later = calibrate_steps(score, outputs[skip:], labels, max_loss=max_loss)
    return PerStepThresholds(score, (1.0,) * skip + later.thresholds)


def _gate(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> Recalled:
    return fit_gate(outputs, labels, max_loss=max_loss, skip=skip, seed=seed)


def _auto(outputs: Tensor, labels: Tensor, max_loss: float, skip: int, seed: int) -> AnyRule:
    """The rule that takes the fewest steps where it was not calibrated, among those that are as safe there as asked.

    Every candidate is calibrated on either half of the samples and tried on the other.  It is safe enough if its loss
    and one standard error lie within ``max_loss``, or within those of plain confidence where that misses it, too.  What
    is returned is calibrated on all samples; its steps on them count as well, where they are more.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    halves = order[: len(labels) // 2], order[len(labels) // 2 :]
    tried = {}
    for kind in CANDIDATES:
        try:
            trials = [
                _trial(POLICIES[kind](outputs[:, a], labels[a], max_loss, skip, seed), outputs[:, b], labels[b], skip)
                for a, b in (halves, halves[::-1])
            ]
        except RangeError:  # a half is too small for this kind
            continue
        steps, lost, gained = (sum(parts) for parts in zip(*trials, strict=True))
        tried[kind] = steps, (lost - gained + math.sqrt(lost + gained)) / len(labels)
    plain = tried.get(CANDIDATES[0], (0, 0.0))[1]
    best: tuple[float, AnyRule] | None = None
    for kind, (tried_steps, risk) in tried.items():
        if risk > max(max_loss, plain):
            continue
        rule = POLICIES[kind](outputs, labels, max_loss, skip, seed)
        most = max(tried_steps, _trial(rule, outputs, labels, skip)[0])
        best = (most, rule) if best is None or most < best[0] else best
    return POLICIES[CANDIDATES[0]](outputs, labels, max_loss, skip, seed) if best is None else best[1]


def _trial(rule: AnyRule, outputs: Tensor, labels: Tensor, skip: int) -> tuple[int, int, int]:
    """All steps that a rule took, and how many samples it lost and gained against the full run."""
    found = decide(Delayed(rule, skip + 1) if skip else rule, outputs)
    full, right = outputs[-1].argmax(-1) == labels, found.label == labels
    return int(found.steps.sum()), int((full & ~right).sum()), int((right & ~full).sum())


CANDIDATES = ("confidence", "margin", "entropy", "steps", "gap", "average", "gate")
POLICIES: dict[str, Calibrate] = {
    "confidence": _scored(MaxSoftmax),
    "temperature": _temperature,
    "margin": _scored(Margin),
    "entropy": _scored(NormalisedEntropy),
    "energy": _scored(Energy),
    "steps": _steps,
    "gap": _gap,
    "patience": _patience,
    "average": _average,
    "gate": _gate,
    "auto": _auto,
}
"""Name on the command line -> how the rule is calibrated: outputs, labels, max_loss, steps to skip, seed."""
