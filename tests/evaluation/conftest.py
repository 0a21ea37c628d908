"""A converted network that is quick to make."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from spikeport.data import Preprocessing, content_hashes
from spikeport.evaluation.convert import Converted, ExitData
from spikeport.networks.graph import Graph, make_node


@pytest.fixture
def make_converted() -> Callable[[int], Converted]:
    """Return a function that makes a conversion; another number gives other weights."""

    def make(number: int = 0) -> Converted:
        rng = np.random.default_rng(number)
        weight = rng.normal(size=(3, 4)).astype(np.float32)
        information = {"preprocessing": Preprocessing(0.5).to_json(), "number": number}

        def graph(middle: Any) -> Graph:
            nodes = [make_node("x", "input", shape=(4,)), make_node("w", "linear", ["x"], arrays={"weight": weight})]
            return Graph.of([*nodes, middle, make_node("y", "output", ["a"])], information)

        ones = np.ones(3, np.float32)
        neuron = make_node(
            "a",
            "neuron",
            ["w"],
            arrays={"threshold": ones, "initial": ones / 2, "bias": 0 * ones},
            code="binary",
            test=">=",
            reset="subtract",
        )
        hashes = content_hashes(rng.normal(size=(20, 4)).astype(np.float32))
        outputs = rng.normal(size=(5, 6, 3)).astype(np.float32)
        labels = rng.integers(0, 3, 6)
        exit_data = ExitData(outputs, labels, labels, hashes[:6], hashes)
        report = {"model": f"number {number}", "timesteps": 5}
        return Converted(graph(neuron), graph(make_node("a", "activation", ["w"])), exit_data, report)

    return make


@pytest.fixture
def render() -> Callable[[Mapping[str, Any]], str]:
    """A page that is quick to make."""
    return lambda report: f"<p>{report['convert']['model']}</p>"
