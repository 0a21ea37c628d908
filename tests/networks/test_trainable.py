"""A Graph as a torch module: it says what the engine says, learns, and comes back as a Graph."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import Graph, ShapeError, UnsupportedError
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Edge, make_node
from spikeport.networks.trainable import TrainableGraph

WINDOW = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}


def network(levels: int | None = 4) -> Graph:
    rng = np.random.default_rng(0)
    ceiling = {"ceiling": rng.uniform(0.5, 2.0, 6)} if levels else {}
    norm = {"mean": rng.normal(size=6), "variance": rng.uniform(0.5, 2, 6), "weight": np.ones(6), "bias": np.zeros(6)}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 8, 8)),
            make_node("c", "conv2d", ["x"], arrays={"weight": rng.normal(size=(6, 2, 3, 3)) / 3}, **WINDOW),
            make_node("n", "batch_norm", ["c"], arrays=norm),
            make_node("a.1", "activation", ["n"], arrays=ceiling, levels=levels),
            make_node("short", "conv2d", ["a.1"], arrays={"weight": rng.normal(size=(6, 6, 3, 3)) / 7}, **WINDOW),
            make_node("sum", "add", ["short", "a.1"]),
            make_node("b", "activation", ["sum"]),
            make_node("pool", "global_pool", ["b"]),
            make_node("l", "linear", ["pool"], arrays={"weight": rng.normal(size=(3, 6)), "bias": np.zeros(3)}),
            make_node("y", "output", ["l"]),
        ],
        {"source": {"name": "test"}},
    )


@pytest.mark.parametrize("levels", [None, 4])
def test_it_says_what_the_engine_says(levels: int | None) -> None:
    graph = network(levels)
    x = torch.randn(5, 2, 8, 8)
    engine = Engine(graph, max_steps=1)
    wanted, _ = engine.advance(x, engine.start(x), 1)
    output, state = TrainableGraph(graph).eval()(x.unsqueeze(0))
    assert state is None
    assert_close(output, wanted, atol=1e-5, rtol=1e-5)


def test_untrained_it_comes_back_as_it_was() -> None:
    graph = network()
    back = TrainableGraph(graph).to_graph()
    assert back.information == graph.information
    for before, after in zip(graph.nodes, back.nodes, strict=True):
        assert (before.name, before.inputs, before.attributes) == (after.name, after.inputs, after.attributes)
        for key, array in before.arrays.items():
            np.testing.assert_array_equal(after.arrays[key], array)


def test_batch_norm_follows_its_batches_and_ceilings_learn() -> None:
    graph = network()
    module = TrainableGraph(graph).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    x, y = 3 + torch.randn(16, 2, 8, 8), torch.arange(16) % 3
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x[None])[0][0], y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    trained = module.to_graph()
    for name, key in (("n", "mean"), ("n", "variance"), ("a.1", "ceiling"), ("c", "weight"), ("l", "bias")):
        assert not np.array_equal(trained.by_name[name].arrays[key], graph.by_name[name].arrays[key]), (name, key)
    assert losses[-1] < losses[0]


def test_a_ceiling_that_the_gradient_pushed_below_0_stays_usable() -> None:
    module = TrainableGraph(network())
    with torch.no_grad():
        next(value for name, value in module.named_parameters() if name.endswith("ceiling")).fill_(-1.0)
    assert (module.to_graph().by_name["a.1"].arrays["ceiling"] > 0).all()
    assert torch.isfinite(module(torch.randn(1, 3, 2, 8, 8))[0]).all()


def test_what_remembers_is_refused_by_name() -> None:
    arrays = {"threshold": np.ones(()), "initial": np.zeros(()), "bias": np.zeros(())}
    nodes = [
        make_node("x", "input", shape=(3,)),
        make_node("spikes", "neuron", ["x"], arrays=arrays, code="binary", test=">=", reset="subtract"),
        make_node("late", "scale", [Edge("spikes", 2)], arrays={"factor": np.ones(())}),
        make_node("y", "output", ["late"]),
    ]
    with pytest.raises(UnsupportedError) as caught:
        TrainableGraph(Graph.of(nodes))
    assert [problem.split()[0] for problem in caught.value.problems] == ["spikes", "late"]


def test_an_input_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 8, 8\)"):
        TrainableGraph(network())(torch.zeros(1, 4, 2, 8, 9))
