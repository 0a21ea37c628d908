"""``spikeport run --backend analog``: chips of devices, from the command line into the report."""

import json
import shutil
from pathlib import Path

import pytest

from spikeport import RangeError
from spikeport.cli.analog import parse_time

ANALOG = ("--backend", "analog", "--instances", "2", "--limit", "20")


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "copy"))


def test_an_ideal_device_agrees_with_the_reference(command, folder: Path) -> None:
    done = command("run", folder, "--data", "digits", *ANALOG, "--device", "ideal", "--compare", "reference", "--json")
    assert done.code == 0, done.err
    assert done.json["agreement"]["mismatches"] == 0 < done.json["agreement"]["spikes_compared"]
    assert done.json["accuracy"] == pytest.approx(done.json["digital_accuracy"])


def test_the_first_difference_says_on_which_chip(command, folder: Path) -> None:
    done = command("run", folder, "--data", "digits", *ANALOG, "--compare", "reference", "--json")
    agreement = done.json["agreement"]
    assert agreement["mismatches"] > 0
    first = agreement["first_divergence"]
    assert set(first) == {"layer", "step", "sample", "unit", "chip"}
    assert 0 <= first["sample"] < 20
    assert first["chip"] in (0, 1)


def test_a_run_on_chips_is_kept_and_shown(command, folder: Path) -> None:
    options = ("--device", "pcm", "--time", "30d", "--seed", "3", "--no-compensation", "--tile", "128", "64")
    done = command("run", folder, "--data", "digits", *ANALOG, *options, "--json")
    assert done.code == 0, done.err
    assert done.json["time_seconds"] == 30 * 86400
    assert (done.json["instances"], done.json["seed"]) == (2, 3)
    device = done.json["device"]
    assert (device["tile_rows"], device["tile_columns"], device["compensation"]) == (128, 64, False)
    page = (folder / "report.html").read_text()
    for text in (
        "On simulated crossbars",
        "Worst and best chip",
        "Steps average read noise out",
        "saved by early exit",
    ):
        assert text in page
    report = json.loads((folder / "report.json").read_text())
    assert report["run"]["analog"]["accuracy_over_chips"] == done.json["accuracy_over_chips"]


def test_fitting_and_converters(command, folder: Path) -> None:
    options = ("--device", "reram", "--adc-bits", "8", "--recalibrate", "digits", "--recalibrate-samples", 120)
    done = command("run", folder, "--data", "digits", *ANALOG, *options)
    assert done.code == 0, done.err
    assert "1 d after writing" in done.out
    for text in ("fitted to the chips", "conversions beyond range", "energy a decision", "saved by early exit"):
        assert text in done.out


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--device", "mram"), "no device 'mram'"),
        (("--device", "reram", "--time", "1h"), "known at"),
        (("--time", "yesterday"), "such as 1s, 1h or 30d"),
        (("--adc-bits", "8"), "--recalibrate DATA"),
        (("--recalibrate-samples", 9), "without --recalibrate"),
        (("--tile", "4", "4"), "cannot hold a kernel"),
        (("--prices", "free"), "no scheme of prices"),
        (("--steps", "5000"), "possible here"),
        (("--compare", "torch"), "cannot be measured"),
        (("--faults", "spells:0.1"), "spells"),
        (("--chip", "speck"), "--chip and --backend analog"),
        (("--fault-seed", "1"), "--fault-seed came without --faults"),
    ],
)
def test_bad_options_end_with_2(command, folder: Path, extra: tuple[str, ...], said: str) -> None:
    done = command("run", folder, "--data", "digits", *ANALOG, *extra)
    assert done.code == 2
    assert said in done.error


def test_faults_during_the_run_hit_the_chips(command, folder: Path) -> None:
    asked = ("run", folder, "--data", "digits", *ANALOG, "--device", "ideal", "--json")
    clean, hit = (command(*asked, *more).json for more in ((), ("--faults", "dropped_spikes:0.3,state:0.001")))
    assert hit["faults"]["rates"] == {"dropped_spikes": 0.3, "state": 0.001}
    assert clean["accuracy_by_step"] != hit["accuracy_by_step"]
    chips = hit["accuracy_over_chips"]["by_chip"]
    assert hit["digital_accuracy"] == chips[0], "the first chip is ideal, and hit where the digital network is"
    compared = command(*asked[:-1], "--faults", "dropped_spikes:0.3", "--compare", "reference")
    assert compared.code == 2
    assert "cannot be compared" in compared.error


def test_zero_instances_are_refused(command, folder: Path) -> None:
    assert command("run", folder, "--data", "digits", "--backend", "analog", "--instances", "0").code == 2


def test_options_of_crossbars_need_crossbars(command, folder: Path) -> None:
    done = command("run", folder, "--data", "digits", "--device", "pcm", "--time", "1d")
    assert done.code == 2
    assert "--device, --time and --backend torch came together" in done.error
    done = command("run", folder, "--data", "digits", "--seed", "0")
    assert "--seed and --backend torch came together" in done.error


def test_times_have_units() -> None:
    assert [parse_time(text) for text in ("1s", "10min", "1.5h", "1d")] == [1.0, 600.0, 5400.0, 86400.0]
    for text in ("1", "d", "-1s", "1 month", "1e9s", "infd"):
        with pytest.raises(RangeError, match="a number with s, min, h or d"):
            parse_time(text)
