"""When to stop: exit rules, as pure functions of the cumulative output.

A rule sees a block of steps and how many steps each sample had done before it, and keeps nothing
between blocks.  So the same rule serves a sweep over cached outputs and the running engine.  What a rule
that looks back remembers goes in and comes out, as all state does.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .._check import RangeError
from .checks import require_outputs, require_window
from .scores import MaxSoftmax, Score

__all__ = [
    "AnyRule",
    "Decision",
    "Decisions",
    "DynamicConfidence",
    "ExitRule",
    "FixedSteps",
    "LookingBack",
    "ask",
    "decide",
    "steps_of",
]


class Decision(NamedTuple):
    """What the network answered for one sample, after how many steps (from 1), and how sure it was."""

    label: int
    steps: int
    confidence: float


class Decisions(NamedTuple):
    """Decisions of N samples: label and steps int64 (N,), confidence float64 (N,)."""

    label: Tensor
    steps: Tensor
    confidence: Tensor


class ExitRule(Protocol):
    """What the exit engine and the sweeps ask of a rule.

    ``stops`` may read an entry's own step and output only, so that a longer window or another
    chunk never changes an earlier decision.
    """

    @property
    def min_steps(self) -> int:
        """The earliest step (from 1) at which the rule can stop; a shorter run is refused."""
        ...

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Return where the rule would stop: bool (steps, N).

        output: cumulative, (steps, N, classes).  first_step: int64 (N,), steps that each sample had
        done before this block, so entry ``t`` is its step ``first_step + t + 1``.
        """
        ...

    def confidence(self, output: Tensor) -> Tensor:
        """Return the confidence to report for output (..., classes), as float64 (...)."""
        ...


class LookingBack(ABC):
    """An exit rule that also depends on earlier steps of a sample, through a few numbers that it remembers.

    It keeps the laws of ``ExitRule``: a longer window or another chunk never changes an earlier decision, and samples
    do not touch each other.
    """

    @property
    @abstractmethod
    def min_steps(self) -> int:
        """The earliest step (from 1) at which the rule can stop."""

    @abstractmethod
    def remembers(self, classes: int) -> int:
        """How many numbers it remembers of a sample; before the first step all of them are 0."""

    @abstractmethod
    def look(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the rule would stop, bool (steps, N), and the memory after the block.

        output, first_step: as for ``ExitRule.stops``.  memory: float64 (N, remembers(classes)).
        """

    @abstractmethod
    def confidence(self, output: Tensor) -> Tensor:
        """Return the confidence to report for output (..., classes), as float64 (...)."""


AnyRule = ExitRule | LookingBack


def ask(rule: AnyRule, output: Tensor, first_step: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return where a rule stops, bool (steps, N), and what it remembers then; None is the memory of fresh samples."""
    if not isinstance(rule, LookingBack):
        return rule.stops(output, first_step), None
    if memory is None:
        width = rule.remembers(output.shape[-1])
        memory = torch.zeros(output.shape[1], width, dtype=torch.float64, device=output.device)
    return rule.look(output, first_step, memory)


def steps_of(output: Tensor, first_step: Tensor) -> Tensor:
    """The step (from 1) of each entry of a block: int64 (steps, N)."""
    return first_step[None] + torch.arange(1, len(output) + 1, device=output.device)[:, None]


@dataclass(frozen=True)
class DynamicConfidence:
    """Stop at the first step whose confidence exceeds the threshold: score(y_t) > threshold.

    The test is strict, so a threshold of 1 never stops before the last step, where every sample
    has to answer.  Raises RangeError unless 0 <= threshold <= 1.
    Source: Li et al., "Unleashing the Potential of Spiking Neural Networks with Dynamic
    Confidence", ICCV 2023.

    >>> output = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]], [[5.0, 0.0]]])
    >>> decide(DynamicConfidence(MaxSoftmax(1.0), 0.9), output).steps.tolist()
    [2]
    """

    score: Score
    threshold: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0.0 <= self.threshold <= 1.0):
            raise RangeError(
                f"the exit threshold is {self.threshold}, but it must lie between 0 and 1 as confidence does."
            )

    @property
    def min_steps(self) -> int:
        """A sure sample may stop at its first step."""
        return 1

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Return score(output) > threshold."""
        return self.score(output) > self.threshold

    def confidence(self, output: Tensor) -> Tensor:
        """Return the score that is compared with the threshold."""
        return self.score(output)


@dataclass(frozen=True)
class FixedSteps:
    """Stop every sample after the same number of steps; the score is only reported.

    Raises RangeError unless steps >= 1.
    """

    steps: int
    score: Score = field(default_factory=MaxSoftmax)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RangeError(f"the fixed number of steps is {self.steps}, but steps count from 1.")

    @property
    def min_steps(self) -> int:
        """No sample stops earlier."""
        return self.steps

    def stops(self, output: Tensor, first_step: Tensor) -> Tensor:
        """Return first_step + t + 1 >= steps."""
        return steps_of(output, first_step.to(output.device)) >= self.steps

    def confidence(self, output: Tensor) -> Tensor:
        """Return the score of the output."""
        return self.score(output)


def decide(rule: AnyRule, outputs: Tensor) -> Decisions:
    """Apply a rule to cached cumulative outputs (T, N, classes); whoever has not stopped answers at step T.

    The label is the largest output at the deciding step (the first one of equals).
    Raises ShapeError unless outputs has three axes, T >= 1 and N >= 1, and RangeError if the rule
    cannot stop within T steps or the outputs are not finite.

    >>> decide(FixedSteps(2), torch.tensor([[[1.0, 0.0]], [[1.0, 3.0]], [[9.0, 0.0]]])).label.tolist()
    [1]
    """
    require_outputs(outputs)
    require_window(str(rule), rule.min_steps, len(outputs))
    start = torch.zeros(outputs.shape[1], dtype=torch.int64, device=outputs.device)
    memory, rows = None, []
    for t, step in enumerate(outputs):
        row, memory = ask(rule, step[None], start + t, memory)
        rows.append(row)
    stops = torch.cat(rows)
    stops[-1] = True
    at = stops.byte().argmax(0)
    return Decisions(*answer(rule, outputs, at, torch.arange(len(at), device=at.device)))


def answer(rule: AnyRule, outputs: Tensor, at: Tensor, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return label, steps (from the start of the block) and confidence at entries ``at`` of samples ``sample``."""
    chosen = outputs[at, sample]
    return chosen.argmax(-1), at + 1, rule.confidence(chosen)
