"""The guard of one worker: starts it, ends it and all that it started, and clears up, whatever becomes of the client.

Run by path with Lava's Python (3.10):  guard.py LIFELINE SOCKET FOLDER TOKEN COMMAND...

LIFELINE is a descriptor that closes when the client closes it or dies.  Then the worker's process group is killed, its
shared memory (all names begin with TOKEN) unlinked, and FOLDER removed.  Where the worker ends by itself, FOLDER stays
for the client to read, and the guard ends as the worker did: with its code, or 128 + its signal.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans of the worker come to this process
_POLL_SECONDS = 0.05
_END_SECONDS = 1.0


def unlink_shared_memory(token: str) -> None:
    """Remove the shared memory whose name begins with ``token``."""
    if SHARED_MEMORY.is_dir():
        for path in SHARED_MEMORY.glob(f"{token}-*"):
            path.unlink(missing_ok=True)


def end_group(group: int) -> None:
    """Kill a process group, and collect those of its processes that are ours."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(_POLL_SECONDS)


def main(arguments: list[str]) -> int:
    """Watch until the worker or the client has ended."""
    lifeline, connection, folder, token, *command = arguments
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    with (Path(folder) / "stderr.txt").open("ab") as log:
        worker = subprocess.Popen(
            command,
            pass_fds=[int(connection)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    os.close(int(connection))
    alone = False
    # the worker is looked at, not collected: as long as it is a zombie nobody else gets its number
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    ended = None
    while ended is None and not alone:
        readable, _, _ = select.select([int(lifeline)], [], [], _POLL_SECONDS)
        alone = bool(readable) or os.getppid() != parent
        ended = os.waitid(os.P_PID, worker.pid, look)
    end_group(worker.pid)
    unlink_shared_memory(token)
    if alone:
        shutil.rmtree(folder, ignore_errors=True)
    if ended is None:
        return 0
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(sys.argv[1:]))
