"""What an exit run is worth: definitions of the numbers that are reported, with their intervals.

Accuracies are fractions; steps count from 1; an interval covers 95 % unless told otherwise.
Bootstrap intervals resample the samples (seeded, 2.5 and 97.5 % points of the resampled statistic).
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._check import RangeError, ShapeError, require_in_range
from .sweep import correct_by_step

__all__ = [
    "Estimate",
    "Interval",
    "accuracy",
    "accuracy_by_step",
    "accuracy_interval",
    "mean_interval",
    "paired_difference_interval",
    "percentile_steps",
    "smallest_fixed_steps_of_equal_accuracy",
    "speedup_steps",
    "steps_within",
]

RESAMPLES = 1000
LEVEL = 0.95
ROUNDING = 1e-9  # fractions of counts are compared; 0.971 - 0.001 must not miss 0.97 by a last bit


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A value with its interval, from ``n`` samples."""

    value: float
    low: float
    high: float
    n: int


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the fraction of N predictions that equal the labels.

    >>> accuracy(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0]))
    0.75
    """
    return float(_equal(predicted, labels).mean())


def accuracy_by_step(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the accuracy of stopping everyone at step 1, 2, ..., T: float64 (T,), from outputs (T, N, classes)."""
    return correct_by_step(outputs, labels).double().mean(1)


