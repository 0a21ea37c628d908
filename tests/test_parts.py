"""A part that is absent skips the test, and fails it where the run claims to have tested that part."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NEEDS_DATA = """
import pytest

@pytest.mark.needs("data")
def test_by_mark():
    pass

def test_by_fixture(data_dir):
    pass
"""


def outcome(root: Path, folder: Path, source: str, required: str) -> str:
    """The closing line of pytest on ``source``, with our conftest.py and without any data."""
    (folder / "tests").mkdir()
    shutil.copy(root / "tests" / "conftest.py", folder / "tests")
    shutil.copy(root / "pyproject.toml", folder)
    (folder / "tests" / "test_source.py").write_text(source, encoding="utf-8")
    environment = os.environ | {"SPIKEPORT_DATA": str(folder), "SPIKEPORT_REQUIRE": required}
    environment.pop("PYTEST_XDIST_WORKER", None)  # a worker would import torch first, which takes seconds
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("required", "wanted"), [("", "2 skipped"), ("chromium,git", "2 skipped"), ("chromium,data", "2 errors")]
)
def test_a_required_part_that_is_absent_fails(root: Path, tmp_path: Path, required: str, wanted: str) -> None:
    assert f"{wanted} in" in outcome(root, tmp_path, NEEDS_DATA, required)


def test_a_part_that_nobody_knows_fails(root: Path, tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.needs('dta')\ndef test():\n    pass\n"
    assert "1 error in" in outcome(root, tmp_path, source, "")
