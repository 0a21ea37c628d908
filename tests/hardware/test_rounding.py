"""Rounding by what arrives: fewer errors where inputs are alike, the mean kept, and every law of lowering."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from spikeport.hardware.lower import lower
from spikeport.hardware.program import mantissa
from spikeport.hardware.quantise import LARGEST, rounded
from spikeport.hardware.reference import run_reference
from spikeport.hardware.rounding import WIDEST, Moments, input_moments, rounded_to_inputs
from spikeport.hardware.torch_engine import IntegerEngine
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.outputs import outputs_over_time


def moments_of(x: np.ndarray) -> Moments:
    return Moments(x.mean(0)[None], np.cov(x.T, bias=True)[None])


def error(rows, scale, q, covariance) -> float:
    left = rows - scale[:, None] * q
    return float(np.einsum("rc,cd,rd->", left, covariance, left))


@pytest.mark.parametrize("seed", range(5))
def test_inputs_that_are_alike_let_errors_cancel(seed):
    rng = np.random.default_rng(seed)
    x = rng.random((200, 4)) @ rng.random((4, 20))  # four causes behind twenty inputs
    rows, scale = rng.normal(0, 1, (16, 20)), np.full(16, 0.3)
    found = moments_of(x)
    q, left = rounded_to_inputs(rows, scale, found)
    nearest = rounded(rows, scale[:, None])
    assert error(rows, scale, q, found.covariance[0]) < 0.2 * error(rows, scale, nearest, found.covariance[0])
    np.testing.assert_array_equal(q, np.rint(q))
    assert np.abs(q).max() <= LARGEST
    np.testing.assert_allclose(left, ((rows - 0.3 * q) @ x.T).mean(1), rtol=1e-9)


def test_inputs_that_are_independent_change_nothing():
    rng = np.random.default_rng(0)
    rows, scale = rng.normal(0, 1, (5, 12)), np.full(5, 0.2)
    found = Moments(np.zeros((1, 12)), np.diag(rng.random(12))[None])
    np.testing.assert_array_equal(rounded_to_inputs(rows, scale, found)[0], rounded(rows, scale[:, None]))


def test_inputs_that_never_come_are_rounded_to_the_nearest():
    rows, scale = np.random.default_rng(0).normal(0, 1, (3, 4)), np.full(3, 0.5)
    found = Moments(np.zeros((1, 4)), np.zeros((1, 4, 4)))
    q, left = rounded_to_inputs(rows, scale, found)
    np.testing.assert_array_equal(q, rounded(rows, scale[:, None]))
    assert not left.any()


def test_each_group_has_its_own_inputs():
    rng = np.random.default_rng(1)
    both = [moments_of(rng.random((50, 2)) @ rng.random((2, 6))) for _ in range(2)]
    joined = Moments(*(np.concatenate(parts) for parts in zip(*both, strict=True)))
    rows, scale = rng.normal(0, 1, (8, 6)), rng.uniform(0.1, 0.4, 8)
    alone = [rounded_to_inputs(rows[4 * g : 4 * g + 4], scale[4 * g : 4 * g + 4], both[g]) for g in (0, 1)]
    q, left = rounded_to_inputs(rows, scale, joined)
    np.testing.assert_array_equal(q, np.concatenate([each[0] for each in alone]))
    np.testing.assert_allclose(left, np.concatenate([each[1] for each in alone]))


@pytest.mark.parametrize("graph", ["binary", "odd_windows", "leak", "graded"], indirect=True)
def test_moments_of_the_last_layer_are_those_of_its_mean_input(graph, samples):
    last = next(node for node in reversed(graph.nodes) if node.operator == "linear")
    seen: list[torch.Tensor] = []

    def observe(name: str, values: torch.Tensor) -> None:
        if name == last.sources[0]:
            seen.append(values)

    outputs_over_time(graph, samples, 9, observe=lambda first: observe)
    mean = torch.cat(seen).mean(0).double().numpy()
    found = input_moments(graph, samples, 9)[last.name]
    np.testing.assert_allclose(found.mean[0], mean.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.covariance[0], np.cov(mean.T, bias=True), atol=1e-6)


def test_moments_of_a_grouped_convolution_are_those_of_its_windows():
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (6, 2, 3, 3))
    nodes = [
        make_node("x", "input", shape=(4, 5, 5)),
        make_node(
            "a", "conv2d", ["x"], arrays={"weight": weight}, stride=(2, 1), padding=(1, 0), dilation=(1, 1), groups=2
        ),
        make_node("f", "flatten", ["a"]),
        make_node("y", "output", ["f"]),
    ]
    x = rng.random((7, 4, 5, 5)).astype(np.float32)
    found = input_moments(Graph.of(nodes), x, 3)["a"]
    windows = functional.unfold(torch.from_numpy(x), (3, 3), padding=(1, 0), stride=(2, 1))
    for group in (0, 1):
        rows = windows[:, 18 * group : 18 * group + 18].permute(0, 2, 1).reshape(-1, 18).numpy()
        np.testing.assert_allclose(found.mean[group], rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.covariance[group], np.cov(rows.T, bias=True), atol=1e-6)


@pytest.mark.parametrize("graph", ["binary", "convolution", "odd_windows", "signed", "leak", "zero"], indirect=True)
def test_a_fitted_network_keeps_the_laws_of_integers(graph, program, samples):
    fitted = lower(graph, program.input, steps=program.steps, moments=input_moments(graph, samples, 16))
    assert fitted.graph.information["integer"]["rounding"] == "fitted"
    for node in fitted.graph.nodes:
        if node.operator in ("linear", "conv1d", "conv2d"):
            for row in node.arrays["weight"].reshape(len(node.arrays["weight"]), -1):
                assert np.abs(mantissa(row)[0]).max() <= LARGEST
    steps = min(16, fitted.steps)
    wanted = fitted.real_output(run_reference(fitted, samples, steps)[0])
    engine = IntegerEngine(fitted)
    x = torch.from_numpy(samples)
    found, _ = engine.advance(x, engine.start(x), steps)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("covariance", [True, False], ids=["fitted", "nearest"])
@pytest.mark.parametrize("graph", ["binary", "convolution"], indirect=True)
def test_the_mean_current_of_the_first_layer_is_kept(graph, program, samples, covariance):
    """In units of its biases, which are finer than weights; rounding to the nearest leaves many of these."""
    many = np.random.default_rng(2).random((256, *samples.shape[1:])).astype(np.float32)
    moments = input_moments(graph, many, 4, covariance=covariance)
    fitted = lower(graph, program.input, steps=program.steps, moments=moments)
    real = current(graph.by_name["a"], program.input(many) * program.input.scale)
    after, before = (np.abs(shift(graph, each, many, real)).max() for each in (fitted, program))
    assert after < 2 < 10 < before


def shift(graph: Graph, program, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    """How far the mean current of each channel is from the real one, in its units."""
    units = graph.by_name["n"].arrays["threshold"] / program.graph.by_name["n"].arrays["threshold"]
    got = current(program.graph.by_name["a"], program.input(x))
    return (got - real / units.reshape(-1, *([1] * (real.ndim - 2)))).mean((0, *range(2, real.ndim)))


def current(node, x: np.ndarray) -> np.ndarray:
    weight, bias = (torch.tensor(np.asarray(node.arrays[key], np.float64)) for key in ("weight", "bias"))
    values = torch.from_numpy(np.asarray(x, np.float64))
    if node.operator == "linear":
        return functional.linear(values, weight, bias).numpy()
    return functional.conv2d(values, weight, bias, node.attributes["stride"], node.attributes["padding"]).numpy()


def test_of_layers_that_are_too_wide_only_the_means_are_known():
    nodes = [
        make_node("x", "input", shape=(WIDEST + 1,)),
        make_node("a", "linear", ["x"], arrays={"weight": np.ones((2, WIDEST + 1))}),
        make_node("y", "output", ["a"]),
    ]
    found = input_moments(Graph.of(nodes), np.ones((2, WIDEST + 1), np.float32), 2)["a"]
    assert found.covariance is None
    np.testing.assert_array_equal(found.mean, np.ones((1, WIDEST + 1)))


def test_means_alone_move_biases_and_no_weight(graph, program, samples):
    moments = input_moments(graph, samples, 16, covariance=False)
    assert all(each.covariance is None for each in moments.values())
    kept = lower(graph, program.input, steps=program.steps, moments=moments)
    said = kept.graph.information["integer"]
    assert (said["rounding"], said["means_kept"]) == ("nearest", True)
    assert program.graph.information["integer"]["means_kept"] is False
    for node, other in zip(kept.graph.nodes, program.graph.nodes, strict=True):
        if "weight" in node.arrays:
            np.testing.assert_array_equal(node.arrays["weight"], other.arrays["weight"])
