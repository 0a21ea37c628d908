"""Losses: objects that turn an output over time (time, batch, classes) and class numbers (batch,) into one number.

``scores`` says how the same output is read as a decision: the class with the largest score.
Where a loss has a counterpart in ``snntorch.functional`` its docstring names it, and a test holds the two equal.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .._check import BackendUnavailable, RangeError, ShapeError, require_in_range

__all__ = [
    "AnytimeCrossEntropy",
    "Loss",
    "MembraneCrossEntropy",
    "RateCrossEntropy",
    "SnnTorchLoss",
    "SpikeCountError",
    "TemporalEfficient",
    "check_targets",
]


class Loss(Protocol):
    """What the loop asks of a loss; a mean over the batch, so that parts of a batch can be weighted by their size."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a tensor of no axes. output: (time, batch, classes); target: (batch,) integers."""

    def scores(self, output: Tensor) -> Tensor:
        """Return (batch, classes): the largest is the decision."""


def check_targets(output: Tensor, target: Tensor) -> None:
    """Raise ShapeError or RangeError unless there is one class number for each sample of (time, batch, classes)."""
    if output.ndim != 3 or not len(output):
        raise ShapeError(
            f"the output has shape {tuple(output.shape)}, but (time, batch, classes) with at least one step was "
            f"wanted; end the network with a flat layer of one unit a class."
        )
    if target.shape != output.shape[1:2] or target.is_floating_point():
        raise ShapeError(
            f"the targets have shape {tuple(target.shape)} and type {target.dtype}, but {tuple(output.shape[1:2])} "
            f"class numbers were wanted; turn one-hot rows into numbers with argmax(1)."
        )
    classes = output.shape[2]
    # on a GPU the look would wait for it; the loop has looked at all labels before
    if target.device.type == "cpu" and target.numel() and not 0 <= int(target.min()) <= int(target.max()) < classes:
        raise RangeError(
            f"the labels go from {int(target.min())} to {int(target.max())}, but the network has {classes} outputs, "
            f"so 0 to {classes - 1} are wanted; give it more outputs, or check the labels."
        )


@dataclass(frozen=True)
class RateCrossEntropy:
    """Cross-entropy of the mean over time: L = CE(gain · 1/T Σ_t o_t, y).

    gain: sharpens rates, which a softmax cannot tell apart well as they lie in [0, 1]; leave it at 1 for membranes.
    With gain = T this is ``snntorch.functional.ce_count_loss``.
    label_smoothing: share of the target that goes to all classes alike, 0 to 1.

    >>> RateCrossEntropy()(torch.zeros(4, 2, 10), torch.tensor([1, 9])).exp().round()
    tensor(10.)
    """

    gain: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_in_range("gain", self.gain, 1e-6, 1e6)
        require_in_range("label_smoothing", self.label_smoothing, 0.0, 1.0)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        return functional.cross_entropy(self.gain * output.mean(0), target.long(), label_smoothing=self.label_smoothing)

    def scores(self, output: Tensor) -> Tensor:
        """The mean over time."""
        return output.mean(0)


@dataclass(frozen=True)
class TemporalEfficient:
    """TET: cross-entropy at every step, so that early steps learn to decide too.

    L = (1 − weight) · 1/T Σ_t CE(gain · o_t, y) + weight · 1/T Σ_t MSE(o_t, level)
    weight: the λ of the paper, 0 to 1; level: the φ that holds the outputs together, in units of the output.
    With weight = 0 and gain = 1 this is ``snntorch.functional.ce_rate_loss``.
    Source: Deng et al., Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting, ICLR 2022.
    """

    weight: float = 0.0
    level: float = 1.0
    gain: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_in_range("weight", self.weight, 0.0, 1.0)
        require_in_range("level", self.level, -1e6, 1e6)
        require_in_range("gain", self.gain, 1e-6, 1e6)
        require_in_range("label_smoothing", self.label_smoothing, 0.0, 1.0)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        every_step = target.long().repeat(len(output))
        entropy = functional.cross_entropy(
            self.gain * output.flatten(0, 1), every_step, label_smoothing=self.label_smoothing
        )
        if not self.weight:
            return entropy
        return (1 - self.weight) * entropy + self.weight * (output - self.level).square().mean()

    def scores(self, output: Tensor) -> Tensor:
        """The mean over time."""
        return output.mean(0)


