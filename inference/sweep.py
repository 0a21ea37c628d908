"""Every threshold at once: accuracy and mean steps of a confidence rule as functions of its threshold.

A sample's exit step changes only where the threshold crosses a *record* of its confidence (a value
above all earlier ones).  Sorting the records of all samples and adding up what each of them changes
gives the whole curve in O(T N log(T N)) after one pass over the outputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .._check import RangeError, ShapeError
from .checks import require_outputs
from .scores import Score

__all__ = ["ExitCurve", "correct_by_step", "curve_of", "exit_curve"]


class ExitCurve(NamedTuple):
    """Operating points of ``confidence > threshold``, from the full run to the earliest exits.

    threshold: float64 (K,), falling; each lies midway between the two confidences at which
    decisions change, as far as it can be from both.
    steps: int64 (K,), falling; the steps to all decisions together.
    lost, gained: int64 (K,), samples that only the full run, or only the early exit, has right.
    right: how many samples the full run has right, of how many (``samples``).
    """

    threshold: Tensor
    steps: Tensor
    lost: Tensor
    gained: Tensor
    right: int
    samples: int

    @property
    def accuracy(self) -> Tensor:
        """Fraction of samples that are right: float64 (K,)."""
        return (self.right - self.lost + self.gained).double() / self.samples

    @property
    def mean_steps(self) -> Tensor:
        """Mean steps to the decision: float64 (K,), falling."""
        return self.steps.double() / self.samples


def exit_curve(score: Score, outputs: Tensor, labels: Tensor) -> ExitCurve:
    """Return the operating points of all thresholds that decide differently.

    outputs: cumulative, (T, N, classes); labels: int64 (N,).
    Raises ShapeError if the shapes do not fit, RangeError if outputs or labels hold impossible values.

    >>> outputs = torch.tensor([[[1.0, 0.0], [0.2, 0.0]], [[2.0, 0.0], [0.0, 3.0]]])
    >>> curve = exit_curve(lambda output: torch.softmax(output.double(), -1).amax(-1), outputs, torch.tensor([0, 1]))
    >>> curve.mean_steps.tolist(), curve.accuracy.tolist()
    ([2.0, 1.5, 1.0], [1.0, 1.0, 0.5])
    """
    right = correct_by_step(outputs, labels)
    return curve_of(torch.stack([score(step) for step in outputs]), right)


def curve_of(confidence: Tensor, right: Tensor) -> ExitCurve:
    """The operating points of any confidence (T, N) in [0, 1]; right: bool (T, N), as ``correct_by_step`` says."""
    value, change = _records(confidence, right)
    order = value.argsort(descending=True)
    value, total = value[order], change[:, order].cumsum(1)
    last_of_equals = torch.ones_like(value, dtype=torch.bool)
    last_of_equals[:-1] = value[1:] < value[:-1]
    steps, lost, gained = torch.nn.functional.pad(total[:, last_of_equals], (1, 0))
    return ExitCurve(
        threshold=_midway(value[last_of_equals]),
        steps=steps + right.numel(),
        lost=lost,
        gained=gained,
        right=int(right[-1].sum()),
        samples=right.shape[1],
    )


def correct_by_step(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return whether the first choice of every step is the label: bool (T, N).

    Raises ShapeError or RangeError if outputs (T, N, classes) and labels (N,) do not belong together.
    """
    require_outputs(outputs)
    if labels.shape != outputs.shape[1:2]:
        raise ShapeError(
            f"the labels have shape {tuple(labels.shape)}, but the outputs hold {outputs.shape[1]} samples; "
            "give one label a sample."
        )
    labels = labels.to(outputs.device)
    if labels.is_floating_point() or bool((labels < 0).any()) or bool((labels >= outputs.shape[2]).any()):
        raise RangeError(
            f"the labels must be whole numbers from 0 to {outputs.shape[2] - 1} for {outputs.shape[2]} classes, "
            f"but they are {labels.dtype} from {labels.min().item()} to {labels.max().item()}."
        )
    return outputs.argmax(-1) == labels


def _records(confidence: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the records (E,) and what (steps, lost, gained) change by when the threshold falls below each (3, E)."""
    last = len(confidence) - 1
    best_before = torch.cat([confidence.new_zeros(1, confidence.shape[1]), confidence.cummax(0).values[:-1]])
    is_record = confidence > best_before
    is_record[last] = True  # whoever has no later record answers at the last step
    step = torch.arange(last + 1, device=confidence.device)[:, None].expand_as(confidence)
    coming = torch.where(is_record, step, last).flip(0).cummin(0).values.flip(0)
    t, sample = is_record[:last].nonzero(as_tuple=True)
    after = coming[t + 1, sample]
    full = right[last]
    amounts = torch.stack([step, (full & ~right).long(), (right & ~full).long()])
    return confidence[t, sample], amounts[:, t, sample] - amounts[:, after, sample]


def _midway(value: Tensor) -> Tensor:
    """Return the thresholds that lie between 1, the distinct falling values, and 0."""
    bounds = torch.cat([value.new_ones(1), value, value.new_zeros(1)])
    middle = (bounds[:-1] + bounds[1:]) / 2
    # Between neighbouring doubles the middle rounds to one of them; the lower one decides alike.
    return torch.where(middle < bounds[:-1], middle, bounds[1:])
