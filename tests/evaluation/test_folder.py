"""The conversion folder is there whole or not at all, whatever ends the process that writes it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikeport import CorruptFileError, SpikeportError
from spikeport.evaluation import swap
from spikeport.evaluation.convert import Converted
from spikeport.evaluation.folder import (
    ANN,
    EXIT,
    FILES,
    INTEGER,
    NETWORK,
    REPORT,
    Render,
    keep_integer,
    left_behind,
    read_folder,
    read_report,
    require_free,
    update_report,
    write_folder,
)
from spikeport.networks.graph import Graph

Make = Callable[[int], Converted]
WORKER = Path(__file__).parent / "folder_worker.py"


@pytest.fixture
def folder(tmp_path: Path, make_converted: Make, render: Render) -> Path:
    """A folder in an otherwise empty one."""
    path = tmp_path / "place" / "converted"
    path.parent.mkdir()
    write_folder(path, make_converted(0), render)
    return path


def beside(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_what_is_written_is_read(folder: Path, make_converted: Make) -> None:
    held, wanted = read_folder(folder), make_converted(0)
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert beside(folder) == {"converted"}
    for name in ("outputs", "labels", "ann_labels", "hashes", "calibration_hashes", "integer_outputs"):
        np.testing.assert_array_equal(getattr(held.exit, name), getattr(wanted.exit, name))
    for graph, other in ((held.spiking, wanted.spiking), (held.analog, wanted.analog)):
        assert graph.information == other.information
        assert [node.name for node in graph.nodes] == [node.name for node in other.nodes]
    assert set(held.report["convert"]["files"]) == {NETWORK, INTEGER, ANN, EXIT}
    assert held.integer.output_scale == wanted.integer.output_scale
    assert held.preprocessing.scale == 0.5
    assert held.shapes == ((4,), 3)


def test_the_integer_network_is_made_on_first_use(tmp_path: Path, make_converted: Make, render: Render) -> None:
    """A folder from before, or one whose network has been lowered by nobody yet."""
    whole, path = make_converted(0), tmp_path / "converted"
    write_folder(path, replace(whole, integer=None), render)
    held = read_folder(path)
    assert held.integer is None
    made = keep_integer(path, held, render)
    again = read_folder(path)
    assert again.integer.input == made.input == whole.integer.input
    assert keep_integer(path, again, render) is again.integer
    (path / INTEGER).write_bytes(b"something else")
    with pytest.raises(CorruptFileError, match=INTEGER):
        read_folder(path)


def test_a_network_without_statistics_says_what_to_do(tmp_path: Path, make_converted: Make, render: Render) -> None:
    whole = make_converted(0)
    bare = Graph.of(whole.spiking.nodes, {**whole.spiking.information, "input_range": None})
    for spoilt, error in ((bare, "convert or train it again"), (_said(whole, {"low": 1}), "make no sense")):
        path = tmp_path / error.split()[0]
        write_folder(path, replace(whole, spiking=spoilt, integer=None), render)
        with pytest.raises(SpikeportError, match=error):
            keep_integer(path, read_folder(path), render)


def _said(converted: Converted, statistics: object) -> Graph:
    return Graph.of(converted.spiking.nodes, {**converted.spiking.information, "input_range": statistics})


def test_an_existing_folder_is_replaced_only_when_asked(folder: Path, make_converted: Make, render: Render) -> None:
    with pytest.raises(SpikeportError, match="--overwrite"):
        write_folder(folder, make_converted(1), render)
    assert read_report(folder)["convert"]["model"] == "number 0"
    write_folder(folder, make_converted(1), render, overwrite=True)
    assert read_folder(folder).report["convert"]["model"] == "number 1"
    assert beside(folder) == {"converted"}


def test_what_spikeport_did_not_write_is_never_replaced(tmp_path: Path, make_converted: Make, render: Render) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name, wanted in (("thesis", r"chapter\.txt"), ("file", "no folder"), ("missing/out", "no folder")):
        with pytest.raises(SpikeportError, match=wanted):
            write_folder(tmp_path / name, make_converted(0), render, overwrite=True)
        with pytest.raises(SpikeportError, match=wanted):
            require_free(tmp_path / name, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_link_to_a_folder_stays_a_link(folder: Path, make_converted: Make, render: Render) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)
    write_folder(link, make_converted(2), render, overwrite=True)
    assert link.is_symlink()
    assert read_folder(folder).report["convert"]["model"] == "number 2"


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
def test_an_error_while_writing_leaves_what_was_there(
    folder: Path, make_converted: Make, error: BaseException, swaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swaps:
        monkeypatch.setattr(swap, "exchange", lambda first, second: False)

    def fail(report: object) -> str:
        raise error

    with pytest.raises(SpikeportError if isinstance(error, OSError) else type(error)):
        write_folder(folder, make_converted(1), fail, overwrite=True)
    assert read_folder(folder).report["convert"]["model"] == "number 0"
    assert beside(folder) == {"converted"}


@pytest.mark.parametrize("swaps", [True, False])
def test_an_error_while_renaming_leaves_what_was_there(
    folder: Path, make_converted: Make, render: Render, swaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = Path.rename, []

    def fail_at_second(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    if swaps:
        write_folder(folder, make_converted(1), render, overwrite=True)
        assert read_folder(folder).report["convert"]["model"] == "number 1"
        return
    monkeypatch.setattr(swap, "exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fail_at_second)
    with pytest.raises(SpikeportError, match="Input/output"):
        write_folder(folder, make_converted(1), render, overwrite=True)
    monkeypatch.undo()
    assert read_folder(folder).report["convert"]["model"] == "number 0"
    assert beside(folder) == {"converted"}


def test_a_system_without_exchange_replaces_too(
    folder: Path, make_converted: Make, render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "exchange", lambda first, second: False)
    write_folder(folder, make_converted(1), render, overwrite=True)
    assert read_folder(folder).report["convert"]["model"] == "number 1"
    assert beside(folder) == {"converted"}


@pytest.mark.parametrize("name", [NETWORK, ANN, EXIT, REPORT])
def test_damage_is_always_seen(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    rng = random.Random(name)
    for _ in range(20):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(CorruptFileError):
            read_folder(folder)
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFileError):
        read_folder(folder)
    (folder / name).unlink()
    with pytest.raises(CorruptFileError, match=name):
        read_folder(folder)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"outputs": np.zeros((5, 6, 4), np.float32)}, "4 classes"),
        ({"outputs": np.full((5, 6, 3), np.nan, np.float32)}, "NaN"),
        ({"outputs": np.zeros((5, 6, 3))}, "float64"),
        ({"labels": np.zeros(5, np.int64)}, "labels"),
        ({"labels": np.full(6, 3)}, "between 3 and 3"),
        ({"ann_labels": np.full(6, -1)}, "ann_labels"),
        ({"hashes": np.array([b"x"] * 6, "S32")}, "hashes"),
        ({"calibration_hashes": np.zeros(3)}, "calibration_hashes"),
    ],
)
def test_exit_data_that_contradict_themselves_are_refused(
    tmp_path: Path, make_converted: Make, render: Render, changed: dict[str, np.ndarray], wanted: str
) -> None:
    """Written with a right sha256, as a forger or a fault of ours would."""
    from dataclasses import replace

    converted = make_converted(0)
    write_folder(tmp_path / "d", replace(converted, exit=replace(converted.exit, **changed)), render)
    with pytest.raises(CorruptFileError, match=wanted):
        read_folder(tmp_path / "d")


def test_what_is_no_conversion_is_said_to_be_none(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(SpikeportError) as caught:
            read_folder(tmp_path / name)
        assert not isinstance(caught.value, CorruptFileError)


def test_an_unfinished_folder_is_never_taken_for_whole(folder: Path) -> None:
    stale = folder.with_name("converted.partial-0123456789abcdef")
    shutil.copytree(folder, stale)
    with pytest.raises(SpikeportError, match="unfinished"):
        read_folder(stale)
    assert left_behind(folder) == [stale]
    assert left_behind(folder.with_name("other")) == []


def test_the_report_can_be_written_anew(folder: Path, render: Render) -> None:
    held = read_folder(folder)
    update_report(folder, {**held.report, "evaluate": {"n": 3}}, render)
    assert read_folder(folder).report["evaluate"] == {"n": 3}
    assert {path.name for path in folder.iterdir()} == set(FILES)
    with pytest.raises(SpikeportError, match="JSON"):
        update_report(folder, {**held.report, "evaluate": {"n": float("nan")}}, render)
    assert read_folder(folder).report["evaluate"] == {"n": 3}


@pytest.mark.slow
def test_kill_9_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    """A process replaces the folder all the time, and is killed at 30 moments of that."""
    folder, rng = tmp_path / "converted", random.Random(0)
    command = [sys.executable, "-W", "ignore", str(WORKER), "replace", str(folder)]
    seen = set[str]()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(30):
            child, once = process.stdout.readline().split()
            time.sleep(3 * rng.random() * float(once))
            os.kill(int(child), signal.SIGKILL)
            assert process.stdout.readline().strip() == "dead"
            held = read_folder(folder)
            seen.add(held.report["convert"]["model"])
            assert held.spiking.information["number"] == held.analog.information["number"]
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    assert len(seen) > 10


def test_a_full_disk_is_one_clear_error(mounting: list[str], tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -W ignore "$3" full "$1"'
    check_full([*mounting, "sh", "-c", script, "-", str(tmp_path), sys.executable, str(WORKER)], "No space left")


def test_a_limit_on_files_is_one_clear_error(tmp_path: Path) -> None:
    check_full([sys.executable, "-W", "ignore", str(WORKER), "limited", str(tmp_path)], "File too large")


def check_full(command: list[str], reason: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    first, second, last = done.stdout.splitlines()
    for line in (first, second):
        assert line.startswith("SpikeportError cannot write")
        assert reason in line
    assert last == "['d'] number 0"


def test_the_report_is_plain_json(folder: Path) -> None:
    assert json.loads((folder / REPORT).read_text(encoding="utf-8"))["convert"]["timesteps"] == 5
