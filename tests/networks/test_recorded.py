"""Recordings run sample by sample as they run whole, at whatever step each sample is."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import DynamicConfidence, FixedSteps, MaxSoftmax, decide, run_with_exit
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.recorded import RecordedEngine

STEPS, N = 7, 9


@pytest.fixture
def graph() -> Graph:
    rng = np.random.default_rng(0)
    first, last = (rng.integers(-4, 6, shape).astype(np.float32) / 4 for shape in ((6, 5), (3, 6)))
    return Graph.of(
        [
            make_node("x", "input", shape=(5,)),
            make_node("a", "linear", ["x"], arrays={"weight": first}),
            make_node(
                "b", "neuron", ["a"], code="binary", test=">=", reset="subtract",
                arrays={"threshold": np.ones(6), "initial": np.zeros(6), "bias": np.zeros(6), "beta": np.full(6, 0.5)},
            ),
            make_node("c", "linear", ["b"], arrays={"weight": last}),
            make_node("y", "output", ["c"]),
        ]
    )  # fmt: skip


@pytest.fixture
def x() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 3, (N, STEPS, 5)).astype(np.float32))


def engine(graph: Graph, chunk: int = 2, steps: int = STEPS) -> RecordedEngine:
    return RecordedEngine(Engine(graph, max_steps=steps, chunk=chunk, constant_input=False))


@pytest.fixture
def whole(graph: Graph, x: Tensor) -> Tensor:
    plain = Engine(graph, max_steps=STEPS, constant_input=False)
    return plain.advance(x.transpose(0, 1), plain.initial_state(N), STEPS)[0]


def test_splitting_time_changes_nothing(graph: Graph, x: Tensor, whole: Tensor) -> None:
    recorded = engine(graph)
    state, parts = recorded.start(x), []
    for steps in (1, 4, 2):
        output, state = recorded.advance(x, state, steps)
        parts.append(output)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    assert len(whole.unique()) > 5


def test_samples_of_different_ages_share_a_batch(graph: Graph, x: Tensor, whole: Tensor) -> None:
    recorded = engine(graph)
    _, old = recorded.advance(x, recorded.start(x), 3)
    both = recorded.join(recorded.select(old, torch.tensor([4, 1])), recorded.start(x[6:8]))
    output, _ = recorded.advance(x, both, 2)
    torch.testing.assert_close(output[:, :2], whole[3:5, [4, 1]], rtol=0, atol=0)
    torch.testing.assert_close(output[:, 2:], whole[:2, 6:8], rtol=0, atol=0)


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_early_exit_decides_as_on_the_whole_output(
    graph: Graph, x: Tensor, whole: Tensor, chunk: int, batch: int
) -> None:
    for rule in (DynamicConfidence(MaxSoftmax(2.0), 0.8), FixedSteps(5)):
        found, wanted = run_with_exit(engine(graph, chunk), x, rule, batch_size=batch), decide(rule, whole)
        assert torch.equal(found.label, wanted.label)
        assert torch.equal(found.steps, wanted.steps)


def test_what_does_not_fit_is_refused(graph: Graph, x: Tensor) -> None:
    with pytest.raises(RangeError, match="constant_input=False"):
        RecordedEngine(Engine(graph, max_steps=STEPS))
    with pytest.raises(ShapeError, match="at least 8 steps"):
        engine(graph, steps=8).start(x)
    with pytest.raises(ShapeError):
        engine(graph).start(x[:, :, 0])
