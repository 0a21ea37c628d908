"""The example of an array's errors runs, and its causes add up as independent ones do."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("device", ["pcm", "reram", "ideal"])
def test_causes_alone_and_together(root, device: str) -> None:
    command = [sys.executable, "examples/crossbar_errors.py", "--device", device, "--rows", "64", "--columns", "8"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["error_percent"]
    assert found["all"] >= found["converters of 8 bits"] > 0
    alone = [found[cause] for cause in ("time, compensated", "noise", "wires")]
    if device == "ideal":
        assert alone == [0, 0, 0]
    else:
        assert max(alone) < found["all"] * 1.1 < 1.5 * (sum(alone) + found["writing"] + 1)
