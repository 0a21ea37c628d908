"""Provoke every fault of Lava's worker again and again: ``python benchmarks/lava_faults.py [FAULT ...] [-n 100]``.

For each fault: how often the wanted error came, the longest time from the fault to the error beyond the limit that
should find it, and what was left behind (processes, shared memory, folders).  Prints JSON, and keeps it for faults that
were provoked 100 times or more in benchmarks/results/lava_faults.json and docs/results.md; ends with 1 where an error
did not come, came more than 2 s after its limit, or something was left.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from tables import put_table

from spikeport import SpikeportError
from spikeport.hardware.backend import compare, reference_recording
from spikeport.hardware.lava import LavaBackend, LavaSession, Limits, find_lava_python, install
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.graph import Graph, make_node

LIMITS = Limits(silence=3.0, restarts=0)
SLACK_SECONDS = 2.0
FILE = Path(__file__).resolve().parent / "results" / "lava_faults.json"
KEPT = 100  # repetitions
STEPS = 4000
SHARED_MEMORY = Path("/dev/shm")
FAKE = """
import json, os, socket, struct, sys, time
wire = socket.socket(fileno=int(sys.argv[1]))
def send(**header):
    text = json.dumps(dict(header, arrays=[])).encode()
    wire.sendall(struct.pack("<I", len(text)) + text)
def strike():
    with open(__file__ + ".struck", "w") as file:
        file.write(str(time.monotonic()))
def hello(lava="0.10.0"):
    send(op="hello", python="3.10.0", lava=lava, numpy="1.26.4", scipy="1.15.3", protocol=1, pid=os.getpid())
"""


class Outcome(NamedTuple):
    """How a fault ended.  late_s: seconds beyond the limit; left: what was not cleared up."""

    error: str
    message: str
    late_s: float
    left: list[str]


def left_of(token: str) -> list[str]:
    """Processes that run with the token in their command, shared memory and folders of its name."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, state = (path / "cmdline").read_bytes(), (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if token.encode() in command and state not in "ZX":
            found.append(f"process {path.name}")
    places = [folder for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())) if folder.is_dir()]
    return found + [str(path) for folder in places for path in folder.glob(f"{token}*")]


def program(steps: int = STEPS) -> IntegerProgram:
    """A small network that keeps Lava busy for a while."""
    rng = np.random.default_rng(3)
    threshold = {"threshold": np.float32(1), "initial": np.float32(0), "bias": np.float32(0)}
    nodes = [
        make_node("x", "input", shape=(6,)),
        make_node("a", "linear", ["x"], arrays={"weight": rng.uniform(0, 0.2, (9, 6))}),
        make_node("n", "neuron", ["a"], arrays=threshold, code="binary", test=">=", reset="subtract"),
        make_node("b", "linear", ["n"], arrays={"weight": rng.uniform(-1, 1, (3, 9))}),
        make_node("y", "output", ["b"]),
    ]
    return lower(Graph.of(nodes), input_code(0.0, 1.0), steps=steps)


def samples(n: int = 4) -> np.ndarray:
    """Inputs of that network."""
    return np.random.default_rng(4).uniform(0, 1, (n, 6)).astype(np.float32)


