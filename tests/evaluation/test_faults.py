"""Faults as a person writes them, runs with faults, and protection of spiking networks."""

from dataclasses import replace

import numpy as np
import pytest

from spikeport import CorruptFileError, RangeError, SpikeportError, UnsupportedError
from spikeport.evaluation.faults import parse_faults, run_with_faults, runner
from spikeport.evaluation.protection import limited, spike_counts, spike_limits, without_hyperactive
from spikeport.evaluation.run import backend_named, run_on
from spikeport.hardware.faults import faulty_program
from spikeport.hardware.program import STATE_LIMIT
from spikeport.inference import FixedSteps
from spikeport.networks.faults import Faults
from spikeport.networks.graph import Graph
from spikeport.networks.stored_faults import with_arrays

STEPS = 4
FIXED = {"steps": STEPS, "rule": FixedSteps(STEPS)}


def test_the_line_and_the_file_say_the_same(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text('weights = 1e-4\ndropped_spikes = 0.01\nlayers = ["conv1", "fc1"]\n')
    wanted = Faults(weights=1e-4, dropped_spikes=0.01, layers=("conv1", "fc1"))
    assert parse_faults(str(path)) == wanted
    assert parse_faults("weights:1e-4, dropped_spikes:.01,layers:conv1+fc1,") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "asks for no fault"),
        ("layers:a", "asks for no fault"),
        ("weights:0", "asks for no fault"),
        ("weights", "is no fault; write target:rate"),
        ("weights:", "is no fault"),
        ("weights:many", "the rate of weights is 'many'"),
        ("weights:1.5", "between 0 and 1"),
        ("weights:-1e-9", "between 0 and 1"),
        ("weights:nan", "between 0 and 1"),
        ("weights:1e-3,weights:1e-4", "given twice"),
        ("wieghts:1e-3", "wieghts can have no faults; choose among weights, biases"),
        ("weights:1e-3,layers:a++b", "names such as"),
        ("stuck_at_0:0.7,stuck_at_1:0.7", "at most 1"),
        ("nowhere.toml", "cannot read nowhere.toml"),
    ],
)
def test_what_cannot_be_read(text, said):
    with pytest.raises(SpikeportError, match=said):
        parse_faults(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("weights = ", "is no TOML"),
        ("weights = '0.1'", "between 0 and 1"),
        ("weights = true", "between 0 and 1"),
        ("layers = 'a'\nweights = 0.1", "names such as"),
        ("[weights]\nrate = 0.1", "between 0 and 1"),
    ],
)
def test_files_that_make_no_sense(tmp_path, content, said):
    path = tmp_path / "faults.toml"
    path.write_text(content)
    with pytest.raises((RangeError, CorruptFileError, SpikeportError), match=said):
        parse_faults(str(path))


def test_a_run_with_faults_agrees_with_the_reference_and_keeps_what_was_hit(digits):
    program, data = digits.converted.integer, digits.evaluation.take(np.arange(60))
    faults = Faults(weights=0.01, dropped_spikes=0.1, state=0.001)
    plain = run_on(backend_named("torch"), program, data, **FIXED)
    found = run_with_faults("torch", program, data, faults, seed=3, compare_with="reference", **FIXED)
    assert found["agreement"]["mismatches"] == 0
    assert found["spikes_per_layer"] != plain["spikes_per_layer"]
    said = found["faults"]
    assert (said["rates"], said["seed"]) == (faults.to_json(), 3)
    assert 0 < said["changed"]["weights"] < 0.02 * said["bits"]["weights"]
    same = run_with_faults("reference", program, data, faults, seed=3, **FIXED)
    other = run_with_faults("reference", program, data, faults, seed=4, **FIXED)
    assert same["spikes_per_layer"] == found["spikes_per_layer"] != other["spikes_per_layer"]


@pytest.mark.parametrize(
    "name",
    ["torch", pytest.param("brian2", marks=pytest.mark.needs("brian2")),
     pytest.param("lava", marks=[pytest.mark.needs("lava"), pytest.mark.slow])],
)  # fmt: skip
def test_faults_during_the_run_are_the_same_on_every_backend(digits, name):
    program, data = digits.converted.integer, digits.evaluation.take(np.arange(4))
    asked = {"faults": Faults(dropped_spikes=0.1, state=0.001), "seed": 3, **FIXED}
    found = run_with_faults(name, program, data, compare_with="reference", **asked)
    assert found["agreement"]["mismatches"] == 0
    assert found["spikes_per_layer"] == run_with_faults("reference", program, data, **asked)["spikes_per_layer"]
    assert found["spikes_per_layer"] != run_on(backend_named(name), program, data, **FIXED)["spikes_per_layer"]


