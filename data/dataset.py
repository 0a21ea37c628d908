"""A data set in memory, as the network sees it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._check import ShapeError
from .preprocessing import Preprocessing

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples, their labels where known, and a hash of each sample's content.

    x: float32 (N, \\*features), as the network sees it.  y: int64 (N,), or None.
    hashes: (N,) of type ``S32``, from ``content_hashes(x)``.  name: what a report calls it.
    Raises ShapeError where the lengths differ.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | None
    hashes: NDArray[np.bytes_]
    name: str
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        for name, values in (("y", self.y), ("hashes", self.hashes)):
            if values is not None and values.shape != (len(self.x),):
                raise ShapeError(
                    f"{name} has shape {values.shape}, but x has {len(self.x)} samples; give one a sample."
                )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.x.shape[1:]

    def take(self, index: NDArray[np.int64]) -> "Dataset":
        """Return the samples at ``index`` (integers), in that order."""
        y = None if self.y is None else self.y[index]
        return Dataset(self.x[index], y, self.hashes[index], self.name, self.preprocessing)
