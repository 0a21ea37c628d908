"""What the client of Lava does without Lava: schedules, refusals, messages, and finding an interpreter."""

import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from spikeport import BackendUnavailable, UnsupportedError
from spikeport.hardware.backend import compiled
from spikeport.hardware.lava import LavaBackend, find_lava_python, install, install_lava
from spikeport.hardware.lava.schedule import schedule
from spikeport.hardware.lava.wire import Ended, Garbage, Silent, Slow, Wire
from spikeport.hardware.stages import stages


def test_every_connection_has_its_step(program):
    found = stages(program)
    plan = schedule(found)
    assert all(plan.lag(stage.name, p) >= 1 for stage in found for p in stage.projections)
    assert plan.start[program.graph.input.name] == 0


@pytest.mark.parametrize("graph", ["recurrent"], indirect=True)
def test_a_loop_with_too_few_delays_slows_the_network_down(program):
    assert schedule(stages(program)).period == 2  # a filter and its neuron, with one delay


def test_batched_processes_take_every_network(program):
    assert LavaBackend().unsupported(program) == []


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_an_interpreter_that_cannot_be_started_is_named(program):
    with pytest.raises(BackendUnavailable, match="/nowhere cannot be started"):
        LavaBackend(python="/nowhere").compile(program)


WORDS = {
    "signed": ["code signed", "reset subtract"],
    "graded": ["code graded"],
    "late": ["late 1"],
    "leak": ["leak"],
    "none": ["reset none", "leak"],
    "zero": ["n (states up to", "m (reset subtract", "thresholds"],
    "convolution": ["max:", "reset subtract"],
    "recurrent": ["filter:", "a loop with fewer delays"],
}


@pytest.mark.parametrize("graph", sorted(WORDS), indirect=True)
def test_stock_processes_refuse_by_name(program, request):
    words = WORDS[request.node.callspec.params["graph"]]
    backend = LavaBackend(faithful=True, python="/nowhere")
    with pytest.raises(UnsupportedError) as refused:
        compiled(backend, program)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_our_own_processes_do_not_go_on_a_chip(program):
    assert any("faithful" in problem for problem in LavaBackend(hardware=True).unsupported(program))


@pytest.fixture
def wires(tmp_path: Path):
    ours, theirs = socket.socketpair()
    yield Wire(ours, tmp_path, 0.2), theirs
    ours.close()
    theirs.close()


def test_messages_come_back_as_they_went(wires, tmp_path):
    wire, theirs = wires
    arrays = {
        "small": np.arange(6, dtype=np.int8).reshape(2, 3),
        "large": np.arange(400_000),
        "none": np.zeros((0, 2), int),
    }
    other = Wire(theirs, tmp_path, 0.2)
    other.send({"op": "beat"}, {})
    other.send({"op": "done", "id": 1}, arrays)
    header, found = wire.receive(5.0)
    assert header["id"] == 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 8,
        b"\x02\0\0\0{]",
        b"\x02\0\0\0{}",
        b'\x1a\0\0\0{"op": "done","arrays": 1}',
        b'\x2f\0\0\0{"op":"done","arrays":[{"name":1,"dtype":"O8"}]}',
        b'\x47\0\0\0{"op":"done","arrays":[{"name":"a","dtype":"<i4","shape":[9],"file":"b"}]}',
    ],
)
def test_garbage_is_called_garbage(wires, content):
    wire, theirs = wires
    theirs.sendall(content)
    with pytest.raises(Garbage):
        wire.receive(5.0)


def test_silence_slowness_and_an_end_are_told_apart(wires, tmp_path):
    wire, theirs = wires
    with pytest.raises(Slow):
        wire.receive(0.1)
    Wire(theirs, tmp_path, 0.2).send({"op": "beat"}, {})
    with pytest.raises(Silent):
        wire.receive(5.0)
    theirs.close()
    with pytest.raises(Ended):
        wire.receive(5.0)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python 3.10."""
    for variable in (install.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(install, "SYSTEM", ())
    return tmp_path


def program_at(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_without_python_310_the_error_says_what_to_do(bare):
    for work in (find_lava_python, install_lava, LavaBackend().available):
        with pytest.raises(BackendUnavailable, match=r"backend install lava.*SPIKEPORT_LAVA_PYTHON.*uv python install"):
            work()


def test_a_launcher_that_does_not_run_is_passed_over(bare):
    program_at(bare / "bin" / "python3.10", "exit 127")
    works = program_at(bare / ".pyenv" / "versions" / "3.10.9" / "bin" / "python", "exit 0")
    assert find_lava_python() == str(works)


def test_a_python_without_lava_is_named(bare):
    body = 'case "$*" in *lava*) exit 1;; *) exit 0;; esac'
    found = program_at(bare / "bin" / "python3.10", body)
    with pytest.raises(BackendUnavailable, match=f"{found} is one, without Lava"):
        find_lava_python()


def test_a_variable_that_names_no_lava_is_not_passed_over(bare, monkeypatch):
    program_at(bare / "bin" / "python3.10", "exit 0")
    monkeypatch.setenv(install.VARIABLE, str(bare / "gone"))
    with pytest.raises(BackendUnavailable, match="gone, which is no Python"):
        find_lava_python()


def test_an_installation_that_fails_says_why(bare):
    program_at(bare / "bin" / "python3.10", 'case "$*" in *venv*) echo "no room" >&2; exit 1;; *lava*) exit 1;; esac')
    with pytest.raises(BackendUnavailable, match="no room"):
        install_lava()


def test_uv_is_asked_where_there_is_no_python(bare):
    program_at(bare / "bin" / "uv", 'echo "$@" >&2; exit 1')
    with pytest.raises(BackendUnavailable, match=r"uv python install 3\.10"):
        install_lava()


def test_another_python_is_no_lava_python(bare, monkeypatch):
    monkeypatch.setenv(install.VARIABLE, sys.executable)
    with pytest.raises(BackendUnavailable, match="which is no Python"):
        find_lava_python()
