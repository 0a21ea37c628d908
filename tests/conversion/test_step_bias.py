"""Biases by step: what they mend, that they end, and that time and batches can still be split anywhere."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import Graph, SpikeportError, UnsupportedError
from spikeport.conversion.correct import corrected, mean_activations
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.spiking import spiking
from spikeport.conversion.statistics import by_channel
from spikeport.conversion.step_bias import step_corrected
from spikeport.conversion.thresholds import MeanSquare
from spikeport.hardware.normal import normalised
from spikeport.networks.engine import Engine, constant_nodes, join, put, select
from spikeport.networks.graph import make_node
from spikeport.networks.outputs import outputs_over_time
from spikeport.networks.programs import StartProgram, StepsProgram

STEPS = 6


@pytest.fixture
def networks(network: Graph, make_samples: Callable[..., np.ndarray]) -> tuple[Graph, Graph, np.ndarray]:
    analog, x = simplified(network), make_samples(64)
    graph = spiking(analog, MeanSquare().thresholds(analog, x, STEPS), "binary")
    return analog, corrected(graph, analog, x, STEPS), x


def errors(graph: Graph, analog: Graph, x: np.ndarray) -> dict[str, float]:
    """By layer, the mean over steps and channels of what a channel's mean spike lacks at a step."""
    wanted = mean_activations(analog, x)
    spikes: dict[str, list[torch.Tensor]] = {}

    def observe(name: str, values: torch.Tensor) -> None:
        if graph.by_name[name].operator == "neuron":
            spikes.setdefault(name, []).extend(values)

    outputs_over_time(graph, x, STEPS, batch_size=len(x), observe=lambda _: observe)
    found = {}
    for name, steps in spikes.items():
        theta = torch.from_numpy(graph.by_name[name].arrays["threshold"].copy())
        said = torch.stack([theta * by_channel(step[None]).mean(1) for step in steps])
        found[name] = float((said - wanted[name]).abs().mean())
    return found


@pytest.mark.parametrize("code", ["binary", "signed", "burst:2"])
def test_each_step_comes_nearer_to_the_mean(network: Graph, make_samples, code: str) -> None:
    analog, x = simplified(network), make_samples(64)
    graph = spiking(analog, MeanSquare().thresholds(analog, x, STEPS), code)
    before, after = errors(graph, analog, x), errors(step_corrected(graph, analog, x, STEPS), analog, x)
    first = next(iter(before))
    assert after[first] == before[first]  # it reads the constant input: nothing to wait for
    assert all(after[name] < 0.7 * before[name] for name in before if name != first), (before, after)


def test_layers_with_constant_input_keep_it(networks) -> None:
    analog, graph, x = networks
    made = step_corrected(graph, analog, x, STEPS)
    assert [node.name for node in made.of_operator("step_bias")] == ["a2.step_bias", "a3.step_bias"]
    assert constant_nodes(made) == constant_nodes(graph)
    assert step_corrected(graph, analog, x, STEPS).by_name["a2.step_bias"].arrays["values"].tolist() == (
        made.by_name["a2.step_bias"].arrays["values"].tolist()
    )


def test_a_longer_window_gives_the_same_first_steps_and_then_no_bias(networks) -> None:
    analog, graph, x = networks
    made = step_corrected(graph, analog, x, STEPS)
    long = outputs_over_time(made, x[:8], 3 * STEPS)
    assert_close(long[:STEPS], outputs_over_time(made, x[:8], STEPS))
    seen: dict[str, list[torch.Tensor]] = {}
    watched = {"pool", "a2.step_bias"}
    outputs_over_time(
        made,
        x[:8],
        3 * STEPS,
        observe=lambda _: lambda name, v: seen.setdefault(name, []).append(v) if name in watched else None,
    )
    added = torch.cat(seen["a2.step_bias"]) - torch.cat(seen["pool"])
    assert float(added[:STEPS].abs().max()) > 0
    assert float(added[STEPS:].abs().max()) == 0


def test_splitting_time_and_batch_changes_nothing(networks) -> None:
    analog, graph, x = networks
    made = step_corrected(graph, analog, x, STEPS)
    engine = Engine(made, max_steps=12, chunk=4)
    block = torch.from_numpy(x[:6])
    whole, _ = engine.advance(block, engine.start(block), 9)
    _, state = engine.advance(block, engine.start(block), 4)
    kept = torch.tensor([4, 0, 2])
    rest, _ = engine.advance(block[kept], select(state, kept), 5)
    assert_close(rest, whole[4:, kept])
    fresh = torch.from_numpy(x[6:8])
    mixed = join(select(state, kept), engine.start(fresh))
    both, _ = engine.advance(torch.cat([block[kept], fresh]), mixed, 5)
    assert_close(both[:, :3], whole[4:, kept])
    alone, _ = engine.advance(fresh, engine.start(fresh), 5)
    assert_close(both[:, 3:], alone)
    placed = put(state, torch.tensor([1, 5]), engine.start(fresh))
    refilled, _ = engine.advance(block, placed, 5)
    assert_close(refilled[:, [1, 5]], alone)
    assert_close(refilled[:, [0, 2]], whole[4:, [0, 2]])


def test_as_a_program_it_gives_the_same(networks) -> None:
    analog, graph, x = networks
    made = step_corrected(graph, analog, x, STEPS)
    block = torch.from_numpy(x[:5])
    wanted = outputs_over_time(made, x[:5], 8)
    start, steps = StartProgram(made), StepsProgram(made, steps=2)
    values, outputs = start(block), []
    for _ in range(4):
        output, *state = steps(*values)
        outputs.append(output)
        values = (*values[: start.constants], *state)
    assert_close(torch.cat(outputs), wanted)


def test_whole_numbers_refuse_it_by_name(networks) -> None:
    analog, graph, x = networks
    made = step_corrected(graph, analog, x, STEPS)
    with pytest.raises(UnsupportedError, match=r"a2\.step_bias .*a3\.step_bias"):
        normalised(made)


@pytest.mark.parametrize("shape", [(4,), (0, 3), (2, 5)])
def test_values_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpikeportError, match="step"):
        Graph.of(
            [
                make_node("x", "input", shape=(3, 2, 2)),
                make_node("b", "step_bias", ["x"], arrays={"values": np.zeros(shape)}),
                make_node("y", "output", ["b"]),
            ]
        )
