"""The row of each layer, recounted from the spikes themselves."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spikeport.conversion.layers import layer_rows
from spikeport.conversion.methods import Recipe
from spikeport.conversion.spiking import spiking
from spikeport.conversion.thresholds import MeanSquare
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph

Samples = Callable[..., np.ndarray]
STEPS = 8
KEYS = {
    "name", "source", "became", "neurons", "threshold", "rate_correlation", "rate_error", "dead_fraction",
    "saturated_fraction", "spikes_per_sample", "payload_bits_per_sample", "accumulates_per_sample",
    "multiply_accumulates_per_sample",
}  # fmt: skip


def values_of(graph: Graph, x: np.ndarray, steps: int) -> dict[str, torch.Tensor]:
    found = {}
    engine, block = Engine(graph, max_steps=steps), torch.from_numpy(x)

    def observe(name: str, values: torch.Tensor) -> None:
        found[name] = values.double()

    engine.advance(block, engine.start(block, observe), steps, observe)
    return found


@pytest.mark.parametrize("code", ["binary", "signed"])
def test_rows_are_what_a_recount_gives(network: Graph, make_samples: Samples, code: str) -> None:
    x = make_samples(20)
    graph = Recipe(MeanSquare()).convert(network, x, code=code, timesteps=STEPS)
    rows = layer_rows(graph, network, x, STEPS, engine=Engine(graph, max_steps=STEPS, chunk=3))
    spikes, analog = values_of(graph, x, STEPS), values_of(network, x, 1)
    assert [row["name"] for row in rows] == ["a1", "a2", "a3"]
    for row in rows:
        name, node = row["name"], graph.by_name[row["name"]]
        assert row.keys() == KEYS
        counted = spikes[name]
        assert row["neurons"] == np.prod(graph.shapes[name])
        assert row["spikes_per_sample"] == pytest.approx(float(counted.abs().sum() / len(x)))
        assert row["payload_bits_per_sample"] == (row["spikes_per_sample"] if code == "signed" else 0)
        theta = torch.tensor(node.arrays["threshold"]).double()
        rate = counted.mean(0) * theta.reshape(-1, *([1] * (counted.ndim - 3)))
        a = analog[name][0]
        wanted = np.corrcoef(rate.flatten(), a.flatten())[0, 1]
        assert row["rate_correlation"] == pytest.approx(wanted, abs=1e-5)
        assert row["rate_correlation"] > 0.5
        assert row["rate_error"] == pytest.approx(float((rate - a).abs().mean() / a.mean()), rel=1e-4)
        net = counted.sum(0)
        assert row["dead_fraction"] == pytest.approx(float((net == 0).all(0).double().mean()))
        assert row["saturated_fraction"] == pytest.approx(float((net >= 0.99 * STEPS).double().mean()))
        assert row["threshold"]["min"] <= row["threshold"]["mean"] <= row["threshold"]["max"]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.parametrize(("code", "full"), [("burst:4", 4 * STEPS), ("differential:4", None)])
def test_a_unit_is_saturated_that_sends_all_it_can(
    network: Graph, make_samples: Samples, code: str, full: int | None
) -> None:
    x = make_samples(20)
    thresholds = {name: 0.25 * theta for name, theta in MeanSquare().thresholds(network, x, STEPS).items()}
    graph = spiking(network, thresholds, code)
    counted = values_of(graph, x, STEPS)
    for row in layer_rows(graph, network, x, STEPS):
        if full is None:
            assert row["saturated_fraction"] is None
            continue
        wanted = float((counted[row["name"]].sum(0) >= 0.99 * full).double().mean())
        assert row["saturated_fraction"] == pytest.approx(wanted)
        assert 0 < wanted < float((counted[row["name"]].sum(0) >= 0.99 * STEPS).double().mean())


def test_operations_are_counted_where_they_happen(network: Graph, make_samples: Samples) -> None:
    """The first convolution reads analog values, once; the fan-outs of linear layers are their rows."""
    x = make_samples(6)
    graph = spiking(network, MeanSquare().thresholds(network, x, STEPS), "binary")
    first, middle, last = layer_rows(graph, network, x, STEPS)
    windows = sum(min(i + 2, 8) - max(i - 1, 0) for i in range(8)) ** 2  # places of all 3x3 windows inside 8x8
    assert first["multiply_accumulates_per_sample"] == 6 * windows
    assert middle["multiply_accumulates_per_sample"] == last["multiply_accumulates_per_sample"] == 0
    assert middle["accumulates_per_sample"] == pytest.approx(12 * middle["spikes_per_sample"])
    assert last["accumulates_per_sample"] == pytest.approx(4 * last["spikes_per_sample"])
    assert 8 * 4 * first["spikes_per_sample"] <= first["accumulates_per_sample"] <= 8 * 9 * first["spikes_per_sample"]


def test_what_a_layer_became_is_told(network: Graph, make_samples: Samples) -> None:
    x = make_samples(6)
    graph = spiking(network, MeanSquare().thresholds(network, x, STEPS), "signed")
    rows = layer_rows(graph, network, x, STEPS)
    assert [row["source"] for row in rows] == ["ReLU", "ReLU", "ReLU cut at 6"]
    assert rows[0]["became"] == "signed integrate-and-fire, 6 thresholds"


def test_a_silent_layer_has_no_correlation(network: Graph, make_samples: Samples) -> None:
    graph = spiking(network, {name: np.full(c, 1e6) for name, c in (("a1", 6), ("a2", 8), ("a3", 12))}, "binary")
    for row in layer_rows(graph, network, make_samples(4), STEPS):
        assert row["rate_correlation"] is None
        assert row["dead_fraction"] == 1.0
        assert row["saturated_fraction"] == row["spikes_per_sample"] == row["accumulates_per_sample"] == 0
