"""Synaptic operations, counted a second time by sending every spike by itself."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport import SpikeportError
from spikeport.networks.activity import ActivityMeter, analog_synapses, fan_out
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Edge, Graph, make_node

Map = Callable[[Tensor], Tensor]
Graphs = Mapping[str, Callable[[], Graph]]


def one_spike_each(shape: tuple[int, ...]) -> Tensor:
    """As many samples as units; sample i holds a spike of unit i."""
    return torch.eye(int(np.prod(shape))).reshape(-1, *shape)


def positive(module: nn.Module) -> nn.Module:
    """Weights of which no sum is 0, so that every synapse shows."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.uniform_(0.5, 1.0)
    return module


def sent_alone(shape: tuple[int, ...], paths: list[tuple[Map, nn.Module]]) -> Tensor:
    """For each unit: the synapses that its spike reaches, over the paths (what leads to a layer, the layer)."""
    total = torch.zeros(shape)
    for route, layer in paths:
        arrived = route(one_spike_each(shape))
        reached = positive(layer)(one_spike_each(arrived.shape[1:])).flatten(1).ne(0).sum(1).float()
        total += (arrived.flatten(1) @ reached).reshape(shape)
    return total


def same(x: Tensor) -> Tensor:
    return x


def summed(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2) * 4


def plain(layer: type[nn.Module], *arguments: int, **options: object) -> nn.Module:
    return layer(*arguments, bias=False, **options)


def to_head(x: Tensor) -> Tensor:
    x = F.pad(x, (1, 0, 0, 1))
    return torch.cat([summed(x), summed(x)], 1).permute(0, 2, 3, 1).flatten(1)


def test_fan_out_through_convolutions_pools_and_joins(graphs: Graphs) -> None:
    graph = graphs["residual"]()
    found = fan_out(graph)
    grouped = plain(nn.Conv2d, 4, 4, 3, padding=1, stride=2, groups=2)
    wanted = {
        "n1": sent_alone((4, 6, 6), [(same, grouped), (same, plain(nn.Conv2d, 4, 4, 1, stride=2))]),
        "n2": sent_alone((4, 3, 3), [(to_head, plain(nn.Linear, 32, 5))]),
    }
    assert found.keys() == wanted.keys()
    for name, count in wanted.items():
        assert torch.equal(found[name], count)
        assert len(count.unique()) > 1 or name == "n2"
    assert analog_synapses(graph) == {"c1": 4 * 3 * 16 * 16}  # 6 places of 3 taps, less one at either border: 16


@pytest.mark.parametrize("operator", ["max_pool", "average_pool", "sum_pool"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "ceil"), [(5, 3, 2, 1, 0), (5, 2, 2, 0, 1), (6, 2, 3, 0, 0)]
)
def test_a_pool_passes_a_spike_to_every_window_that_holds_it(
    make_neuron, operator: str, size: int, kernel: int, stride: int, padding: int, ceil: int
) -> None:
    windows = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (padding,) * 2, "ceil_mode": ceil}
    side = nn.MaxPool2d(kernel, stride, padding, ceil_mode=bool(ceil))(torch.zeros(1, 1, size, size)).shape[-1]
    graph = Graph.of(
        [
            make_node("x", "input", shape=(2, size, size)),
            make_neuron("n", "x"),
            make_node("pool", operator, ["n"], **windows),
            make_node("flat", "flatten", ["pool"]),
            make_node("w", "linear", ["flat"], arrays={"weight": np.ones((7, 2 * side * side))}),
            make_node("y", "output", ["w"]),
        ]
    )
    along = [sum(i * stride - padding <= u < i * stride - padding + kernel for i in range(side)) for u in range(size)]
    wanted = 7 * torch.tensor([[[a * b for b in along] for a in along]] * 2).float()
    assert torch.equal(fan_out(graph)["n"], wanted)


def test_fan_out_of_sums_one_dimension_global_pools_and_scales(make_neuron, make_window) -> None:
    graph = Graph.of(
        [
            make_node("x", "input", shape=(2, 8)),
            make_neuron("n", "x", "signed"),
            make_node("twice", "add", ["n", Edge("n", 2)]),
            make_node("c", "conv1d", ["twice"], arrays={"weight": np.ones((3, 2, 3))}, **make_window(1, dilation=2)),
            make_node("mean", "global_pool", ["n"]),
            make_node("w", "linear", ["mean"], arrays={"weight": np.zeros((5, 2))}),
            make_node("s", "scale", ["n"], arrays={"factor": np.float32(2)}),
            make_neuron("m", "s"),
            make_node("lines", "linear", ["m"], arrays={"weight": np.ones((4, 8))}),
            make_node("ends", "reshape", ["c"], shape=(12,)),
            make_node("rest", "flatten", ["lines"]),
            make_node("all", "concat", ["ends", "w", "rest"]),
            make_node("y", "output", ["all"]),
        ]
    )
    path = [(lambda x: 2 * x, plain(nn.Conv1d, 2, 3, 3, dilation=2)), (lambda x: x.sum(2), plain(nn.Linear, 2, 5))]
    found = fan_out(graph)
    assert torch.equal(found["n"], sent_alone((2, 8), path) + 1), "a weight of 0 is a synapse, and a scale is one"
    assert torch.equal(found["m"], torch.full((2, 8), 4.0))
    assert analog_synapses(graph) == {}