def test_what_cannot_be_entered_refuses_faults_during_the_run(digits):
    program, data, faults = digits.converted.integer, digits.evaluation.take(np.arange(2)), Faults(dropped_spikes=0.1)
    with pytest.raises(UnsupportedError, match="standalone program runs by itself"):
        runner("brian2:cpp_standalone", faults, seed=0)(program, data, **FIXED)
    with pytest.raises(SpikeportError, match="no backend 'loihi'"):
        runner("loihi", faults, seed=0)
    assert callable(runner("torch", None, seed=0))


def test_limits_of_what_was_seen_change_nothing_on_it(digits):
    program, x = digits.converted.integer, digits.calibration.x[:40]
    counts = spike_counts(program, x, STEPS)
    limits = spike_limits(program, x, STEPS)
    assert set(limits) == {node.name for node in program.neurons}
    assert all((limits[name] == counts[name].max(0)).all() for name in limits)
    again = spike_counts(limited(program, limits), x, STEPS)
    assert all(np.array_equal(again[name], counts[name]) for name in counts)
    wider = spike_limits(program, x, STEPS, slack=0.5)
    assert all((wider[name] >= limits[name]).all() for name in limits)
    for network in (digits.converted.spiking, program):
        assert spike_counts(limited(network, dict.fromkeys(limits, np.float32(0))), x, STEPS)[
            next(iter(limits))
        ].sum() == 0  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2, 4])  # others make no neuron hyperactive
def test_hyperactive_neurons_are_found_where_faults_make_them(digits, seed):
    program, x = digits.converted.integer, digits.calibration.x[:40]
    limits = spike_limits(program, x, STEPS)
    _, gone = without_hyperactive(program, x, STEPS, limits, share=0.1)
    assert sum(gone.values()) == 0
    hurt, _ = faulty_program(program, Faults(thresholds=0.2), seed=seed)
    mended, gone = without_hyperactive(hurt, x, STEPS, limits, share=0.1)
    assert sum(gone.values()) > 0
    first = program.neurons[0].name
    before, after = (spike_counts(network, x, STEPS)[first] for network in (hurt, mended))
    silent = (before > 0).any(0) & ~(after > 0).any(0)
    assert silent.sum() == gone[first]
    assert np.array_equal(before[:, ~silent], after[:, ~silent])


def test_silent_units_lose_the_bias_that_pushes_them(digits):
    program, x = digits.converted.integer, digits.calibration.x[:4]
    node = program.neurons[0]
    shape = program.graph.shapes[node.name]
    pushed = with_arrays(node, {"bias": np.full(shape, STATE_LIMIT), "initial": np.full(shape, STATE_LIMIT)})
    nodes = [pushed if each is node else each for each in program.graph.nodes]
    hurt = replace(program, graph=Graph.of(nodes, program.graph.information))
    mended, gone = without_hyperactive(hurt, x, STEPS, {node.name: np.zeros(shape)}, share=0.1)
    assert gone[node.name] == np.prod(shape)
    assert spike_counts(mended, x, STEPS)[node.name].sum() == 0


def test_bad_requests(digits):
    program, x = digits.converted.integer, digits.calibration.x[:4]
    with pytest.raises(SpikeportError, match="no samples"):
        spike_limits(program, x[:0], STEPS)
    with pytest.raises(RangeError, match="slack"):
        spike_limits(program, x, STEPS, slack=-0.1)
    with pytest.raises(RangeError, match="share"):
        without_hyperactive(program, x, STEPS, spike_limits(program, x, STEPS), share=2.0)
    with pytest.raises(SpikeportError, match="nowhere can have no limit"):
        without_hyperactive(program, x, STEPS, {"nowhere": np.float32(1)}, share=0.1)
    with pytest.raises(SpikeportError, match="nowhere can have no limit"):
        limited(program, {"nowhere": np.float32(1)})
