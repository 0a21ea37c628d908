import numpy as np
import pytest
import torch

from spikeport.evaluation import integer
from spikeport.evaluation.integer import code_of, input_range, integer_outputs, integer_part, lowered
from spikeport.hardware.reference import run_reference
from spikeport.hardware.rounding import input_moments
from spikeport.networks.outputs import outputs_over_time


def test_a_conversion_brings_its_integer_network(digits):
    converted = digits.converted
    assert converted.integer.steps == 8
    said = converted.report["integer"]
    assert said["bits"] == 8
    assert said["n"] == converted.report["n_exit"]
    assert abs(said["accuracy_change"]) < 0.03
    assert said["accuracy_change_ci95"][0] <= said["accuracy_change"] <= said["accuracy_change_ci95"][1]
    assert said["accuracy"] == pytest.approx(converted.report["accuracy_by_step"][-1] + said["accuracy_change"])


def test_its_outputs_are_those_of_the_reference(digits):
    program, x = digits.converted.integer, digits.evaluation.x[:70]
    wanted = program.real_output(run_reference(program, x, 8)[0])
    np.testing.assert_array_equal(integer_outputs(program, x, 8).numpy(), wanted)
    torch.testing.assert_close(integer_outputs(program, x, 5), integer_outputs(program, x, 8)[:5])


def test_statistics_come_from_the_fitting_samples(digits):
    said = digits.converted.spiking.information["input_range"]
    whole = input_range(digits.calibration.x)
    assert whole["low"] <= said["low"] <= said["high"] <= whole["high"]
    code = code_of(digits.converted.spiking)
    np.testing.assert_allclose(code(digits.calibration.x) * code.scale, digits.calibration.x, atol=1e-6)  # 17 greys


@pytest.mark.parametrize(
    ("x", "step"),
    [
        (np.arange(256) / 255, 1 / 255),
        (np.arange(256) / 127.5 - 1, 1 / 255),
        ((np.arange(40, 256) - 83) * 0.5847029 + 0.0003, 0.5847029),
        (np.array([0.0, 3.0, 9.0]), 3.0),
        (np.random.default_rng(0).random(300), None),
        (np.linspace(0, 1, 10_000), None),
        (np.zeros(4), None),
    ],
)
def test_values_that_come_in_steps_are_found(x, step):
    found = input_range(x.astype(np.float32))["step"]
    assert found == (None if step is None else pytest.approx(step, rel=1e-5))


def test_a_network_without_integer_form_is_no_error(digits):
    analog = digits.converted.analog
    program, said, outputs = integer_part(
        analog.__class__.of(analog.nodes, digits.converted.spiking.information),
        digits.evaluation.x,
        digits.evaluation.y,
        np.zeros((8, len(digits.evaluation), 10), np.float32),
    )
    assert program is None
    assert outputs is None
    assert "convert the network first" in said["refused"]


def test_a_fit_that_brings_the_output_no_nearer_is_not_kept(digits, monkeypatch):
    def turned(*arguments, **said):
        return {name: each._replace(mean=-9 * each.mean) for name, each in input_moments(*arguments, **said).items()}

    def way():
        said = lowered(digits.converted.spiking, digits.calibration.x[:60], "fitted").graph.information["integer"]
        return said["rounding"]

    assert way() == "fitted"
    monkeypatch.setattr(integer, "input_moments", turned)
    assert way() == "nearest"


def test_means_of_samples_move_biases_only(digits):
    graph = digits.converted.spiking
    kept, plain = lowered(graph, digits.calibration.x[:60]), lowered(graph)
    assert [each.graph.information["integer"]["means_kept"] for each in (kept, plain)] == [True, False]
    changed = {
        key
        for node, other in zip(kept.graph.nodes, plain.graph.nodes, strict=True)
        for key in node.arrays
        if not np.array_equal(node.arrays[key], other.arrays[key])
    }
    assert changed == {"bias"}


def test_rounding_that_is_fitted_says_so_and_stays_near(digits):
    converted = digits.converted
    fit = digits.calibration.x[:100]
    real = outputs_over_time(converted.spiking, digits.evaluation.x, 8).numpy()
    arguments = converted.spiking, digits.evaluation.x, digits.evaluation.y, real
    program, said, outputs = integer_part(*arguments, fit=fit, rounding="fitted")
    _, nearest, rounded = integer_part(*arguments)
    assert (said["rounding"], nearest["rounding"]) == ("fitted", "nearest")
    errors = [np.square(each[-1] - real[-1]).mean() for each in (outputs, rounded)]
    assert errors[0] < errors[1]
    wanted = program.real_output(run_reference(program, digits.evaluation.x[:20], 8)[0])
    np.testing.assert_array_equal(outputs[:, :20], wanted)
