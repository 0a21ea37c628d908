"""Sound: recordings, their mel spectra, and events where a band of the spectrum rises or falls."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._check import CorruptFileError, require_in_range
from .arrays import read_labels
from .npz import read_npz

__all__ = ["Recordings", "load_recordings", "mel_events", "mel_levels"]


class Recordings(NamedTuple):
    """Sounds behind each other: samples, where each begins, labels, who speaks and which take it is."""

    samples: NDArray[Any]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: NDArray[Any]
    takes: NDArray[Any]


def load_recordings(path: str | Path) -> Recordings:
    """Read an ``.npz`` with pcm (samples), offsets, y, speaker and index, as of the Free Spoken Digit Dataset.

    Raises CorruptFileError for a file that is damaged or whose arrays do not fit together.
    """
    path = Path(path)
    arrays = read_npz(path, ("pcm", "offsets", "y", "speaker", "index"))
    offsets, n = arrays["offsets"], len(arrays["y"])
    fits = (
        offsets.shape == (n + 1,) and offsets.dtype.kind in "ui" and len(arrays["speaker"]) == len(arrays["index"]) == n
    )
    if (
        not fits
        or offsets[0] != 0
        or offsets[-1] != len(arrays["pcm"])
        or (np.diff(offsets.astype(np.int64)) < 1).any()
    ):
        raise CorruptFileError(f"{path} holds no recordings: pcm, offsets, y, speaker and index do not fit together.")
    labels = read_labels(arrays["y"], n)
    return Recordings(arrays["pcm"], offsets.astype(np.int64), labels, arrays["speaker"], arrays["index"])


def mel_levels(
    recordings: Recordings, *, rate_hz: int = 8000, bands: int = 40, steps: int = 50, hop_ms: float = 16.0
) -> NDArray[np.float32]:
    """Loudness of each band over time, in dB below the recording's loudest, at least −60: float32 (n, steps, bands).

    Windows (Hann) are two hops long; the bands are triangles, evenly spaced in mel = 2595 log10(1 + f / 700) from 60 Hz
    to half of ``rate_hz``.  A recording is cut, or followed by silence, to ``steps`` hops.
    """
    require_in_range("bands", bands, 1, 1000)
    require_in_range("steps", steps, 1, 10**6)
    hop = round(rate_hz * hop_ms / 1000)
    require_in_range("hop_ms", hop, 1, 10**6)
    window = 2 * hop
    filters = _mel_filters(bands, window, rate_hz)
    shape = np.hanning(window).astype(np.float32)
    levels = np.empty((len(recordings.labels), steps, bands), np.float32)
    for index, (begin, end) in enumerate(zip(recordings.offsets[:-1], recordings.offsets[1:], strict=True)):
        sound = np.zeros((steps + 1) * hop, np.float32)
        taken = recordings.samples[begin : min(end, begin + len(sound))]
        sound[: len(taken)] = taken
        pieces = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop] * shape
        power = (np.abs(np.fft.rfft(pieces, axis=1)) ** 2) @ filters
        loudest = max(float(power.max()), 1e-12)
        levels[index] = 10 * np.log10(np.maximum(power / loudest, 1e-6))
    return levels


def mel_events(levels: NDArray[np.float32], threshold_db: float = 6.0) -> NDArray[np.uint8]:
    """Events where a band has risen (first half of the channels) or fallen by ``threshold_db`` since its last event.

    levels: (n, steps, bands) from ``mel_levels``, taken to begin in silence.  Returns uint8 (n, steps, 2 · bands).

    >>> mel_events(np.array([[[-60.0], [-50.0], [-49.0], [-60.0]]], np.float32)).tolist()
    [[[0, 0], [1, 0], [0, 0], [0, 1]]]
    """
    require_in_range("threshold_db", threshold_db, 1e-3, 1e3)
    n, steps, bands = levels.shape
    events = np.zeros((n, steps, 2 * bands), np.uint8)
    last = np.full((n, bands), -60.0, np.float32)
    for step in range(steps):
        change = levels[:, step] - last
        up, down = change >= threshold_db, change <= -threshold_db
        events[:, step, :bands], events[:, step, bands:] = up, down
        last = np.where(up | down, levels[:, step], last)
    return events


def _mel_filters(bands: int, window: int, rate_hz: int) -> NDArray[np.float32]:
    """Triangles over the frequencies of a window's spectrum, (frequencies, bands)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (60.0, rate_hz / 2))
    corners = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(window, 1 / rate_hz)[:, None]
    rising = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
    filters: NDArray[np.float32] = np.maximum(np.minimum(rising, falling), 0).astype(np.float32)
    if not (filters > 0).any(0).all():  # a narrow band falls between two frequencies: give it the nearest
        empty = np.flatnonzero(~(filters > 0).any(0))
        filters[np.abs(frequency - corners[1:-1][empty]).argmin(0), empty] = 1.0
    return filters
