"""The evaluation from end to end: every number is one that can be recomputed, on data that chose nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.conversion.source import analog_output
from spikeport.data import content_hashes
from spikeport.evaluation.evaluate import calibrated_rule, evaluate_network, multiplies
from spikeport.inference import FixedSteps, decide, oracle, smallest_fixed_steps_of_equal_accuracy
from spikeport.networks.activity import ActivityMeter
from spikeport.networks.engine import Engine
from spikeport.networks.outputs import outputs_over_time

STEPS = 8
KEYS = {
    "data", "n", "seed", "timesteps", "labels", "ann_accuracy", "accuracy_by_step", "spikes_per_sample_by_step",
    "synaptic_operations_by_step", "multiply_accumulates_per_sample", "early_exit", "oracle", "figures",
}  # fmt: skip
EXIT_KEYS = {
    "policy", "threshold", "divisor", "accuracy", "accuracy_ci95", "mean_steps", "mean_steps_computed", "p95_steps",
    "spikes_per_sample", "synaptic_operations_per_sample", "smallest_fixed_steps_of_equal_accuracy", "speedup_steps",
    "speedup_steps_ci95",
}  # fmt: skip
WALL_KEYS = {"speedup_wall", "wall_seconds", "fixed_wall_seconds", "timing_n"}
LOSS = 0.02  # of so few samples, less would never let one stop early


def evaluated(digits, data=None, **options: Any) -> dict[str, Any]:
    converted = digits.converted
    data = digits.evaluation if data is None else data
    options = {"timing": False, "max_loss": LOSS, **options}
    return evaluate_network(converted.spiking, converted.analog, converted.exit, data, **options)


@pytest.fixture(scope="module")
def result(digits) -> dict[str, Any]:
    return evaluated(digits)


@pytest.fixture(scope="module")
def outputs(digits) -> torch.Tensor:
    return outputs_over_time(digits.converted.spiking, digits.evaluation.x, STEPS, batch_size=17, chunk=1)


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_the_result_has_every_key_and_is_json(digits, result: dict[str, Any]) -> None:
    assert result.keys() >= KEYS
    assert result["early_exit"].keys() >= EXIT_KEYS
    assert result["oracle"].keys() >= {"accuracy", "mean_steps"}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert np.isfinite(list(numbers(result))).all()
    assert (result["n"], result["timesteps"], result["labels"], result["data"]) == (
        120,
        STEPS,
        "true",
        digits.evaluation.name,
    )


def test_accuracies_are_those_of_the_engine(digits, result: dict[str, Any], outputs: torch.Tensor) -> None:
    right = (outputs.argmax(2).numpy() == digits.evaluation.y).mean(1)
    np.testing.assert_allclose(result["accuracy_by_step"], right)
    ann = analog_output(digits.converted.analog, digits.evaluation.x).argmax(1)
    assert result["ann_accuracy"] == pytest.approx((ann == digits.evaluation.y).mean())
    assert result["ann_accuracy"] > 0.9


def test_decisions_are_those_of_the_rule_on_cached_outputs(
    digits, result: dict[str, Any], outputs: torch.Tensor
) -> None:
    """The rule comes from the exit split alone."""
    rule, early = calibrated_rule(digits.converted.exit, max_loss=LOSS), result["early_exit"]
    assert (early["policy"], early["threshold"]) == ("confidence", rule.threshold)
    wanted = decide(rule, outputs)
    truth = torch.from_numpy(digits.evaluation.y)
    assert early["mean_steps"] == pytest.approx(float(wanted.steps.double().mean()))
    assert early["mean_steps"] < STEPS, "nobody stops early"
    assert early["accuracy"] == pytest.approx(float((wanted.label == truth).double().mean()))
    assert early["mean_steps_computed"] >= early["mean_steps"]
    assert early["p95_steps"] <= STEPS
    fixed = smallest_fixed_steps_of_equal_accuracy(outputs, truth, early["accuracy"])
    assert early["smallest_fixed_steps_of_equal_accuracy"] == fixed
    assert early["speedup_steps"] == pytest.approx(fixed / early["mean_steps"])
    histogram = np.bincount(wanted.steps.numpy() - 1, minlength=STEPS)
    assert result["figures"]["exit_step_histogram"] == histogram.tolist()
    assert result["oracle"] == pytest.approx(oracle(outputs, truth)._asdict())


def test_spikes_and_operations_are_those_of_a_recount(digits, result: dict[str, Any], outputs: torch.Tensor) -> None:
    graph, block = digits.converted.spiking, torch.from_numpy(digits.evaluation.x)
    meter, engine = ActivityMeter(graph), Engine(graph, max_steps=STEPS)
    engine.advance(block, engine.start(block), STEPS, meter.observe)
    steps = decide(calibrated_rule(digits.converted.exit, max_loss=LOSS), outputs).steps
    for by_step, at_exit, counted in (
        ("spikes_per_sample_by_step", "spikes_per_sample", meter.spikes),
        ("synaptic_operations_by_step", "synaptic_operations_per_sample", meter.accumulates),
    ):
        total = torch.stack(list(counted.values())).double().sum(0)[:STEPS].cumsum(0)
        np.testing.assert_allclose(result[by_step], total.mean(1).numpy(), rtol=1e-6)
        assert (np.diff(result[by_step]) >= 0).all()
        wanted = float(total.gather(0, steps[None] - 1).mean())
        assert result["early_exit"][at_exit] == pytest.approx(wanted, rel=1e-6)
        assert 0 < result["early_exit"][at_exit] < result[by_step][-1]
    windows = sum(min(i + 2, 8) - max(i - 1, 0) for i in range(8)) ** 2
    assert result["multiply_accumulates_per_sample"] == multiplies(graph, STEPS) == 8 * windows


def test_figures_agree_with_the_numbers(result: dict[str, Any]) -> None:
    figures = result["figures"]
    assert sum(figures["exit_step_histogram"]) == result["n"]
    fixed = figures["pareto"]["fixed"]
    assert [row[0] for row in fixed] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([row[1] for row in fixed], result["accuracy_by_step"])
    np.testing.assert_allclose([row[2] for row in fixed], result["synaptic_operations_by_step"])
    confidence = figures["pareto"]["confidence"]
    assert [row[0] for row in confidence] == sorted(row[0] for row in confidence)
    raster = figures["raster"]
    assert len(raster["times"]) == raster["units"]
    assert all(1 <= time <= STEPS for row in raster["times"] for time in row)


def test_a_fixed_policy_stops_everyone_at_its_step(digits, result: dict[str, Any]) -> None:
    early = evaluated(digits, policy=FixedSteps(3))["early_exit"]
    assert (early["policy"], early["threshold"]) == ("fixed", None)
    assert early["mean_steps"] == early["p95_steps"] == 3
    assert early["mean_steps_computed"] == 4, "the chunk is computed to its end"
    assert early["accuracy"] == pytest.approx(result["accuracy_by_step"][2])
    assert early["spikes_per_sample"] == pytest.approx(result["spikes_per_sample_by_step"][2])
    assert early["synaptic_operations_per_sample"] == pytest.approx(result["synaptic_operations_by_step"][2])


def test_no_loss_allowed_means_nobody_stops_early(digits) -> None:
    early = evaluated(digits, max_loss=0.0)["early_exit"]
    assert early["mean_steps"] == STEPS
    assert early["threshold"] == 1.0


def test_evaluating_twice_gives_the_same_but_for_wall_times(digits, result: dict[str, Any]) -> None:
    again = evaluated(digits, timing=True)
    early = again["early_exit"]
    assert early.keys() >= WALL_KEYS
    assert all(early[key] > 0 for key in WALL_KEYS)
    assert early["speedup_wall"] == pytest.approx(early["fixed_wall_seconds"] / early["wall_seconds"])
    again["early_exit"] = {key: value for key, value in early.items() if key in result["early_exit"]}
    assert again == result


def test_the_order_of_the_samples_changes_no_number(digits, result: dict[str, Any]) -> None:
    order = np.random.default_rng(0).permutation(len(digits.evaluation))
    shuffled = evaluated(digits, digits.evaluation.take(order))
    for key in ("ann_accuracy", "accuracy_by_step"):
        assert shuffled[key] == pytest.approx(result[key])
    for key in ("accuracy", "mean_steps", "spikes_per_sample", "smallest_fixed_steps_of_equal_accuracy"):
        assert shuffled["early_exit"][key] == pytest.approx(result["early_exit"][key])


def test_without_labels_agreement_with_the_network_is_measured(digits, outputs: torch.Tensor) -> None:
    result = evaluated(digits, replace(digits.evaluation, y=None))
    assert (result["labels"], result["calibration_labels"], result["ann_accuracy"]) == ("ann", "true", 1.0)
    ann = analog_output(digits.converted.analog, digits.evaluation.x).argmax(1)
    agreement = (outputs.argmax(2).numpy() == ann).mean(1)
    np.testing.assert_allclose(result["accuracy_by_step"], agreement)


def test_calibration_without_labels_uses_agreement(digits) -> None:
    held = digits.converted.exit
    unlabelled = replace(held, labels=np.full_like(held.labels, -1))
    rule = calibrated_rule(unlabelled, max_loss=LOSS)
    assert rule == calibrated_rule(replace(held, labels=held.ann_labels), max_loss=LOSS)
    converted = digits.converted
    result = evaluate_network(
        converted.spiking, converted.analog, unlabelled, digits.evaluation, max_loss=LOSS, timing=False
    )
    assert (result["labels"], result["calibration_labels"]) == ("true", "ann")
    assert result["early_exit"]["threshold"] == rule.threshold


def test_calibration_data_are_never_evaluated(digits) -> None:
    for index in ([0], [5, 17, 250]):
        shared = digits.calibration.take(np.array(index))
        with pytest.raises(RangeError, match=f"{len(index)} of {len(index)} samples"):
            evaluated(digits, shared)
    mixed = np.concatenate([digits.evaluation.x, digits.calibration.x[:1]])
    y = np.concatenate([digits.evaluation.y, digits.calibration.y[:1]])
    data = replace(digits.evaluation, x=mixed, y=y, hashes=content_hashes(mixed))
    with pytest.raises(RangeError, match="1 of 121 samples"):
        evaluated(digits, data)


def test_bad_data_and_options_are_refused(digits) -> None:
    data = digits.evaluation
    with pytest.raises(RangeError, match="fixed:9 asks for more steps than the 8"):
        evaluated(digits, policy=FixedSteps(9))
    with pytest.raises(RangeError, match="max_loss"):
        evaluated(digits, max_loss=-0.1)
    for label in (10, -1):
        with pytest.raises(RangeError, match="10 classes"):
            evaluated(digits, replace(data, y=np.where(data.y == 3, label, data.y)))
    with pytest.raises(ShapeError, match="at least one"):
        evaluated(digits, data.take(np.arange(0)))
    narrow = data.x[:, :, :7]
    with pytest.raises(ShapeError, match=r"\(1, 7, 8\)"):
        evaluated(digits, replace(data, x=narrow, hashes=content_hashes(narrow)))
    broken = data.x.copy()
    broken[7, 0, 0, 0] = np.nan
    with pytest.raises(SpikeportError, match=r"NaN.*first at 7"):
        evaluated(digits, replace(data, x=broken, hashes=content_hashes(broken)))


def test_few_samples_are_enough(digits) -> None:
    result = evaluated(digits, digits.evaluation.take(np.arange(1)), timing=True)
    assert result["n"] == 1
    assert json.dumps(result, allow_nan=False)
