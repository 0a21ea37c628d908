"""``--policy``, ``--min-steps``, ``--attack`` and programs on the command line."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A conversion that may be written to."""
    return Path(shutil.copytree(converted, tmp_path / "d"))


DATA = ("--data", "digits", "--limit", 30, "--no-timing", "--json")


@pytest.mark.parametrize(
    ("policy", "name"),
    [("patience", "patience"), ("gap", "top-two gap"), ("entropy", "entropy"), ("average", "averaged confidence")],
)
def test_a_policy_is_named_and_decides_like_the_engine(command, folder: Path, policy: str, name: str) -> None:
    done = command("evaluate", folder, *DATA, "--policy", policy, "--max-loss", 0.5)
    assert done.code == 0, done.err
    early = done.json["early_exit"]
    assert early["policy"] == name
    assert early["engine_mismatches"] == 0


def test_nobody_stops_before_the_first_step_that_is_allowed(command, folder: Path) -> None:
    done = command("evaluate", folder, *DATA, "--min-steps", 3, "--max-loss", 1.0)
    assert done.json["early_exit"]["policy"] == "confidence from step 3"
    assert done.json["figures"]["exit_step_histogram"][:2] == [0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--min-steps", 5), "first step is 5, but this network runs 4 steps"),
        (("--min-steps", 2, "--policy", "fixed:3"), "came together"),
        (("--min-steps", 2, "--guarantee", "coverage:0.9"), "came together"),
        (("--policy", "patience", "--guarantee", "coverage:0.9"), "came together"),
        (("--max-loss", 0.01, "--guarantee", "coverage:0.9"), "--max-loss 0.01 and --guarantee"),
        (("--max-loss", 0.01, "--policy", "fixed:3"), "a fixed run is not calibrated"),
        (("--attack-samples", 9), "came without --attack"),
        (("--policy", "hope"), "auto or fixed:T"),
        (("--attack", 2.0), "epsilon is 2.0"),
        (("--attack", 0.1, "--bits", 8), "needs gradients"),
    ],
)
def test_what_makes_no_sense_is_refused(command, folder: Path, options: tuple[object, ...], said: str) -> None:
    done = command("evaluate", folder, "--data", "digits", "--limit", 30, "--no-timing", *options)
    assert done.code == 2
    assert said in done.error


def test_an_attack_goes_into_the_report(command, folder: Path) -> None:
    done = command("evaluate", folder, *DATA, "--attack", 0.05, "--attack-samples", 4)
    assert done.code == 0, done.err
    rows = done.json["robustness"]["rows"]
    assert {row["input"] for row in rows} >= {"clean", "noise", "delay", "early"}
    assert "Under attack" in (folder / "report.html").read_text(encoding="utf-8")
    shown = command("evaluate", folder, *DATA[:-1], "--attack", 0.05, "--attack-samples", 2)
    assert "noise" in shown.out


@pytest.mark.slow
def test_a_network_goes_out_as_programs(command, folder: Path, tmp_path: Path) -> None:
    done = command("export", folder, "out", "--to", "pt2", "--policy", "patience", "--max-loss", 0.5, "--json")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "start.pt2", "step.pt2", "head.pt2", "programs.json", "host.py",
    }  # fmt: skip
    about = json.loads((tmp_path / "out" / "programs.json").read_text())
    assert (about["max_steps"], about["input"]) == (4, [1, 8, 8])
    assert command("export", folder, "out", "--to", "pt2").code == 2
