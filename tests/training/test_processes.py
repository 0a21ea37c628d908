"""Several processes, and a batch in parts, learn what one process learns."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from spikeport import BackendUnavailable, RangeError
from spikeport.training.processes import make_fabric
from spikeport.training.settings import TrainingSettings

WORKER = Path(__file__).with_name("gradient_worker.py")


def run(processes: int, parts: int, folder: Path) -> list[dict[str, Any]]:
    """What each process held: gradients, weights and history; and what came back to the one that asked."""
    folder.mkdir()
    if processes == 1:
        runpy.run_path(str(WORKER))["main"](1, parts, folder)
    else:
        command = [sys.executable, "-W", "error", str(WORKER), str(processes), str(parts), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
        assert done.returncode == 0, done.stderr
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]


@pytest.mark.slow
def test_processes_and_parts_change_no_gradient(tmp_path: Path) -> None:
    [alone] = run(1, 1, tmp_path / "alone")
    assert all(gradient.abs().max() > 1e-4 for gradient in alone["gradients"].values()), "there is much to compare"
    [in_parts] = run(1, 3, tmp_path / "parts")
    first, second, returned = run(2, 2, tmp_path / "processes")
    for found in (in_parts, first, second):
        assert_close(found["gradients"], alone["gradients"], rtol=1e-4, atol=1e-6)
    for found in (in_parts, first, second, returned):
        assert_close(found["network"], alone["network"], rtol=1e-3, atol=1e-5)
        for ours, wanted in zip(found["history"], alone["history"], strict=True):
            assert ours["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-3)
            assert ours["rates"] == pytest.approx(wanted["rates"], rel=1e-3)


def test_several_machines_must_have_been_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RangeError, match="torchrun"):
        make_fabric(TrainingSettings(nodes=2))


def test_a_device_that_is_absent_is_refused() -> None:
    with pytest.raises(BackendUnavailable, match="Fabric"):
        make_fabric(TrainingSettings(accelerator="mps", devices=7))
