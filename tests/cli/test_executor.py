"""Chips of another simulator, and wires, from the command line."""

import json
from pathlib import Path
from shutil import copytree

import pytest

RUN = ("--data", "digits", "--limit", 30, "--backend", "analog", "--instances", 2)


@pytest.mark.needs("aihwkit")
def test_aihwkit_runs_the_network_and_the_report_says_so(command, converted: Path, tmp_path: Path) -> None:
    folder = copytree(converted, tmp_path / "folder")
    outcome = command("run", folder, *RUN, "--time", "1h", "--executor", "aihwkit", "--json")
    result = outcome.json
    assert (result["backend"], result["device"]["name"], result["time_seconds"]) == ("aihwkit", "pcm", 3600.0)
    assert (result["instances"], len(result["accuracy_over_chips"]["by_chip"])) == (2, 2)
    assert json.loads((folder / "report.json").read_text())["run"]["aihwkit"] == result
    page = (folder / "report.html").read_text()
    assert f'data-key="run.aihwkit.accuracy_over_chips.mean" data-value="{result["accuracy"]!r}"' in page
    shown = command("run", folder, *RUN, "--device", "ideal", "--executor", "aihwkit")
    assert shown.code == 0
    assert "Run on aihwkit" in shown.out


@pytest.mark.needs("aihwkit")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--executor", "aihwkit", "--wires"), "lack: wires"),
        (("--executor", "aihwkit", "--prices", "isaac"), "--prices and --executor aihwkit"),
        (
            ("--executor", "aihwkit", "--recalibrate", "digits", "--compare", "reference"),
            "--recalibrate, --compare and",
        ),
        (("--executor", "aihwkit", "--faults", "weights:1e-4"), "--faults and --executor aihwkit"),
        (("--executor", "nonsuch"), "choose own or aihwkit"),
    ],
)
def test_what_aihwkit_cannot_do_is_refused(command, converted: Path, options: tuple[str, ...], says: str) -> None:
    outcome = command("run", converted, *RUN, *options)
    assert outcome.code != 0
    assert says in outcome.error


def test_wires_change_what_chips_say(command, converted: Path, tmp_path: Path) -> None:
    device, folder = tmp_path / "thin.toml", copytree(converted, tmp_path / "folder")
    entry = '[{}]\nvalue = {}\nunit = "{}"\nsource = "test"\n'
    device.write_text(
        entry.format("g_min", 0.0, "uS") + entry.format("g_max", 32.0, "uS") + entry.format("wire", 500.0, "ohm")
    )
    results = [command("run", folder, *RUN, "--device", device, *more, "--json").json for more in ((), ("--wires",))]
    assert results[0]["accuracy_by_step"] != results[1]["accuracy_by_step"]
    outcome = command("run", converted, "--data", "digits", "--wires")
    assert "only --backend analog has them" in outcome.error