@contextmanager
def fake_worker(body: str) -> Iterator[LavaBackend]:
    """A worker that is a script of its own, in the Python that runs this."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "fake.py")
        script.write_text(FAKE + body, encoding="utf-8")
        yield LavaBackend(python=sys.executable, script=script, limits=LIMITS)


def outcome(work: Callable[[], object], token: Callable[[], str], limit: float, began: Callable[[], float]) -> Outcome:
    """Do what has to fail, and look at what it leaves."""
    try:
        work()
        error, message = "none", ""
    except SpikeportError as failure:
        error, message = type(failure).__name__, str(failure)
    return Outcome(error, message, time.monotonic() - began() - limit, left_of(token()))


def token_of(session: LavaSession) -> str:
    """The name that everything of its worker carries."""
    if session.worker is None:
        raise RuntimeError("the session has no worker")
    return session.worker.token


def faked(body: str, limit: float = 0.0, **limits: float) -> Outcome:
    """A worker that misbehaves from its start, or when it is to load; ``limits`` has the one that should find it."""
    limit = max(limit, *limits.values()) if limits else limit
    small, own = program(16), f"spikeport-{os.getpid()}-"
    with fake_worker(body) as backend:
        struck = Path(f"{backend.script}.struck")
        backend.limits = replace(LIMITS, **limits)

        def work() -> None:
            with backend.compile(small) as session:
                session.start(samples())

        began = time.monotonic()
        return outcome(work, lambda: own, limit, lambda: float(struck.read_text()) if struck.exists() else began)


def during_a_run(python: str, harm: Callable[[int], object], limit: float) -> Outcome:
    """Harm the real worker in the middle of a long run."""
    with LavaBackend(python=python, limits=LIMITS).compile(program()) as session:
        session.start(samples())
        token, pid = token_of(session), int(session.report()["pid"])
        struck: list[float] = []

        def strike() -> None:
            struck.append(time.monotonic())
            harm(pid)

        timer = threading.Timer(0.3, strike)
        timer.start()
        found = outcome(lambda: session.advance(STEPS), lambda: token, limit, lambda: struck[0])
        timer.join()
        return found


def a_process_of_lava(pid: int) -> int:
    """One that the worker forked last."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[-1])


def out_of_memory(python: str) -> Outcome:
    """A batch that does not fit into the address space that the worker may use."""
    limits = replace(LIMITS, megabytes=2000)
    with LavaBackend(python=python, limits=limits).compile(program(16)) as session:
        began, token = time.monotonic(), token_of(session)
        return outcome(lambda: session.start(samples(4_000_000)), lambda: token, limits.load, lambda: began)


def client_killed(python: str, *, stopped: bool) -> Outcome:
    """Kill a process that uses Lava, with its worker running or stopped."""
    body = "s.start(samples()); print(s.worker.token, s.report()['pid'], flush=True); s.advance(STEPS)"
    code = f"from lava_faults import *; s = LavaBackend(python={python!r}).compile(program()); {body}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as client:
        token, pid = (client.stdout.readline() if client.stdout else "").split()
        time.sleep(0.3)
        if stopped:
            os.killpg(int(pid), signal.SIGSTOP)
        client.kill()
    began = time.monotonic()
    while left_of(token) and time.monotonic() - began < 10 * SLACK_SECONDS:
        time.sleep(0.02)
    return Outcome("none", "", time.monotonic() - began, left_of(token))


def guard_killed(python: str) -> Outcome:
    """Kill who watches over the worker: the system ends the worker with it."""

    def harm(pid: int) -> None:
        os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)

    return during_a_run(python, harm, LIMITS.silence)


def two_at_once(python: str) -> Outcome:
    """Kill one of two workers: the other goes on and is right."""
    small, x = program(16), samples()
    with LavaBackend(python=python, limits=LIMITS).compile(small) as healthy:
        healthy.start(x)
        found = during_a_run(python, lambda pid: os.kill(pid, signal.SIGKILL), 0.0)
        wanted = reference_recording(small, x, 16, record=["n"])
        if not compare(healthy.advance(16, record=["n"]), wanted).exact:
            return found._replace(error="the other worker is wrong")
        token = token_of(healthy)
    return found._replace(left=[*found.left, *left_of(token)])


def no_python(_: str) -> Outcome:
    """An environment without any Python 3.10."""
    began = time.monotonic()
    nothing = mock.patch.object(install, "SYSTEM", ())
    with tempfile.TemporaryDirectory() as home, nothing, mock.patch.dict(os.environ, {"PATH": home, "HOME": home}):
        for variable in ("SPIKEPORT_LAVA_PYTHON", "XDG_CACHE_HOME"):
            os.environ.pop(variable, None)
        return outcome(find_lava_python, lambda: "spikeport-none", 0.0, lambda: began)


