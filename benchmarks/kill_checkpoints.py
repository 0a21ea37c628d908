"""Kill processes inside a checkpoint's write and read what they left: ``python benchmarks/kill_checkpoints.py``.

A child saves checkpoints in turn and says on a pipe when each write begins; it is killed (SIGKILL) at a random moment
of the time that a write takes.  Of the files written as spikeport writes them none may be unreadable, none may mix two
states; as a control the same is done with plain writes, some of which must be damaged, or the kills missed the writes.
Prints JSON.  The numbers: how many kills came before a write had ended, and how many files were unreadable.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from spikeport import CorruptFileError
from spikeport.training.checkpoint import load_checkpoint, save_checkpoint

Save = Callable[[int, Path], None]


def state(turn: int, size: int) -> dict:
    """A state whose tensors all follow from the turn, so that a mixture of two is found."""
    return {"step": turn, "weights": [torch.full((size // 4,), float(turn % 7)) for _ in range(4)]}


def is_whole(path: Path) -> bool:
    """Whether the file can be read and holds one state."""
    try:
        found = load_checkpoint(path)
    except CorruptFileError:
        return False
    return all(bool((weight == found["step"] % 7).all()) for weight in found["weights"])


def write_until_killed(save: Save, path: Path, turn: int, speak: int) -> None:
    """Save states in turn, and say b where a write begins and e where it ends."""
    while True:
        turn += 1
        os.write(speak, b"b")
        save(turn, path)
        os.write(speak, b"e")


def one_kill(save: Save, path: Path, turn: int, wait_s: float) -> bool:
    """Kill a child ``wait_s`` after its second write began; whether that write had not ended."""
    listen, speak = os.pipe()
    child = os.fork()
    if not child:
        os.close(listen)
        write_until_killed(save, path, turn, speak)
    os.close(speak)
    said = os.read(listen, 1)
    while said.count(b"b") < 2:
        said += os.read(listen, 1)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(listen, 64):
        said += more
    os.close(listen)
    return said.endswith(b"b")


def kills(save: Save, folder: Path, number: int, size: int) -> dict[str, int]:
    """Kill ``number`` times, and count."""
    path, chance = folder / "checkpoint", random.Random(0)
    began = time.perf_counter()
    for turn in range(5):
        save(turn, path)
    takes_s = (time.perf_counter() - began) / 5
    inside = unreadable = 0
    for turn in range(number):
        inside += one_kill(save, path, turn, chance.uniform(0, takes_s))
        if not is_whole(path):
            unreadable += 1
            save_checkpoint(state(0, size), path)
        for partial in folder.glob(".checkpoint.partial-*"):
            partial.unlink()
    odd = len(list(folder.iterdir())) - 1
    return {"kills": number, "inside_a_write": inside, "unreadable": unreadable, "odd_files": odd}


def main() -> None:
    """Print the counts of atomic writes and of the control."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="kills of atomic writes; a tenth of plain ones")
    parser.add_argument("--size", type=int, default=400_000, help="numbers in a checkpoint")
    given = parser.parse_args()
    torch.set_num_threads(1)

    def atomic(turn: int, path: Path) -> None:
        save_checkpoint(state(turn, given.size), path)

    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for turn in range(7):  # made before, so that the plain write is all that the child does
            atomic(turn, Path(folder) / "made")
            contents.append((Path(folder) / "made").read_bytes())

    def plain(turn: int, path: Path) -> None:
        path.write_bytes(contents[turn % 7])

    result = {}
    for name, save, number in (("atomic", atomic, given.kills), ("plain", plain, max(given.kills // 10, 10))):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = kills(save, Path(folder), number, given.size)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
