"""Events in frames: every event counts once, at its place; recordings do not mix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError
from spikeport.data.events import Events, load_events


def recordings(n: int = 5, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 60, n)
    counts[1] = 0
    offsets = np.concatenate([[0], np.cumsum(counts)])
    total = offsets[-1]
    x, y = rng.integers(0, 9, total).astype(np.uint8), rng.integers(0, 7, total).astype(np.uint8)
    t = rng.integers(0, 1000, total).astype(np.int32)
    p = rng.integers(0, 2, total).astype(np.uint8)
    return {"x": x, "y": y, "p": p, "t": t, "offsets": offsets, "labels": np.arange(n) % 3, "size": (7, 9)}


def test_every_event_is_counted_once_at_its_place() -> None:
    events = Events(**recordings())
    frames = events.frames(4, frame_us=250)
    assert frames.shape == (5, 4, 2, 7, 9)
    wanted = np.zeros_like(frames)
    for index in range(5):
        for at in range(events.offsets[index], events.offsets[index + 1]):
            wanted[index, events.t[at] // 250, events.p[at], events.y[at], events.x[at]] += 1
    np.testing.assert_array_equal(frames, wanted)
    assert events.frames(4).sum() == len(events.t), "by default the longest recording fills the frames"


def test_pooling_adds_neighbours_up() -> None:
    events = Events(**recordings())
    whole = events.frames(3)
    wanted = whole[..., :6, :9].reshape(5, 3, 2, 2, 3, 3, 3).sum((4, 6))
    np.testing.assert_array_equal(events.frames(3, pool=3), wanted)


def test_late_events_are_left_out_and_counts_stop_at_255() -> None:
    events = Events(**recordings())
    assert events.frames(1, frame_us=100).sum() == (events.t < 100).sum()
    same = np.zeros(300, np.uint8)
    many = Events(same, same, same, same, np.array([0, 300]), np.array([1]), (2, 2))
    assert many.frames(1).max() == 255


def test_taken_recordings_are_those_of_the_whole() -> None:
    events, index = Events(**recordings()), np.array([4, 0, 1, 4])
    taken = events.take(index)
    assert taken.labels.tolist() == events.labels[index].tolist()
    np.testing.assert_array_equal(taken.frames(4, frame_us=250), events.frames(4, frame_us=250)[index])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda r: r | {"x": r["x"][1:]}, ShapeError),
        (lambda r: r | {"t": r["t"].astype(np.float32)}, ShapeError),
        (lambda r: r | {"offsets": r["offsets"][1:]}, ShapeError),
        (lambda r: r | {"offsets": r["offsets"][::-1].copy()}, RangeError),
        (lambda r: r | {"size": (7, 8)}, RangeError),
        (lambda r: r | {"p": r["p"] + 1}, RangeError),
        (lambda r: r | {"t": r["t"] - 5000}, RangeError),
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[dict], dict], error: type[Exception], tmp_path: Path) -> None:
    changed = change(recordings())
    with pytest.raises(error):
        Events(**changed)
    arrays = {("label" if name == "labels" else name): value for name, value in changed.items() if name != "size"}
    np.savez(tmp_path / "events.npz", **arrays)
    with pytest.raises(CorruptFileError, match="no events of a camera"):
        load_events(tmp_path / "events.npz", changed["size"])


def test_frames_of_no_length_are_refused() -> None:
    events = Events(**recordings())
    for options in ({"steps": 0}, {"steps": 2, "frame_us": 0}, {"steps": 2, "pool": 8}):
        with pytest.raises(RangeError):
            events.frames(**options)


def test_a_file_without_events_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(SpikeportError, match="holds no array"):
        load_events(tmp_path / "a.npz")


def test_the_public_set_is_read(data_dir: Path) -> None:
    events = load_events(data_dir / "nmnist_events_train800.npz", limit=20)
    assert len(events) == 20
    assert events.frames(10).shape == (20, 10, 2, 34, 34)
    assert events.frames(10).sum() == len(events.t)
