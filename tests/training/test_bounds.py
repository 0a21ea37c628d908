"""Learned bounds: lower than the largest values, at no more accuracy than was allowed, and weights stay."""

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.outputs import outputs_over_time
from spikeport.networks.protection import activation_maxima, maximum_bounds, with_bounds
from spikeport.training.bounds import BoundFit, fit_bounds
from spikeport.training.step import Samples


@pytest.fixture(scope="module")
def network() -> Graph:
    """Two classes by the sign of the first input, through two layers; a few inputs are far larger than the rest."""
    rng = np.random.default_rng(0)
    first = np.concatenate([[[1, 0, 0], [-1, 0, 0]], rng.normal(0, 0.1, (6, 3))])
    second = np.eye(8) + rng.normal(0, 0.02, (8, 8))
    last = np.zeros((2, 8))
    last[0, 0] = last[1, 1] = 1
    return Graph.of(
        [
            make_node("x", "input", shape=(3,)),
            make_node("a", "linear", ["x"], arrays={"weight": first}),
            make_node("r", "activation", ["a"]),
            make_node("b", "linear", ["r"], arrays={"weight": second}),
            make_node("s", "activation", ["b"]),
            make_node("c", "linear", ["s"], arrays={"weight": last}),
            make_node("y", "output", ["c"]),
        ]
    )


@pytest.fixture(scope="module")
def samples() -> Samples:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 3)).astype(np.float32)
    x[:4] *= 20
    return Samples(torch.from_numpy(x), torch.from_numpy((x[:, 0] < 0).astype(np.int64)))


@pytest.fixture(scope="module")
def fitted(network, samples):
    bounds = maximum_bounds(network, activation_maxima(network, samples.x.numpy()))
    seen: list[float] = []
    found, report = fit_bounds(network, bounds, samples, BoundFit(allowed=0.01), lambda stage, done: seen.append(done))
    assert seen == [0.5, 1.0]
    return bounds, found, report


def test_bounds_are_lowered_within_what_is_allowed(network, samples, fitted):
    bounds, found, report = fitted
    assert report["accuracy"] - 0.01 <= report["bounded_accuracy"]
    assert report["share_left"]["s"] < 0.9
    assert list(report["share_left"]) == ["s", "r"], "from the last to the first"
    for name, bound in found.items():
        assert bound.shape == bounds[name].shape
        assert (bound <= bounds[name]).all()
        assert np.isfinite(bound).all()
    plain, bounded = (
        outputs_over_time(graph, samples.x.numpy(), 1)[-1].argmax(1) for graph in (network, with_bounds(network, found))
    )
    assert (plain == samples.y).double().mean() - (bounded == samples.y).double().mean() < 0.02


def test_the_same_seed_fits_the_same(network, samples, fitted):
    again, _ = fit_bounds(network, fitted[0], samples, BoundFit(allowed=0.01))
    assert all(np.array_equal(again[name], bound) for name, bound in fitted[1].items())


def test_nothing_allowed_costs_nothing(network, samples):
    bounds = maximum_bounds(network, activation_maxima(network, samples.x.numpy()))
    _, report = fit_bounds(network, bounds, samples, BoundFit(allowed=0.0))
    assert report["bounded_accuracy"] >= report["accuracy"]


@pytest.mark.parametrize(
    "wrong",
    [{"allowed": -0.1}, {"allowed": 2.0}, {"pressures": ()}, {"pressures": (0.0,)}, {"steps": 0}, {"learning_rate": 0}],
)
def test_senseless_settings(wrong):
    with pytest.raises(RangeError, match="cannot fit bounds"):
        BoundFit(**wrong)


def test_bad_requests(network, samples):
    with pytest.raises(ShapeError, match="1 samples"):
        fit_bounds(network, {"r": np.float32(1)}, samples.take(torch.tensor([0])), BoundFit())
    with pytest.raises(SpikeportError, match="q can have no bound"):
        fit_bounds(network, {"q": np.float32(1)}, samples, BoundFit())
