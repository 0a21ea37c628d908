"""Weight reconstruction: the unrolled network gives the engine's spikes, learns by layer, and refuses by name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import Graph, UnsupportedError
from spikeport.conversion.reconstruct import Reconstruction
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import spiking
from spikeport.conversion.step_bias import step_corrected
from spikeport.conversion.thresholds import MeanSquare
from spikeport.networks.graph import make_node
from spikeport.networks.outputs import outputs_over_time
from spikeport.networks.unrolled import UnrolledGraph

STEPS = 4


def made(network: Graph, x: np.ndarray, code: str = "binary") -> tuple[Graph, Graph]:
    analog = simplified(network)
    return analog, spiking(analog, MeanSquare().thresholds(analog, x, STEPS), code)


@pytest.mark.parametrize("code", ["binary", "signed", "burst:3"])
def test_unrolled_it_gives_the_spikes_of_the_engine(network: Graph, make_samples, code: str) -> None:
    x = make_samples(16)
    _, graph = made(network, x, code)
    found = UnrolledGraph(graph)(torch.from_numpy(x), STEPS)
    seen: dict[str, list[torch.Tensor]] = {}
    outputs = outputs_over_time(
        graph, x, STEPS, observe=lambda _: lambda name, v: seen.setdefault(name, []).append(v.clone())
    )
    for node in graph.of_operator("neuron"):
        wrong = (found[node.name] != torch.cat(seen[node.name])).double().mean()
        assert float(wrong) < 1e-3, node.name  # where v meets the threshold the last bit decides
    assert_close(found[graph.output.name].cumsum(0).detach(), outputs, atol=0.05, rtol=0.05)


def test_biases_by_step_are_run_and_trained(network: Graph, make_samples) -> None:
    x = make_samples(16)
    analog, graph = made(network, x)
    stepped = step_corrected(graph, analog, x, STEPS)
    module = UnrolledGraph(stepped, local=False)
    found = module(torch.from_numpy(x), STEPS + 2)  # two more than there are biases
    outputs = outputs_over_time(stepped, x, STEPS + 2)
    assert_close(found[stepped.output.name].cumsum(0).detach(), outputs, atol=0.05, rtol=0.05)
    found[stepped.output.name].square().sum().backward()
    held = {node.name: each for node, each in zip(stepped.nodes, module.held, strict=True)}
    for node in stepped.of_operator("step_bias"):
        assert held[node.name].values.grad.shape == node.arrays["values"].shape


@pytest.mark.parametrize("code", ["binary", "burst:3"])
def test_a_spike_has_a_triangle_as_its_gradient_at_each_threshold(code: str) -> None:
    """One neuron, one step: the triangles of neighbouring levels add up to 1 / threshold."""
    most = 1 if code == "binary" else 3
    weight = {"weight": np.ones((1, 1), np.float32)}
    arrays = {"threshold": np.array([2.0]), "initial": np.zeros(1), "bias": np.zeros(1)}
    kind = {"code": "binary"} if code == "binary" else {"code": "graded", "levels": 3}
    nodes = [
        make_node("x", "input", shape=(1,)),
        make_node("l", "linear", ["x"], arrays=weight),
        make_node("a", "neuron", ["l"], arrays=arrays, test=">=", reset="subtract", **kind),
        make_node("y", "output", ["a"]),
    ]
    x = torch.tensor([[-1.0], [0.5], [2.0], [2.5], [5.0], [7.5], [9.0]], requires_grad=True)
    UnrolledGraph(Graph.of(nodes), local=False)(x, 1)["a"].sum().backward()
    u = x.detach().flatten() / 2
    wanted = sum((1 - (u - level).abs()).clamp(min=0) for level in range(1, most + 1)) / 2
    assert x.grad is not None
    assert_close(x.grad.flatten(), wanted)


def test_each_layer_learns_from_its_own_error_alone(network: Graph, make_samples) -> None:
    x = make_samples(8)
    _, graph = made(network, x)

    def reached(local: bool) -> set[str]:
        module = UnrolledGraph(graph, local=local)
        module(torch.from_numpy(x), STEPS)["a3"].sum().backward()
        return {node.name for node, held in zip(graph.nodes, module.held, strict=True)
                for p in held.parameters() if p.grad is not None and bool(p.grad.any())}  # fmt: skip

    assert reached(local=True) == {"l1", "a3"}
    assert reached(local=False) == {"c1", "a1", "c2", "a2", "l1", "a3"}


@pytest.mark.parametrize("through", [False, True])
def test_outputs_come_nearer_also_of_samples_that_it_did_not_see(
    network: Graph, make_samples: Callable[..., np.ndarray], through: bool
) -> None:
    x, others = make_samples(256), make_samples(128, seed=1)
    analog, graph = made(network, x)
    changed = Reconstruction(epochs=6, through=through).reconstructed(graph, analog, x, STEPS)
    wanted = analog_output(analog, others)

    def error(each: Graph) -> float:
        return float(np.square(outputs_over_time(each, others, STEPS)[-1].numpy() / STEPS - wanted).mean())

    assert error(changed) < 0.9 * error(graph)
    for before, after in zip(graph.nodes, changed.nodes, strict=True):
        for key in ("threshold", "initial"):
            if key in before.arrays:
                np.testing.assert_array_equal(before.arrays[key], after.arrays[key])


def test_the_same_seed_gives_the_same_weights(network: Graph, make_samples) -> None:
    x = make_samples(64)
    analog, graph = made(network, x)
    first, again = (Reconstruction(epochs=1).reconstructed(graph, analog, x, STEPS) for _ in range(2))
    for a, b in zip(first.nodes, again.nodes, strict=True):
        for key, array in a.arrays.items():
            np.testing.assert_array_equal(array, b.arrays[key])


def test_other_neurons_are_refused_by_name(network: Graph, make_samples) -> None:
    _, graph = made(network, make_samples(16))
    nodes = [replace(n, attributes={**n.attributes, "reset": "zero"}) if n.name == "a2" else n for n in graph.nodes]
    with pytest.raises(UnsupportedError, match="a2") as caught:
        UnrolledGraph(Graph.of(nodes))
    assert len(caught.value.problems) == 1
