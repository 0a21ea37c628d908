"""Faults of stored values: what is hit, how often, and that nothing else is."""

import numpy as np
import pytest

from spikeport import RangeError, SpikeportError, UnsupportedError
from spikeport.networks.engine import Engine
from spikeport.networks.fault_draws import content_keys, mixed, places
from spikeport.networks.faults import STORED, Faults
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.stored_faults import faulty_graph
from spikeport.networks.transient import Transient

ALL = ("weights", "biases", "thresholds", "initial")


def bits(array: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(array, np.float32).view(np.uint8))


def differing(a: Graph, b: Graph) -> int:
    return sum(
        int((bits(array) != bits(other.arrays[key])).sum())
        for node, other in zip(a.nodes, b.nodes, strict=True)
        for key, array in node.arrays.items()
    )


@pytest.fixture
def analog() -> Graph:
    rng, ones = np.random.default_rng(1), np.full(40, 0.5)
    return Graph.of(
        [
            make_node("x", "input", shape=(5,)),
            make_node("a", "linear", ["x"], arrays={"weight": rng.uniform(0.1, 0.9, (40, 5)), "bias": ones}),
            make_node("r", "activation", ["a"]),
            make_node("b", "linear", ["r"], arrays={"weight": rng.uniform(-0.9, -0.1, (3, 40))}),
            make_node("y", "output", ["b"]),
        ]
    )


def test_hits_come_at_the_rate_and_everywhere():
    rows, found = places(mixed(np.arange(2000, dtype=np.uint64)), 500, 0.01)
    assert abs(len(rows) / (2000 * 500) - 0.01) < 5 * np.sqrt(0.01 / (2000 * 500))
    by_place, by_row = np.bincount(found, minlength=500), np.bincount(rows, minlength=2000)
    assert abs(by_place.std() - np.sqrt(20)) < 1
    assert abs(by_row.std() - np.sqrt(5)) < 0.2
    assert len(np.unique(rows * 500 + found)) == len(rows), "a place is hit once"


@pytest.mark.parametrize("rate", [1e-300, 1e-9, 0.999])
def test_extreme_rates(rate):
    rows, _ = places(mixed(np.arange(50, dtype=np.uint64)), 300, rate)
    assert len(rows) == pytest.approx(50 * 300 * rate, abs=60)


def test_a_row_s_hits_depend_on_its_key_alone():
    keys = mixed(np.arange(9, dtype=np.uint64))
    rows, found = places(keys, 1000, 0.02)
    for row in range(9):
        assert places(keys[row : row + 1], 1000, 0.02)[1].tolist() == found[rows == row].tolist()


def test_keys_follow_from_content():
    x = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    keys = content_keys(x)
    assert len(np.unique(keys)) == 6
    assert content_keys(x[[4, 1]]).tolist() == keys[[4, 1]].tolist()
    swapped = x[:, ::-1]
    assert not np.isin(content_keys(swapped), keys).any(), "the order of values matters"


def test_no_rate_no_fault(graph):
    same, injected = faulty_graph(graph, Faults(), seed=1)
    assert differing(graph, same) == 0
    assert injected.to_json() == {"bits": {}, "changed": {}, "dead": {}}


def test_the_count_is_what_differs_and_follows_from_the_seed(analog):
    faults = Faults(weights=0.002, biases=0.002)
    found, injected = faulty_graph(analog, faults, seed=3)
    assert differing(analog, found) == sum(injected.changed.values()) > 0
    assert injected.bits == {"weights": (200 + 120) * 32, "biases": 40 * 32}
    again, _ = faulty_graph(analog, faults, seed=3)
    other, _ = faulty_graph(analog, faults, seed=4)
    assert differing(found, again) == 0 < differing(found, other)


def test_the_rate_of_flips(analog):
    changed = [faulty_graph(analog, Faults(weights=0.01), seed=seed)[1].changed["weights"] for seed in range(40)]
    wanted = 320 * 32 * 0.01
    assert np.mean(changed) == pytest.approx(wanted, abs=4 * np.sqrt(wanted / 40))
    assert np.var(changed) == pytest.approx(wanted, rel=0.8)


def test_arrays_do_not_share_their_faults(analog):
    found, _ = faulty_graph(analog, Faults(weights=0.5), seed=0)
    a, b = (bits(found.by_name[name].arrays["weight"]) ^ bits(analog.by_name[name].arrays["weight"]) for name in "ab")
    assert not np.array_equal(a[: len(b)], b)


