"""``spikeport import`` and ``spikeport export``."""

import json
from pathlib import Path

import numpy as np
import pytest

from spikeport.hardware.nir import export_nir
from spikeport.networks.graph import Graph, make_node


def network() -> Graph:
    rng = np.random.default_rng(0)
    arrays = {"threshold": np.ones(20), "initial": np.zeros(20), "bias": np.zeros(20), "beta": np.full(20, 0.9)}
    return Graph.of(
        [
            make_node("x", "input", shape=(64,)),
            make_node("a", "linear", ["x"], arrays={"weight": rng.normal(0, 0.3, (20, 64)), "bias": np.zeros(20)}),
            make_node("n", "neuron", ["a"], arrays=arrays, code="binary", test=">", reset="zero"),
            make_node("b", "linear", ["n"], arrays={"weight": rng.normal(0, 1, (10, 20)), "bias": np.zeros(10)}),
            make_node("y", "output", ["b"]),
        ]
    )


@pytest.mark.needs("nir")
def test_a_nir_file_becomes_a_folder_that_evaluates_and_runs(command, tmp_path: Path) -> None:
    export_nir(network(), tmp_path / "net.nir")
    arguments = ("import", "net.nir", "-o", "in", "--calibration", "digits", "--limit", "60", "--timesteps", "6")
    done = command(*arguments, "--json")
    assert done.code == 0, done.err
    assert done.json["method"] == "imported from nir"
    assert command(*arguments).code == 2  # it is there already
    assert command("evaluate", "in", "--data", "digits", "--limit", "20", "--no-timing", "--json").code == 0
    ran = command("run", "in", "--data", "digits", "--limit", "20", "--compare", "reference", "--json")
    assert ran.json["agreement"]["mismatches"] == 0
    assert ran.json["energy"]["chip"] == "loihi2"


def test_another_format_is_refused_with_all_that_there_are(command) -> None:
    done = command("export", "one", "out", "--to", "tflite")
    assert done.code == 2
    assert "nir, brian2, lava, pt2, onnx" in done.error


@pytest.mark.needs("nir")
def test_inputs_too_small_to_make_a_spike_are_refused(command, tmp_path: Path) -> None:
    export_nir(network(), tmp_path / "net.nir")
    done = command(
        "import", "net.nir", "-o", "in", "--calibration", "digits", "--limit", 60, "--timesteps", 6, "--scale", 1e-6
    )
    assert done.code == 2
    assert "says the same of every class after 6 steps" in done.error
    assert "--scale" in done.error
    assert not (tmp_path / "in").exists()


@pytest.mark.needs("nir")
def test_what_goes_out_to_nir_comes_back(command, tmp_path: Path) -> None:
    export_nir(network(), tmp_path / "net.nir")
    options = ("--calibration", "digits", "--limit", "60", "--timesteps", "6", "--json")
    first = command("import", "net.nir", "-o", "one", *options).json
    done = command("export", "one", "again.nir", "--to", "nir", "--json")
    assert done.code == 0, done.err
    second = command("import", "again.nir", "-o", "two", *options).json
    assert second["accuracy_by_step"] == first["accuracy_by_step"]
    assert command("export", "one", "again.nir", "--to", "nir").code == 2
    assert command("export", "one", "again.nir", "--to", "nir", "--overwrite").code == 0


@pytest.mark.needs("nir")
def test_a_file_is_read_with_the_step_that_it_was_made_for(command, tmp_path: Path) -> None:
    export_nir(network(), tmp_path / "net.nir")
    options = ("--calibration", "digits", "--limit", "60", "--timesteps", "6", "--json")
    first = command("import", "net.nir", "-o", "one", *options).json
    assert command("export", "one", "ms.nir", "--to", "nir", "--dt", "0.001").code == 0
    by_definition = {}
    for dt in ("0.001", "0.0001"):  # with --dt, ours is read as a file of others
        by_definition[dt] = command("import", "ms.nir", "-o", f"at{dt}", "--dt", dt, *options).json["accuracy_by_step"]
    assert by_definition["0.001"] == first["accuracy_by_step"] != by_definition["0.0001"]
    assert "above 0" in command("import", "ms.nir", "-o", "two", "--dt", "0", *options).json["error"]["message"]
    assert "--to nir only" in command("export", "one", "a.py", "--to", "brian2", "--dt", "0.001").error


