"""A network trained in snnTorch by its own loop predicts the same here, sample for sample."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.needs("snntorch"), pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "snntorch_import.py"


def measured(*arguments: str) -> dict:
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict, n: int, accuracy: float) -> None:
    assert found["n"] == n
    assert found["accuracy"] > accuracy
    assert found["different_predictions"] == {"chain": 0, "graph": 0}
    assert found["different_spikes"] == 0


def test_digits() -> None:
    check(measured("--epochs", "3"), 360, 0.85)


def test_mnist(data_dir: Path) -> None:
    check(measured("--data", str(data_dir / "mnist.npz"), "--epochs", "1", "--limit", "2000"), 2000, 0.7)
