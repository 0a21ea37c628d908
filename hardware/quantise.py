"""Weights as whole numbers of eight bits: q = clip(round(W / s), -127, 127), with the scale s of least square error."""

import numpy as np

__all__ = ["LARGEST", "best_scales", "power_of_two_steps", "rounded"]

LARGEST = 127
_SHRINK = np.linspace(1.0, 0.4, 61)  # of the scale that clips nothing


def best_scales(rows: np.ndarray) -> np.ndarray:
    """The scale of each row of (rows, weights) with the least sum of squares of W - s q; 0 for a row of zeros.

    Source: the mean-square search of Nagel et al. 2021 (arXiv 2106.08295, section 3.1).

    >>> float(best_scales(np.array([[127.0, -3.0]]))[0])
    1.0
    """
    widest = np.abs(rows).max(1) / LARGEST
    best, least = widest.copy(), np.full(len(rows), np.inf)
    for shrink in _SHRINK:
        scale = widest * shrink
        error = np.square(rows - scale[:, None] * rounded(rows, scale[:, None])).sum(1)
        better = error < least * (1 - 1e-12)
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.asarray(best)


def rounded(weights: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """clip(round(W / s), -127, 127) in float64; 0 where s is 0."""
    safe = np.where(np.asarray(scale) > 0, scale, 1.0)
    return np.asarray(np.clip(np.rint(weights / safe), -LARGEST, LARGEST))


def power_of_two_steps(rows: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The smallest step 2^e >= 1 in units of ``unit`` at which each row of (rows, weights) fits eight bits.

    >>> power_of_two_steps(np.array([[300.0], [4.0]]), np.array([1.0, 1.0])).tolist()
    [4.0, 1.0]
    """
    ratio = np.abs(rows).max(1, initial=0.0) / (unit * LARGEST)
    return np.asarray(np.exp2(np.maximum(np.ceil(np.log2(np.maximum(ratio, np.finfo(float).tiny))), 0)))
