"""The example of faults runs, and its bounds keep what they promise."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_protection_helps_where_faults_hurt(root) -> None:
    command = [sys.executable, "examples/faults.py", "--trials", "2", "--rates", "0", "1e-4"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["accuracy"]
    assert min(row["0"] for row in found.values()) > 0.9
    assert found["float32, bounded"]["0.0001"] > found["float32"]["0.0001"] + 0.1
    assert found["spiking, 8 bits"]["0.0001"] > 0.9, "spikes are bounded by themselves"
