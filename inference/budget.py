"""An alarm for whoever pays for the steps: samples take longer than they did on held-out data."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .._check import RangeError, ShapeError

__all__ = ["BudgetAlarm", "Watch", "calibrate_alarm"]

STREAMS = 500


class Watch(NamedTuple):
    """level: what has been overspent, after the last sample.  rang: the samples until the alarm first rang, or None."""

    level: float
    rang: int | None


@dataclass(frozen=True)
class BudgetAlarm:
    """Rings where the steps of a stream of samples exceed a budget for long: level[n] > limit, with

    level[n] = max(0, level[n-1] + steps[n] - allowed),  level[0] = 0

    allowed, limit: in steps.  Made by ``calibrate_alarm``.  Raises RangeError for NaN and values that are not above 0.
    Source: Page, "Continuous inspection schemes", Biometrika 1954 (the cumulative sum test).

    >>> import torch
    >>> BudgetAlarm(2.0, 5.0).watch(torch.tensor([2, 1, 5, 5, 5]))
    Watch(level=9.0, rang=4)
    """

    allowed: float
    limit: float

    def __post_init__(self) -> None:
        if not (0 < self.allowed < math.inf and 0 < self.limit < math.inf):
            raise RangeError(f"the alarm allows {self.allowed} steps up to {self.limit}; both must be finite, above 0.")

    def watch(self, steps: Tensor, level: float = 0.0) -> Watch:
        """Go on from ``level`` over the steps (N,) of further samples.

        Raises ShapeError unless steps has one axis, RangeError for steps below 1.
        """
        values, rang = _numbers(steps), None
        for index, value in enumerate(values, 1):
            level = max(0.0, level + float(value) - self.allowed)
            if rang is None and level > self.limit:
                rang = index
        return Watch(level, rang)


def calibrate_alarm(
    steps: Tensor, *, slack: float = 0.5, horizon: int = 1000, false_alarms: float = 0.01, seed: int = 0
) -> BudgetAlarm:
    """The alarm that rings with probability ``false_alarms`` within ``horizon`` samples like those of ``steps``.

    steps: int64 (N,), until the decisions of held-out samples.  slack: what is allowed above their mean, in standard
    deviations.  The limit is a quantile over streams that are drawn from ``steps`` with replacement.
    Raises ShapeError, RangeError for fewer than 10 samples and values out of range.
    """
    values = _numbers(steps)
    if len(values) < 10:
        raise RangeError(f"{len(values)} samples do not say what is usual; give at least 10.")
    if not (0 < false_alarms < 1 and slack >= 0 and horizon >= 1):
        raise RangeError("false_alarms lies between 0 and 1, slack is at least 0, and the horizon at least 1 sample.")
    allowed = float(values.mean() + slack * values.std())
    drawn = np.random.default_rng(seed).choice(values, (horizon, STREAMS))
    level, highest = np.zeros(STREAMS), np.zeros(STREAMS)
    for row in drawn:
        level = np.maximum(0.0, level + row - allowed)
        highest = np.maximum(highest, level)
    limit = float(np.quantile(highest, 1 - false_alarms))
    return BudgetAlarm(allowed, max(limit, 1.0))


def _numbers(steps: Tensor) -> np.ndarray:
    values = steps.detach().cpu().double().numpy()
    if values.ndim != 1:
        raise ShapeError(f"the steps have the shape {values.shape}, but (samples,) was wanted.")
    if not (values >= 1).all():
        raise RangeError("the steps hold values below 1, but steps count from 1.")
    return values
