"""Laws of the conversion: a neuron for each activation, thresholds in the weights, rates that tend to activations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport import UnsupportedError
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import require_convertible, spiking
from spikeport.conversion.thresholds import MeanSquare
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, Node, make_node
from spikeport.networks.outputs import outputs_over_time

POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
CODES = ("binary", "signed")


def weights(*shape: int) -> np.ndarray:
    """The same for the same shape, whatever other tests drew."""
    return (np.random.default_rng(shape).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def conv(name: str, source: str, outputs: int, inputs: int, **options: Any) -> Node:
    arrays = {"weight": weights(outputs, inputs // options.get("groups", 1), 3, 3), "bias": weights(outputs, 1)[:, 0]}
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), **options}
    return make_node(name, "conv2d", [source], arrays=arrays, **window)


def relu(name: str, source: str, maximum: float | None = None) -> Node:
    return make_node(name, "activation", [source], maximum=maximum)


def linear(name: str, source: str, outputs: int, inputs: int) -> Node:
    arrays = {"weight": weights(outputs, inputs), "bias": weights(outputs, 1)[:, 0]}
    return make_node(name, "linear", [source], arrays=arrays)


def whole(*nodes: Node, shape: tuple[int, ...] = (2, 8, 8)) -> Graph:
    return Graph.of([make_node("x", "input", shape=shape), *nodes, make_node("y", "output", ["head"])])


def chain() -> Graph:
    """A max-pool where the input is analog, then every operator that a scale passes."""
    return whole(
        conv("c1", "x", 4, 2),
        make_node("top", "max_pool", ["c1"], **POOL),
        relu("a1", "top"),
        make_node("wide", "pad", ["a1"], before=(1, 0, 0), after=(0, 1, 1)),
        conv("c2", "wide", 6, 5),
        relu("a2", "c2", 0.6),
        make_node("mean", "average_pool", ["a2"], **POOL),
        conv("c3", "mean", 6, 6, groups=3),
        relu("a3", "c3"),
        make_node("turn", "transpose", ["a3"], permutation=(1, 2, 0)),
        make_node("flat", "flatten", ["turn"]),
        linear("l1", "flat", 8, 24),
        relu("a4", "l1"),
        linear("head", "a4", 5, 8),
    )


def concatenated() -> Graph:
    return whole(
        conv("c1", "x", 4, 2),
        relu("a1", "c1"),
        conv("c2", "x", 3, 2),
        relu("a2", "c2"),
        make_node("both", "concat", ["a1", "a2"]),
        conv("c3", "both", 4, 7),
        relu("a3", "c3"),
        make_node("mean", "global_pool", ["a3"], function="mean"),
        linear("head", "mean", 5, 4),
    )


def residual() -> Graph:
    return whole(
        conv("c1", "x", 4, 2),
        relu("a1", "c1"),
        conv("c2", "a1", 4, 4),
        make_node("sum", "add", ["c2", "a1"]),
        relu("a2", "sum"),
        make_node("flat", "flatten", ["a2"]),
        linear("head", "flat", 5, 256),
    )


GRAPHS: dict[str, Callable[[], Graph]] = {"chain": chain, "concatenated": concatenated, "residual": residual}


def samples(n: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 2, 8, 8)).astype(np.float32)


def thresholds_of(graph: Graph) -> dict[str, np.ndarray]:
    """Unequal by channel, and above every activation of the samples that is not cut."""
    found = MeanSquare(1 << 12).thresholds(graph, samples(), 8)
    cuts = {name: graph.by_name[name].attributes["maximum"] or np.inf for name in found}
    return {name: np.minimum(1.2 * theta, cuts[name]) for name, theta in found.items()}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return simplified(GRAPHS[request.param]())


@pytest.mark.parametrize("code", CODES)
def test_every_activation_has_one_neuron_of_its_name(graph: Graph, code: str) -> None:
    theta = thresholds_of(graph)
    after = spiking(graph, theta, code)
    neurons = {node.name: node for node in after.of_operator("neuron")}
    assert neurons.keys() == {node.name for node in graph.of_operator("activation")}
    assert not after.of_operator("activation")
    for name, node in neurons.items():
        assert node.attributes["code"] == code
        assert after.shapes[name] == graph.shapes[name]
        np.testing.assert_allclose(node.arrays["threshold"], theta[name], rtol=1e-6)
        np.testing.assert_allclose(node.arrays["initial"], theta[name] / 2, rtol=1e-6)
        assert not node.arrays["bias"].any()


@pytest.mark.parametrize("name", ["chain", "concatenated"])
def test_no_scale_is_left_where_weights_can_take_it(name: str) -> None:
    graph = simplified(GRAPHS[name]())
    assert not spiking(graph, thresholds_of(graph), "binary").of_operator("scale")


def test_only_the_shortcut_of_a_residual_keeps_its_scale() -> None:
    graph = simplified(residual())
    after = spiking(graph, thresholds_of(graph), "binary")
    scales = after.of_operator("scale")
    assert [after.consumers[scale.name] for scale in scales] == [("sum",)]


def test_consecutive_scales_are_one() -> None:
    """A batch norm after ReLU cannot be folded into what is before it."""
    norm = make_node("n", "scale", ["a1"], arrays={"factor": weights(4, 1)[:, 0], "shift": weights(4, 1)[:, 0]})
    flat = make_node("flat", "flatten", ["n"])
    graph = whole(conv("c1", "x", 4, 2), relu("a1", "c1"), norm, flat, linear("head", "flat", 5, 256))
    theta = thresholds_of(graph)
    after = spiking(graph, theta, "binary")
    (scale,) = after.of_operator("scale")
    np.testing.assert_allclose(scale.arrays["factor"], norm.arrays["factor"] * theta["a1"], rtol=1e-5)
    np.testing.assert_array_equal(scale.arrays["shift"], norm.arrays["shift"])


def test_a_maximum_of_mean_rates_is_refused_wherever_it_stands() -> None:
    mean, top = make_node("mean", "average_pool", ["a1"], **POOL), make_node("top", "max_pool", ["mean"], **POOL)
    after = [relu("a2", "top"), make_node("flat", "flatten", ["a2"]), linear("head", "flat", 5, 16)]
    graph = simplified(whole(conv("c1", "x", 4, 2), relu("a1", "c1"), mean, top, *after))
    with pytest.raises(UnsupportedError, match=r"top .*maximum of rates"):
        require_convertible(graph)


@pytest.mark.parametrize("code", CODES)
def test_a_long_window_tends_to_the_analog_output(graph: Graph, code: str) -> None:
    x = samples()
    wanted = analog_output(graph, x)
    converted = spiking(graph, thresholds_of(graph), code)
    outputs = outputs_over_time(converted, x, 512, chunk=32).numpy()
    spread = np.abs(wanted - wanted.mean(0)).mean()
    errors = [float(np.abs(outputs[t - 1] / t - wanted).mean() / spread) for t in (8, 64, 512)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize("code", CODES)
def test_a_constant_current_gives_its_rounded_and_clipped_multiple(code: str) -> None:
    """After T steps of z: clip(floor(z T / theta + 1 / 2), 0, T) spikes, exactly."""
    z = torch.arange(-8, 25)[:, None] / 16
    theta = np.float32([0.5])
    for steps in (1, 2, 5, 8, 32):
        graph = one_neuron(theta, code)
        outputs = outputs_over_time(graph, z.numpy(), steps)[-1, :, 0]
        wanted = torch.floor(z[:, 0] * steps / theta[0] + 0.5).clamp(0, steps)
        assert torch.equal(outputs, wanted * theta[0])


def test_bursts_say_as_many_values_a_step_as_they_may_fire() -> None:
    """After T steps of z with up to m spikes of theta / m: theta / m * clip(floor(m z T / theta + 1 / 2), 0, m T)."""
    z, theta = torch.arange(-8, 25)[:, None] / 16, np.float32([0.5])
    for levels, steps in ((2, 1), (4, 1), (4, 3), (8, 5)):
        graph = one_neuron(theta, f"burst:{levels}")
        (node,) = graph.of_operator("neuron")
        assert (node.attributes["code"], node.attributes["levels"]) == ("graded", levels)
        outputs = outputs_over_time(graph, z.numpy(), steps)[-1, :, 0]
        wanted = torch.floor(levels * z[:, 0] * steps / theta[0] + 0.5).clamp(0, levels * steps)
        assert torch.equal(outputs, wanted * theta[0] / levels)


def one_neuron(theta: np.ndarray, code: str, maximum: float | None = None) -> Graph:
    units = len(theta)
    head = make_node("head", "linear", ["a"], arrays={"weight": np.eye(units)})
    return spiking(whole(relu("a", "x", maximum), head, shape=(units,)), {"a": theta}, code)


def signed_sums(current: Tensor, theta: float) -> Tensor:
    """Net spikes over time (steps, batch, units) of signed neurons that get the current (steps, batch, units)."""
    graph = one_neuron(np.full(current.shape[2], theta, np.float32), "signed")
    engine = Engine(graph, max_steps=len(current), constant_input=False)
    output, _ = engine.advance(current, engine.initial_state(current.shape[1]), len(current))
    return output / theta


def test_signed_spikes_settle_on_the_rounded_sum_and_never_below_zero() -> None:
    """Whatever came before: once the input is over, every spike that was too early has been taken back."""
    generator = torch.Generator().manual_seed(0)
    theta = 0.5
    current = torch.randint(-32, 33, (20, 50, 7), generator=generator) / 16
    rest = torch.zeros(80, 50, 7)
    net = signed_sums(torch.cat([current, rest]), theta)
    assert net.min() >= 0
    assert torch.equal(net, net.round())
    assert torch.equal(net[-1], torch.floor(current.sum(0) / theta + 0.5).clamp(min=0))
    assert bool((net[19] != net[-1]).any()), "no spike had to be taken back or given late"


def test_signed_neurons_do_what_binary_ones_do_while_no_spike_was_too_early() -> None:
    x = np.abs(np.random.default_rng(2).normal(size=(9, 6))).astype(np.float32)
    theta = np.full(6, 0.7, np.float32)
    binary, signed = (outputs_over_time(one_neuron(theta, code), x, 9) for code in CODES)
    assert torch.equal(binary, signed)


def test_arguments_stay_as_they_are(graph: Graph) -> None:
    theta = thresholds_of(graph)
    before = {name: value.copy() for name, value in theta.items()}
    spiking(graph, theta, "binary")
    assert all(np.array_equal(theta[name], value) for name, value in before.items())
    assert {node.operator for node in graph.nodes} >= {"activation", "linear"}
