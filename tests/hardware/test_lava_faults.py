"""Whatever becomes of the worker or of its client: a clear error in time, and nothing is left behind."""

import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

FAKED = ["dies in start-up", "says nothing", "falls silent", "wrong Lava", "garbage", "garbage in a header"]
FAKED += ["an array that is none", "never answers", "no Python 3.10"]
REAL = ["killed", "a process of Lava killed", "stopped", "all of it stopped", "guard killed", "out of memory"]
REAL += ["two at once", "client killed", "client killed, worker stopped"]
REPETITIONS = 3


@pytest.fixture
def script(root, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("lava_faults")
    sys.modules.pop("lava_faults", None)


def provoke(script: ModuleType, name: str, python: str) -> None:
    wanted, fault = script.FAULTS[name]
    outcomes = [fault(python) for _ in range(REPETITIONS)]
    assert script.faults_of(outcomes, wanted, slack_s=60.0) == []
    # a machine that is busy with other tests is late at times; the worker's own speed shows in the best
    assert min(o.late_s for o in outcomes) <= script.SLACK_SECONDS
    assert all(o.message for o in outcomes if wanted != "none")


@pytest.mark.parametrize("name", FAKED)
def test_a_worker_that_misbehaves(script, name):
    provoke(script, name, "")


@pytest.mark.needs("lava")
@pytest.mark.parametrize("name", REAL)
def test_a_real_worker_that_comes_to_harm(script, name):
    provoke(script, name, script.find_lava_python())


def test_all_faults_are_provoked(script):
    assert list(script.FAKED) == FAKED
    assert list(script.REAL) == REAL


def test_what_is_left_is_seen(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.tempfile, "gettempdir", lambda: str(tmp_path))
    token = f"token-of-{tmp_path.name}-{os.getpid()}"  # in no other process's command line
    (tmp_path / f"{token}-1").mkdir()
    assert script.left_of(token) == [str(tmp_path / f"{token}-1")]
    late = script.Outcome("none", "", 9.0, ["process 1"])
    assert len(script.faults_of([late], "WorkerCrashed")) == 3
