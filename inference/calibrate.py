"""Choose an exit rule on held-out outputs: the fewest steps that lose next to nothing.

How the threshold is chosen, and why not simply the fastest one that loses nothing here: among
hundreds of thresholds the fastest is the luckiest, and its loss on new data is larger.  So

1. thresholds are walked from the full run downwards, and the walk ends at the first one that fails
   (a later one that passes again does so by luck);
2. a threshold passes when its loss plus one standard error is within ``max_loss``.  Loss is
   (lost - gained) / N, where a sample is *lost* if only the full run has it right and *gained* if
   only the early exit has; the standard error of that paired difference is about sqrt(lost + gained) / N;
3. a set of N samples cannot show a loss below 1 / N: even the threshold just above the first lost
   sample loses 1 / (N + 1) of new samples on average (the order of exchangeable samples is random).
   Where that exceeds ``max_loss`` the distance of the threshold from certainty, 1 - threshold, is
   scaled down by ``max_loss (N + 1)``, as the errors of a calibrated confidence would be.

Points 1 and 2 are tests on the data; point 3 is an extrapolation.  None of them is a guarantee: the
loss on new data is small on average, not with a stated probability.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._check import RangeError, require_in_range
from .checks import require_finite, require_outputs
from .rules import DynamicConfidence
from .scores import MaxSoftmax, Score
from .sweep import ExitCurve, exit_curve

__all__ = ["OperatingPoint", "calibrate_confidence", "confidence_candidates", "pareto_front", "safe_threshold"]

FINAL_LOG_ODDS = (4.0, 8.0, 16.0, 32.0, 64.0)


class OperatingPoint(NamedTuple):
    """A rule with the accuracy (fraction) and mean steps that it had on the data of the sweep."""

    rule: DynamicConfidence
    accuracy: float
    mean_steps: float


def confidence_candidates(outputs: Tensor) -> tuple[MaxSoftmax, ...]:
    """Return max-softmax scores whose divisors suit the scale of the outputs (T, N, classes).

    divisor = g / k for k = 4, 8, 16, 32, 64, where g is the mean gap between the two largest outputs at step T: the
    log-odds of an average sample end at k, and an average sample gains k / T a step.  Of outputs that add logits with
    a gap of 10 a step, these are 2.5 T to T / 6, around the fixed divisor of Dynamic Confidence (30 for 27 steps).
    Outputs in another unit get the same decisions.
    Raises RangeError if all outputs of the last step are equal, or some are NaN or infinite.
    """
    require_outputs(outputs)
    require_finite(outputs)
    best = outputs[-1].double().topk(min(2, outputs.shape[2]), dim=-1).values
    gap = float((best[:, 0] - best[:, -1]).mean())
    if gap == 0:
        raise RangeError(
            "the outputs at the last step are the same for every class, so there is no confidence to calibrate; "
            "the network is silent (give it more steps, or look at its thresholds) or has one class."
        )
    return tuple(MaxSoftmax(gap / odds) for odds in FINAL_LOG_ODDS)


def calibrate_confidence(
    outputs: Tensor,
    labels: Tensor,
    *,
    max_loss: float = 0.001,
    scores: Sequence[Score] | None = None,
) -> DynamicConfidence:
    """Return the rule with the fewest mean steps that keeps the accuracy of all T steps, but for ``max_loss``.

    outputs: cumulative, (T, N, classes), of samples that no threshold or weight was fitted on and that
    will not be reported on.  labels: int64 (N,); true labels, or the ANN's choices to calibrate on agreement.
    max_loss: fraction of samples, 0.001 being 0.1 point; 0 asks for no loss at all and so never stops early.
    scores: what to choose from, by default ``confidence_candidates(outputs)``.
    On ``outputs`` the accuracy of the rule is at least that of the full run minus ``max_loss``.
    How caution is added is told at the top of this module.
    Raises ShapeError if the shapes do not fit; RangeError if max_loss is not in [0, 1], or outputs or
    labels hold impossible values.
    """
    require_in_range("max_loss", max_loss, 0.0, 1.0, remedy="It is a fraction: 0.001 is 0.1 point.")
    require_outputs(outputs)
    points = []
    for score in _candidates(outputs, scores):
        threshold, steps = safe_threshold(exit_curve(score, outputs, labels), max_loss)
        points.append((steps, DynamicConfidence(score, threshold)))
    return min(points, key=lambda point: point[0])[1]


def safe_threshold(curve: ExitCurve, max_loss: float) -> tuple[float, float]:
    """The threshold of ``calibrate_confidence`` for any confidence, and the mean steps that it had on the curve's data.

    Raises RangeError if max_loss is not in [0, 1].
    """
    require_in_range("max_loss", max_loss, 0.0, 1.0, remedy="It is a fraction: 0.001 is 0.1 point.")
    shrink = min(1.0, max_loss * (curve.samples + 1))
    threshold = 1.0 - shrink * (1.0 - float(curve.threshold[_last_passing(curve, max_loss)]))
    # The first entry is the full run, and what stops before all curve thresholds is no earlier.
    entry = max(int((curve.threshold >= threshold).sum()) - 1, 0)
    return threshold, float(curve.mean_steps[entry])


def pareto_front(
    outputs: Tensor, labels: Tensor, *, scores: Sequence[Score] | None = None, limit: int = 50
) -> tuple[OperatingPoint, ...]:
    """Return the operating points that no other beats in both accuracy and mean steps, by rising steps.

    Arguments as for ``calibrate_confidence``.  At most ``limit`` points, evenly spread, ends included.
    The points are the best on *these* data, so on others they are a little worse.
    Raises what ``calibrate_confidence`` raises, and RangeError if limit < 2.
    """
    if limit < 2:
        raise RangeError(f"the limit of points is {limit}, but a front needs at least 2.")
    candidates = _candidates(outputs, scores)
    curves = [exit_curve(score, outputs, labels) for score in candidates]
    steps = torch.cat([curve.mean_steps for curve in curves])
    accuracy = torch.cat([curve.accuracy for curve in curves])
    owner = torch.cat([torch.full_like(curve.steps, i) for i, curve in enumerate(curves)])
    entry = torch.cat([torch.arange(len(curve.steps), device=steps.device) for curve in curves])
    order = accuracy.argsort(descending=True, stable=True)
    order = order[steps[order].argsort(stable=True)]  # by steps, and of equals the most accurate first
    best_before = torch.cat([accuracy.new_tensor([-1.0]), accuracy[order].cummax(0).values[:-1]])
    front = order[accuracy[order] > best_before]
    chosen = front[torch.linspace(0, len(front) - 1, min(limit, len(front))).round().long()]
    picked = zip(owner[chosen].tolist(), entry[chosen].tolist(), strict=True)
    return tuple(_point(candidates[i], curves[i], k) for i, k in picked)


def _candidates(outputs: Tensor, scores: Sequence[Score] | None) -> Sequence[Score]:
    if scores is None:
        return confidence_candidates(outputs)
    if not scores:
        raise RangeError("there is no score to choose from; give at least one, or leave scores out.")
    return scores


def _last_passing(curve: ExitCurve, max_loss: float) -> int:
    """Return the last entry before the first one whose loss plus one standard error exceeds ``max_loss``."""
    error = (curve.lost + curve.gained).double().sqrt()
    passes = (curve.lost - curve.gained) + error <= max_loss * curve.samples
    return int(passes.long().cummin(0).values.sum()) - 1


def _point(score: Score, curve: ExitCurve, entry: int) -> OperatingPoint:
    rule = DynamicConfidence(score, float(curve.threshold[entry]))
    return OperatingPoint(rule, float(curve.accuracy[entry]), float(curve.mean_steps[entry]))
