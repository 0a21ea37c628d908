"""Recordings as a data set: what a network that was trained on events is shown, told by the network itself."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._check import CorruptFileError, RangeError, ShapeError, UnsupportedError
from ..data import Dataset, Events, Preprocessing, content_hashes, load_events
from ..networks.graph import Graph

__all__ = ["Framing", "frame_hashes", "framing_of", "load_recorded", "refuse_recordings"]

_KEY = "recordings"


class Framing(NamedTuple):
    """How events become frames: so many steps of ``frame_us`` microseconds, ``pool`` pixels a side together.

    height, width: of the camera.
    """

    steps: int
    frame_us: int
    pool: int
    height: int
    width: int

    def frames(self, events: Events) -> NDArray[np.uint8]:
        """Counts (n, steps, 2, rows, columns)."""
        return events.frames(self.steps, frame_us=self.frame_us, pool=self.pool)

    def dataset(self, events: Events, name: str) -> Dataset:
        """The recordings as a network sees them, float32, with their labels."""
        frames = self.frames(events).astype(np.float32)
        return Dataset(frames, events.labels, content_hashes(frames), name, Preprocessing())

    def to_json(self) -> dict[str, Any]:
        """What a network says of its input, in ``information``."""
        return {_KEY: self._asdict()}


def framing_of(graph: Graph) -> Framing | None:
    """What recordings the network was trained on; None for one that sees the same sample at each step.

    Raises CorruptFileError where it says so without sense.
    """
    said = graph.information.get(_KEY)
    if said is None:
        return None
    fields = [said.get(key) for key in Framing._fields] if isinstance(said, Mapping) else [None]
    whole = [value for value in fields if type(value) is int and 1 <= value < 1 << 40]
    if len(whole) < len(fields):
        raise CorruptFileError(f"what this network says of its recordings makes no sense: {said!r}")
    return Framing(*whole)


def load_recorded(graph: Graph, framing: Framing, spec: str, *, limit: int | None = None) -> Dataset:
    """The recordings of a file as the network saw its own; raises ShapeError where they do not fit, RangeError."""
    if limit is not None and limit < 1:
        raise RangeError(f"the limit is {limit}, but at least 1 recording is needed.")
    data = framing.dataset(load_events(spec, (framing.height, framing.width), limit=limit), spec)
    wanted = graph.shapes[graph.input.name]
    if data.x.shape[2:] != wanted:
        raise ShapeError(f"a frame has the shape {data.x.shape[2:]}, but this network takes {wanted}")
    return data


def frame_hashes(frames: NDArray[np.uint8], at_once: int = 256) -> NDArray[np.bytes_]:
    """The hashes that ``Framing.dataset`` gives, a few recordings at a time: as float32 all are four times as large."""
    firsts = range(0, len(frames), at_once)
    return np.concatenate([content_hashes(frames[first : first + at_once].astype(np.float32)) for first in firsts])


def refuse_recordings(graph: Graph, what: str) -> None:
    """Raise UnsupportedError for a network that was trained on recordings."""
    if framing_of(graph) is not None:
        raise UnsupportedError(f"{what} takes the same sample at each step", ["this network was trained on recordings"])
