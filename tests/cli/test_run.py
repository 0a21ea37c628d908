"""``spikeport run``: the integer network of a folder on a backend."""

import json
import shutil
from pathlib import Path

import pytest

RUN = {
    *("backend", "n", "accuracy", "mean_steps", "spikes_per_layer", "synaptic_operations", "agreement", "seconds"),
    *("energy", "mapping"),
}


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A copy, as a run writes its result into the folder's report."""
    return Path(shutil.copytree(converted, tmp_path / "copy"))


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_run_prints_what_it_keeps(command, folder: Path, backend: str) -> None:
    options = ("--backend", backend, "--compare", "reference", "--limit", "40")
    done = command("run", folder, "--data", "digits", *options, "--json")
    assert done.code == 0, done.err
    assert set(done.json) >= RUN
    assert done.json["agreement"]["mismatches"] == 0
    assert done.json["agreement"]["with"] == "reference"
    assert set(done.json["energy"]) >= {"chip", "terms", "total"}
    assert set(done.json["mapping"]) >= {"chip", "cores", "fits", "violations"}
    report = json.loads((folder / "report.json").read_text())
    assert report["run"][backend]["accuracy"] == done.json["accuracy"]
    assert "On hardware" in (folder / "report.html").read_text()


def test_a_run_shows_tables_to_people(command, folder: Path) -> None:
    done = command("run", folder, "--data", "digits", "--limit", "20", "--policy", "fixed:3", "--chip", "loihi1")
    assert done.code == 0
    for text in ("Energy a sample", "cores (loihi1)", "mean steps", "Spikes a sample"):
        assert text in done.out


def test_results_of_several_backends_stay_side_by_side(command, folder: Path) -> None:
    for backend in ("torch", "reference"):
        assert command("run", folder, "--data", "digits", "--limit", "10", "--backend", backend).code == 0
    assert set(json.loads((folder / "report.json").read_text())["run"]) == {"torch", "reference"}


def test_a_run_with_faults_stands_beside_the_one_without(command, folder: Path) -> None:
    options = ("--data", "digits", "--limit", "30", "--policy", "fixed:4")
    plain = command("run", folder, *options, "--json").json
    faults = ("--faults", "weights:0.02,dropped_spikes:0.1", "--fault-seed", "7")
    done = command("run", folder, *options, *faults, "--compare", "reference", "--json")
    assert done.code == 0, done.err
    assert done.json["agreement"]["mismatches"] == 0
    assert done.json["faults"]["seed"] == 7
    assert done.json["faults"]["rates"] == {"weights": 0.02, "dropped_spikes": 0.1}
    kept = json.loads((folder / "report.json").read_text())["run"]
    assert kept["torch"]["spikes_per_layer"] == plain["spikes_per_layer"]
    assert kept["torch with faults"]["faults"] == done.json["faults"]
    page = (folder / "report.html").read_text()
    assert "Faults on" in page
    assert "torch with faults" in page
    assert "bits of weights" in command("run", folder, *options, *faults).out


@pytest.mark.needs("brian2")
def test_faults_during_the_run_go_into_brian2_but_not_into_its_programs(command, folder: Path) -> None:
    asked = ("--data", "digits", "--limit", "3", "--policy", "fixed:4", "--faults", "dropped_spikes:0.1,state:0.001")
    done = command("run", folder, *asked, "--backend", "brian2", "--compare", "reference", "--json")
    assert done.code == 0, done.err
    assert done.json["agreement"]["mismatches"] == 0
    refused = command("run", folder, *asked, "--backend", "brian2:cpp_standalone")
    assert refused.code == 4
    assert "faults during the run (a standalone program runs by itself" in refused.error


def test_stored_faults_go_into_chips_too(command, folder: Path) -> None:
    options = ("--data", "digits", "--limit", "20", "--policy", "fixed:4")
    chips = ("--backend", "analog", "--device", "ideal", "--instances", "1")
    faults = ("--faults", "thresholds:0.02,weights:0.02", "--fault-seed", "7")
    found = [command("run", folder, *options, *place, *faults, "--json").json for place in ((), chips)]
    assert found[0]["faults"] == found[1]["faults"]
    assert found[0]["accuracy"] == found[1]["accuracy_over_chips"]["mean"], "an ideal crossbar is exact"
    assert "analog with faults" in json.loads((folder / "report.json").read_text())["run"]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--backend", "loihi"), "no backend 'loihi'"),
        (("--chip", "loihi9"), "no chip 'loihi9'"),
        (("--compare", "torch"), "choose reference"),
        (("--steps", "5000"), "possible here"),
        (("--policy", "fixed:5000"), "stops at step 5000"),
        (("--policy", "sometimes"), "auto or fixed:T"),
        (("--faults", "weights:2"), "between 0 and 1"),
        (("--faults", "wieghts:0.1"), "wieghts can have no faults"),
        (("--faults", "weights:0.1,layers:nowhere"), "no layers nowhere"),
        (("--faults", "gone.toml"), "cannot read gone.toml"),
    ],
)
def test_bad_options_end_with_2(command, folder: Path, extra: tuple[str, ...], said: str) -> None:
    before = (folder / "report.json").read_bytes()
    done = command("run", folder, "--data", "digits", "--limit", "5", *extra)
    assert done.code == 2
    assert said in done.error
    assert (folder / "report.json").read_bytes() == before
