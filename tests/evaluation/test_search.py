"""The search over method, code and steps: what the front is, what is chosen, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeport import RangeError, SpikeportError, UnsupportedError
from spikeport.conversion.source import Source, analog_output
from spikeport.evaluation.search import Search, search_network
from spikeport.networks.graph import Graph, make_node

QUICK = Search(1.0, ("binary", "burst:2"), (2, 4))


@pytest.fixture(scope="module")
def made(digits):
    return search_network(digits.source, digits.calibration, QUICK)


def test_the_front_rises_in_both_and_the_choice_is_its_cheapest_that_is_good_enough(made) -> None:
    about = made.report["search"]
    accuracies = [point["accuracy"] for point in about["front"]]
    operations = [point["operations"] for point in about["front"]]
    assert accuracies == sorted(set(accuracies))
    assert operations == sorted(set(operations))
    good = [point for point in about["front"] if point["accuracy"] >= about["ann_accuracy"] - 0.01 - 1e-9]
    assert about["reached"] == bool(good)
    assert about["chosen"] == (good[0] if good else about["front"][-1])


def test_the_result_is_the_chosen_way(made) -> None:
    chosen = made.report["search"]["chosen"]
    assert made.report["spikes"] == chosen["code"]
    assert made.report["timesteps"] == chosen["steps"] == len(made.exit.outputs)
    assert made.report["method"] == chosen["method"]
    assert made.spiking.information["conversion"]["timesteps"] == chosen["steps"]
    assert str(chosen["steps"]) in made.report["ann_difference_by_step"]


def test_a_target_out_of_reach_is_said_and_the_most_accurate_way_taken(digits) -> None:
    # labels that the analog network always meets, and one step of binary spikes, which does not
    labels = torch.from_numpy(digits.source.run(digits.calibration.x)).argmax(1).numpy()
    calibration = replace(digits.calibration, y=labels)
    about = search_network(digits.source, calibration, Search(0.0, ("binary",), (1,))).report["search"]
    assert about["ann_accuracy"] == 1.0
    assert about["reached"] is False
    assert about["chosen"] == about["front"][-1]


def test_a_code_that_cannot_carry_the_network_is_left_out_with_its_reason(digits) -> None:
    nodes = [
        make_node("x", "input", shape=(1, 8, 8)),
        make_node("flat", "flatten", ["x"]),
        make_node("l", "linear", ["flat"], arrays={"weight": np.random.default_rng(0).normal(size=(10, 64)) / 8}),
        make_node("a", "activation", ["l"]),
        make_node("product", "multiply", ["a", "a"]),
        make_node("y", "output", ["product"]),
    ]
    graph = Graph.of(nodes)
    source = Source("product", graph, lambda x: analog_output(graph, x), "0")
    about = search_network(source, digits.calibration, Search(2.0, ("binary", "differential"), (4,))).report["search"]
    assert "product" in about["refused"]["binary"]
    assert about["chosen"]["code"] == "differential"
    with pytest.raises(UnsupportedError, match="product"):
        search_network(source, digits.calibration, Search(2.0, ("binary",), (4,)))


@pytest.mark.parametrize(
    "wrong", [{"points": -1.0}, {"points": float("nan")}, {"codes": ()}, {"windows": (0,)}, {"codes": ("ternary",)}]
)
def test_a_senseless_search_is_refused(wrong: dict) -> None:
    with pytest.raises(SpikeportError):
        Search(**wrong)


def test_senseless_points_name_their_range() -> None:
    with pytest.raises(RangeError, match="0 to 100"):
        Search(points=101)
