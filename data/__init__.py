"""Data sets, their preprocessing and how they are split."""

from .augment import Affine, Flip, Shift
from .dataset import Dataset
from .encoders import Delta, Direct, Latency, Rate, Sequence
from .events import Events, load_events
from .hashes import content_hashes, drop_shared, refuse_shared
from .npz import read_npz
from .preprocessing import Layout, Preprocessing, parse_numbers, parse_scale
from .sound import Recordings, load_recordings, mel_events, mel_levels
from .source import Part, default_preprocessing, load_data
from .split import Split, folds, split_calibration, split_validation

__all__ = [
    "Affine",
    "Dataset",
    "Delta",
    "Direct",
    "Events",
    "Flip",
    "Latency",
    "Layout",
    "Part",
    "Preprocessing",
    "Rate",
    "Recordings",
    "Sequence",
    "Shift",
    "Split",
    "content_hashes",
    "default_preprocessing",
    "drop_shared",
    "folds",
    "load_data",
    "load_events",
    "load_recordings",
    "mel_events",
    "mel_levels",
    "parse_numbers",
    "parse_scale",
    "read_npz",
    "refuse_shared",
    "split_calibration",
    "split_validation",
]
