"""Early exit with a guarantee: with probability 1 - delta over the calibration samples, little accuracy is lost.

Learn-then-test.  Thresholds stand on a grid that no datum has moved, from the full run downwards.  Of each the
hypothesis "more than epsilon of new samples are lost" is tested with the exact binomial tail; testing stops at the
first that cannot be rejected at delta, so the whole sequence errs with probability delta at most.  A sample is *lost*
if the full run has it right and the early exit has not; the accuracy falls by no more than the share of lost samples.
Source: Angelopoulos, Bates, Candes, Jordan, Lei, "Learn then Test", arXiv 2110.01052, with fixed-sequence testing.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from .._check import RangeError
from .calibrate import confidence_candidates
from .checks import require_outputs
from .rules import DynamicConfidence
from .scores import MaxSoftmax

__all__ = ["RiskControl", "control_loss", "samples_needed"]

TUNING_SHARE = 0.25
"""Of the samples, how many choose the divisor; they take no part in the tests."""

GRID = (*(float(1 - 10.0**-e) for e in np.arange(12, 1, -0.125)), *(float(v) for v in np.arange(0.9, 0.0, -0.02)))
"""Thresholds from nearly certain to nearly none, fixed before any data."""


class RiskControl(NamedTuple):
    """The rule, and what was shown: of n tested samples ``lost`` were lost; p_value: of the hypothesis it rejects."""

    rule: DynamicConfidence
    epsilon: float
    delta: float
    n: int
    lost: int
    p_value: float


def samples_needed(epsilon: float, delta: float) -> int:
    """The fewest samples on which a loss of at most epsilon can be shown at all: (1 - epsilon)^n <= delta.

    >>> samples_needed(0.01, 0.05)
    399
    """
    _require(epsilon, delta)
    tested = math.ceil(math.log(delta) / math.log1p(-epsilon))
    return math.ceil(tested / (1 - TUNING_SHARE))


def control_loss(outputs: Tensor, labels: Tensor, *, epsilon: float, delta: float = 0.05, seed: int = 0) -> RiskControl:
    """The rule with the fewest steps of which P(accuracy falls by at most epsilon) >= 1 - delta is shown.

    outputs: cumulative, (T, N, classes), of samples that chose nothing and will not be reported on; labels: int64 (N,).
    epsilon: fraction of samples, in (0, 1).  delta: in (0, 1), over draws of these calibration samples.
    Where not even the first threshold passes, the rule never stops early, which loses nothing.
    Raises RangeError for values out of range and for too few samples (it says how many are needed), ShapeError.
    """
    _require(epsilon, delta)
    require_outputs(outputs)
    n = outputs.shape[1]
    if labels.shape != (n,):
        raise RangeError(f"{n} samples came with labels of shape {tuple(labels.shape)}; one label a sample was wanted")
    needed = samples_needed(epsilon, delta)
    if n < needed:
        raise RangeError(
            f"{n} calibration samples cannot show a loss of at most {epsilon} with probability {1 - delta:g}; at least "
            f"{needed} are needed (or allow a larger loss)"
        )
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    cut = math.floor(n * TUNING_SHARE)
    tune, test = order[:cut], order[cut:]
    score = _divisor(outputs[:, tune], labels[tune], epsilon)
    return _tested(score, outputs[:, test], labels[test], epsilon, delta)


def _require(epsilon: float, delta: float) -> None:
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < value < 1:
            raise RangeError(f"{name} is {value}, but it must lie between 0 and 1, ends excluded")


class _Exits(NamedTuple):
    """Of samples with outputs (T, N, classes): confidence and whether the first choice is right, (T, N)."""

    confidence: Tensor
    right: Tensor

    @classmethod
    def of(cls, score: MaxSoftmax, outputs: Tensor, labels: Tensor) -> "_Exits":
        return cls(torch.stack([score(step) for step in outputs]), outputs.argmax(-1) == labels)

    def lost(self, threshold: float) -> tuple[int, float]:
        """How many samples only the full run has right, and the mean steps."""
        stops = self.confidence > threshold
        stops[-1] = True
        at = stops.int().argmax(0)
        lost = self.right[-1] & ~self.right.gather(0, at[None])[0]
        return int(lost.sum()), float(at.double().mean()) + 1


def _divisor(outputs: Tensor, labels: Tensor, epsilon: float) -> MaxSoftmax:
    """The candidate that is fastest on the tuning samples while it loses at most half of epsilon there."""
    best = (math.inf, MaxSoftmax(1.0))
    for score in confidence_candidates(outputs):
        exits, reached = _Exits.of(score, outputs, labels), math.inf
        for threshold in GRID:
            lost, steps = exits.lost(threshold)
            if lost > epsilon * len(labels) / 2:
                break
            reached = steps
        best = min(best, (reached, score), key=lambda pair: pair[0])
    return best[1]


def _tested(score: MaxSoftmax, outputs: Tensor, labels: Tensor, epsilon: float, delta: float) -> RiskControl:
    n, exits = len(labels), _Exits.of(score, outputs, labels)
    found = RiskControl(DynamicConfidence(score, 1.0), epsilon, delta, n, 0, float((1 - epsilon) ** n))
    for threshold in GRID:
        lost, _ = exits.lost(threshold)
        p_value = float(binom.cdf(lost, n, epsilon))
        if p_value > delta:
            break
        found = RiskControl(DynamicConfidence(score, threshold), epsilon, delta, n, lost, p_value)
    return found
