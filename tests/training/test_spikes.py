"""A converted network over its window: it says what the engine says, and learns; what it cannot hold is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import Graph, RangeError, ShapeError
from spikeport.conversion.readout import _with_ramp
from spikeport.conversion.spiking import spiking
from spikeport.conversion.thresholds import MeanSquare
from spikeport.networks.graph import make_node
from spikeport.networks.outputs import outputs_over_time
from spikeport.training.losses import AnytimeCrossEntropy
from spikeport.training.spikes import SpikingWindow

STEPS = 4


def perceptron(seed: int = 0) -> Graph:
    """8 inputs, 32 ReLUs, 3 classes."""
    rng = np.random.default_rng(seed)
    nodes = [
        make_node("x", "input", shape=(8,)),
        make_node("l1", "linear", ["x"], arrays={"weight": rng.normal(size=(32, 8)), "bias": rng.normal(size=32)}),
        make_node("a", "activation", ["l1"]),
        make_node("l2", "linear", ["a"], arrays={"weight": rng.normal(size=(3, 32))}),
        make_node("y", "output", ["l2"]),
    ]
    return Graph.of(nodes)


def samples(n: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32)


@pytest.fixture
def graph() -> Graph:
    analog = perceptron()
    return spiking(analog, MeanSquare().thresholds(analog, samples(64), STEPS), "binary")


@pytest.mark.parametrize("ramp", [0, 1, 3])
def test_its_mean_over_the_first_steps_is_what_the_engine_says_then(graph: Graph, ramp: int) -> None:
    graph, x = _with_ramp(graph, ramp), samples(20)
    output, state = SpikingWindow(graph, STEPS)(torch.from_numpy(x)[None])
    assert state is None
    assert_close(output.detach().cumsum(0), outputs_over_time(graph, x, STEPS), atol=1e-4, rtol=1e-4)


def test_it_learns_and_gives_the_graph_back(graph: Graph) -> None:
    x, labels = torch.from_numpy(samples(128)), torch.from_numpy(samples(128)[:, :3].argmax(1))
    network, loss = SpikingWindow(graph, STEPS), AnytimeCrossEntropy()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    before = loss(network(x[None])[0], labels).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(network(x[None])[0], labels).backward()
        optimizer.step()
    assert loss(network(x[None])[0], labels).item() < 0.5 * before
    said = outputs_over_time(network.to_graph(), x.numpy(), STEPS)
    assert_close(said[-1], network(x[None])[0].detach().sum(0), atol=1e-3, rtol=1e-3)
    assert float((said[-1].argmax(1) == labels).double().mean()) > 0.8


@pytest.mark.parametrize("steps", [0, 65])
def test_a_window_that_is_none_or_too_long_is_refused(graph: Graph, steps: int) -> None:
    with pytest.raises(RangeError, match="1 to 64"):
        SpikingWindow(graph, steps)


@pytest.mark.parametrize("shape", [(2, 5, 8), (1, 5, 7), (5, 8)])
def test_a_sequence_and_a_wrong_shape_are_refused(graph: Graph, shape: tuple[int, ...]) -> None:
    make: Callable[..., torch.Tensor] = torch.zeros
    with pytest.raises(ShapeError, match="1, batch"):
        SpikingWindow(graph, STEPS)(make(shape))
