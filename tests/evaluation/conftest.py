"""Converted networks that are quick to make: a random one, and one that knows the digits."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from spikeport.conversion.methods import Recipe
from spikeport.conversion.module_import import import_module
from spikeport.conversion.source import Source
from spikeport.conversion.thresholds import MeanSquare
from spikeport.data import Dataset, Preprocessing, content_hashes, load_data
from spikeport.evaluation.convert import Converted, ExitData, convert_network
from spikeport.evaluation.integer import lowered
from spikeport.networks.graph import Graph, make_node


@pytest.fixture
def make_converted() -> Callable[[int], Converted]:
    """Return a function that makes a conversion; another number gives other weights."""

    def make(number: int = 0) -> Converted:
        rng = np.random.default_rng(number)
        weight = rng.normal(size=(3, 4)).astype(np.float32)
        statistics = {"low": -1.0, "high": 1.0, "whole": False}
        information = {"preprocessing": Preprocessing(0.5).to_json(), "number": number, "input_range": statistics}

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
        exit_data = ExitData(outputs, labels, labels, hashes[:6], hashes, outputs + 1)
        report = {"model": f"number {number}", "timesteps": 5}
        spiking = graph(neuron)
        return Converted(spiking, graph(make_node("a", "activation", ["w"])), exit_data, report, lowered(spiking))

    return make


@pytest.fixture
def render() -> Callable[[Mapping[str, Any]], str]:
    """A page that is quick to make."""
    return lambda report: f"<p>{report['convert']['model']}</p>"


class Digits(NamedTuple):
    """A network trained on 800 digits, 300 others to calibrate with, 120 more to measure with, and its conversion."""

    source: Source
    calibration: Dataset
    evaluation: Dataset
    converted: Converted


STEPS = 8


@pytest.fixture(scope="session")
def digits() -> Digits:
    data, evaluation = load_data("digits", part="calibration"), load_data("digits", part="evaluation")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
        _train(network, torch.from_numpy(data.x[:800]), torch.from_numpy(data.y[:800]))
    source = import_module(network, data.features, name="digits")
    calibration = data.take(np.arange(800, 1100))
    converted = convert_network(source, calibration, method=Recipe(MeanSquare()), timesteps=STEPS, seed=0)
    return Digits(source, calibration, evaluation.take(np.arange(120)), converted)


def _train(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(6):
        for index in torch.randperm(len(x)).split(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[index]), y[index]).backward()
            optimizer.step()
