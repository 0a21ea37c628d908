"""Two ways into a running network: fresh samples put in the places of others, and a walk that tunes node by node."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from spikeport import ShapeError, UnsupportedError
from spikeport.inference import DynamicConfidence, FixedSteps, MaxSoftmax, cumulative_outputs, decide, run_with_exit
from spikeport.inference.engine import Replacing
from spikeport.networks.engine import Engine, NetworkState, constant_nodes, join, put, select
from spikeport.networks.graph import Graph, Node, make_node

STEPS = 12
Inputs = Callable[..., Tensor]


def tensors(state: NetworkState) -> list[Tensor]:
    return [*(part for parts in state.nodes.values() for part in parts), *state.edges.values(), *state.fixed.values()]


def assert_same(a: NetworkState, b: NetworkState) -> None:
    assert all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


@pytest.mark.parametrize("places", [[0], [4, 1], [2, 0, 3], [0, 1, 2, 3, 4]], ids=str)
def test_putting_tells_each_sample_what_selecting_and_joining_tells_it(
    graph: Graph, inputs: Inputs, places: list[int]
) -> None:
    engine, x, fresh = Engine(graph, max_steps=STEPS), inputs(graph, 5), inputs(graph, len(places), seed=9)
    index = torch.tensor(places)
    others = torch.tensor([i for i in range(5) if i not in places], dtype=torch.int64)
    _, state = engine.advance(x, engine.start(x), 5)
    joined = join(select(state, others), engine.start(fresh))
    after = engine.put(state, index, engine.start(fresh))
    order = torch.cat([others, index])
    assert_same(select(after, order), joined)
    mixed = x.clone()
    mixed[index] = fresh
    output, end = engine.advance(mixed, after, STEPS - 5)
    wanted, wanted_end = engine.advance(mixed[order], joined, STEPS - 5)
    assert torch.equal(output[:, order], wanted)
    assert_same(select(end, order), wanted_end)


def test_what_is_put_does_not_hang_on_the_memory_of_the_fresh_state(graph: Graph, inputs: Inputs) -> None:
    engine, x = Engine(graph, max_steps=STEPS), inputs(graph, 3)
    fresh = engine.start(inputs(graph, 1, seed=9))
    after = put(engine.start(x), torch.tensor([1]), fresh)
    before = [part.clone() for part in tensors(after)]
    with torch.inference_mode():
        for part in tensors(fresh):
            part.add_(1)
    assert all(torch.equal(part, old) for part, old in zip(tensors(after), before, strict=True))


def test_putting_nobody_changes_nothing(graph: Graph, inputs: Inputs) -> None:
    engine, x = Engine(graph, max_steps=STEPS), inputs(graph, 3)
    _, state = engine.advance(x, engine.start(x), 4)
    before = select(state, torch.arange(3))
    none = torch.empty(0, dtype=torch.int64)
    assert_same(put(state, none, select(engine.start(x), none)), before)


@pytest.mark.parametrize("rule", [DynamicConfidence(MaxSoftmax(8.0), 0.9), FixedSteps(5)], ids=str)
@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 4), (5, 3), (16, 1), (64, 12)])
def test_early_exit_decides_as_on_cached_outputs(
    graph: Graph, inputs: Inputs, rule: DynamicConfidence | FixedSteps, batch_size: int, chunk: int
) -> None:
    x = inputs(graph, 50)
    wanted = decide(rule, cumulative_outputs(Engine(graph, max_steps=STEPS), x))
    engine = Engine(graph, max_steps=STEPS, chunk=chunk)
    assert isinstance(engine, Replacing)
    run = run_with_exit(engine, x, rule, batch_size=batch_size)
    for found, expected in zip(run, wanted, strict=False):
        assert torch.equal(found, expected)


def walkable(graphs: Mapping[str, Callable[[], Graph]]) -> list[Graph]:
    return [graphs[name]() for name in ("dense", "residual")]


def test_a_walk_that_gives_nothing_is_a_run(graphs: Mapping[str, Callable[[], Graph]], inputs: Inputs) -> None:
    for graph in walkable(graphs):
        engine, x, seen = Engine(graph, max_steps=STEPS), inputs(graph, 4), []
        wanted, _ = engine.advance(x, engine.start(x), STEPS)

        def look(node: Node, values: list[Tensor], seen: list[str] = seen) -> None:
            seen.append(node.name)

        assert torch.equal(engine.walk(x, STEPS, look), wanted)
        assert seen == [node.name for node in graph.nodes if node.operator != "input"]


def test_a_walk_sees_the_inputs_of_each_node(graphs: Mapping[str, Callable[[], Graph]], inputs: Inputs) -> None:
    for graph in walkable(graphs):
        engine, x = Engine(graph, max_steps=STEPS), inputs(graph, 4)
        values: dict[str, Tensor] = {}

        def observe(name: str, value: Tensor, values: dict[str, Tensor] = values) -> None:
            values[name] = value.clone()

        engine.advance(x, engine.start(x, observe), STEPS, observe)
        fixed = constant_nodes(graph)

        def look(node: Node, found: list[Tensor], values=values, fixed=fixed) -> None:
            for source, value in zip(node.sources, found, strict=True):
                assert torch.equal(value, values[source]), node.name
                assert len(value) == (1 if source in fixed else STEPS)

        engine.walk(x, STEPS, look)


def test_what_a_walk_gives_stands_in_the_place_of_the_node(
    graphs: Mapping[str, Callable[[], Graph]], inputs: Inputs
) -> None:
    graph = graphs["dense"]()
    engine, x = Engine(graph, max_steps=STEPS), inputs(graph, 4)
    wanted, _ = engine.advance(x, engine.start(x), STEPS)
    assert wanted.count_nonzero()

    def same(node: Node, values: list[Tensor]) -> Tensor | None:
        return engine.neuron_sequence(node, values[0], STEPS) if node.operator == "neuron" else None

    def silent(node: Node, values: list[Tensor]) -> Tensor | None:
        return torch.zeros(STEPS, 4, 6) if node.name == "n2" else None

    assert torch.equal(engine.walk(x, STEPS, same), wanted)
    assert engine.walk(x, STEPS, silent).count_nonzero() == 0
    assert torch.equal(engine.advance(x, engine.start(x), STEPS)[0], wanted), "a walk leaves the engine as it was"


def test_a_walk_refuses_what_it_cannot_walk(graphs: Mapping[str, Callable[[], Graph]], inputs: Inputs) -> None:
    for name in ("recurrent", "delayed"):
        graph = graphs[name]()
        with pytest.raises(UnsupportedError, match="feed-forward"):
            Engine(graph, max_steps=STEPS).walk(inputs(graph, 2), STEPS, lambda node, values: None)
    graph = graphs["dense"]()
    sequence = Engine(graph, max_steps=STEPS, constant_input=False)
    with pytest.raises(UnsupportedError, match="constant input"):
        sequence.walk(inputs(graph, 2), STEPS, lambda node, values: None)
    with pytest.raises(ShapeError, match=r"\(4,\)"):
        Engine(graph, max_steps=STEPS).walk(torch.zeros(2, 4), STEPS, lambda node, values: None)


def flat_network() -> Graph:
    """An input that reaches a neuron by way of its shape alone."""
    ones = torch.ones(4).numpy()
    neuron = {"threshold": ones, "initial": 0 * ones, "bias": 0 * ones}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 2)),
            make_node("f", "flatten", ["x"]),
            make_node("n", "neuron", ["f"], arrays=neuron, code="binary", test=">=", reset="subtract"),
            make_node("w", "linear", ["n"], arrays={"weight": torch.eye(4).numpy()}),
            make_node("m", "neuron", ["w"], arrays=neuron, code="binary", test=">=", reset="subtract"),
            make_node("y", "output", ["m"]),
        ]
    )


def test_the_state_owns_its_memory() -> None:
    engine, x = Engine(flat_network(), max_steps=8), torch.ones(3, 2, 2)
    state = engine.start(x)
    engine.put(state, torch.tensor([0]), engine.start(torch.zeros(1, 2, 2)))
    assert torch.equal(x, torch.ones(3, 2, 2)), "the caller's samples are left as they are"
    state = engine.start(x)
    x.zero_()
    assert engine.advance(x, state, 4)[0][-1].tolist() == [[4.0] * 4] * 3


def test_putting_into_a_batch_of_one_leaves_the_engine_as_it_was() -> None:
    engine, x = Engine(flat_network(), max_steps=8), torch.full((1, 2, 2), 0.4)
    wanted, ran = engine.advance(x, engine.start(x), 5)
    engine.put(engine.start(x), torch.tensor([0]), ran)
    assert torch.equal(engine.advance(x, engine.start(x), 5)[0], wanted)
