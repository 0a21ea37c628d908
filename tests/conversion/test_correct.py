"""The correction brings mean rates to the mean activations that they stand for."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeport.conversion.correct import corrected
from spikeport.conversion.module_import import import_module
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import spiking
from spikeport.conversion.statistics import by_channel, watch
from spikeport.conversion.thresholds import MeanSquare, Percentile, ThresholdMethod
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time

STEPS = 8
Samples = Callable[..., np.ndarray]


def converted(analog: Graph, x: np.ndarray, method: ThresholdMethod, code: str = "binary") -> Graph:
    return spiking(analog, method.thresholds(analog, x, STEPS), code)


def mean_errors(graph: Graph, analog: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """|mean of theta * spikes / T - mean activation| of each channel."""
    wanted: dict[str, list[Tensor]] = {}
    watch(analog, x, lambda name, values: wanted.setdefault(name, []).append(by_channel(values)))
    found: dict[str, list[Tensor]] = {name: [] for name in wanted}

    def observe(name: str, values: Tensor) -> None:
        if name in found:
            found[name].append(by_channel(values).mean(1))

    outputs_over_time(graph, x, STEPS, batch_size=len(x), chunk=STEPS, observe=lambda first: observe)
    theta = {name: graph.by_name[name].arrays["threshold"] for name in wanted}
    return {
        name: np.abs(theta[name] * found[name][0].numpy() - torch.cat(parts, 1).mean(1).numpy())
        for name, parts in wanted.items()
    }


@pytest.mark.parametrize("width", [8, 16])
def test_linear_layers_on_tokens_keep_the_tokens_scales_in_their_weights(width: int) -> None:
    """A factor that is equal for all tokens is one of the columns; biases are those of the last axis."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Flatten(1, 2), nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 8), nn.ReLU()]
        module = nn.Sequential(*parts, nn.Flatten(), nn.Linear(64, 5))
    x = np.random.default_rng(0).random((64, 1, 8, 8), np.float32)
    analog = simplified(import_module(module, (1, 8, 8)).graph)
    plain = converted(analog, x, MeanSquare())
    assert not plain.of_operator("scale")
    better = corrected(plain, analog, x, STEPS)
    wanted = analog_output(analog, x)
    errors = [np.abs(outputs_over_time(graph, x, 64)[-1].numpy() / 64 - wanted).mean() for graph in (plain, better)]
    assert max(errors) < 0.1 * np.abs(wanted - wanted.mean(0)).mean()


@pytest.mark.parametrize("code", ["binary", "signed"])
@pytest.mark.parametrize("method", [MeanSquare(), Percentile(99.9), Percentile(90)], ids=lambda method: method.name)
def test_mean_rates_come_nearer_to_mean_activations(
    network: Graph, make_samples: Samples, method: ThresholdMethod, code: str
) -> None:
    x, fresh = make_samples(64), make_samples(64, seed=1)
    plain = converted(network, x, method, code)
    better = corrected(plain, network, x, STEPS)
    for data, share in ((x, 0.5), (fresh, 0.7)):
        before, after = (mean_errors(graph, network, data) for graph in (plain, better))
        for name in before:
            assert after[name].mean() <= before[name].mean() * 1.02 + 1e-3, name
        assert sum(e.mean() for e in after.values()) < share * sum(e.mean() for e in before.values())


def test_the_output_comes_nearer_to_the_analog_one(network: Graph, make_samples: Samples) -> None:
    x, fresh = make_samples(96), make_samples(96, seed=1)
    plain = converted(network, x, MeanSquare())
    wanted = analog_output(network, fresh)
    errors = [
        np.square(outputs_over_time(graph, fresh, STEPS)[-1].numpy() / STEPS - wanted).mean()
        for graph in (plain, corrected(plain, network, x, STEPS))
    ]
    assert errors[1] < 0.7 * errors[0]


def test_the_same_data_give_the_same_network(network: Graph, make_samples: Samples) -> None:
    x = make_samples(40)
    plain = converted(network, x, MeanSquare())
    first, second = (corrected(plain, network, x, STEPS) for _ in range(2))
    for node in first.nodes:
        for key, array in node.arrays.items():
            np.testing.assert_array_equal(array, second.by_name[node.name].arrays[key])


def test_only_biases_and_initial_membranes_of_neurons_change(network: Graph, make_samples: Samples) -> None:
    x = make_samples(40)
    plain = converted(network, x, MeanSquare())
    after = corrected(plain, network, x, STEPS)
    assert [node.name for node in after.nodes] == [node.name for node in plain.nodes]
    changed = {
        (node.operator, key)
        for node in plain.nodes
        for key, array in node.arrays.items()
        if not np.array_equal(array, after.by_name[node.name].arrays[key])
    }
    assert changed == {("neuron", "bias"), ("neuron", "initial")}


@pytest.mark.parametrize(("n", "steps"), [(1, 8), (3, 1), (5, 2)])
def test_few_samples_and_steps_are_enough_to_run(network: Graph, make_samples: Samples, n: int, steps: int) -> None:
    x = make_samples(n)
    graph = spiking(network, MeanSquare().thresholds(network, x, steps), "binary")
    after = corrected(graph, network, x, steps)
    assert np.isfinite(outputs_over_time(after, x, steps).numpy()).all()


def test_a_network_that_is_right_already_stays_nearly_as_it_is(network: Graph, make_samples: Samples) -> None:
    """With a long window there is little to correct at every step."""
    x = make_samples(24)
    theta = {name: 1.05 * value for name, value in Percentile(100).thresholds(network, x, 256).items()}
    after = corrected(spiking(network, theta, "binary"), network, x, 256)
    first = after.by_name["a1"]
    assert np.abs(first.arrays["bias"] / first.arrays["threshold"]).max() < 2e-3
