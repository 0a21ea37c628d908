"""Save while something goes wrong: `python saving_worker.py full FOLDER [BYTES]` or `... killed FOLDER`.

full: save a network of 4 MB where there is no room (a small disk, or files of at most BYTES); prints the error.
killed: kill processes that save, at random moments, and read what they left; prints how many files were damaged,
written as spikeport writes them and written plainly.
"""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spikeport import CorruptFileError, SpikeportError
from spikeport.networks.file import load_graph, save_graph
from spikeport.networks.graph import Graph, make_node

ROUNDS = 30


def network(value: float) -> Graph:
    weight = np.full((1000, 1000), value, np.float32)
    nodes = [make_node("x", "input", shape=(1000,)), make_node("w", "linear", ["x"], arrays={"weight": weight})]
    return Graph.of([*nodes, make_node("y", "output", ["w"])])


def full(folder: Path, most: str = "") -> dict[str, object]:
    path = folder / "g"
    save_graph(Graph.of([make_node("x", "input", shape=(1,)), make_node("y", "output", ["x"])]), path)
    before = path.read_bytes()
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
    error = ""
    try:
        save_graph(network(1.0), path)
    except SpikeportError as caught:
        error = str(caught)
    left = sorted(each.name for each in folder.iterdir())
    return {"error": error, "left": left, "unchanged": path.read_bytes() == before}


def damaged_by_kills(path: Path, save: Callable[[int], None], enough: int) -> int:
    """How many of 30 kills (or fewer, when enough are found) left a damaged file at the path."""
    chance, damaged = random.Random(0), 0
    save(0)
    for _ in range(ROUNDS):
        child = os.fork()
        if not child:
            turn = 0
            while True:
                turn += 1
                save(turn)
        time.sleep(chance.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            weight = load_graph(path).by_name["w"].arrays["weight"]
            damaged += float(weight[0, 0]) not in (0.0, 1.0) or not (weight == weight[0, 0]).all()
        except CorruptFileError:
            damaged += 1
            save(0)
        if damaged == enough:
            break
    return damaged


def killed(folder: Path) -> dict[str, object]:
    graphs, path, source = [network(0.0), network(1.0)], folder / "g", folder / "source"
    save_graph(graphs[0], source)
    content = source.read_bytes()
    atomic = damaged_by_kills(path, lambda turn: save_graph(graphs[turn % 2], path) and None, ROUNDS)
    leftovers = {each.name for each in folder.iterdir()} - {"g", "source"}
    plain = damaged_by_kills(path, lambda turn: path.write_bytes(content) and None, 1)
    return {"atomic": atomic, "plain": plain, "odd": [n for n in leftovers if not n.startswith(".g.partial-")]}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"full": full, "killed": killed}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