@dataclass(frozen=True)
class AnytimeCrossEntropy(RateCrossEntropy):
    """Cross-entropy of the mean so far, at every step, late steps counting more: what early exit will go by.

    L = Σ_t t · CE(gain · 1/t Σ_{k ≤ t} o_k, y) / Σ_t t.  A step alone need not decide, as it must for TET.
    gain, label_smoothing, scores: as in ``RateCrossEntropy``.
    """

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        steps = torch.arange(1, len(output) + 1, dtype=output.dtype, device=output.device)
        logits = (self.gain * output.cumsum(0) / steps.reshape(-1, 1, 1)).flatten(0, 1)
        every_step = target.long().repeat(len(output))
        entropy = functional.cross_entropy(logits, every_step, label_smoothing=self.label_smoothing, reduction="none")
        return (entropy.reshape(len(output), -1).mean(1) * steps).sum() / steps.sum()


@dataclass(frozen=True)
class SpikeCountError:
    """Mean square error of the spike counts: L = 1/T · MSE(Σ_t o_t, ⌊rate · T⌋), after SLAYER.

    correct_rate, incorrect_rate: spikes a step wanted of the class that is right, and of the others, 0 to 1.
    This is ``snntorch.functional.mse_count_loss``.
    """

    correct_rate: float = 1.0
    incorrect_rate: float = 0.0

    def __post_init__(self) -> None:
        require_in_range("correct_rate", self.correct_rate, 0.0, 1.0)
        require_in_range("incorrect_rate", self.incorrect_rate, 0.0, 1.0)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        steps, _, classes = output.shape
        right, wrong = int(steps * self.correct_rate), int(steps * self.incorrect_rate)
        wanted = wrong + (right - wrong) * functional.one_hot(target.long(), classes)
        return functional.mse_loss(output.sum(0), wanted.to(output.dtype)) / steps

    def scores(self, output: Tensor) -> Tensor:
        """The spike counts."""
        return output.sum(0)


@dataclass(frozen=True)
class MembraneCrossEntropy:
    """Cross-entropy of the largest membrane over time: L = CE(max_t u_t, y); the output must be membranes.

    This is ``snntorch.functional.ce_max_membrane_loss``, after SpyTorch.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_in_range("label_smoothing", self.label_smoothing, 0.0, 1.0)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        return functional.cross_entropy(output.amax(0), target.long(), label_smoothing=self.label_smoothing)

    def scores(self, output: Tensor) -> Tensor:
        """The largest membrane over time."""
        return output.amax(0)


@dataclass(frozen=True)
class SnnTorchLoss:
    """A loss of ``snntorch.functional`` by its name, such as ``ce_temporal_loss``.

    options: what its constructor takes.  The decision is the largest sum over time, and the first spike for the
    temporal losses.
    Raises BackendUnavailable without snnTorch, RangeError for a name or an option that it does not know.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._make()

    def _make(self) -> Any:
        try:
            offered = import_module("snntorch.functional.loss")
        except ImportError as error:
            raise BackendUnavailable("this loss needs snnTorch: pip install spikeport[train].") from error
        names = sorted(name for name in vars(offered) if name.endswith("_loss"))
        if self.name not in names:
            raise RangeError(f"snnTorch has no loss {self.name!r}; it has {', '.join(names)}.")
        try:
            return getattr(offered, self.name)(**self.options)
        except TypeError as error:
            raise RangeError(f"snntorch.functional.{self.name} refuses its options: {error}.") from error

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        check_targets(output, target)
        loss: Tensor = self._make()(output, target.long())
        return loss.sum()  # some have one axis of length 1

    def scores(self, output: Tensor) -> Tensor:
        """The sum over time, or minus the step of the first spike."""
        if "temporal" not in self.name:
            return output.sum(0)
        steps = len(output)
        times = torch.arange(steps, device=output.device).view(-1, 1, 1)
        return -torch.where(output > 0, times, steps).amin(0).to(output.dtype)
