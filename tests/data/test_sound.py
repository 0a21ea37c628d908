"""Mel levels show where a tone is; events where it begins and ends."""

from pathlib import Path

import numpy as np
import pytest

from spikeport import CorruptFileError, RangeError
from spikeport.data.sound import Recordings, load_recordings, mel_events, mel_levels


def tones(*hertz: float, rate: int = 8000) -> Recordings:
    """0.2 s of silence, 0.2 s of each tone, 0.2 s of silence."""
    time = np.arange(round(0.2 * rate)) / rate
    silence = np.zeros_like(time)
    sounds = [np.concatenate([silence, 9000 * np.sin(2 * np.pi * f * time), silence]) for f in hertz]
    lengths = np.cumsum([0, *map(len, sounds)])
    names = np.array(["a"] * len(hertz))
    return Recordings(np.concatenate(sounds).astype(np.int16), lengths, np.arange(len(hertz)), names, names)


def test_a_higher_tone_lies_in_a_higher_band() -> None:
    levels = mel_levels(tones(200, 500, 1000, 2000, 3500))
    assert levels.shape == (5, 50, 40)
    bands = levels[:, 18].argmax(1)
    assert (np.diff(bands) > 0).all()
    assert levels.max() == 0.0
    assert levels.min() == pytest.approx(-60.0)


def test_events_mark_beginning_and_end() -> None:
    levels = mel_levels(tones(1000), steps=40)
    events = mel_events(levels, 10.0)[0]
    band = levels[0, 18].argmax()
    on, off = np.flatnonzero(events[:, band]), np.flatnonzero(events[:, 40 + band])
    assert abs(on[0] - 0.2 / 0.016) <= 2
    assert abs(off[-1] - 0.4 / 0.016) <= 2
    assert set(np.unique(events)) == {0, 1}


def test_loudness_of_a_recording_changes_nothing() -> None:
    loud, quiet = tones(700), tones(700)._replace(samples=tones(700).samples // 8)
    np.testing.assert_allclose(mel_levels(loud)[:, 13:24], mel_levels(quiet)[:, 13:24], atol=1.0)


def test_a_higher_threshold_gives_fewer_events() -> None:
    levels = mel_levels(tones(300, 900))
    assert mel_events(levels, 20.0).sum() < mel_events(levels, 3.0).sum()
    with pytest.raises(RangeError):
        mel_events(levels, 0.0)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = tones(300, 900)
    arrays = {"pcm": good.samples, "offsets": good.offsets, "y": good.labels, "speaker": good.speakers}
    np.savez(tmp_path / "good.npz", **arrays, index=good.labels)
    assert load_recordings(tmp_path / "good.npz").labels.tolist() == [0, 1]
    np.savez(tmp_path / "bad.npz", **arrays | {"offsets": good.offsets[:-1]}, index=good.labels)
    with pytest.raises(CorruptFileError, match="do not fit together"):
        load_recordings(tmp_path / "bad.npz")


def test_spoken_digits_become_sparse_events(data_dir: Path) -> None:
    recordings = load_recordings(data_dir / "fsdd_8khz_takes5_49.npz")
    few = recordings._replace(offsets=recordings.offsets[:41], labels=recordings.labels[:40])
    rate = mel_events(mel_levels(few)).mean()
    assert 0.01 < rate < 0.3
