"""``evaluate`` on the integer network."""

from dataclasses import replace

import numpy as np
import torch

from spikeport.evaluation.activity import measured
from spikeport.evaluation.evaluate import evaluate_network
from spikeport.evaluation.timing import timed
from spikeport.hardware.reference import run_reference
from spikeport.inference import FixedSteps

STEPS = 8


def test_it_is_evaluated_in_whole_numbers(digits):
    converted, data = digits.converted, digits.evaluation
    result = evaluate_network(
        converted.integer, converted.analog, converted.exit, data, timing=False, max_loss=0.02
    )  # fmt: skip
    outputs = converted.integer.real_output(run_reference(converted.integer, data.x, STEPS)[0])
    labels = outputs.argmax(-1)
    assert result["bits"] == 8
    assert result["accuracy_by_step"] == [float((row == data.y).mean()) for row in labels]
    assert result["early_exit"]["engine_mismatches"] == 0
    assert result["early_exit"]["mean_steps"] < STEPS
    plain = evaluate_network(converted.spiking, converted.analog, converted.exit, data, timing=False, max_loss=0.02)
    assert plain["bits"] is None
    assert abs(plain["accuracy_by_step"][-1] - result["accuracy_by_step"][-1]) < 0.03
    assert plain["multiply_accumulates_per_sample"] == result["multiply_accumulates_per_sample"]


def test_its_exit_rule_is_calibrated_on_its_own_outputs(digits):
    """They are kept beside the float ones, and are what the reference gives on the same samples."""
    held, program = digits.converted.exit, digits.converted.integer
    assert held.of_integer.outputs is held.integer_outputs
    assert replace(held, integer_outputs=None).of_integer.outputs is held.outputs
    calibration = digits.calibration
    rows = [int(np.flatnonzero(calibration.hashes == each)[0]) for each in held.hashes[:20]]
    wanted = program.real_output(run_reference(program, calibration.x[rows], STEPS)[0])
    np.testing.assert_array_equal(held.integer_outputs[:, :20], wanted)


def test_its_spikes_are_counted(digits):
    program, x = digits.converted.integer, digits.evaluation.x[:20]
    activity = measured(program, x, STEPS, lambda done: None, batch_size=7)
    _, spikes = run_reference(program, x, STEPS, record=[node.name for node in program.neurons])
    wanted = sum(np.abs(values).reshape(STEPS, 20, -1).sum(2) for values in spikes.values())
    np.testing.assert_array_equal(activity.spikes.numpy(), wanted)


def test_its_time_is_measured(digits, monkeypatch):
    monkeypatch.setattr("spikeport.evaluation.timing.SECONDS", 0.01)
    monkeypatch.setattr("spikeport.evaluation.timing.PLANS", ((4, 64), (2, 64)))
    x = digits.evaluation.x
    found = timed(digits.converted.integer, x, FixedSteps(4), STEPS, 4, lambda stage, done: None, seed=0)
    assert found["wall_seconds"] > 0
    assert torch.get_num_threads() == found["timing_threads"]
