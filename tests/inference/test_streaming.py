import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, UnsupportedError
from spikeport.inference import DynamicConfidence, FixedSteps, MaxSoftmax, StreamingSession, decide
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node

T = 9


@pytest.fixture
def engine() -> Engine:
    rng = np.random.default_rng(0)
    ones = np.ones(12, np.float32)
    arrays = {"threshold": ones, "initial": 0 * ones, "bias": 0 * ones, "beta": 0.9 * ones}
    nodes = [
        make_node("x", "input", shape=(2, 3)),
        make_node("f", "flatten", ["x"]),
        make_node("a", "linear", ["f"], arrays={"weight": rng.normal(size=(12, 6))}),
        make_node("n", "neuron", ["a"], arrays=arrays, code="binary", test=">=", reset="subtract"),
        make_node("c", "linear", ["n"], arrays={"weight": rng.normal(size=(4, 12))}),
        make_node("y", "output", ["c"]),
    ]
    return Engine(Graph.of(nodes), max_steps=T, constant_input=False)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(200, 2, 3, generator=torch.Generator().manual_seed(0))


RULE = DynamicConfidence(MaxSoftmax(2.0), 0.8)


def test_each_decision_is_the_one_of_its_sample_alone(engine, frames):
    at = 0
    decisions = list(StreamingSession(engine, RULE).push(frames))
    assert len(decisions) > 30
    assert len({decision.steps for decision in decisions}) > 2
    for decision in decisions:
        window = frames[at : at + T]
        output, _ = engine.advance(window[:, None], engine.initial_state(1), len(window))
        wanted = decide(RULE, output)
        assert (decision.label, decision.steps) == (int(wanted.label), int(wanted.steps))
        assert decision.confidence == pytest.approx(float(wanted.confidence))
        at += decision.steps


@pytest.mark.parametrize("size", [1, 7, 50])
def test_how_frames_are_cut_into_pushes_changes_nothing(engine, frames, size):
    session = StreamingSession(engine, RULE)
    found = [decision for part in frames.split(size) for decision in session.push(part)]
    assert found == list(StreamingSession(engine, RULE).push(frames))
    assert session.steps == len(frames) - sum(decision.steps for decision in found)


def test_the_last_step_always_decides(engine, frames):
    assert [d.steps for d in StreamingSession(engine, FixedSteps(T)).push(frames[:30])] == [T] * 3


def test_reset_begins_anew(engine, frames):
    session = StreamingSession(engine, FixedSteps(T))
    assert list(session.push(frames[:4])) == []
    session.reset()
    assert session.steps == 0
    assert list(session.push(frames[4:13])) == list(StreamingSession(engine, FixedSteps(T)).push(frames[4:13]))


def test_what_cannot_be_is_refused(engine, frames):
    with pytest.raises(RangeError, match="asks for 10 steps"):
        StreamingSession(engine, FixedSteps(10))
    with pytest.raises(ShapeError):
        list(StreamingSession(engine, RULE).push(frames[0, 0]))
    with pytest.raises(ShapeError):
        list(StreamingSession(engine, RULE).push(frames[:, 0]))
    with pytest.raises(RangeError, match="NaN"):
        list(StreamingSession(engine, RULE).push(frames * float("nan")))


def test_engines_and_frames_that_cannot_be_streamed_are_refused(engine, frames):
    session = StreamingSession(engine, RULE)
    with pytest.raises(ShapeError, match="list"):
        list(session.push(frames.tolist()))
    constant = Engine(engine.graph, max_steps=T)
    with pytest.raises(UnsupportedError, match="constant_input=False"):
        StreamingSession(constant, RULE)
