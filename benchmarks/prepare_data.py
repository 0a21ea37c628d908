"""Turn the sets that SPIKEPORT_DATA points to into .npz files of ``x`` and ``y``, which the command can read.

python benchmarks/prepare_data.py [--data DIR] [--out DIR] [--limit N] [mnist cifar10 kws]

Training images are for --calibration and test images for --data; of the keyword recordings, the first 150 calibrate and
the other 350 evaluate.  The options that each file needs are printed beside it.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KWS_CALIBRATION = 150
CIFAR10_OPTIONS = "--layout NHWC --scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"

Array = NDArray[Any]
Prepared = tuple[str, Array, Array, str]  # file stem, x, y, options of the command


def read(path: Path) -> dict[str, Array]:
    """Return every array of an .npz file, each decompressed once."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def decode(stored: dict[str, Array], limit: int | None) -> tuple[Array, Array]:
    """Decode JPEG bytes that lie end to end into (N, 32, 32, 3) u8, and return the labels beside them."""
    ends = stored["offsets"][: None if limit is None else limit + 1]
    images = [
        np.asarray(Image.open(io.BytesIO(stored["jpeg"][start:end].tobytes())).convert("RGB"))
        for start, end in pairwise(ends)
    ]
    return np.stack(images), stored["y"][: len(images)]


def mnist(data: Path, limit: int | None) -> Iterator[Prepared]:
    """Handwritten digits, 28 x 28, values 0 to 255."""
    stored = read(data / "mnist.npz")
    yield "mnist_train", stored["x_train"][:limit], stored["y_train"][:limit], ""
    yield "mnist_test", stored["x_test"], stored["y_test"], ""


def cifar10(data: Path, limit: int | None) -> Iterator[Prepared]:
    """Lossy copies (JPEG, quality 75) of CIFAR-10; no result on them is a result on the original pixels."""
    yield "cifar10_train", *decode(read(data / "cifar10_jpeg_train.npz"), limit), CIFAR10_OPTIONS
    yield "cifar10_test", *decode(read(data / "cifar10_jpeg_test.npz"), None), CIFAR10_OPTIONS


def kws(data: Path, limit: int | None) -> Iterator[Prepared]:
    """Keyword recordings as int8 features; value = scale * (q - zero point)."""
    stored = read(data / "kws_mfcc_500.npz")
    scale, zero_point = float(stored["scale"]), int(stored["zero_point"])
    options = f"--scale {scale:.9g} --mean {scale * zero_point:.9g}"
    first = KWS_CALIBRATION if limit is None else min(limit, KWS_CALIBRATION)
    yield "kws_calibration", stored["x_int8"][:first], stored["y"][:first], options
    yield "kws_evaluation", stored["x_int8"][KWS_CALIBRATION:], stored["y"][KWS_CALIBRATION:], options


SETS: dict[str, Callable[[Path, int | None], Iterator[Prepared]]] = {"mnist": mnist, "cifar10": cifar10, "kws": kws}


def write(path: Path, x: Array, y: Array) -> None:
    """Write the arrays beside ``path`` and rename them into place, so that no half-written file has its name."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, x=x, y=y)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """Prepare the sets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"which of {', '.join(SETS)} (default: all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("SPIKEPORT_DATA"), help="default: $SPIKEPORT_DATA")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "spikeport-data"))
    parser.add_argument("--limit", type=int, help="at most so many calibration samples a set (default: all)")
    options = parser.parse_args(arguments)
    if unknown := set(options.sets) - set(SETS):
        parser.error(f"no set is called {', '.join(sorted(unknown))}; there are {', '.join(SETS)}.")
    if options.data is None or not options.data.is_dir():
        parser.error(f"the data folder is {options.data}; pass --data, or set SPIKEPORT_DATA to a folder that exists.")
    if options.limit is not None and options.limit < 1:
        parser.error(f"the limit is {options.limit}, but at least 1 sample is needed.")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.sets or SETS:
        for stem, x, y, flags in SETS[name](options.data, options.limit):
            path = options.out / f"{stem}.npz"
            write(path, x, y)
            print(f"{path}  {x.shape} {x.dtype}  {flags}".rstrip())


if __name__ == "__main__":
    main()
