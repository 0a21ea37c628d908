"""Prediction sets at the stopping time: the true class lies in the set with a stated probability, whenever it stops.

At each of K checkpoints a set of classes is calibrated to miss with probability (1 - coverage) / K at most; a sample
stops at the first checkpoint whose set is small enough.  Whichever that is, by Bonferroni the set misses with
probability 1 - coverage at most, over calibration and test samples together.
Source: Chen, Park, Simeone, "SpikeCP: Delay-Adaptive Reliable Spiking Neural Networks via Conformal Prediction",
arXiv 2305.11322; Vovk et al. 2005 for the sets.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .._check import RangeError
from .calibrate import confidence_candidates
from .checks import require_outputs
from .rules import Decisions, steps_of
from .scores import MaxSoftmax

__all__ = ["ConformalExit", "calibrate_coverage"]

MOST_CHECKPOINTS = 8


@dataclass(frozen=True)
class ConformalExit:
    """Stop at the first checkpoint whose prediction set holds at most ``largest`` classes.

    The set at checkpoint k holds class c where 1 - p_c <= limits[k], p = softmax(output / divisor), and always the
    first choice.  checkpoints: steps from 1, rising.  Made by ``calibrate_coverage``.
    Raises RangeError for checkpoints that do not rise, limits outside of 0 to 1 and a largest set below 1.
    """

    divisor: float
    checkpoints: tuple[int, ...]
    limits: tuple[float, ...]
    largest: int
    coverage: float

    def __post_init__(self) -> None:
        steps = self.checkpoints
        rising = bool(steps) and steps[0] >= 1 and all(a < b for a, b in pairwise(steps))
        if not rising or len(self.limits) != len(steps):
            raise RangeError(f"checkpoints are {steps} with {len(self.limits)} limits; rising steps, one limit each")
        if not all(0 <= limit <= 1 for limit in self.limits) or self.largest < 1 or not self.divisor > 0:
            raise RangeError("limits lie between 0 and 1, the largest set has at least 1 class, the divisor is above 0")

    @property
    def min_steps(self) -> int:
        """The first checkpoint."""
        return self.checkpoints[0]

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Whether the step is a checkpoint and its set is small enough: bool (steps, N)."""
        step = steps_of(output, first_step)
        size = self._sets(output, step).sum(-1)
        at = torch.isin(step, torch.tensor(self.checkpoints))
        return at & (size <= self.largest)

    def confidence(self, output: Tensor) -> Tensor:
        """The largest probability."""
        return MaxSoftmax(self.divisor)(output)

    def sets(self, outputs: Tensor, decisions: Decisions) -> Tensor:
        """The prediction set of each sample at its decision: bool (N, classes).

        A sample that decided because its time was up gets the set of the last checkpoint.
        """
        at = decisions.steps - 1
        output = outputs[at, torch.arange(len(at))]
        return self._sets(output[None], decisions.steps[None])[0]

    def _sets(self, output: Tensor, step: Tensor) -> Tensor:
        """Sets by the limit of the last checkpoint that is not later than the step: bool (steps, N, classes)."""
        MaxSoftmax(self.divisor)(output)  # refuses NaN and a single class
        p = torch.softmax(output.double() / self.divisor, -1)
        which = torch.searchsorted(torch.tensor(self.checkpoints), step, right=True) - 1
        limit = torch.tensor(self.limits, dtype=torch.float64)[which.clamp(min=0)]
        first = torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1]).bool()
        return (1 - p <= limit[..., None]) | first


def calibrate_coverage(
    outputs: Tensor, labels: Tensor, *, coverage: float = 0.95, largest: int = 1, divisor: float | None = None
) -> ConformalExit:
    """The rule whose sets hold the true class with probability ``coverage`` at least.

    outputs: cumulative, (T, N, classes), of samples that chose nothing; labels: int64 (N,), true ones.
    largest: a sample stops when at most so many classes are left.  divisor: of the softmax; by default the middle one
    of ``confidence_candidates`` for a tenth of the samples, which then calibrate no limit.
    Fewer checkpoints are used where N cannot carry more (each needs K / (1 - coverage) - 1 samples).
    Raises RangeError for a coverage outside of (0, 1), and for too few samples (it says how many are needed).
    """
    if not 0 < coverage < 1:
        raise RangeError(f"the coverage is {coverage}, but it must lie between 0 and 1, ends excluded")
    require_outputs(outputs)
    steps, n, classes = outputs.shape
    if labels.shape != (n,) or not bool(((labels >= 0) & (labels < classes)).all()):
        raise RangeError(f"{n} samples of {classes} classes need as many labels from 0 to {classes - 1}")
    miss = 1 - coverage
    tuning = 0 if divisor is not None else max(1, n // 10)
    n -= tuning
    count = min(MOST_CHECKPOINTS, steps, math.floor(miss * (n + 1) + 1e-9))
    if count < 1:
        needed = math.ceil((1 / miss - 1) / 0.9) + 1
        raise RangeError(
            f"{n + tuning} calibration samples cannot carry a coverage of {coverage}; at least {needed} are needed "
            "(or ask for less)"
        )
    if divisor is None:
        candidates = confidence_candidates(outputs[:, :tuning])
        divisor = candidates[len(candidates) // 2].divisor
    outputs, labels = outputs[:, tuning:], labels[tuning:]
    checkpoints = _spread(steps, count)
    rank = math.ceil((n + 1) * (1 - miss / len(checkpoints)) - 1e-9)
    limits = []
    for step in checkpoints:
        p = torch.softmax(outputs[step - 1].double() / divisor, -1)
        score = 1 - p.gather(1, labels[:, None])[:, 0]
        limits.append(float(score.sort().values[rank - 1]))
    return ConformalExit(float(divisor), checkpoints, tuple(limits), largest, coverage)


def _spread(steps: int, count: int) -> tuple[int, ...]:
    """At most ``count`` steps, evenly in their logarithm, the last one included.

    >>> _spread(32, 4)
    (2, 6, 13, 32)
    """
    return tuple(sorted({round(steps ** (k / count)) for k in range(1, count)} | {steps}))