@pytest.mark.needs("nir")
def test_the_arrays_beside_a_script_are_not_replaced_unasked(command, tmp_path: Path) -> None:
    export_nir(network(), tmp_path / "net.nir")
    assert (
        command("import", "net.nir", "-o", "in", "--calibration", "digits", "--limit", 60, "--timesteps", 6).code == 0
    )
    (tmp_path / "a.npz").write_bytes(b"years of work")
    assert "a.npz is there already" in command("export", "in", "a.py", "--to", "brian2").error
    assert (tmp_path / "a.npz").read_bytes() == b"years of work"
    assert not (tmp_path / "a.py").exists()
    assert "7 steps" in command("export", "in", "p", "--to", "onnx", "--chunk", 7).error
    assert "stops at step 17" in command("run", "in", "--data", "digits", "--limit", 5, "--policy", "fixed:17").error


@pytest.mark.needs("nir")
def test_a_network_without_neurons_runs_and_is_evaluated(command, tmp_path: Path) -> None:
    import nir

    weight = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)
    ends = {"i": nir.Input({"input": np.array([64])}), "o": nir.Output({"output": np.array([10])})}
    nodes = {**ends, "l": nir.Linear(weight), "s": nir.I(np.full(10, 1e4))}
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, [("i", "l"), ("l", "s"), ("s", "o")]))
    assert (
        command("import", "net.nir", "-o", "in", "--calibration", "digits", "--limit", 60, "--timesteps", 6).code == 0
    )
    ran = command("run", "in", "--data", "digits", "--limit", 5, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["spikes_per_layer"] == {}
    assert command("evaluate", "in", "--data", "digits", "--limit", 20, "--no-timing").code == 0
    assert command("report", "in").code == 0
    assert command("export", "in", "again.nir", "--to", "nir").code == 0


def test_a_network_of_lava_dl_is_evaluated_in_its_integers(command, data_dir: Path) -> None:
    with np.load(data_dir / "mnist.npz") as data:
        np.savez("pixels.npz", x=data["x_train"][:80].reshape(80, -1), y=data["y_train"][:80])
        np.savez("others.npz", x=data["x_test"][:40].reshape(40, -1), y=data["y_test"][:40])
    net = data_dir / "models" / "lavadl_netx_mnist.net"
    make = ("import", net, "--calibration", "pixels.npz", "--timesteps", 23)
    done = command(*make, "-o", "small", "--scale", "1/255")
    assert done.code == 2
    assert "go from 0 to 1 (255 was wanted)" in done.error
    assert not Path("small").exists()
    assert command(*make, "-o", "in").code == 0
    found = command("evaluate", "in", "--data", "others.npz", "--no-timing", "--json").json
    assert found["bits"] == 8
    assert found["accuracy_by_step"][-1] > 0.85
    assert "an integer network" in command("evaluate", "in", "--data", "others.npz", "--attack", 0.05).error


@pytest.mark.parametrize("said", [("--policy", "gap"), ("--min-steps", 2), ("--max-loss", 0), ("--chunk", 4)])
def test_what_says_how_a_program_runs_is_refused_for_files(command, converted: Path, said: tuple[str, object]) -> None:
    done = command("export", converted, "net.npz", "--to", "lava", *said)
    assert done.code == 2
    assert f"{said[0]} say how a program runs" in done.error


def test_integer_networks_go_out_to_brian2_and_lava(command, converted: Path, tmp_path: Path) -> None:
    assert command("export", converted, "net.py", "--to", "brian2").code == 0
    assert (tmp_path / "net.npz").is_file()
    assert command("export", converted, "lava.npz", "--to", "lava").code == 0
    found = np.load(tmp_path / "lava.npz")
    structure = json.loads(found["structure"].tobytes())
    kinds = [population["kind"] for population in structure["populations"]]
    assert (kinds[0], kinds[-1]) == ("input", "output")
    for population in structure["populations"]:
        for key in population["arrays"].values():
            assert key in found
        for wire in population["projections"]:
            assert {f"{wire['matrix']}.{part}" for part in ("data", "indices", "indptr")} <= set(found)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("import", "missing.nir", "-o", "d", "--calibration", "digits"), 2),
        (("import", "net.onnx", "-o", "d", "--calibration", "digits"), 2),
        (("export", "CONVERTED", "x.bin", "--to", "loihi"), 2),
        (("export", "CONVERTED", "nowhere/x.npz", "--to", "lava"), 2),
        (("export", "CONVERTED", "x.txt", "--to", "lava"), 2),
        (("export", "CONVERTED", "x.txt", "--to", "brian2"), 2),
        (("export", "nowhere", "x.npz", "--to", "lava"), 2),
    ],
)
def test_bad_requests_end_with_2_and_leave_nothing(command, converted: Path, tmp_path: Path, arguments, code) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not a network")
    before = sorted(tmp_path.iterdir())
    assert command(*(converted if text == "CONVERTED" else text for text in arguments)).code == code
    assert sorted(tmp_path.iterdir()) == before
