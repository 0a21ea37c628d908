"""The programs compute what the engine does, bit for bit where the arithmetic is exact, and let gradients through."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from spikeport import RangeError, UnsupportedError
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.programs import StartProgram, StepsProgram

T = 12


def with_memory() -> Graph:
    """A filter, a delay, a leak, a late reset and a ramp."""
    rng = np.random.default_rng(0)

    def grid(*shape: int) -> np.ndarray:
        return rng.integers(-4, 6, shape) / 4

    late = {"threshold": 1.0, "initial": 0.5, "bias": 0.0, "beta": 0.5}
    nodes = [
        make_node("x", "input", shape=(5,)),
        make_node("w1", "linear", ["x"], arrays={"weight": grid(6, 5), "bias": grid(6)}),
        make_node("n1", "neuron", ["w1"], arrays=late, code="binary", test=">", reset="subtract", late=1),
        make_node("f", "synaptic_filter", ["n1"], arrays={"alpha": 0.5}),
        make_node("d", "delay", ["f"], steps=3),
        make_node("w2", "linear", ["d"], arrays={"weight": grid(3, 6)}),
        make_node("y", "output", ["w2"], ramp=0),
    ]
    return Graph.of(nodes)


def decoding() -> Graph:
    """Differential spikes: what the neurons give is a value, and the readout reads values."""
    rng = np.random.default_rng(1)
    neuron = {"threshold": 2.0, "initial": 0.0, "bias": 0.0}
    code = {"code": "differential", "levels": 6, "test": ">=", "reset": "subtract"}
    nodes = [
        make_node("x", "input", shape=(5,)),
        make_node("w1", "linear", ["x"], arrays={"weight": rng.integers(-4, 6, (6, 5)) / 4}),
        make_node("n1", "neuron", ["w1"], arrays=neuron, **code),
        make_node("w2", "linear", ["n1"], arrays={"weight": rng.integers(-4, 6, (4, 6)) / 4}),
        make_node("n2", "neuron", ["w2"], arrays=neuron, line=1, **code),
        make_node("y", "output", ["n2"], decoded=1),
    ]
    return Graph.of(nodes)


@pytest.fixture(params=["dense", "residual", "with_memory", "decoding"])
def plain(request: pytest.FixtureRequest, graphs: Mapping[str, Callable[[], Graph]]) -> Graph:
    own = {"with_memory": with_memory, "decoding": decoding}
    return own[request.param]() if request.param in own else graphs[request.param]()


def samples(graph: Graph, n: int = 5) -> torch.Tensor:
    shape = graph.shapes[graph.input.name]
    return torch.randint(-4, 9, (n, *shape), generator=torch.Generator().manual_seed(1)) / 4


def run(graph: Graph, x: torch.Tensor, steps: int) -> torch.Tensor:
    start, step = StartProgram(graph), StepsProgram(graph, steps=steps)
    values, outputs = start(x), []
    for _ in range(T // steps):
        output, *state = step(*values)
        values = (*values[: start.constants], *state)
        outputs.append(output)
    return torch.cat(outputs)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_programs_give_what_the_engine_gives(plain: Graph, steps: int) -> None:
    x = samples(plain)
    engine = Engine(plain, max_steps=T)
    wanted, _ = engine.advance(x, engine.start(x), T)
    assert wanted.abs().max() > 0
    if plain.output.attributes["decoded"]:  # 1 / t is no multiple of 1 / 4
        torch.testing.assert_close(run(plain, x, steps), wanted)
    else:
        assert torch.equal(run(plain, x, steps), wanted)


def test_samples_do_not_touch_each_other(plain: Graph) -> None:
    x = samples(plain)
    assert torch.equal(run(plain, x, 1)[:, 2:3], run(plain, x[2:3], 1))


def test_every_tensor_of_the_state_has_one_entry_a_sample(plain: Graph) -> None:
    start, step = StartProgram(plain), StepsProgram(plain)
    values = start(samples(plain, 4))
    _, *state = step(*values)
    assert [len(part) for part in (*values, *state)] == [4] * (len(values) + len(state))
    assert [part.shape for part in state] == [part.shape for part in values[start.constants :]]


def test_late_edges_and_senseless_steps_are_refused(graphs: Mapping[str, Callable[[], Graph]]) -> None:
    with pytest.raises(UnsupportedError, match="late by"):
        StartProgram(graphs["recurrent"]())
    with pytest.raises(RangeError, match="0 steps"):
        StepsProgram(graphs["dense"](), steps=0)
