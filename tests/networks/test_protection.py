"""Protection: nothing changes where nothing is wrong, and what is wrong stops at the bound."""

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.conversion.spiking import require_convertible
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.operators import OPERATORS
from spikeport.networks.outputs import outputs_over_time
from spikeport.networks.programs import StartProgram
from spikeport.networks.protection import (
    activation_maxima,
    hyperactive,
    maximum_bounds,
    silenced,
    with_bounds,
    with_limits,
)


@pytest.fixture
def analog() -> Graph:
    rng = np.random.default_rng(0)
    same = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 4, 4)),
            make_node("a", "conv2d", ["x"], arrays={"weight": rng.normal(size=(3, 2, 3, 3))}, **same),
            make_node("r", "activation", ["a"], maximum=2.0),
            make_node("f", "flatten", ["r"]),
            make_node("b", "linear", ["f"], arrays={"weight": rng.normal(size=(6, 48))}),
            make_node("s", "activation", ["b"]),
            make_node("c", "linear", ["s"], arrays={"weight": rng.normal(size=(4, 6))}),
            make_node("y", "output", ["c"]),
        ]
    )


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(300, 2, 4, 4)).astype(np.float32)


def test_bounds_at_the_maxima_change_nothing_on_what_they_were_taken_from(analog, x):
    bounds = maximum_bounds(analog, activation_maxima(analog, x))
    assert {name: bound.shape for name, bound in bounds.items()} == {"r": (), "s": (6,)}
    plain, bounded = (outputs_over_time(graph, x, 1) for graph in (analog, with_bounds(analog, bounds)))
    assert torch.equal(plain, bounded)
    assert maximum_bounds(analog, activation_maxima(analog, x), last_by_unit=False)["s"].shape == ()


def test_maxima_do_not_depend_on_batches(analog, x):
    whole, halves = activation_maxima(analog, x), [activation_maxima(analog, part) for part in (x[:7], x[7:])]
    for name in ("r", "s"):
        np.testing.assert_allclose(whole[name], np.maximum(*(half[name] for half in halves)), rtol=1e-5)


@pytest.mark.parametrize("function", ["relu", "identity"])
def test_above_the_bound_and_without_a_number_it_is_0(function):
    node = make_node("r", "activation", ["a"], arrays={"bound": np.float32([2.0])}, function=function)
    inf, nan = float("inf"), float("nan")
    x = torch.tensor([[-inf], [-3.0], [-1.0], [0.5], [2.0], [2.0001], [3e38], [inf], [nan]])
    y = OPERATORS["activation"].function(node.attributes, {"bound": torch.tensor([2.0])}, [x])
    lower = 0.0 if function == "relu" else -1.0
    assert y.flatten().tolist() == [0.0, 0.0, lower, 0.5, 2.0, 0.0, 0.0, 0.0, 0.0]


def test_a_bound_by_channel_and_one_of_levels():
    arrays = {"bound": np.float32([1, 5]), "ceiling": np.float32(4)}
    node = make_node("r", "activation", ["a"], arrays=arrays, levels=4)
    x = torch.full((1, 2, 3, 3), 3.0)
    tensors = {key: torch.tensor(array) for key, array in arrays.items()}
    y = OPERATORS["activation"].function(node.attributes, tensors, [x])
    assert (y[0, 0] == 0).all()
    assert (y[0, 1] == 3).all()


def test_a_limit_ends_the_spikes_of_a_window(graphs, inputs):
    graph = graphs["dense"]()
    x = inputs(graph, 40)
    limits = {"n1": np.arange(7) % 3, "n2": np.float32(4)}
    seen = {}
    for key, network in (("plain", graph), ("limited", with_limits(graph, limits))):
        engine, found = Engine(network, max_steps=12), {}
        engine.advance(x, engine.start(x), 12, lambda name, v, found=found: found.setdefault(name, v.clone()))
        seen[key] = found
    counts = seen["plain"]["n1"].cumsum(0)
    wanted = seen["plain"]["n1"] * (counts <= torch.arange(7) % 3)
    assert torch.equal(seen["limited"]["n1"], wanted)
    assert seen["limited"]["n2"].sum(0).max() <= 4


