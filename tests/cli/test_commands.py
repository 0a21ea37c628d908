"""Every command does what its help says, prints one JSON object for programs, and ends with the right code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import spikeport

Arguments = Callable[..., list[str]]

EVALUATION = {
    *("n", "seed", "ann_accuracy", "accuracy_by_step", "spikes_per_sample_by_step", "synaptic_operations_by_step"),
    *("early_exit", "oracle"),
}
EARLY_EXIT = {
    *("policy", "threshold", "accuracy", "mean_steps", "mean_steps_computed", "p95_steps", "spikes_per_sample"),
    *("smallest_fixed_steps_of_equal_accuracy", "speedup_steps", "speedup_steps_ci95", "speedup_wall"),
    *("wall_seconds", "fixed_wall_seconds"),
}


def spikeport_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from spikeport.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom spikeport.cli.main import run\nassert run(['--help']) == 0\n"
        "print(*{'torch', 'numpy', 'onnx', 'matplotlib', 'numba', 'sklearn'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert all(name in done.stdout for name in ("doctor", "inspect", "convert", "evaluate", "report", "demo"))


def test_the_version(command) -> None:
    assert command("--version") == (0, f"{spikeport.__version__}\n", "")


def test_without_a_command_the_help_is_shown(command) -> None:
    assert command() == command("--help")


def test_doctor_names_versions_and_why_a_part_cannot_run(command) -> None:
    done = command("doctor", "--json")
    assert done.code == 0
    assert {"torch", "numpy", "brian2", "aihwkit"} <= set(done.json["packages"])
    assert {"CUDA", "ONNX Runtime", "Brian2", "aihwkit", "Lava"} == {part["name"] for part in done.json["parts"]}
    assert all(part["why"] for part in done.json["parts"])
    assert "torch" in command("doctor").out


@pytest.mark.parametrize("what", ["model", "folder", "network"])
def test_inspect_tells_what_a_network_is_made_of(command, model: Path, converted: Path, what: str) -> None:
    place = {"model": model, "folder": converted, "network": converted / "ann.safetensors"}[what]
    done = command("inspect", place, "--json")
    assert done.code == 0
    assert done.json["input_shape"] == [1, 8, 8]
    assert done.json["output_shape"] == [10]
    assert done.json["unsupported"] == []
    assert done.json["operators"]["neuron" if what == "folder" else "activation"] == 2
    assert sum(done.json["operators"].values()) == len(done.json["nodes"])
    assert "conv2d" in command("inspect", place).out


def test_convert_prints_what_its_report_holds(command, model: Path, arguments: Arguments) -> None:
    done = command(*arguments(model), "-o", "out", "--json")
    assert done.code == 0, done.err
    assert done.json == json.loads(Path("out/report.json").read_text())["convert"]
    assert done.json["unsupported"] == []
    assert len(done.json["layers"]) == 2
    assert done.json["ann_output_max_error"] < 1e-4
    networks = {"network.safetensors", "network.int8.safetensors", "ann.safetensors"}
    assert set(done.json["files"]) == networks | {"exit_calibration.npz"}
    assert done.json["integer"]["bits"] == 8
    assert done.json["n_fit"] + done.json["n_choose"] + done.json["n_exit"] == 80
    assert {path.name for path in Path().iterdir()} == {"out"}


def test_the_same_seed_gives_the_same_folder(command, model: Path, arguments: Arguments) -> None:
    results = [command(*arguments(model), "-o", name, "--seed", seed, "--json").json for name, seed in SEEDS]
    assert results[0] == results[1]
    assert results[0]["files"] != results[2]["files"]


SEEDS = (("a", 0), ("b", 0), ("c", 1))


def test_convert_and_evaluate_show_tables_to_people(command, model: Path, arguments: Arguments) -> None:
    shown = command(*arguments(model), "-o", "out", "--spikes", "signed")
    assert shown.code == 0
    assert "95" not in shown.err
    assert "n = " in shown.out
    shown = command("evaluate", "out", "--data", "digits", "--limit", 60)
    assert shown.code == 0
    assert "60 samples" in shown.out
    assert "early_exit" in Path("out/report.json").read_text()


def test_evaluate_writes_what_it_prints(command, converted: Path) -> None:
    shutil.copytree(converted, "d")
    done = command("evaluate", "d", "--data", "digits", "--json")
    assert done.code == 0, done.err
    assert set(done.json) >= EVALUATION
    assert set(done.json["early_exit"]) >= EARLY_EXIT
    assert done.json["n"] == 360
    assert len(done.json["accuracy_by_step"]) == 4
    assert done.json == json.loads(Path("d/report.json").read_text())["evaluate"]
    page = Path("d/report.html")
    page.unlink()
    assert command("report", "d").out.replace("\n", "").endswith("report.html")
    assert "360" in page.read_text()


def test_evaluate_uses_the_stored_preprocessing_unless_told(command, converted: Path) -> None:
    shutil.copytree(converted, "d")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 17, (40, 8, 8))
    np.savez("raw.npz", x=raw, y=np.arange(40) % 10)
    np.savez("twice.npz", x=2 * raw, y=np.arange(40) % 10)

    def evaluated(*extra: str) -> dict:
        found = command("evaluate", "d", *extra, "--json").json
        return {key: found[key] for key in ("accuracy_by_step", "spikes_per_sample_by_step")}

    stored = evaluated("--data", "raw.npz")
    assert stored == evaluated("--data", "raw.npz", "--scale", "1/16")
    assert stored == evaluated("--data", "twice.npz", "--scale", "1/32")
    assert stored != evaluated("--data", "twice.npz")


def test_a_fixed_policy_stops_at_that_step(command, converted: Path) -> None:
    shutil.copytree(converted, "d")
    early = command("evaluate", "d", "--data", "digits", "--limit", 40, "--policy", "fixed:3", "--json").json[
        "early_exit"
    ]
    assert (early["policy"], early["mean_steps"]) == ("fixed", 3.0)


def test_data_without_labels_are_judged_by_the_ann(command, model: Path, arguments: Arguments) -> None:
    rng = np.random.default_rng(0)
    np.savez("calibration.npz", x=rng.random((80, 8, 8)))
    np.savez("other.npz", x=rng.random((30, 8, 8)))
    done = command(*arguments(model, "calibration.npz"), "-o", "out", "--json")
    assert (done.code, done.json["labels"], done.json["ann_accuracy"]) == (0, "ann", 1.0)
    done = command("evaluate", "out", "--data", "other.npz", "--json")
    assert (done.code, done.json["labels"], done.json["calibration_labels"]) == (0, "ann", "ann")


def test_shared_samples_are_refused_or_left_out(command, model: Path, arguments: Arguments) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((100, 8, 8)), np.arange(100) % 10
    np.savez("calibration.npz", x=x[:80], y=y[:80])
    np.savez("other.npz", x=x[70:], y=y[70:])
    assert command(*arguments(model, "calibration.npz"), "-o", "out").code == 0
    done = command("evaluate", "out", "--data", "other.npz")
    assert (done.code, "--drop-shared" in done.error) == (2, True)
    done = command("evaluate", "out", "--data", "other.npz", "--drop-shared", "--json")
    assert (done.code, done.json["n"]) == (0, 20)
    assert "10 of 30" in done.err
    assert command("evaluate", "out", "--data", "calibration.npz", "--drop-shared").code == 2


def test_a_process_prints_one_object_and_nothing_else(converted: Path, tmp_path: Path) -> None:
    shutil.copytree(converted, tmp_path / "d")
    done = spikeport_process("evaluate", "d", "--data", "digits", "--limit", 40, "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["n"] == 40
    assert done.stderr == ""


def test_a_reader_that_has_seen_enough_is_no_error(converted: Path) -> None:
    command = [sys.executable, "-c", "from spikeport.cli.main import main; main()", "inspect", str(converted), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_terminal_of_few_characters_is_no_error(converted: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from spikeport.cli.main import main; main()", "inspect", str(converted)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"conv2d" in done.stdout


@pytest.mark.slow
def test_demo_trains_converts_and_evaluates(command) -> None:
    done = command("demo", "--out", "d", "--timesteps", 8, "--json")
    assert done.code == 0, done.err
    assert done.json["evaluate"]["n"] == 360
    assert done.json["convert"]["n_fit"] + done.json["convert"]["n_choose"] + done.json["convert"]["n_exit"] == 537
    assert done.json["evaluate"]["ann_accuracy"] > 0.95
    assert done.json["evaluate"]["accuracy_by_step"][-1] > done.json["evaluate"]["ann_accuracy"] - 0.01
    assert Path("d/network.safetensors").is_file()
    assert command("demo", "--out", "d").code == 2
    assert command("evaluate", "d", "--data", "digits").code == 0
