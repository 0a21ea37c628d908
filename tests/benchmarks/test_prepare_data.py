"""The prepared files hold the samples of the sets, in the form that the command reads."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spikeport.data import Dataset, Preprocessing, load_data, refuse_shared


def prepare(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "benchmarks" / "prepare_data.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "SPIKEPORT_DATA"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def load(line: str, features: tuple[int, ...]) -> Dataset:
    path, _, *flags = line.split("  ")
    options = shlex.split(" ".join(flags))
    fields = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    return load_data(path, Preprocessing.parse(**fields), part="calibration", features=features)


def test_each_set_is_prepared_as_its_line_says(root: Path, data_dir: Path, tmp_path: Path) -> None:
    done = prepare(root, "--data", str(data_dir), "--out", str(tmp_path), "--limit", "20")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    shapes = [(1, 28, 28)] * 2 + [(3, 32, 32)] * 2 + [(49, 10, 1)] * 2
    sets = [load(line, features) for line, features in zip(lines, shapes, strict=True)]
    assert [len(data) for data in sets] == [20, 10_000, 20, 5000, 20, 350]
    for calibration, evaluation in zip(sets[::2], sets[1::2], strict=True):
        assert calibration.y is not None
        refuse_shared(evaluation.hashes, calibration.hashes)
    with np.load(data_dir / "kws_mfcc_500.npz") as stored:
        sounds = (stored["x_int8"][:20].astype(float) - stored["zero_point"]) * stored["scale"]
    np.testing.assert_allclose(sets[4].x, sounds, rtol=1e-6, atol=1e-4)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz"] * 6


@pytest.mark.parametrize(
    "arguments", [["--data", "absent"], [], ["--data", ".", "--limit", "0"], ["--data", ".", "no"]]
)
def test_bad_arguments_end_with_a_message(root: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = prepare(root, "--out", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
