"""Recordings of an event camera: one container, its reader, and frames of counts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import CorruptFileError, RangeError, ShapeError, require_in_range
from .arrays import read_labels
from .npz import read_npz

__all__ = ["Events", "load_events"]

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Events:
    """Events of many recordings behind each other.

    x, y: column and row, whole numbers from 0 below ``size`` (height, width); p: polarity, 0 or 1; t: microseconds from
    the beginning of its recording; offsets: (recordings + 1,), where each recording begins; labels: (recordings,).
    Raises ShapeError or RangeError where these do not fit together.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]
    t: NDArray[Any]
    offsets: Index
    labels: NDArray[np.int64]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.t)
        if any(each.shape != (n,) or each.dtype.kind not in "ui" for each in (self.x, self.y, self.p, self.t)):
            raise ShapeError("x, y, p and t of events must be whole numbers, one each an event.")
        if self.offsets.shape != (len(self.labels) + 1,) or self.offsets.dtype.kind not in "ui":
            raise ShapeError(
                f"offsets have shape {self.offsets.shape}, but {len(self.labels)} recordings need one more than that."
            )
        if self.offsets[0] != 0 or self.offsets[-1] != n or (np.diff(self.offsets.astype(np.int64)) < 0).any():
            raise RangeError(f"offsets must rise from 0 to the number of events, {n}.")
        if n:
            height, width = self.size
            for name, values, below in (("x", self.x, width), ("y", self.y, height), ("p", self.p, 2)):
                require_in_range(f"the smallest {name}", int(values.min()), 0, below - 1)
                require_in_range(f"the largest {name}", int(values.max()), 0, below - 1)
            require_in_range("the smallest t", int(self.t.min()), 0, 2**62)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def duration_us(self) -> int:
        """Microseconds to the end of the longest recording."""
        return int(self.t.max()) + 1 if len(self.t) else 1

    def take(self, index: Index) -> "Events":
        """Return the recordings at ``index``, in that order."""
        begins, counts = self.offsets[:-1][index], np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        chosen = np.repeat(begins - offsets[:-1], counts) + np.arange(offsets[-1])
        x, y, p, t = (each[chosen] for each in (self.x, self.y, self.p, self.t))
        return Events(x, y, p, t, offsets, self.labels[index], self.size)

    def frames(self, steps: int, *, frame_us: int | None = None, pool: int = 1) -> NDArray[np.uint8]:
        """Count events in frames: uint8 (recordings, steps, 2, height // pool, width // pool), at most 255 each.

        frame_us: length of a frame in microseconds; by default the longest recording fills all frames.  Later events
        are left out.  pool: squares of so many pixels a side are counted together, pixels over at the edge left out.
        """
        require_in_range("steps", steps, 1, 10**6)
        height, width = self.size
        require_in_range("pool", pool, 1, min(height, width))
        length = -(-self.duration_us // steps) if frame_us is None else frame_us
        require_in_range("frame_us", length, 1, 2**62)
        rows, columns = height // pool, width // pool
        step, y, x = self.t.astype(np.int64) // length, self.y.astype(np.int64) // pool, self.x.astype(np.int64) // pool
        recording = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        inside = (step < steps) & (y < rows) & (x < columns)
        place = (((recording * steps + step) * 2 + self.p) * rows + y) * columns + x
        shape = (len(self), steps, 2, rows, columns)
        counts = np.bincount(place[inside], minlength=int(np.prod(shape)))
        return np.minimum(counts, 255).astype(np.uint8).reshape(shape)


def load_events(path: str | Path, size: tuple[int, int] = (34, 34), *, limit: int | None = None) -> Events:
    """Read recordings from an ``.npz`` with x, y, p, t, offsets and label; ``size`` is the camera's (height, width).

    limit: take the first so many recordings.
    Raises CorruptFileError for a file that is damaged or whose arrays do not fit together, SpikeportError where it is
    not there.
    """
    path = Path(path)
    arrays = read_npz(path, ("x", "y", "p", "t", "offsets", "label"))
    labels = read_labels(arrays["label"], len(arrays["label"]))
    try:
        x, y, p, t = (arrays[name] for name in ("x", "y", "p", "t"))
        events = Events(x, y, p, t, arrays["offsets"], labels, size)
    except (ShapeError, RangeError) as error:
        raise CorruptFileError(f"{path} holds no events of a camera of {size[0]} × {size[1]} pixels: {error}") from None
    return events if limit is None else events.take(np.arange(min(limit, len(events))))
