"""The table of faults: what a cell says, and that it hits all that a network stores."""

import sys

import numpy as np
import pytest

from spikeport.networks.graph import Graph, make_node
from spikeport.networks.protection import with_bounds


@pytest.fixture
def table(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import fault_table

    yield fault_table
    for name in ("fault_table", "integer_accuracy", "conversion_table", "models"):
        sys.modules.pop(name, None)


def test_a_cell_is_the_mean_and_its_interval_over_trials(table):
    assert table.cell(None) == table.cell({}) == "–"
    assert table.cell({"500": [0.9875]}) == "98.8"
    assert table.cell({"500": [0.9, 0.92, 0.94], "40": [0.1, 0.2]}) == "92.0 ± 5.0"


def test_every_executor_has_its_rows_and_what_was_not_measured_a_dash(table):
    kept = {"mnist_cnn": {"integer": {"none": {"0": {"500": [0.99]}, "0.001": {"500": [0.9, 0.92]}}}}}
    empty, head, line, row = table.tables(kept)
    assert empty == ""
    assert head.count("|") == line.count("|") == row.count("|")
    assert row.startswith("| MNIST CNN (sinabs weights), none | 500 | 2 | 99.0 | – | 91.0 ± 12.7 |")


def test_all_that_is_stored_is_hit(table):
    graph = Graph.of(
        [
            make_node("x", "input", shape=(2,)),
            make_node("a", "linear", ["x"], arrays={"weight": np.ones((2, 2)), "bias": np.ones(2)}),
            make_node("r", "activation", ["a"]),
            make_node("y", "output", ["r"]),
        ]
    )
    assert table.every_bit(graph, 0.1).to_json() == {"weights": 0.1, "biases": 0.1}
    assert table.every_bit(with_bounds(graph, {"r": np.float32(1)}), 0.1).to_json()["bounds"] == 0.1
