"""``exit_calibration.npz``: what exit rules are calibrated on, as plain arrays."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from .._check import CorruptFileError, RangeError
from ..data import read_npz
from .convert import ExitData

NAMES = ("outputs", "labels", "ann_labels", "hashes", "calibration_hashes")
MORE = ("integer_outputs",)  # of networks that have an integer form
_HASH = np.dtype("S32")


def write_exit(data: ExitData, file: BinaryIO) -> None:
    """Write the arrays of ``data``, none of them as a pickle."""
    held = {name: getattr(data, name) for name in (*NAMES, *MORE)}
    np.savez(file, allow_pickle=False, **{name: array for name, array in held.items() if array is not None})


def read_exit(path: Path, classes: int) -> ExitData:
    """Read and check the arrays: types, shapes that agree, finite outputs, labels of ``classes`` classes.

    Raises CorruptFileError that lists everything that is wrong.
    """
    try:
        data = ExitData(**read_npz(path, NAMES, optional=MORE))
    except RangeError as error:
        raise CorruptFileError(str(error)) from None
    problems = _shape_problems(data, classes) or _value_problems(data, classes)
    if problems:
        raise CorruptFileError(f"{path} is no exit calibration: {'; '.join(problems)}; run spikeport convert again.")
    return data


def _shape_problems(data: ExitData, classes: int) -> list[str]:
    problems = []
    if data.outputs.dtype != np.float32 or data.outputs.ndim != 3 or min(data.outputs.shape, default=0) < 1:
        return [f"outputs are {data.outputs.dtype} {data.outputs.shape}, not float32 (steps, samples, classes)"]
    n = data.outputs.shape[1]
    if data.outputs.shape[2] != classes:
        problems.append(f"outputs have {data.outputs.shape[2]} classes, the network has {classes}")
    for name, wanted in (("labels", np.dtype(np.int64)), ("ann_labels", np.dtype(np.int64)), ("hashes", _HASH)):
        array = getattr(data, name)
        if array.shape != (n,) or array.dtype != wanted:
            problems.append(f"{name} are {array.dtype} {array.shape}, not {wanted} ({n},)")
    whole = data.integer_outputs
    if whole is not None and (whole.dtype, whole.shape) != (data.outputs.dtype, data.outputs.shape):
        problems.append(f"integer_outputs are {whole.dtype} {whole.shape}, not as outputs")
    if data.calibration_hashes.ndim != 1 or data.calibration_hashes.dtype != _HASH:
        problems.append(f"calibration_hashes are {data.calibration_hashes.dtype}, not {_HASH} (samples,)")
    return problems


def _value_problems(data: ExitData, classes: int) -> list[str]:
    finite = all(np.isfinite(array).all() for array in (data.outputs, data.integer_outputs) if array is not None)
    problems = [] if finite else ["outputs hold NaN or infinity"]
    for name, lowest in (("labels", -1), ("ann_labels", 0)):
        array = getattr(data, name)
        if array.min() < lowest or array.max() >= classes:
            problems.append(f"{name} lie between {array.min()} and {array.max()}, not {lowest} and {classes - 1}")
    if not np.isin(data.hashes, data.calibration_hashes).all():
        problems.append("some hashes are not among the calibration_hashes")
    return problems
