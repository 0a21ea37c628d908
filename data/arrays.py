"""What counts as samples and as labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import RangeError, ShapeError

__all__ = ["read_labels", "read_samples"]

_LARGEST_LABEL = 2**31 - 1


def read_samples(x: object) -> NDArray[Any]:
    """Return ``x`` as an array (N, ...) of real numbers with at least one sample.

    Raises ShapeError unless it has a sample axis and at least one more, RangeError if it is empty or holds no numbers.
    """
    try:
        samples = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"x cannot be read as one array ({error}); give samples of one shape, as numbers.") from error
    if samples.dtype.kind not in "buif":
        raise RangeError(f"x holds values of type {samples.dtype}, but real numbers are needed; convert them first.")
    if samples.ndim < 2:
        raise ShapeError(f"x has shape {samples.shape}, but (N, ...) with N samples of at least one axis is needed.")
    if samples.size == 0:
        raise RangeError(f"x has shape {samples.shape}, so it is empty; at least one sample with one value is needed.")
    return samples


def read_labels(y: object, samples: int, classes: int | None = None) -> NDArray[np.int64]:
    """Return ``y`` as int64 (N,); whole numbers stored as floats are taken.

    classes: where given, each label must be below it.
    Raises ShapeError unless there is one label a sample, RangeError unless each is a whole number from 0.

    >>> read_labels([1.0, 0.0], samples=2)
    array([1, 0])
    """
    try:
        labels = np.asarray(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"y cannot be read as one array ({error}); give one class number a sample.") from error
    if labels.shape != (samples,):
        raise ShapeError(
            f"y has shape {labels.shape}, but x has {samples} samples, so ({samples},) class numbers are needed; "
            f"turn one-hot rows into numbers with y.argmax(axis=1), and check that y belongs to x."
        )
    if labels.dtype.kind not in "buif":
        raise RangeError(f"y holds values of type {labels.dtype}, but class numbers from 0 are needed.")
    wrong = ~((labels >= 0) & (labels <= _LARGEST_LABEL))  # NaN fails both
    if labels.dtype.kind == "f":
        wrong |= np.trunc(labels) != labels
    if classes is not None:
        wrong |= labels >= classes
    if wrong.any():
        first = int(np.argmax(wrong))
        bound = "" if classes is None else f" below {classes}, the network's number of classes,"
        raise RangeError(
            f"{int(wrong.sum())} of {samples} labels are no class numbers: y[{first}] is {labels[first]}, "
            f"but whole numbers from 0{bound} are needed."
        )
    return labels.astype(np.int64)
