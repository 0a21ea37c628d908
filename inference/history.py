"""Confidence that looks back: how long the first choice has stood, and how sure the network has been on average."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .._check import RangeError
from .checks import require_finite, require_outputs
from .rules import LookingBack
from .scores import MaxSoftmax, Score

__all__ = ["MeanProbability", "Recall", "Recalled", "RunLength", "patience", "trace"]


class Recall(ABC):
    """A confidence in [0, 1], larger meaning surer, that depends on all steps of a sample so far."""

    @abstractmethod
    def remembers(self, classes: int) -> int:
        """How many numbers it remembers of a sample; before the first step all of them are 0."""

    @abstractmethod
    def over(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the confidence of a block, float64 (steps, N), and the memory after it.

        output: cumulative, (steps, N, classes).  first_step: int64 (N,), steps done before the block.
        memory: float64 (N, remembers(classes)).
        """

    @abstractmethod
    def at(self, output: Tensor) -> Tensor:
        """Return the confidence to report for output (..., classes) without its past: float64 (...)."""


@dataclass(frozen=True)
class Recalled(LookingBack):
    """Stop at the first step whose recalled confidence exceeds the threshold, as ``DynamicConfidence`` does.

    Raises RangeError unless 0 <= threshold <= 1.
    """

    recall: Recall
    threshold: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise RangeError(f"the exit threshold is {self.threshold}, but it must lie between 0 and 1.")

    @property
    def min_steps(self) -> int:
        """A sure sample may stop at its first step."""
        return 1

    def remembers(self, classes: int) -> int:
        """What the recall remembers."""
        return self.recall.remembers(classes)

    def look(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return recall > threshold, and the memory."""
        confidence, memory = self.recall.over(output, first_step, memory)
        return confidence > self.threshold, memory

    def confidence(self, output: Tensor) -> Tensor:
        """Return what the recall reports."""
        return self.recall.at(output)


@dataclass(frozen=True)
class RunLength(Recall):
    """For how many steps in a row the first choice has been the same: min(run, longest) / longest.

    A step whose two largest outputs are equal has no first choice, and its run is 0: a network that is still silent
    does not agree with itself.  score: what is reported.
    Raises RangeError for longest below 1, NaN and infinity.
    Source: Zhou et al., "BERT Loses Patience" (PABEE), NeurIPS 2020, with time steps in the place of layers.
    """

    longest: int
    score: Score = field(default_factory=MaxSoftmax)

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise RangeError(f"the longest run is {self.longest}, but a run has at least 1 step.")

    def remembers(self, classes: int) -> int:
        """The last first choice, and its run."""
        return 2

    def over(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the run in units of the longest."""
        runs, memory = run_lengths(output, memory)
        return runs.clamp(max=self.longest) / self.longest, memory

    def at(self, output: Tensor) -> Tensor:
        """Return the score."""
        return self.score(output)


def patience(agreeing: int, score: Score | None = None) -> Recalled:
    """The rule that stops once the first choice has been the same for ``agreeing`` steps.

    Raises RangeError for less than 1 step.

    >>> outputs = torch.tensor([[[2.0, 1.0]], [[2.0, 3.0]], [[2.0, 5.0]], [[9.0, 5.0]]])
    >>> from .rules import decide
    >>> decide(patience(2), outputs).steps.tolist()
    [3]
    """
    return Recalled(RunLength(agreeing, score or MaxSoftmax()), 1 - 0.5 / max(agreeing, 1))


@dataclass(frozen=True)
class MeanProbability(Recall):
    """Probability of the first choice, averaged over the latest steps: m[t] = (1 - w) m[t-1] + w p[t], m[0] = 0.

    p = softmax(output / divisor), w = 1 / steps, and the value is m[t] at the first choice of step t.  One step that is
    sure of another class does not stop a sample, and neither does a single sure step.
    Raises RangeError for steps below 1, a divisor that is not positive, one class, NaN and infinity.
    """

    divisor: float
    steps: float = 2.0

    def __post_init__(self) -> None:
        MaxSoftmax(self.divisor)
        if not (math.isfinite(self.steps) and self.steps >= 1):
            raise RangeError(f"the average runs over {self.steps} steps, but at least 1 was wanted.")

    def remembers(self, classes: int) -> int:
        """The mean of each class."""
        return classes

    def over(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean probability of each step's first choice."""
        self.at(output)  # refuses what has no confidence
        probability = torch.softmax(output.double() / self.divisor, -1)
        rows = []
        for p, y in zip(probability, output, strict=True):
            memory = memory + (p - memory) / self.steps
            rows.append(memory.gather(1, y.argmax(-1, keepdim=True))[:, 0])
        return torch.stack(rows), memory

    def at(self, output: Tensor) -> Tensor:
        """Return the probability of the first choice."""
        return MaxSoftmax(self.divisor)(output)


def run_lengths(output: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Steps in a row with the same clear first choice, float64 (steps, N), and the memory (last choice, run)."""
    if output.shape[-1] < 2:
        raise RangeError("the output has one class, but a choice needs two; give a yes-or-no output two columns.")
    require_finite(output)
    best = output.topk(2, dim=-1)
    clear, choices = best.values[..., 0] > best.values[..., 1], best.indices[..., 0].double()
    last, run = memory.unbind(1)
    rows = []
    for choice, is_clear in zip(choices, clear, strict=True):
        run = torch.where(choice == last, run + 1, 1.0) * is_clear
        last = choice
        rows.append(run)
    return torch.stack(rows), torch.stack([last, run], 1)


def trace(recall: Recall, outputs: Tensor) -> Tensor:
    """The recalled confidence of every step of cached outputs (T, N, classes): float64 (T, N)."""
    require_outputs(outputs)
    _, n, classes = outputs.shape
    memory = torch.zeros(n, recall.remembers(classes), dtype=torch.float64, device=outputs.device)
    return recall.over(outputs, torch.zeros(n, dtype=torch.int64, device=outputs.device), memory)[0]
