"""Activations in levels: what they give, their gradients, and that a neuron says the same in as many steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import Graph, ShapeError, SpikeportError
from spikeport.networks.engine import Engine
from spikeport.networks.file import load_graph, save_graph
from spikeport.networks.graph import make_node
from spikeport.networks.quantised import quantised


def one_unit(code: str, theta: np.ndarray) -> Graph:
    arrays = {"threshold": theta, "initial": theta / 2, "bias": np.zeros_like(theta)}
    neuron = make_node("n", "neuron", ["x"], arrays=arrays, code=code, test=">=", reset="subtract")
    return Graph.of([make_node("x", "input", shape=(64,)), neuron, make_node("y", "output", ["n"])])


@pytest.mark.parametrize("code", ["binary", "signed"])
@pytest.mark.parametrize("levels", [1, 2, 4, 7, 16])
def test_a_neuron_says_the_same_in_as_many_steps_of_an_even_input(code: str, levels: int) -> None:
    rng = np.random.default_rng(levels)
    theta = rng.uniform(0.5, 2.0, 64).astype(np.float32)
    # whole multiples of an eighth level, and off the middle between two levels, where rounding errors would decide
    x = torch.from_numpy((rng.integers(-40, 200, (50, 64)) / 8 + 1 / 16) * theta / levels).float()
    graph = one_unit(code, theta)
    engine = Engine(graph, max_steps=levels)
    spikes, _ = engine.advance(x, engine.start(x), levels)
    wanted = quantised(x, torch.from_numpy(theta), levels)
    assert_close(spikes[-1] * torch.from_numpy(theta) / levels, wanted)


def test_values_are_levels_between_0_and_the_ceiling() -> None:
    x = torch.linspace(-3, 9, 1001)
    y = quantised(x, torch.tensor(2.0), 4)
    assert set(y.tolist()) == {0.0, 0.5, 1.0, 1.5, 2.0}
    inside = (x > 0) & (x < 2)
    assert float((y - x)[inside].abs().max()) <= 0.25 + 1e-6


def test_gradients_are_those_of_the_formula_with_a_straight_floor() -> None:
    x = torch.tensor([-1.0, 0.4, 1.3, 9.0], requires_grad=True)
    ceiling = torch.tensor(2.0, requires_grad=True)
    quantised(x, ceiling, 4).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    # inside: a = c/L * (L x / c + 1/2 + r) with r the constant that the floor takes off: da/dc = a / c - x / c
    inside = torch.tensor([0.4, 1.3])
    wanted = (quantised(inside, torch.tensor(2.0), 4) / 2 - inside / 2).sum() + 1.0
    assert ceiling.grad is not None
    assert_close(ceiling.grad, wanted)


@pytest.mark.parametrize(
    ("attributes", "arrays"),
    [
        ({"levels": 4}, {}),
        ({}, {"ceiling": np.ones(())}),
        ({"levels": 4, "maximum": 6.0}, {"ceiling": np.ones(())}),
        ({"levels": 4}, {"ceiling": np.ones(5)}),
        ({"levels": 4}, {"ceiling": np.zeros(())}),
        ({"levels": 0}, {"ceiling": np.ones(())}),
        ({"levels": 4}, {"ceiling": np.full((), np.nan)}),
    ],
)
def test_a_senseless_activation_is_refused(attributes: dict, arrays: dict) -> None:
    with pytest.raises(SpikeportError, match="a1"):
        Graph.of(
            [
                make_node("x", "input", shape=(3,)),
                make_node("a1", "activation", ["x"], arrays=arrays, **attributes),
                make_node("y", "output", ["a1"]),
            ]
        )


def test_the_engine_and_the_file_keep_levels(tmp_path: Path) -> None:

    nodes = [
        make_node("x", "input", shape=(3, 4, 4)),
        make_node("a", "activation", ["x"], arrays={"ceiling": np.array([0.5, 1.0, 2.0])}, levels=3),
        make_node("y", "output", ["a"]),
    ]
    graph = Graph.of(nodes)
    save_graph(graph, tmp_path / "g.safetensors")
    held = load_graph(tmp_path / "g.safetensors")
    x = torch.rand(5, 3, 4, 4) * 3
    engine = Engine(held, max_steps=1)
    output, _ = engine.advance(x, engine.start(x), 1)
    assert_close(output[0], quantised(x, torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1), 3))


def test_shapes_must_fit() -> None:
    with pytest.raises(ShapeError):
        Graph.of(
            [
                make_node("x", "input", shape=(3, 4, 4)),
                make_node("a", "activation", ["x"], arrays={"ceiling": np.ones(4)}, levels=3),
                make_node("y", "output", ["a"]),
            ]
        )
