"""The ramp of the readout: what it computes, and that it is the one nearest to the analog network."""

import numpy as np
import pytest
import torch

from spikeport.conversion.methods import Recipe
from spikeport.conversion.readout import RAMPS, with_readout
from spikeport.conversion.source import analog_output
from spikeport.conversion.thresholds import MeanSquare
from spikeport.networks.engine import Engine, select
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.outputs import outputs_over_time

STEPS = 12


def network(ramp: int, operator: str = "neuron") -> Graph:
    """Two layers with fixed random weights; spiking, or the analog one that it stands for."""
    draw = np.random.default_rng(0)
    layers = [make_node("x", "input", shape=(6,))]
    source = "x"
    for name, size in (("a", 16), ("b", 16)):
        width = layers[-1].attributes["shape"][0] if source == "x" else 16
        weight = draw.normal(size=(size, width)) / np.sqrt(width)
        layers.append(make_node(f"{name}.synapse", "linear", [source], arrays={"weight": weight}))
        if operator == "neuron":
            arrays = {"threshold": np.ones(()), "initial": np.full((), 0.5), "bias": np.zeros(())}
            code = {"code": "binary", "test": ">=", "reset": "subtract"}
            layers.append(make_node(name, "neuron", [f"{name}.synapse"], arrays=arrays, **code))
        else:
            layers.append(make_node(name, "activation", [f"{name}.synapse"]))
        source = name
    layers.append(make_node("head", "linear", [source], arrays={"weight": draw.normal(size=(3, 16))}))
    return Graph.of([*layers, make_node("output", "output", ["head"], ramp=ramp)])


@pytest.fixture
def x() -> np.ndarray:
    """20 samples."""
    return np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)


@pytest.mark.parametrize("ramp", RAMPS)
def test_the_output_is_t_times_the_mean_of_what_is_said_weighted_by_k_to_the_ramp(ramp: int, x: np.ndarray) -> None:
    said = outputs_over_time(network(0), x, STEPS).double()
    said = torch.cat([said[:1], said.diff(dim=0)])
    weight = torch.arange(1, STEPS + 1).double()[:, None, None] ** ramp
    t = torch.arange(1, STEPS + 1)[:, None, None]
    wanted = t * (said * weight).cumsum(0) / weight.cumsum(0)
    torch.testing.assert_close(outputs_over_time(network(ramp), x, STEPS).double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("ramp", RAMPS)
def test_samples_keep_their_own_age(ramp: int, x: np.ndarray) -> None:
    engine, block = Engine(network(ramp), max_steps=STEPS), torch.from_numpy(x)
    whole, _ = engine.advance(block, engine.start(block), STEPS)
    old = engine.advance(block[:5], engine.start(block[:5]), 4)[1]
    mixed = engine.join(old, engine.start(block[5:]))
    output, state = engine.advance(block, mixed, 8)
    torch.testing.assert_close(output[:, :5], whole[4:, :5])
    torch.testing.assert_close(output[:, 5:], whole[:8, 5:])
    rest, _ = engine.advance(block[5:], select(state, torch.arange(5, 20)), 4)
    torch.testing.assert_close(rest, whole[8:, 5:])


def test_the_chosen_ramp_is_nearest_to_the_analog_network(x: np.ndarray) -> None:
    analog, spiking = network(0, "activation"), network(0)
    wanted = torch.from_numpy(analog_output(analog, x))
    t = torch.arange(1, STEPS + 1)[:, None, None]

    def distance(graph: Graph) -> float:
        mean = outputs_over_time(graph, x, STEPS) / t
        return float((mean - wanted)[STEPS // 2 :].square().mean())

    chosen = with_readout(spiking, analog, x, STEPS)
    assert distance(chosen) <= min(distance(network(ramp)) for ramp in RAMPS) + 1e-9


def test_every_recipe_chooses_a_ramp_and_the_same_one_again(x: np.ndarray) -> None:
    analog = network(0, "activation")
    ramps = {
        Recipe(MeanSquare(), correction).convert(analog, x, code="binary", timesteps=STEPS).output.attributes["ramp"]
        for correction in (False, False)
    }
    assert len(ramps) == 1
    assert ramps <= set(RAMPS)
