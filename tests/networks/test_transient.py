"""Faults during a run, in the engine of float networks: who asks when changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport import UnsupportedError
from spikeport.networks.engine import Engine
from spikeport.networks.faults import Faults
from spikeport.networks.faulty_engine import FaultyEngine
from spikeport.networks.graph import Graph
from spikeport.networks.transient import Transient, flip_floats, flip_whole, memory_order

STEPS = 12
FAULTS = Faults(dropped_spikes=0.2, state=0.002)


@pytest.fixture(params=[True, False], ids=["constant", "sequence"])
def x(request: pytest.FixtureRequest, graph: Graph, inputs: Callable[..., Tensor]) -> Tensor:
    return inputs(graph, 6) if request.param else inputs(graph, STEPS, 6)


def engine_of(graph: Graph, x: Tensor, faults: Faults = FAULTS, seed: int = 0) -> FaultyEngine:
    constant = x.ndim == 1 + len(graph.shapes["x"])
    return FaultyEngine(Transient(graph, faults, seed), max_steps=STEPS, constant_input=constant)


def run(engine: Engine, x: Tensor, cuts: tuple[int, ...] = (STEPS,)) -> Tensor:
    constant = engine.constant_input
    state = engine.start(x) if constant else engine.initial_state(x.shape[1])
    outputs, done = [], 0
    for steps in cuts:
        output, state = engine.advance(x if constant else x[done : done + steps], state, steps)
        outputs.append(output)
        done += steps
    return torch.cat(outputs)


@pytest.mark.parametrize("cuts", [(1,) * STEPS, (5, 7), (2, 9, 1)])
def test_chunks_of_time_change_nothing(graph, x, cuts):
    engine = engine_of(graph, x)
    assert torch.equal(run(engine, x, cuts), run(engine, x))


def test_a_batch_of_one_is_one_of_a_batch(graph, x):
    engine = engine_of(graph, x)
    whole = run(engine, x)
    for sample in (4, 0):
        one = x[sample : sample + 1] if engine.constant_input else x[:, sample : sample + 1]
        assert torch.equal(run(engine, one), whole[:, sample : sample + 1])


def test_samples_that_come_and_go_meet_their_own_faults(graph, inputs):
    x = inputs(graph, 6)
    engine = engine_of(graph, x)
    whole = run(engine, x)
    _, old = engine.advance(x[:4], engine.start(x[:4]), 5)
    state = engine.join(engine.select(old, torch.tensor([3, 1])), engine.start(x[4:]))
    output, _ = engine.advance(torch.cat([x[[3, 1]], x[4:]]), state, 6)
    assert torch.equal(output[:, :2], whole[5:11, [3, 1]])
    assert torch.equal(output[:, 2:], whole[:6, 4:])


def test_the_seed_decides(graph, x):
    faults = Faults(dropped_spikes=0.3, state=0.01)
    outputs = [run(engine_of(graph, x, faults, seed), x) for seed in (0, 1, 0)]
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


def test_all_spikes_lost_is_silence(graph, x):
    engine, seen = engine_of(graph, x, Faults(dropped_spikes=1.0)), []
    neurons = {node.name for node in graph.of_operator("neuron")}
    state = engine.start(x) if engine.constant_input else engine.initial_state(x.shape[1])
    engine.advance(x, state, STEPS, lambda name, values: seen.append(values) if name in neurons else None)
    assert seen
    assert not any(values.any() for values in seen)


def test_lost_spikes_are_lost_on_their_way(graphs, inputs):
    """The neuron that sent them does not notice: where nothing comes back, its other spikes are as before."""
    graph = graphs["dense"]()
    x = inputs(graph, 200)
    seen = {}
    faults = Transient(graph, Faults(dropped_spikes=0.25, layers=("n1",)), 0)
    for key, engine in (("plain", Engine(graph, max_steps=STEPS)), ("faulty", FaultyEngine(faults, max_steps=STEPS))):
        found = seen.setdefault(key, {})
        engine.advance(x, engine.start(x), STEPS, lambda name, v, found=found: found.setdefault(name, v.clone()))
    sent, came = seen["plain"]["n1"], seen["faulty"]["n1"]
    assert not (came > sent).any()
    assert (came.sum() / sent.sum()).item() == pytest.approx(0.75, abs=0.03)


def test_state_flips_come_at_the_rate(graphs, inputs):
    graph = graphs["dense"]()
    keys = np.arange(4000, dtype=np.uint64)
    rows, units, bits = Transient(graph, Faults(state=0.01), 0).flipped(graph.by_name["n1"], keys, 32)
    assert len(rows) == pytest.approx(4000 * 7 * 32 * 0.01, rel=0.05)
    assert set(units) == set(range(7))
    assert set(bits) == set(range(32))


def test_flips_of_whole_states_stay_in_24_bits():
    states = np.array([[5, -5, (1 << 23) - 1, -(1 << 23)]], np.int32)
    for bit in range(24):
        flipped = states.copy()
        flip_whole(flipped, np.zeros(4, int), np.arange(4), np.full(4, bit))
        assert np.abs(flipped.astype(np.int64) + 0.5).max() < 1 << 23
        assert (flipped != states).all()
        flip_whole(flipped, np.zeros(4, int), np.arange(4), np.full(4, bit))
        assert np.array_equal(flipped, states)


def test_flips_of_floats_are_finite():
    states = np.float32([[1.0, -1.5, 0.0]])
    flip_floats(states, np.zeros(3, int), np.arange(3), np.full(3, 30))
    largest = np.finfo(np.float32).max
    assert states.tolist() == [[largest, -largest, 2.0]]


def test_units_lie_as_convolutions_leave_them():
    assert memory_order((2, 1, 2)).tolist() == [0, 2, 1, 3]
    assert memory_order((3,)).tolist() == [0, 1, 2]


def test_what_cannot_be(graphs, make_neuron, inputs):
    graph = graphs["dense"]()
    with pytest.raises(UnsupportedError, match="a walk knows no faults"):
        FaultyEngine(Transient(graph, FAULTS, 0), max_steps=4).walk(inputs(graph, 2), 4, lambda node, given: None)
    nodes = [make_neuron("n1", "w1", "differential") if n.name == "n1" else n for n in graph.nodes]
    with pytest.raises(UnsupportedError, match=r"n1 \(differential spikes"):
        Transient(Graph.of(nodes), FAULTS, 0)