def accuracy_interval(fraction: float, n: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of an accuracy (``fraction``) measured on n samples.

    centre = (p + z^2 / 2n) / (1 + z^2 / n);  half = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

    Raises RangeError unless 0 <= fraction <= 1, n >= 1 and 0 < level < 1.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    >>> [round(end, 4) for end in accuracy_interval(0.9, 100)]
    [0.8256, 0.9448]
    """
    require_in_range("the accuracy", fraction, 0.0, 1.0, remedy="It is a fraction.")
    if n < 1:
        raise RangeError(f"an accuracy of {n} samples has no interval; at least one is needed.")
    z = NormalDist().inv_cdf(0.5 + _level(level) / 2)
    shrink = 1 + z * z / n
    centre = (fraction + z * z / (2 * n)) / shrink
    half = z * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n)) / shrink
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def mean_interval(values: Tensor, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the mean of values (N,), with its bootstrap interval.

    Raises ShapeError unless values has one axis and an entry, RangeError for NaN or a bad level or resamples.
    """
    column = _numbers(values)
    if column.ndim != 1 or len(column) == 0:
        raise ShapeError(f"the values have shape {column.shape}, but (samples,) with at least one sample was wanted.")
    if not np.isfinite(column).all():
        raise RangeError("the values hold NaN or infinity, so they have no mean.")
    means = np.concatenate([m[:, 0] for m in _resampled_means(column[:, None], resamples, seed)])
    return _estimate(float(column.mean()), means, level, len(column))


def paired_difference_interval(
    first: Tensor, second: Tensor, labels: Tensor, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return accuracy(first) - accuracy(second) on the same N samples, with its paired bootstrap interval.

    first, second: predictions int64 (N,) of two networks or rules.  Pairing removes what is equally hard for both.
    """
    difference = torch.from_numpy(_equal(first, labels) - _equal(second, labels))
    return mean_interval(difference, level=level, resamples=resamples, seed=seed)


def smallest_fixed_steps_of_equal_accuracy(
    outputs: Tensor, labels: Tensor, exit_accuracy: float, tolerance: float = 0.001
) -> int:
    """Return the smallest T at which stopping everyone is as accurate as the exit run, but for the tolerance.

    T = min { t : accuracy_t >= exit_accuracy - tolerance }

    outputs: (T_max, N, classes), of the samples of the exit run.
    Where even the last step is less accurate, T_max is returned, which credits the exit run with less than it did.
    """
    require_in_range("exit_accuracy", exit_accuracy, 0.0, 1.0, remedy="It is a fraction.")
    require_in_range("tolerance", tolerance, 0.0, 1.0, remedy="It is a fraction: 0.001 is 0.1 point.")
    fixed = accuracy_by_step(outputs, labels).cpu().numpy()
    return int(_smallest_steps(fixed[None], np.array([exit_accuracy]), tolerance)[0])


def speedup_steps(
    outputs: Tensor,
    labels: Tensor,
    exit_label: Tensor,
    exit_steps: Tensor,
    *,
    tolerance: float = 0.001,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return how many times fewer steps early exit takes than the smallest fixed T of equal accuracy.

    speedup = smallest_fixed_steps_of_equal_accuracy / mean(exit_steps)

    outputs: (T, N, classes); labels, exit_label, exit_steps: int64 (N,), the same samples in the same order.
    Every resample of the samples recomputes the exit run's accuracy, its mean steps and the smallest fixed T.
    """
    require_in_range("tolerance", tolerance, 0.0, 1.0, remedy="It is a fraction: 0.001 is 0.1 point.")
    fixed = _numbers(correct_by_step(outputs, labels)).T
    steps = _numbers(exit_steps)
    if steps.shape != (len(fixed),) or not (steps >= 1).all():
        raise ShapeError(
            f"the exit steps have shape {steps.shape}, but {len(fixed)} steps, counted from 1, were wanted."
        )
    columns = np.column_stack([fixed, _equal(exit_label, labels), steps])

    def speedup(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return _smallest_steps(means[:, :-2], means[:, -2], tolerance) / means[:, -1]

    resampled = np.concatenate([speedup(means) for means in _resampled_means(columns, resamples, seed)])
    return _estimate(float(speedup(columns.mean(0)[None])[0]), resampled, level, len(fixed))


def steps_within(ann_accuracy: float, accuracy_by_step: Sequence[float] | Tensor, points: float) -> int | None:
    """Return the smallest T from which the accuracy *stays* within ``points`` of the ANN's, or None if there is none.

    T = min { t : accuracy_s >= ann_accuracy - points / 100 for all s >= t }

    Accuracies are fractions, ``points`` percentage points.

    >>> steps_within(0.99, [0.5, 0.985, 0.97, 0.985, 0.99], 1.0)
    4
    """
    misses = [a < ann_accuracy - points / 100 - ROUNDING for a in map(float, accuracy_by_step)]
    if not misses or misses[-1]:
        return None
    return len(misses) - misses[::-1].index(True) + 1 if True in misses else 1


def percentile_steps(steps: Tensor, fraction: float = 0.95) -> int:
    """Return the smallest number of steps within which at least ``fraction`` of the samples have decided.

    >>> percentile_steps(torch.tensor([1] * 19 + [30]))
    1
    """
    require_in_range("fraction", fraction, 0.0, 1.0)
    if steps.ndim != 1 or len(steps) == 0:
        raise ShapeError(
            f"the steps have shape {tuple(steps.shape)}, but (samples,) with at least one sample was wanted."
        )
    rank = max(1, math.ceil(fraction * len(steps) - ROUNDING))
    return int(steps.kthvalue(rank).values)


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()


def _equal(predicted: Tensor, labels: Tensor) -> NDArray[np.float64]:
    if predicted.shape != labels.shape or predicted.ndim != 1 or len(predicted) == 0:
        raise ShapeError(
            f"the predictions have shape {tuple(predicted.shape)} and the labels {tuple(labels.shape)}; "
            "one of each for every sample, and at least one sample, was wanted."
        )
    return _numbers(predicted.cpu() == labels.cpu())


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise RangeError(f"the level of an interval is {level}, but it must lie between 0 and 1; 0.95 is usual.")
    return level


def _smallest_steps(fixed: NDArray[np.float64], wanted: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """Smallest T of each row of fixed (B, T) whose accuracy reaches wanted (B,), else T."""
    reaches = fixed >= (wanted - tolerance - ROUNDING)[:, None]
    reaches[:, -1] = True
    smallest: NDArray[np.int64] = reaches.argmax(1) + 1
    return smallest


def _resampled_means(columns: NDArray[np.float64], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the means (b, K) of the columns (N, K) over resampled rows, ``resamples`` of them in all."""
    if resamples < 1:
        raise RangeError(f"resamples is {resamples}, but at least one is needed; 1000 is usual.")
    n = len(columns)
    generator = np.random.default_rng(seed)
    at_once = max(1, 2_000_000 // n)  # bounds the counts to 16 MB
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n) @ columns / n


def _estimate(value: float, resampled: NDArray[Any], level: float, n: int) -> Estimate:
    tail = (1 - _level(level)) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)
