"""How sure a network is, read from its cumulative output: one number in [0, 1] per sample and step.

All scores divide the cumulative output by a *fixed* divisor, never by the step, before the softmax
(or the sum of exponentials) is taken.  An early sum is small, so it can only give a small
confidence: the divisor is at once a temperature and a soft minimum of steps.
Source: Li, Jones, Furber, "Unleashing the Potential of Spiking Neural Networks with Dynamic
Confidence", ICCV 2023.

Scores are computed in double precision, so that the same output gives the same decision in a batch
of any size (in single precision the last bit depends on the place in the batch).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._check import RangeError, ShapeError
from .checks import require_finite

__all__ = ["Energy", "Margin", "MaxSoftmax", "NormalisedEntropy", "Score"]


class Score(Protocol):
    """A callable from output (..., classes) to confidence (...), larger meaning surer, in [0, 1]."""

    def __call__(self, output: Tensor) -> Tensor:
        """Return the confidence of every entry, as float64."""
        ...


@dataclass(frozen=True)
class MaxSoftmax:
    """Probability of the first choice: max_c p_c with p = softmax(output / divisor).

    divisor: in units of the cumulative output; the number of steps is a natural scale when a step
    adds logits.  Raises RangeError unless it is finite and positive, or if the output holds one
    class only or a NaN or infinity.
    Source: Li et al., ICCV 2023 (their divisor alpha is 30 for 27 steps).

    >>> round(MaxSoftmax(2.0)(torch.tensor([2.0 * math.log(3.0), 0.0])).item(), 6)
    0.75
    """

    divisor: float = 1.0

    def __post_init__(self) -> None:
        _check_divisor(self.divisor)

    def __call__(self, output: Tensor) -> Tensor:
        """Return max_c p_c: (..., classes) -> (...)."""
        return _log_probabilities(output, self.divisor).amax(-1).exp()


@dataclass(frozen=True)
class Margin:
    """Probability of the first choice minus that of the second: p_(1) - p_(2), p = softmax(output / divisor).

    Raises RangeError as MaxSoftmax does.

    >>> round(Margin(2.0)(torch.tensor([2.0 * math.log(3.0), 0.0])).item(), 6)
    0.5
    """

    divisor: float = 1.0

    def __post_init__(self) -> None:
        _check_divisor(self.divisor)

    def __call__(self, output: Tensor) -> Tensor:
        """Return p_(1) - p_(2): (..., classes) -> (...)."""
        best = _log_probabilities(output, self.divisor).topk(2, dim=-1).values.exp()
        return best[..., 0] - best[..., 1]


@dataclass(frozen=True)
class NormalisedEntropy:
    """One minus the entropy in units of its maximum: 1 + sum_c p_c ln p_c / ln C, p = softmax(output / divisor).

    Raises RangeError as MaxSoftmax does.
    Source: Li et al., "Input-aware dynamic timestep SNNs" (DT-SNN), DAC 2023, which stops when the
    normalised entropy is *below* a threshold; here larger means surer, as for every score.

    >>> round(NormalisedEntropy()(torch.tensor([5.0, 5.0, 5.0])).item(), 6)
    0.0
    """

    divisor: float = 1.0

    def __post_init__(self) -> None:
        _check_divisor(self.divisor)

    def __call__(self, output: Tensor) -> Tensor:
        """Return 1 - H / ln C: (..., classes) -> (...)."""
        log_p = _log_probabilities(output, self.divisor)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return (1.0 - entropy / math.log(output.shape[-1])).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Energy:
    """How much evidence there is for any class at all: sigmoid(E), E = ln sum_c exp(output_c / divisor).

    The probability of not being a further class whose output stays 0.  Raises RangeError as MaxSoftmax does.
    Source: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020 (their energy is -divisor * E).

    >>> round(Energy()(torch.tensor([0.0, 0.0, 0.0])).item(), 6)
    0.75
    """

    divisor: float = 1.0

    def __post_init__(self) -> None:
        _check_divisor(self.divisor)

    def __call__(self, output: Tensor) -> Tensor:
        """Return sigmoid(logsumexp(output / divisor)): (..., classes) -> (...)."""
        _log_probabilities(output, self.divisor)  # refuses what has no confidence
        return torch.sigmoid(torch.logsumexp(output.double() / self.divisor, -1))


def _check_divisor(divisor: float) -> None:
    if not (math.isfinite(divisor) and divisor > 0):
        raise RangeError(f"the divisor is {divisor}, but it must be finite and above 0; try the number of steps.")


def _log_probabilities(output: Tensor, divisor: float) -> Tensor:
    if output.ndim == 0:
        raise ShapeError("the output is a single number, but (..., classes) was wanted; add the class axis.")
    if output.shape[-1] < 2:
        raise RangeError(
            f"the output has {output.shape[-1]} class(es), but a confidence needs at least 2; "
            "give a yes-or-no output the two columns (0, output)."
        )
    require_finite(output)
    return torch.log_softmax(output.double() / divisor, dim=-1)
