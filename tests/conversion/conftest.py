"""A small random network for many tests, and the process that reads damaged files."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.networks.graph import Graph, make_node


def cnn(seed: int = 0) -> Graph:
    """Two convolutions with a max-pool, and two linear layers: (1, 8, 8) -> 4."""
    rng = np.random.default_rng(seed)

    def arrays(*shape: int) -> dict[str, np.ndarray]:
        gain = np.sqrt(2 / np.prod(shape[1:]))
        return {"weight": gain * rng.normal(size=shape), "bias": rng.normal(size=shape[0]) / 10}

    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return Graph.of(
        [
            make_node("x", "input", shape=(1, 8, 8)),
            make_node("c1", "conv2d", ["x"], arrays=arrays(6, 1, 3, 3), **window),
            make_node("a1", "activation", ["c1"]),
            make_node("c2", "conv2d", ["a1"], arrays=arrays(8, 6, 3, 3), **window),
            make_node("pool", "max_pool", ["c2"], kernel=(2, 2), stride=(2, 2), padding=(0, 0)),
            make_node("a2", "activation", ["pool"]),
            make_node("flat", "flatten", ["a2"]),
            make_node("l1", "linear", ["flat"], arrays=arrays(12, 128)),
            make_node("a3", "activation", ["l1"], maximum=6.0),
            make_node("l2", "linear", ["a3"], arrays=arrays(4, 12)),
            make_node("y", "output", ["l2"]),
        ]
    )


@pytest.fixture
def network() -> Graph:
    return cnn()


@pytest.fixture
def make_network() -> Callable[[int], Graph]:
    return cnn


@pytest.fixture
def make_samples() -> Callable[..., np.ndarray]:
    """make_samples(n, seed=0): inputs (n, 1, 8, 8)."""
    return lambda n, seed=0: np.random.default_rng(100 + seed).normal(size=(n, 1, 8, 8)).astype(np.float32)


SECONDS = 10.0  # for each file
START_UP = 120.0  # the first answer waits for the imports


class Worker:
    """The process that reads the damaged files; it is started again when it died."""

    def __init__(self, script: str) -> None:
        self._script = Path(__file__).with_name(script)
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", self._script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True).start()
        self._patience = START_UP

    @staticmethod
    def _listen(process: "subprocess.Popen[str]", answers: "queue.Queue[str]") -> None:
        for line in process.stdout or []:
            answers.put(line)
        answers.put("")

    def ask(self, path: Path) -> dict[str, Any]:
        """What became of the file; "crash" or "hang" where the process gave no answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        try:
            answer = self._answers.get(timeout=self._patience)
        except queue.Empty:
            answer = None
        if not answer:
            self.close()
            code = self._process.returncode
            self._start()
            return {"result": "hang" if answer is None else "crash", "text": str(code), "seconds": SECONDS}
        self._patience = SECONDS
        return dict(json.loads(answer))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def fault_worker() -> Iterator[Callable[[str], Worker]]:
    """Start a script of this folder that answers each file name with one line of JSON."""
    started: list[Worker] = []

    def start(script: str) -> Worker:
        started.append(Worker(script))
        return started[-1]

    yield start
    for worker in started:
        worker.close()