def test_every_value_stays_finite_and_every_threshold_above_zero(graph):
    ones = {node.name: {k: np.sign(a) for k, a in node.arrays.items() if k == "weight"} for node in graph.nodes}
    nodes = [
        make_node(n.name, n.operator, n.inputs, arrays={**n.arrays, **ones[n.name]}, **n.attributes)
        for n in graph.nodes
    ]
    held = {target for target in ALL for n in graph.nodes if STORED[target] & set(n.arrays)}
    for seed in range(5):
        faulty, _ = faulty_graph(Graph.of(nodes), Faults(**dict.fromkeys(held, 0.3)), seed=seed)
        for node in faulty.nodes:
            assert all(np.isfinite(array).all() for array in node.arrays.values())
            assert (node.arrays.get("threshold", np.ones(1)) > 0).all()


def test_a_word_that_would_be_infinite_is_the_largest_number():
    ends = [make_node("x", "input", shape=(1,)), make_node("y", "output", ["a"])]
    one = Graph.of([*ends, make_node("a", "linear", ["x"], arrays={"weight": np.float32([[1.0]])})])
    largest = np.finfo(np.float32).max
    seen = {faulty_graph(one, Faults(weights=0.03), seed=s)[0].by_name["a"].arrays["weight"].item() for s in range(200)}
    assert largest in seen, "the top exponent bit of 1.0 makes infinity"


def test_stuck_cells_stick(analog):
    zero, _ = faulty_graph(analog, Faults(stuck_at_0=1.0), seed=0)
    assert not zero.by_name["a"].arrays["weight"].any()
    assert zero.by_name["a"].arrays["bias"].any()
    half, _ = faulty_graph(analog, Faults(stuck_at_0=0.3, stuck_at_1=0.1), seed=0)
    before, after = (bits(np.asarray(g.by_name["a"].arrays["weight"])) for g in (analog, half))
    assert 0 < (after < before).mean() < 0.3
    assert 0 < (after > before).mean() < 0.1
    both, _ = faulty_graph(analog, Faults(weights=1.0, stuck_at_0=0.5), seed=0)
    flipped = bits(both.by_name["b"].arrays["weight"]) != bits(analog.by_name["b"].arrays["weight"])
    assert 0.4 < flipped.mean() < 0.99, "a cell that is stuck does not flip"


def test_only_the_layers_that_are_named(analog):
    found, injected = faulty_graph(analog, Faults(weights=0.1, layers=("b",)), seed=0)
    assert np.array_equal(found.by_name["a"].arrays["weight"], analog.by_name["a"].arrays["weight"])
    assert injected.bits == {"weights": 120 * 32}


def test_dead_neurons_never_fire_and_the_others_do_as_before(graph, inputs):
    faulty, injected = faulty_graph(graph, Faults(dead_neurons=0.5), seed=2)
    first = next(node for node in graph.nodes if node.operator == "neuron")
    seen: dict[str, dict[str, np.ndarray]] = {}
    for key, network in (("before", graph), ("after", faulty)):
        engine, x = Engine(network, max_steps=8), inputs(graph, 20)
        found: dict[str, np.ndarray] = {}
        engine.advance(x, engine.start(x), 8, lambda name, v, found=found: found.setdefault(name, v[0].numpy()))
        seen[key] = found
    dead = faulty.by_name[first.name].arrays["threshold"] == np.finfo(np.float32).max
    assert dead.sum() == injected.dead[first.name] > 0
    before, after = (seen[key][first.name] for key in ("before", "after"))
    assert not after[:, dead].any()
    assert np.array_equal(after[:, ~dead], before[:, ~dead])


def test_dead_units_of_an_activation_give_nothing(analog):
    faulty, injected = faulty_graph(analog, Faults(dead_neurons=0.5), seed=0)
    assert (faulty.by_name["r"].arrays["bound"] == 0).sum() == injected.dead["r"] > 5


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), float("inf"), "0.1", True, None])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(RangeError, match="a rate lies between 0 and 1, but weights is"):
        Faults(weights=rate)


def test_bad_requests(analog):
    with pytest.raises(RangeError, match="at most 1"):
        Faults(stuck_at_0=0.6, stuck_at_1=0.6)
    with pytest.raises(SpikeportError, match="no layers c, d; those with arrays are a, b"):
        faulty_graph(analog, Faults(weights=0.1, layers=("c", "a", "d")), seed=0)
    with pytest.raises(UnsupportedError, match=r"thresholds .*; bounds .*"):
        faulty_graph(analog, Faults(weights=0.1, thresholds=0.1, bounds=0.1), seed=0)
    with pytest.raises(UnsupportedError, match="stuck cells"):
        faulty_graph(analog, Faults(stuck_at_1=0.1, layers=("r",)), seed=0)
    with pytest.raises(UnsupportedError, match="dead neurons"):
        faulty_graph(analog, Faults(dead_neurons=0.1, layers=("a",)), seed=0)
    with pytest.raises(UnsupportedError, match="has no neurons"):
        Transient(analog, Faults(dropped_spikes=0.1), 0)
    with pytest.raises(UnsupportedError, match="none of them spikes or remembers"):
        Transient(analog, Faults(state=0.1), 0)
