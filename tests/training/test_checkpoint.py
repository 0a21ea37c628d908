"""A checkpoint gives back what went in, and is refused when a bit of it is wrong."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import torch

from spikeport import CorruptFileError, SpikeportError
from spikeport.training.checkpoint import load_checkpoint, save_checkpoint

STATE: dict[str, Any] = {
    "tensors": {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "wide": torch.arange(4),
        "one": torch.tensor(2.5),
        "none of them": torch.zeros(0, 3),
        "other order": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    },
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    "numbers": [1, 2.5, True, None, "text", float("inf"), 2**70],
    "empty": {},
}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "c")
    assert equal(load_checkpoint(tmp_path / "c"), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_tied_weights_go_in_twice(tmp_path: Path) -> None:
    weight = torch.randn(2, 2)
    save_checkpoint({"a": weight, "b": weight, "c": weight[:1]}, tmp_path / "c")
    assert equal(load_checkpoint(tmp_path / "c"), {"a": weight, "b": weight, "c": weight[:1]})


def test_what_is_neither_number_nor_tensor_is_refused_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(SpikeportError, match=r"/a/1 of type set"):
        save_checkpoint({"a": [1, {2}]}, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    save_checkpoint({"weight": torch.arange(3.0), "step": 7}, tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    damaged = tmp_path / "damaged"
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        damaged.write_bytes(changed)
        with contextlib.suppress(CorruptFileError):  # a space in the padding of the header may become another one
            assert equal(load_checkpoint(damaged), load_checkpoint(tmp_path / "c"))
    for length in range(len(content)):
        damaged.write_bytes(content[:length])
        with pytest.raises(CorruptFileError, match="no valid checkpoint"):
            load_checkpoint(damaged)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": torch.zeros(2).numpy()}, tmp_path / "c")
    with pytest.raises(CorruptFileError, match="no valid checkpoint"):
        load_checkpoint(tmp_path / "c")
    with pytest.raises(SpikeportError, match="cannot read"):
        load_checkpoint(tmp_path / "absent")


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SpikeportError, match="cannot write"):
        save_checkpoint(STATE, tmp_path / "absent" / "c")


@pytest.mark.slow
def test_a_process_killed_while_it_writes_leaves_a_whole_checkpoint(root: Path) -> None:
    command = [sys.executable, str(root / "benchmarks" / "kill_checkpoints.py"), "--kills", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["atomic"]["unreadable"] == 0
    assert report["atomic"]["odd_files"] == 0
    assert report["atomic"]["inside_a_write"] >= 10
    assert report["plain"]["unreadable"] > 0, (
        "a plain write is caught in the middle, so the kills come at the right time"
    )
