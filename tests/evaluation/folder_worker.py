"""What a test must do in a process of its own: replace a folder for ever, or fill a full or a limited disk."""

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikeport import SpikeportError
from spikeport.evaluation.folder import read_folder, write_folder

found = importlib.util.spec_from_file_location("fixtures", Path(__file__).parent / "conftest.py")
assert found is not None
assert found.loader is not None
fixtures = importlib.util.module_from_spec(found)
found.loader.exec_module(fixtures)
make = fixtures.make_converted.__wrapped__()
render = fixtures.render.__wrapped__()


def replace_for_ever(folder: Path) -> None:
    """Replace the folder in a child, say which one it is, and start again once that one has been killed."""
    number = 0
    while True:
        started = time.monotonic()
        write_folder(folder, make(number), render, overwrite=True)
        once = time.monotonic() - started
        child = os.fork()
        if child == 0:
            while True:
                number += 1
                write_folder(folder, make(number), render, overwrite=True)
        print(child, once, flush=True)
        os.waitpid(child, 0)
        number += 1000
        print("dead", flush=True)
        sys.stdin.readline()


def fill(place: Path) -> None:
    """Write a small conversion, then a large one over it and another beside it; say how that went."""
    write_folder(place / "d", make(0), render)
    large = make(1)
    outputs = np.random.default_rng(0).normal(size=(5, 6, 12 * 1024)).astype(np.float32)
    large = replace(large, exit=replace(large.exit, outputs=outputs))
    for name in ("d", "e"):
        try:
            write_folder(place / name, large, render, overwrite=True)
        except SpikeportError as error:
            print(type(error).__name__, error)
    print(sorted(path.name for path in place.iterdir()), read_folder(place / "d").report["convert"]["model"])


def fill_limited(place: Path) -> None:
    """The same where the system allows no file above 64 KiB."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    fill(place)


MODES: dict[str, Callable[[Path], None]] = {"replace": replace_for_ever, "full": fill, "limited": fill_limited}

if __name__ == "__main__":
    MODES[sys.argv[1]](Path(sys.argv[2]))
