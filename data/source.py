"""The data that a command line names: ``digits``, ``file.npz[:xname,yname]`` or ``package.module:function``."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .._check import BackendUnavailable, RangeError, SpikeportError, call_named
from .arrays import read_labels, read_samples
from .dataset import Dataset
from .hashes import content_hashes
from .npz import MAX_BYTES, read_npz
from .preprocessing import Preprocessing

__all__ = ["Part", "default_preprocessing", "load_data"]

Part = Literal["calibration", "evaluation"]

_DIGITS_CALIBRATION = 1437  # of 1,797: four fifths
_NPZ = re.compile(r"(?P<path>.+\.npz)(?::(?P<names>.*))?", re.IGNORECASE | re.DOTALL)
_FUNCTION = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


class _Raw(NamedTuple):
    x: Any
    y: Any
    name: str


def load_data(
    spec: str,
    preprocessing: Preprocessing | None = None,
    *,
    part: Part,
    features: Sequence[int] | None = None,
    classes: int | None = None,
    limit: int | None = None,
    allow_code: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Load the data that ``spec`` names, as the network sees them.

    spec: ``"digits"`` (scikit-learn's, embedded: 1,437 samples of a fixed permutation for calibration, the other 360
    for evaluation); ``"file.npz"`` or ``"file.npz:xname,yname"`` (``x`` and ``y`` by default, and ``y`` may be
    absent then); or ``"package.module:function"``, which runs code (so it needs ``allow_code``) and returns ``x`` or
    ``(x, y)``.
    preprocessing: by default none, and a scale of 1/16 for the digits, whose values are 0 to 16.
    features, classes: where given, the network's input shape without the batch, and its number of classes.
    limit: take the first so many samples.  max_bytes: refuse arrays that are larger, as stored or as float32.
    Raises SpikeportError or one of its kinds for everything that cannot be used, and says what to do.

    >>> load_data("digits", part="evaluation").x.shape
    (360, 1, 8, 8)
    """
    if part not in get_args(Part):
        raise RangeError(f"part is {part!r}, but it must be one of {', '.join(get_args(Part))}.")
    if limit is not None and limit < 1:
        raise RangeError(f"the limit is {limit}, but at least 1 sample is needed.")
    raw = _raw(spec, part, allow_code, max_bytes)
    if preprocessing is None:
        preprocessing = default_preprocessing(spec)
    samples = read_samples(raw.x)
    y = None if raw.y is None else read_labels(raw.y, len(samples), classes)[:limit]
    x = samples[:limit]
    if x.size * 4 > max_bytes:
        raise RangeError(
            f"{raw.name} has {len(x)} samples of shape {x.shape[1:]}, {x.size / 2**28:.1f} GiB as float32, "
            f"but the limit is {max_bytes / 2**30:.1f} GiB; take fewer (--limit)."
        )
    seen = preprocessing.apply(x, features)
    return Dataset(seen, y, content_hashes(seen), raw.name, preprocessing)


def default_preprocessing(spec: str) -> Preprocessing:
    """Return what data go through where nothing is asked for: nothing, and 1/16 for the digits (0 to 16).

    >>> default_preprocessing("digits").scale
    0.0625
    """
    return Preprocessing(scale=1 / 16 if spec == "digits" else 1.0)


def _raw(spec: str, part: Part, allow_code: bool, max_bytes: int) -> _Raw:
    """Choose the reader by the form of ``spec``."""
    if spec == "digits":
        return _digits(part)
    if npz := _NPZ.fullmatch(spec):
        return _npz(Path(npz["path"]), npz["names"], max_bytes)
    if _FUNCTION.fullmatch(spec):
        if not allow_code:
            raise SpikeportError(
                f"{spec} names a Python function, and calling it runs its code; pass --allow-code if you trust it, "
                f"or store the arrays x and y in an .npz file, which needs no trust."
            )
        return _call(spec)
    raise SpikeportError(
        f"{spec!r} names no data; give digits, file.npz[:xname,yname], or package.module:function with --allow-code."
    )


def _digits(part: Part) -> _Raw:
    try:
        images, labels = import_module("sklearn.datasets").load_digits(return_X_y=True)
    except ImportError as error:
        raise BackendUnavailable("the digits come with scikit-learn; install it: pip install scikit-learn.") from error
    # RandomState, because NumPy promises that its stream never changes
    order = np.random.RandomState(0).permutation(len(images))
    chosen = order[:_DIGITS_CALIBRATION] if part == "calibration" else order[_DIGITS_CALIBRATION:]
    return _Raw(images[chosen].reshape(-1, 8, 8), labels[chosen], f"digits ({part} part)")


def _npz(path: Path, names: str | None, max_bytes: int) -> _Raw:
    given = (names or "x").split(",")
    if len(given) > 2 or not all(given):
        raise SpikeportError(
            f"{names!r} names no arrays; give one name or two after the path: {path.name}:xname,yname."
        )
    optional = ["y"] if len(given) == 1 and given != ["y"] else []
    arrays = read_npz(path, given, optional=optional, max_bytes=max_bytes)
    y = next((arrays[name] for name in given[1:] + optional if name in arrays), None)
    return _Raw(arrays[given[0]], y, f"{path.name}:{','.join(arrays)}")


def _call(spec: str) -> _Raw:
    result = call_named(spec, "x or (x, y)")
    x, y = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    return _Raw(x, y, spec)
