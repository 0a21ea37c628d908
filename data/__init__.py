"""Data sets, their preprocessing and how they are split."""

from .dataset import Dataset
from .hashes import content_hashes, drop_shared, refuse_shared
from .npz import read_npz
from .preprocessing import Layout, Preprocessing, parse_numbers, parse_scale
from .source import Part, default_preprocessing, load_data
from .split import Split, split_calibration

__all__ = [
    "Dataset",
    "Layout",
    "Part",
    "Preprocessing",
    "Split",
    "content_hashes",
    "default_preprocessing",
    "drop_shared",
    "load_data",
    "parse_numbers",
    "parse_scale",
    "read_npz",
    "refuse_shared",
    "split_calibration",
]