@pytest.mark.parametrize("cuts", [(1,) * 12, (5, 7)])
def test_a_limit_does_not_care_for_chunks_and_company(graph, inputs, cuts):
    limited = with_limits(graph, {node.name: np.float32(2) for node in graph.of_operator("neuron")})
    x, engine = inputs(graph, 6), Engine(limited, max_steps=12)
    whole, _ = engine.advance(x, engine.start(x), 12)
    state, parts = engine.start(x[[4, 2]]), []
    for steps in cuts:
        output, state = engine.advance(x[[4, 2]], state, steps)
        parts.append(output)
    assert torch.equal(torch.cat(parts), whole[:, [4, 2]])
    kept = engine.select(state, torch.tensor([1]))
    assert torch.equal(engine.join(kept, kept).nodes["y"][0], state.nodes["y"][0][[1, 1]])


def test_the_hyperactive_rule_on_a_table_of_counts():
    counts = np.array([[0, 1, 9], [0, 0, 9], [1, 0, 0], [0, 0, 9]])
    assert hyperactive(counts, 0, share=0.5).tolist() == [False, False, True]
    assert hyperactive(counts, 0, share=0.25).tolist() == [True, True, True]
    assert hyperactive(counts, np.array([0, 1, 9]), share=0.25).tolist() == [True, False, False]
    assert not hyperactive(counts, 9, share=0.0).any(), "never above its limit: never hyperactive"


def test_silenced_units_never_fire(graph, inputs):
    node = graph.of_operator("neuron")[0]
    gone = np.random.default_rng(0).random(graph.shapes[node.name]) < 0.5
    network, x, seen = silenced(graph, {node.name: gone}), inputs(graph, 30), {}
    engine = Engine(network, max_steps=10)
    engine.advance(x, engine.start(x), 10, lambda name, v: seen.setdefault(name, v.clone()))
    assert not seen[node.name][..., torch.from_numpy(gone)].any()
    assert seen[node.name].any()


def test_what_does_not_fit_is_refused(analog, graphs):
    spiking = graphs["dense"]()
    with pytest.raises(SpikeportError, match="q, a can have no bound; the activation layers of this network are: r, s"):
        with_bounds(analog, {"q": np.float32(1), "r": np.float32(1), "a": np.float32(1)})
    with pytest.raises(SpikeportError, match="w1 can have no limit; the neuron layers of this network are: n1, n2"):
        with_limits(spiking, {"w1": np.float32(1)})
    with pytest.raises(SpikeportError, match="the neuron layers of this network are: none"):
        silenced(analog, {"r": np.ones(3, bool)})
    with pytest.raises(SpikeportError, match="activation layers of this network are: none"):
        maximum_bounds(spiking, {"n1": np.ones(7)})
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(RangeError, match="bound"):
            with_bounds(analog, {"r": np.float32(bad)})
    with pytest.raises(ShapeError, match="bound"):
        with_bounds(analog, {"s": np.ones(5, np.float32)})
    with pytest.raises(RangeError, match="not whole"):
        with_limits(spiking, {"n1": np.float32(1.5)})
    with pytest.raises(ShapeError, match=r"\(3,\) units were to be silenced"):
        silenced(spiking, {"n1": np.ones(3, bool)})
    with pytest.raises(RangeError, match="share"):
        hyperactive(np.ones((2, 2)), 0, share=1.1)
    with pytest.raises(ShapeError, match="no samples"):
        hyperactive(np.ones((0, 2)), 0, share=0.1)


def test_what_knows_no_protection_says_so(analog, graphs, make_neuron):
    bounded = with_bounds(analog, {"s": np.float32(1)})
    for code in ("binary", "differential:4"):
        with pytest.raises(UnsupportedError, match=r"s \(activation\): it falls to 0 above a bound"):
            require_convertible(bounded, code)
    limited = with_limits(graphs["dense"](), {"n1": np.float32(2)})
    with pytest.raises(UnsupportedError, match=r"limits of spikes.*n1"):
        StartProgram(limited)
    with pytest.raises(ShapeError, match="a limit of spikes counts spikes"):
        Graph.of(
            [
                make_node("x", "input", shape=(2,)),
                make_neuron("n", "x", "differential", arrays={"limit": 1.0}),
                make_node("y", "output", ["n"]),
            ]
        )
