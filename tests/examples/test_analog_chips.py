"""The example of chips runs, at a size of seconds, and says what fitting to the chips is worth."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_chips(root: Path) -> None:
    arguments = ["--instances", "2", "--limit", "40", "--epochs", "6", "--days", "30"]
    script = root / "examples" / "analog_chips.py"
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n"] == 40
    assert found["fitted"]["accuracy"] > 0.8
    for name in ("as written", "fitted"):
        assert found[name]["worst chip"] <= found[name]["accuracy"]
    assert found["fitted"]["mean_steps"] < found["as written"]["mean_steps"], "unfitted chips are slow to be sure"
