"""Law: a damaged program that is trusted ends in a typed error, or is a network that computes what it says."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = pytest.mark.slow

MUTATIONS = 200
SECONDS = 10.0


@pytest.fixture(scope="module")
def worker(fault_worker: Callable[[str], Any]) -> Any:
    return fault_worker("program_fault_worker.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 4, 4),)), path)
    return path.read_bytes()


def outcomes(worker: Any, mutants: list[bytes], folder: Path) -> list[dict[str, Any]]:
    path, found = folder / "mutant.pt2", []
    for mutant in mutants:
        path.write_bytes(mutant)
        found.append(worker.ask(path))
    return found


def test_the_sound_program_is_equal(worker: Any, whole: bytes, tmp_path: Path) -> None:
    (found,) = outcomes(worker, [whole], tmp_path)
    assert found["result"] == "equal", found


def test_a_truncated_program_is_always_refused(worker: Any, whole: bytes, tmp_path: Path) -> None:
    cuts = np.random.default_rng(0).choice(len(whole), MUTATIONS, replace=False)
    found = outcomes(worker, [whole[:cut] for cut in cuts], tmp_path)
    assert Counter(item["result"] for item in found) == {"refused": MUTATIONS}, found
    assert max(item["seconds"] for item in found) < SECONDS


def test_a_bit_flipped_program_is_refused_or_computes_what_it_says(worker: Any, whole: bytes, tmp_path: Path) -> None:
    rng, mutants = np.random.default_rng(1), []
    for _ in range(MUTATIONS):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        mutants.append(bytes(content))
    found = outcomes(worker, mutants, tmp_path)
    assert [item for item in found if item["result"] not in ("refused", "equal")] == []
    assert max(item["seconds"] for item in found) < SECONDS
