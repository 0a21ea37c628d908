"""The main job from end to end, on a network that knows the digits."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport import RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.conversion.methods import Auto, Recipe
from spikeport.conversion.source import analog_output
from spikeport.conversion.thresholds import MeanSquare, Percentile
from spikeport.data import Dataset, content_hashes, split_calibration
from spikeport.evaluation.convert import Converted, convert_network
from spikeport.networks.activity import payload_bits
from spikeport.networks.outputs import outputs_over_time

STEPS = 8
PLAIN = Recipe(Percentile(), False)
KEYS = {
    "model", "source_sha256", "method", "method_reason", "candidates", "spikes", "timesteps", "seed", "n_fit",
    "n_choose", "n_exit", "ann_output_max_error", "unsupported", "notes", "layers", "n", "ann_accuracy",
    "accuracy_by_step", "accuracy_ci95_by_step", "steps_within",
}  # fmt: skip
LAYER_KEYS = {
    "name", "source", "became", "threshold", "rate_correlation", "rate_error", "dead_fraction", "saturated_fraction",
    "spikes_per_sample", "accumulates_per_sample", "multiply_accumulates_per_sample",
}  # fmt: skip


def test_the_report_has_every_key_and_is_json(digits) -> None:
    report = digits.converted.report
    assert report.keys() >= KEYS
    assert all(row.keys() >= LAYER_KEYS for row in report["layers"])
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["unsupported"] == []
    assert (report["spikes"], report["timesteps"], report["seed"], report["labels"]) == ("binary", STEPS, 0, "true")
    assert report["source_sha256"] == digits.source.sha256
    assert report["n_fit"] + report["n_choose"] + report["n_exit"] == len(digits.calibration)
    assert report["n_choose"] + report["n_exit"] >= 0.3 * len(digits.calibration)
    assert report["ann_output_max_error"] < 1e-5


def test_the_network_is_converted_within_a_point(digits) -> None:
    report = digits.converted.report
    assert report["ann_accuracy"] > 0.93
    assert report["accuracy_by_step"][-1] >= report["ann_accuracy"] - 0.025
    assert all(row["rate_correlation"] > 0.9 for row in report["layers"])
    operators = [node.operator for node in digits.converted.spiking.nodes]
    assert operators == ["input", "conv2d", "max_pool", "neuron", "flatten", "linear", "neuron", "linear", "output"]


def test_numbers_are_those_of_a_recount_on_the_exit_split(digits) -> None:
    converted, calibration = digits.converted, digits.calibration
    split = split_calibration(len(calibration), 0, hashes=calibration.hashes)
    held = calibration.take(split.exit)
    outputs = outputs_over_time(converted.spiking, held.x, STEPS, batch_size=7, chunk=3).numpy()
    np.testing.assert_allclose(converted.exit.outputs, outputs, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(converted.exit.labels, held.y)
    np.testing.assert_array_equal(converted.exit.hashes, held.hashes)
    np.testing.assert_array_equal(np.sort(converted.exit.calibration_hashes), np.sort(calibration.hashes))
    report, right = converted.report, (converted.exit.outputs.argmax(2) == held.y).mean(1)
    np.testing.assert_allclose(report["accuracy_by_step"], right)
    ann = analog_output(converted.analog, held.x).argmax(1)
    np.testing.assert_array_equal(converted.exit.ann_labels, ann)
    assert report["ann_accuracy"] == pytest.approx((ann == held.y).mean())
    for value, (low, high) in zip(right, report["accuracy_ci95_by_step"], strict=True):
        assert low <= value <= high
    difference = report["ann_difference_by_step"][str(STEPS)]
    assert difference[0] == pytest.approx(right[-1] - report["ann_accuracy"])
    assert difference[1] <= difference[0] <= difference[2]


def test_the_graphs_know_where_they_come_from(digits) -> None:
    for graph in digits.converted.spiking, digits.converted.analog:
        assert graph.information["source"]["sha256"] == digits.source.sha256
        assert graph.information["preprocessing"] == digits.calibration.preprocessing.to_json()
    assert digits.converted.spiking.information["conversion"]["timesteps"] == STEPS


def same(first: Converted, second: Converted) -> bool:
    arrays = [
        np.array_equal(array, second.spiking.by_name[node.name].arrays[key])
        for node in first.spiking.nodes
        for key, array in node.arrays.items()
    ]
    return all(arrays) and np.array_equal(first.exit.outputs, second.exit.outputs) and first.report == second.report


def test_the_same_seed_gives_the_same_result_and_another_one_another_split(digits) -> None:
    def converted(seed: int) -> Converted:
        return convert_network(digits.source, digits.calibration, method=PLAIN, timesteps=4, seed=seed)

    first = converted(3)
    assert same(first, converted(3))
    assert not np.array_equal(first.exit.hashes, converted(4).exit.hashes)


def test_methods_see_nothing_of_the_exit_split(digits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    convert = Recipe.convert

    def spied(self: Recipe, analog: Any, x: np.ndarray, **options: Any) -> Any:
        seen.append(content_hashes(x))
        return convert(self, analog, x, **options)

    monkeypatch.setattr(Recipe, "convert", spied)
    method = Auto((PLAIN, Recipe(MeanSquare(), False)))
    result = convert_network(digits.source, digits.calibration, method=method, timesteps=4)
    assert len(seen) == 2
    split = split_calibration(len(digits.calibration), 0, hashes=digits.calibration.hashes)
    for hashes in seen:
        assert set(hashes) == set(digits.calibration.hashes[split.fit])
        assert not np.isin(hashes, result.exit.hashes).any()
    assert len(result.report["candidates"]) == 2


def test_signed_spikes_and_progress(digits) -> None:
    seen: list[tuple[str, float]] = []
    result = convert_network(
        digits.source,
        digits.calibration,
        method=PLAIN,
        code="signed",
        timesteps=4,
        progress=lambda stage, done: seen.append((stage, done)),
    )
    assert {node.attributes["code"] for node in result.spiking.of_operator("neuron")} == {"signed"}
    assert result.report["spikes"] == "signed"
    assert {stage for stage, _ in seen} >= {"check the import", "run the exit split", "measure the layers"}
    assert all(0 <= done <= 1 for _, done in seen)


@pytest.mark.parametrize(("code", "bits"), [("burst:3", 2), ("differential", 4), ("differential:5", 4)])
def test_graded_spikes_reach_the_network_in_few_steps(digits, code: str, bits: int) -> None:
    result = convert_network(digits.source, digits.calibration, method=PLAIN, code=code, timesteps=4)
    report, neurons = result.report, result.spiking.of_operator("neuron")
    assert report["spikes"] == code
    assert {payload_bits(node) for node in neurons} == {bits}
    assert report["accuracy_by_step"][-1] >= report["ann_accuracy"] - 0.02
    assert all(row["payload_bits_per_sample"] >= bits for row in report["layers"])
    assert all(row["rate_error"] < 0.3 for row in report["layers"])
    if code.startswith("differential"):
        assert "differential coding" in report["integer"]["refused"]
        assert result.integer is None
        assert (result.exit.outputs[-1] / 4).argmax(1).tolist() == result.exit.outputs[-1].argmax(1).tolist()


def test_what_stays_analog_is_listed(digits) -> None:
    rows = convert_network(digits.source, digits.calibration, method=PLAIN, timesteps=4).report["stays_analog"]
    assert [(row["operator"], row["evaluations"]) for row in rows] == [("max_pool", 1)], "of a constant input: once"
    assert rows[0]["operations_per_sample"] == 8 * 4 * 4 * 4


def test_without_labels_agreement_with_the_network_is_measured(digits) -> None:
    data = replace(digits.calibration, y=None)
    result = convert_network(digits.source, data, method=PLAIN, timesteps=STEPS)
    assert result.report["labels"] == "ann"
    assert result.report["ann_accuracy"] == 1.0
    assert not result.exit.labelled
    assert (result.exit.labels == -1).all()
    agreement = (result.exit.outputs[-1].argmax(1) == result.exit.ann_labels).mean()
    assert result.report["accuracy_by_step"][-1] == pytest.approx(agreement)


def changed(data: Dataset, **parts: Any) -> Dataset:
    parts = {"hashes": content_hashes(parts["x"]), **parts} if "x" in parts else parts
    return replace(data, **parts)


def with_value(x: np.ndarray, value: float) -> np.ndarray:
    x = x.copy()
    x[-1, 0, 3, 3] = value
    return x


BAD: dict[str, tuple[Callable[[Dataset], Dataset], type, str]] = {
    "one sample": (lambda d: d.take(np.arange(1)), RangeError, "at least 10"),
    "no sample": (lambda d: d.take(np.arange(0)), RangeError, "at least 10"),
    "one sample, repeated": (lambda d: d.take(np.zeros(50, np.int64)), RangeError, "1 of them different"),
    "a label too high": (lambda d: changed(d, y=np.full(len(d), 10)), RangeError, "10 classes"),
    "a label below 0": (lambda d: changed(d, y=np.where(d.y == 3, -1, d.y)), RangeError, "from -1"),
    "another shape": (lambda d: changed(d, x=d.x[:, :, :6]), ShapeError, r"\(1, 6, 8\)"),
    "NaN": (lambda d: changed(d, x=with_value(d.x, np.nan)), RangeError, "NaN or infinity"),
    "infinity": (lambda d: changed(d, x=with_value(d.x, np.inf)), RangeError, "NaN or infinity"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calibration_data_are_refused(digits, name: str) -> None:
    change, error, words = BAD[name]
    with pytest.raises(error, match=words):
        convert_network(digits.source, change(digits.calibration), method=PLAIN, timesteps=4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timesteps": 0}, "1 to 4096"),
        ({"timesteps": 5000}, "1 to 4096"),
        ({"code": "graded"}, "binary, signed, burst, differential"),
        ({"code": "binary:2"}, "no number"),
        ({"code": "burst:1"}, "2 to 65536"),
        ({"code": "differential:17"}, "1 to 16"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(digits, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpikeportError, match=words):
        convert_network(digits.source, digits.calibration, **{"method": PLAIN, **options})


def test_a_source_that_its_graph_does_not_repeat_is_refused(digits) -> None:
    wrong = replace(digits.source, run=lambda x: digits.source.run(x) + 0.5)
    with pytest.raises(SpikeportError, match="differs from digits"):
        convert_network(wrong, digits.calibration, method=PLAIN, timesteps=4)


def test_a_network_without_spiking_layers_is_refused(digits) -> None:
    from spikeport.networks.graph import Graph, make_node

    head = make_node("w", "linear", ["f"], arrays={"weight": np.ones((3, 64))})
    nodes = [make_node("x", "input", shape=(1, 8, 8)), make_node("f", "flatten", ["x"]), head]
    graph = Graph.of([*nodes, make_node("y", "output", ["w"])])
    source = replace(digits.source, graph=graph, run=lambda x: analog_output(graph, x))
    with pytest.raises(UnsupportedError, match="no ReLU"):
        convert_network(source, digits.calibration, method=PLAIN, timesteps=4)