Fault = Callable[[str], Outcome]
SLEEP = "\ntime.sleep(60)"
BAD_ARRAY = """
text = json.dumps({"op": "done", "id": 1, "arrays": [{"name": "a", "dtype": "O", "shape": [1]}]}).encode()
wire.sendall(struct.pack("<I", len(text)) + text)
"""
BEATS = """
while True:
    send(op="beat")
    time.sleep(0.2)
"""
FAKED: dict[str, tuple[str, Fault]] = {
    "dies in start-up": ("WorkerCrashed", lambda _: faked("strike(); sys.exit('no such library')")),
    "says nothing": ("WorkerTimeout", lambda _: faked(SLEEP, start=3.0)),
    "falls silent": ("WorkerTimeout", lambda _: faked("hello(); strike()" + SLEEP, LIMITS.silence)),
    "wrong Lava": ("BackendUnavailable", lambda _: faked("strike(); hello('0.9.0')" + SLEEP)),
    "garbage": (
        "WorkerCrashed",
        lambda _: faked("hello(); wire.recv(9); strike(); wire.sendall(b'\\xff' * 4096)" + SLEEP),
    ),
    "garbage in a header": (
        "WorkerCrashed",
        lambda _: faked("hello(); strike(); wire.sendall(b'\\5\\0\\0\\0hello')" + SLEEP),
    ),
    "an array that is none": ("WorkerCrashed", lambda _: faked("hello(); strike()" + BAD_ARRAY + SLEEP)),
    "never answers": ("WorkerTimeout", lambda _: faked("hello(); strike()" + BEATS, load=3.0)),
    "no Python 3.10": ("BackendUnavailable", no_python),
}
REAL: dict[str, tuple[str, Fault]] = {
    "killed": ("WorkerCrashed", lambda p: during_a_run(p, lambda pid: os.kill(pid, signal.SIGKILL), 0.0)),
    "a process of Lava killed": (
        "WorkerCrashed",
        lambda p: during_a_run(p, lambda pid: os.kill(a_process_of_lava(pid), signal.SIGKILL), LIMITS.silence),
    ),
    "stopped": ("WorkerTimeout", lambda p: during_a_run(p, lambda pid: os.kill(pid, signal.SIGSTOP), LIMITS.silence)),
    "all of it stopped": (
        "WorkerTimeout",
        lambda p: during_a_run(p, lambda pid: os.killpg(pid, signal.SIGSTOP), LIMITS.silence),
    ),
    "guard killed": ("WorkerCrashed", guard_killed),
    "out of memory": ("WorkerCrashed", out_of_memory),
    "two at once": ("WorkerCrashed", two_at_once),
    "client killed": ("none", lambda p: client_killed(p, stopped=False)),
    "client killed, worker stopped": ("none", lambda p: client_killed(p, stopped=True)),
}
FAULTS = FAKED | REAL


def faults_of(outcomes: list[Outcome], wanted: str, slack_s: float = SLACK_SECONDS) -> list[str]:
    """What is wrong with the outcomes of one fault."""
    found = [f"{o.error} came, {wanted} was wanted: {o.message}" for o in outcomes if o.error != wanted]
    found += [f"{o.late_s:.1f} s late" for o in outcomes if o.late_s > slack_s]
    return found + [f"left: {', '.join(o.left)}" for o in outcomes if o.left]


def write_table() -> None:
    """Write the table of docs/results.md from what was kept."""
    kept = json.loads(FILE.read_text())
    lines = [
        "| fault | times | wrong or missing error, something left | latest error after its limit |",
        "|---|---|---|---|",
    ]
    for name in (name for name in FAULTS if name in kept):
        row = kept[name]
        late = f"{row['latest_s']:.2f} s" if row["latest_s"] > 0 else "before it"
        lines.append(f"| {name} | {row['repetitions']} | {len(row['wrong'])} | {late} |")
    put_table("lava_faults", "\n".join(lines))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []])
    parser.add_argument("-n", "--repetitions", type=int, default=100)
    options = parser.parse_args()
    python, result = find_lava_python(), {}
    for name in options.faults or FAULTS:
        wanted, fault = FAULTS[name]
        outcomes = [fault(python) for _ in range(options.repetitions)]
        late = max(o.late_s for o in outcomes)
        result[name] = {"repetitions": len(outcomes), "wrong": faults_of(outcomes, wanted), "latest_s": round(late, 2)}
        print(json.dumps({name: result[name]}), flush=True)
        if options.repetitions >= KEPT:
            kept = json.loads(FILE.read_text()) if FILE.exists() else {}
            FILE.write_text(json.dumps({**kept, name: result[name]}, indent=1) + "\n")
    if FILE.exists():
        write_table()
    return int(any(row["wrong"] for row in result.values()))


if __name__ == "__main__":
    sys.exit(main())
