"""One worker process, from its start to its certain end.

The worker's guard (``guard.py``) watches over it: whatever happens to this process or to the worker, the worker's
process group is killed, its shared memory unlinked and its folder removed.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._check import BackendUnavailable, WorkerCrashed, WorkerTimeout
from .guard import unlink_shared_memory
from .wire import Arrays, Ended, Garbage, Header, Silent, Slow, Wire

__all__ = ["Limits", "Worker"]

PROTOCOL = 1
LAVA = "0.10."
HERE = Path(__file__).parent
WORKER = HERE / "worker" / "worker.py"
_TAIL_LINES = 40
_BEATS = 5  # in the time of silence that is allowed
_END_SECONDS = 2.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MEMORY = ("MemoryError", "Cannot allocate memory", "No space left on device")
_SIGNALS = {9: "SIGKILL (which the system sends when memory runs out)", 11: "SIGSEGV"}


@dataclass(frozen=True)
class Limits:
    """Seconds that a worker may take to start, to load a network, to close, and to stay silent.

    run: at least so much for a run; more where the network is large.  megabytes: of address space for each of its
    processes (None: no limit).  restarts: how often a request is tried again in a fresh worker after a crash.
    """

    start: float = 60.0
    load: float = 120.0
    run: float = 30.0
    close: float = 5.0
    silence: float = 15.0
    megabytes: int | None = None
    restarts: int = 1


class Worker:
    """A worker that has said hello; ``versions`` is what it said.  Raises BackendUnavailable, WorkerCrashed or
    WorkerTimeout, after which it is gone.
    """

    def __init__(self, python: str, limits: Limits, script: Path = WORKER) -> None:
        self.limits, self.requests = limits, 0
        self.hopeless = False  # whether another worker would fail in the same way
        self.token = f"spikeport-{os.getpid()}-{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.token}-"))
        ours, theirs = socket.socketpair()
        self.wire = Wire(ours, self.folder, limits.silence)
        reading, self._lifeline = os.pipe()
        beat = str(limits.silence / _BEATS)
        described = [str(theirs.fileno()), str(self.folder), self.token]
        command = [python, "-I", "-u", str(script), *described, beat, str(limits.megabytes or 0)]
        guard = [python, "-I", str(HERE / "guard.py"), str(reading), *described, *command]
        try:
            self._guard = _started(guard, [reading, theirs.fileno()])
        except OSError as error:
            ours.close()
            os.close(self._lifeline)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise BackendUnavailable(f"{python} cannot be started ({error}); name a Python 3.10 with Lava") from error
        finally:
            theirs.close()
            os.close(reading)
        self.versions, _ = self._answer("start", limits.start)
        self._require_versions(python)

    def request(
        self, op: str, seconds: float, arrays: Mapping[str, np.ndarray] | None = None, **fields: Any
    ) -> tuple[Header, Arrays]:
        """Send a request and wait for its answer."""
        self.requests += 1
        try:
            self.wire.send({"op": op, "id": self.requests, **fields}, arrays or {})
        except Silent:
            raise self._timeout(f"took nothing for {self.limits.silence:g} s") from None
        except Ended:
            raise self._crashed(f"died before it was to {op}") from None
        header, found = self._answer(op, seconds)
        if header.get("id") != self.requests:
            raise self._crashed(f"answered {header.get('id')!r} where {self.requests} was asked")
        return header, found

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._guard.poll() is None and self._lifeline >= 0

    def close(self) -> None:
        """Ask it to end, and end it if it does not; may be called twice."""
        if self._lifeline < 0:
            return
        with suppress(WorkerCrashed, WorkerTimeout):
            self.request("close", self.limits.close)
        self.end()

    def end(self) -> str:
        """Kill all of it, clear up, and return the last lines that it printed."""
        if self._lifeline < 0:
            return ""
        said = self._tail()
        os.close(self._lifeline)
        self._lifeline = -1
        self.wire.connection.close()
        try:
            self._guard.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # it is stopped itself; the system then kills the worker
            self._guard.kill()
            self._guard.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        unlink_shared_memory(self.token)
        return said

    def _answer(self, op: str, seconds: float) -> tuple[Header, Arrays]:
        try:
            header, arrays = self.wire.receive(seconds)
        except Slow:
            self.hopeless = True  # another one would take as long
            raise self._timeout(f"took more than {seconds:g} s to {op}") from None
        except Silent:
            raise self._timeout(f"gave no sign of life for {self.limits.silence:g} s when asked to {op}") from None
        except Ended:
            raise self._crashed(f"died when asked to {op}") from None
        except Garbage as error:
            raise self._crashed(f"sent garbage when asked to {op} ({error})") from None
        if header["op"] == "error":
            raise self._failed(header, op)
        return header, arrays

    def _failed(self, header: Header, op: str) -> WorkerCrashed:
        kind, message = header.get("kind"), header.get("message")
        if any(mark in f"{kind} {message} {self._tail()}" for mark in _MEMORY):
            return self._crashed(f"ran out of memory when asked to {op}; use smaller batches ({message})", final=True)
        return self._crashed(f"failed when asked to {op}: {kind}: {message}", final=kind != "ProcessDied")

    def _crashed(self, what: str, *, final: bool = False) -> WorkerCrashed:
        with suppress(subprocess.TimeoutExpired):
            code = self._guard.wait(0.5)  # it ends as the worker did
            what += "" if code < 128 else f"; it ended by {_SIGNALS.get(code - 128, f'signal {code - 128}')}"
        self.hopeless = final
        return WorkerCrashed(f"Lava's worker {what}{self.end()}")

    def _timeout(self, what: str) -> WorkerTimeout:
        return WorkerTimeout(f"Lava's worker {what}, and was ended{self.end()}")

    def _tail(self) -> str:
        try:
            lines = (self.folder / "stderr.txt").read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            return ""
        return "; its last words:\n" + "\n".join(lines) if lines else ""

    def _require_versions(self, python: str) -> None:
        lava, protocol = str(self.versions.get("lava")), self.versions.get("protocol")
        if not lava.startswith(LAVA) or protocol != PROTOCOL:
            self.end()
            raise BackendUnavailable(
                f"{python} has Lava {lava} and protocol {protocol}; Lava {LAVA}* and protocol {PROTOCOL} were wanted: "
                "run `spikeport backend install lava`"
            )


def _started(command: list[str], descriptors: list[int]) -> subprocess.Popen[bytes]:
    """A process in a session of its own, so that what ends ours from the keyboard does not end it before us."""
    return subprocess.Popen(
        command,
        pass_fds=descriptors,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**clean, **dict.fromkeys(_THREADS, "1")}
