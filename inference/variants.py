"""Exit rules beside one threshold: a threshold for each step, a start delay, the gap of the two largest outputs.

Like every rule they are pure functions of the cumulative output and of each sample's own step.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .._check import RangeError
from .checks import require_finite, require_outputs
from .rules import AnyRule, LookingBack, ask, steps_of
from .scores import MaxSoftmax, Score
from .sweep import correct_by_step

__all__ = ["Delayed", "PerStepThresholds", "TopTwoGap", "calibrate_steps", "fitted_divisor"]


@dataclass(frozen=True)
class PerStepThresholds:
    """Stop at the first step t with score(y_t) > thresholds[t - 1]; beyond the last one the last one holds.

    Raises RangeError for no thresholds, or one outside of 0 to 1.

    >>> rule = PerStepThresholds(MaxSoftmax(1.0), (1.0, 0.5))
    >>> rule.stops(torch.tensor([[[9.0, 0.0]], [[9.0, 0.0]]]), torch.tensor([0])).tolist()
    [[False], [True]]
    """

    score: Score
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0.0 <= value <= 1.0 for value in self.thresholds):
            raise RangeError(f"the thresholds are {self.thresholds}; at least one, each between 0 and 1, was wanted")

    @property
    def min_steps(self) -> int:
        """The first step whose threshold a confidence can exceed."""
        return next((t for t, value in enumerate(self.thresholds, 1) if value < 1), 1)

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Return score(output) > the threshold of the step."""
        at = steps_of(output, first_step).clamp(max=len(self.thresholds)) - 1
        limits = torch.tensor(self.thresholds, dtype=torch.float64, device=output.device)
        return self.score(output) > limits[at]

    def confidence(self, output: Tensor) -> Tensor:
        """Return the score."""
        return self.score(output)


@dataclass(frozen=True)
class Delayed(LookingBack):
    """Another rule that may not stop before step ``first``: deep networks say nothing until their layers have filled.

    A rule that looks back does so from the first step on.  Raises RangeError for a first step below 1.
    """

    rule: AnyRule
    first: int

    def __post_init__(self) -> None:
        if self.first < 1:
            raise RangeError(f"the first step is {self.first}, but steps count from 1")

    @property
    def min_steps(self) -> int:
        """The later of both."""
        return max(self.first, self.rule.min_steps)

    def remembers(self, classes: int) -> int:
        """What the rule remembers."""
        return self.rule.remembers(classes) if isinstance(self.rule, LookingBack) else 0

    def look(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the rule stops, from step ``first`` on, and its memory."""
        stops, after = ask(self.rule, output, first_step, memory)
        return stops & (steps_of(output, first_step) >= self.first), memory if after is None else after

    def confidence(self, output: Tensor) -> Tensor:
        """Return that of the rule."""
        return self.rule.confidence(output)


@dataclass(frozen=True)
class TopTwoGap:
    """Stop when the largest cumulative output leads the second by more than ``gap``, in units of the output.

    Raises RangeError for a gap below 0, NaN or infinity, and for outputs of a single class.
    Source: Wu et al., "Optimising event-driven spiking neural network with regularisation and cutoff", 2023 (arXiv
    2301.09522).

    >>> TopTwoGap(2.0).stops(torch.tensor([[[3.0, 0.5]], [[3.0, 2.0]]]), torch.tensor([0])).tolist()
    [[True], [False]]
    """

    gap: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gap) and self.gap >= 0):
            raise RangeError(f"the gap is {self.gap}, but a finite number of at least 0 was wanted")

    @property
    def min_steps(self) -> int:
        """A clear sample may stop at its first step."""
        return 1

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Return y_(1) - y_(2) > gap."""
        return self._lead(output) > self.gap

    def confidence(self, output: Tensor) -> Tensor:
        """Return lead / (lead + gap): 1 / 2 at the gap itself."""
        lead = self._lead(output)
        return torch.where(lead + self.gap > 0, lead / (lead + self.gap), torch.zeros_like(lead))

    def _lead(self, output: Tensor) -> Tensor:
        if output.shape[-1] < 2:
            raise RangeError("the output has one class, but a gap needs two; give a yes-or-no output two columns")
        require_finite(output)
        best = output.double().topk(2, dim=-1).values
        return best[..., 0] - best[..., 1]


def calibrate_steps(score: Score, outputs: Tensor, labels: Tensor, *, max_loss: float = 0.001) -> PerStepThresholds:
    """A threshold for each step: the lowest at which, of the samples that would stop there, few are lost.

    At step t the samples still running are sorted by confidence, and the threshold is the lowest one above which the
    share of all samples that the full run has right and this step has not, with one standard error, stays within
    max_loss / T: then all steps together lose about max_loss at most on these samples (no guarantee on others).  Where
    that is less than one sample, the threshold's distance from 1 is scaled down as ``calibrate_confidence`` does it.
    outputs: cumulative, (T, N, classes), held out; labels: int64 (N,).
    Raises ShapeError and RangeError as ``calibrate_confidence``.
    """
    if not 0 <= max_loss <= 1:
        raise RangeError(f"max_loss is {max_loss}, but a share between 0 and 1 was wanted")
    require_outputs(outputs)
    steps, n, _ = outputs.shape
    full = outputs[-1].argmax(-1) == labels
    running = torch.ones(n, dtype=torch.bool)
    shrink = min(1.0, max_loss * (n + 1) / steps)
    thresholds = []
    for step in outputs[:-1]:
        confidence, lost = score(step), full & (step.argmax(-1) != labels)
        threshold = 1 - shrink * (1 - _lowest(confidence[running], lost[running], max_loss * n / steps))
        running &= ~(confidence > threshold)
        thresholds.append(threshold)
    return PerStepThresholds(score, (*thresholds, 0.0))


def _lowest(confidence: Tensor, lost: Tensor, budget: float) -> float:
    """The lowest threshold above which the number of lost samples plus its root stays within the budget."""
    if not len(confidence):
        return 1.0
    value, order = confidence.sort(descending=True)
    count = lost[order].double().cumsum(0)
    fits = (count + count.sqrt() <= budget) & torch.cat([value[:-1] > value[1:], torch.ones(1, dtype=torch.bool)])
    if not bool(fits.any()):
        return 1.0
    last = int(torch.nonzero(fits)[-1])
    below = float(value[last + 1]) if last + 1 < len(value) else 0.0
    return (float(value[last]) + below) / 2


def fitted_divisor(outputs: Tensor, labels: Tensor) -> MaxSoftmax:
    """Max-softmax with the divisor of least negative log-likelihood at the last step (temperature scaling).

    outputs: cumulative, (T, N, classes), held out; labels: int64 (N,).
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    Raises RangeError where all outputs of the last step are equal, for NaN, and as ``correct_by_step``.
    """
    correct_by_step(outputs, labels)
    require_finite(outputs)
    last = outputs[-1].double()
    spread = float((last.max(-1).values - last.min(-1).values).mean())
    if spread == 0:
        raise RangeError("the outputs at the last step are the same for every class; there is nothing to fit")
    divisors = spread * torch.logspace(-4, 1, 201, dtype=torch.float64)
    losses = [torch.nn.functional.cross_entropy(last / divisor, labels) for divisor in divisors]
    return MaxSoftmax(float(divisors[int(torch.stack(losses).argmin())]))
