"""Content hashes, which keep data that chose something apart from data that measure it."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from .._check import RangeError
from .dataset import Dataset

__all__ = ["content_hashes", "drop_shared", "refuse_shared"]

Hashes = NDArray[np.bytes_]

_DIGEST_BYTES = 16  # 128 bits: chance collisions are out of reach for any data set


def content_hashes(x: NDArray[np.float32]) -> Hashes:
    """Hash each sample: BLAKE2b-128 (RFC 7693), in hex, over its shape and its float32 bytes.

    x: (N, \\*features).  Returns (N,) of type ``S32``.  Two samples have one hash if and only if their shapes and
    values are equal; 0.0 and -0.0 are equal.

    >>> a, b, c = content_hashes(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], np.float32))
    >>> a == c, a == b
    (True, False)
    """
    shape = f"{x.shape[1:]}".encode()
    digests = [_digest(shape, sample) for sample in np.asarray(x)]
    return np.array(digests, dtype=f"S{2 * _DIGEST_BYTES}")


def _digest(shape: bytes, sample: NDArray[np.float32]) -> bytes:
    values = np.ascontiguousarray(sample, dtype="<f4") + np.float32(0.0)  # turns -0.0 into 0.0
    return blake2b(shape + values.tobytes(), digest_size=_DIGEST_BYTES).hexdigest().encode()


def refuse_shared(evaluation: Hashes, calibration: Hashes) -> None:
    """Raise RangeError if a sample of the evaluation is also in the calibration data.

    >>> refuse_shared(np.array([b"a", b"b"]), np.array([b"c"]))
    """
    shared = np.isin(evaluation, calibration)
    if shared.any():
        first = ", ".join(str(index) for index in np.flatnonzero(shared)[:5])
        raise RangeError(
            f"{int(shared.sum())} of {len(evaluation)} samples of the evaluation are also in the calibration data "
            f"(first at {first}), so the result would flatter; use other data (evaluate --drop-shared leaves them out)."
        )


def drop_shared(evaluation: Dataset, calibration: Hashes) -> Dataset:
    """Return ``evaluation`` without the samples that are also in the calibration data.

    Raises RangeError if none is left.
    """
    keep = np.flatnonzero(~np.isin(evaluation.hashes, calibration))
    if keep.size == 0:
        raise RangeError(
            f"all {len(evaluation)} samples of {evaluation.name} are also in the calibration data; give other data."
        )
    return evaluation.take(keep)