def test_what_reads_analog_values_is_counted_there(graphs: Graphs) -> None:
    late, loop = graphs["delayed"](), graphs["recurrent"]()
    assert analog_synapses(late) == {"c": 3 * 2 * (3 * 6 - 4), "scaled": 18, "w": 4 * 30}  # 6 places, 4 taps in the pad
    assert all(count.count_nonzero() == 0 for count in fan_out(late).values())
    assert analog_synapses(loop) == {"W": 20}
    assert fan_out(loop)["n"].tolist() == [5 + 3] * 5, "around the loop, and out"


def test_a_loop_without_neurons_ends(make_neuron) -> None:
    graph = Graph.of(
        [
            make_node("x", "input", shape=(3,)),
            make_neuron("n", "x"),
            make_node("sum", "add", ["n", Edge("sum", 1)]),
            make_node("w", "linear", ["sum"], arrays={"weight": np.ones((2, 3))}),
            make_node("y", "output", ["w"]),
        ]
    )
    assert analog_synapses(graph) == {"w": 6}, "a running sum of spikes is analog"
    assert fan_out(graph)["n"].tolist() == [0, 0, 0]


def observed(graph: Graph, x: Tensor, cuts: tuple[int, ...]) -> tuple[ActivityMeter, dict[str, Tensor]]:
    meter, seen = ActivityMeter(graph), {}

    def observe(name: str, values: Tensor) -> None:
        meter.observe(name, values)
        seen.setdefault(name, []).append(values.clone())

    engine = Engine(graph, max_steps=sum(cuts))
    state = engine.start(x, observe)
    for steps in cuts:
        _, state = engine.advance(x, state, steps, observe)
    return meter, {name: torch.cat(chunks) for name, chunks in seen.items()}


def test_the_meter_equals_a_count_spike_by_spike(graph: Graph, inputs: Callable[..., Tensor]) -> None:
    meter, seen = observed(graph, inputs(graph, 3), (2, 5, 1))
    fans = fan_out(graph)
    assert meter.spikes.keys() == meter.accumulates.keys() == fans.keys()
    for name, fan in fans.items():
        spikes, operations = torch.zeros(8, 3), torch.zeros(8, 3)
        for step, sample, *unit in seen[name].nonzero().tolist():
            size = abs(seen[name][(step, sample, *unit)])
            spikes[step, sample] += size
            operations[step, sample] += size * fan[tuple(unit)]
        assert spikes.sum() > 0
        assert torch.equal(meter.spikes[name], spikes)
        assert torch.equal(meter.accumulates[name], operations)


def test_accumulates_are_what_layers_of_ones_add_up(graphs: Graphs, inputs: Callable[..., Tensor]) -> None:
    graph = graphs["residual"]()
    meter, seen = ActivityMeter(graph), []
    engine = Engine(graph, max_steps=6, constant_input=False)

    def observe(name: str, values: Tensor) -> None:
        meter.observe(name, values)
        seen.extend([values.clone()] if name == "n1" else [])

    engine.advance(inputs(graph, 6, 3), engine.initial_state(3), 6, observe)
    spikes = seen[0].abs().flatten(0, 1)
    assert (seen[0] < 0).any(), "a spike that is taken back is an operation too"
    wanted = F.conv2d(spikes, torch.ones(4, 2, 3, 3), padding=1, stride=2, groups=2).flatten(1).sum(1)
    wanted += F.conv2d(spikes, torch.ones(4, 4, 1, 1), stride=2).flatten(1).sum(1)
    assert torch.equal(meter.accumulates["n1"].flatten(), wanted)


def test_the_meter_works_in_double_precision_and_inside_inference_mode(graphs: Graphs) -> None:
    graph = graphs["dense"]()
    with torch.inference_mode():
        meter = ActivityMeter(graph)
    meter.observe("n1", torch.ones(2, 3, 7, dtype=torch.float64))
    meter.observe("w1", torch.ones(2, 3, 7))
    assert meter.accumulates["n1"].tolist() == [[42.0] * 3] * 2
    assert meter.spikes.keys() == {"n1"}


def test_a_meter_counts_one_batch(graphs: Graphs) -> None:
    meter = ActivityMeter(graphs["dense"]())
    meter.observe("n1", torch.zeros(2, 3, 7))
    with pytest.raises(SpikeportError, match="2 samples and had 3"):
        meter.observe("n1", torch.zeros(2, 2, 7))
