"""``convert`` that is interrupted or killed at any moment never leaves a half-written result that looks whole."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spikeport import SpikeportError
from spikeport.evaluation.folder import read_folder

Arguments = Callable[..., list[str]]

pytestmark = pytest.mark.slow

# The data say when the work begins; then the command loops, so that the signal may come at any moment of it.
DATA = """
from pathlib import Path
from sklearn.datasets import load_digits

def begin():
    x, y = load_digits(return_X_y=True)
    Path("begun").touch()
    return x[:80].reshape(-1, 8, 8) / 16, y[:80]
"""
# A shell's background jobs ignore Ctrl-C, and their children with them; this one must not.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from spikeport.cli.main import run
while True:
    code = run(sys.argv[1:])
    if code:
        sys.exit(code)
"""


def interrupted(folder: Path, arguments: list[str], number: signal.Signals, wait: float) -> tuple[int, str]:
    """Send the signal some time after the work has begun; returns the exit code and stderr."""
    name = f"data_{folder.parent.name}"
    (folder.parent / f"{name}.py").write_text(DATA, encoding="utf-8")
    arguments = [part if part != "digits" else f"{name}:begin" for part in arguments]
    command = [sys.executable, "-c", COMMAND, *arguments, "-o", str(folder), "--allow-code", "--overwrite"]
    process = subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (folder.parent / "begun").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    time.sleep(wait)
    process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_ends_with_130_and_leaves_no_partial_folder(
    model: Path, arguments: Arguments, tmp_path: Path, number: signal.Signals
) -> None:
    random.seed(int(number))
    code, err = interrupted(tmp_path / "out", arguments(model), number, 2 * random.random())
    assert code == 130
    assert [line for line in err.splitlines() if not line.startswith("note: ")] == ["error: interrupted"]
    assert not list(tmp_path.glob("*.partial-*"))
    if (tmp_path / "out").exists():
        read_folder(tmp_path / "out")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_conversion_leaves_a_whole_folder_or_none(
    model: Path, arguments: Arguments, tmp_path: Path, seed: int
) -> None:
    random.seed(seed)
    code, _ = interrupted(tmp_path / "out", arguments(model), signal.SIGKILL, 3 * random.random())
    assert code == -signal.SIGKILL
    if (tmp_path / "out").exists():
        read_folder(tmp_path / "out")
    for partial in tmp_path.glob("*.partial-*"):
        with pytest.raises(SpikeportError, match="unfinished"):
            read_folder(partial)
