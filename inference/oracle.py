"""How early one could have stopped, knowing the answer: a bound to compare with, never a target."""

from typing import NamedTuple

import torch
from torch import Tensor

from .sweep import correct_by_step

__all__ = ["Oracle", "oracle"]


class Oracle(NamedTuple):
    """What stopping every sample at its first correct step would give.

    Unreachable by any rule: it looks at the labels, and a sample that is right once by luck counts
    as right, so ``accuracy`` can exceed the accuracy at every fixed step.

    accuracy: fraction of samples that are right at any step.
    mean_steps: with one step charged for a sample that is never right (the least that any rule could do).
    mean_steps_never_correct_charged_full: with all T steps charged for it.
    """

    accuracy: float
    mean_steps: float
    mean_steps_never_correct_charged_full: float


def oracle(outputs: Tensor, labels: Tensor) -> Oracle:
    """Return the potential of early exit on cumulative outputs (T, N, classes) with labels int64 (N,).

    Raises ShapeError or RangeError if the two do not belong together.
    Source: Li et al., "Unleashing the Potential of Spiking Neural Networks with Dynamic
    Confidence", ICCV 2023 (its upper bound); charging never-correct samples in full follows the
    code of SEENN (Li et al., NeurIPS 2023).

    >>> outputs = torch.tensor([[[0.0, 1.0], [0.0, 1.0]], [[2.0, 1.0], [0.0, 1.0]]])
    >>> oracle(outputs, torch.tensor([0, 0]))
    Oracle(accuracy=0.5, mean_steps=1.5, mean_steps_never_correct_charged_full=2.0)
    """
    right = correct_by_step(outputs, labels)
    ever = right.any(0)
    first = right.byte().argmax(0) + 1  # 1 where a sample is never right
    charged = torch.where(ever, first, len(right))
    return Oracle(float(ever.double().mean()), float(first.double().mean()), float(charged.double().mean()))
