"""Saving is all or nothing: on a full disk, over a limit, and when the process is killed in the middle."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("saving_worker.py")


def run(*command: str) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_refusal(report: dict, reason: str) -> None:
    assert "cannot write" in report["error"]
    assert reason in report["error"]
    assert report["left"] == ["g"]
    assert report["unchanged"], "the network that was there before stays"


@pytest.mark.parametrize("most", ["2000", "1000000"])
def test_a_file_over_the_limit_leaves_nothing_behind(tmp_path: Path, most: str) -> None:
    check_refusal(run(sys.executable, str(WORKER), "full", str(tmp_path), most), "File too large")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, mounting: list[str]) -> None:
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" "$3" full "$1"'
    command = [*mounting, "sh", "-c", script, "sh", str(tmp_path), sys.executable, str(WORKER)]
    check_refusal(run(*command), "No space left")
    assert list(tmp_path.iterdir()) == [], "the small disk was mounted for that process alone"


@pytest.mark.slow
def test_a_killed_process_leaves_no_half_written_network(tmp_path: Path) -> None:
    report = run(sys.executable, str(WORKER), "killed", str(tmp_path))
    assert report["atomic"] == 0
    assert report["odd"] == []
    assert report["plain"] > 0, "a plain write is caught in the middle, so the kills come at the right moments"
