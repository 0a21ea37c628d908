"""A graph is checked as a whole: what is wrong is refused by name, before anything runs."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from spikeport import RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.networks.graph import MAX_NODES, Edge, Graph, Node, make_node

POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
WINDOW = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
NEURON = {"code": "binary", "test": ">=", "reset": "subtract"}
ONES = {"threshold": 1.0, "initial": 0.0, "bias": 0.0}


def of(*nodes: Node, shape: tuple[int, ...] = (3,), last: str = "") -> Graph:
    """A graph with an input x, these nodes, and an output that reads the last (or the named) one."""
    end = last or (nodes[-1].name if nodes else "x")
    return Graph.of([make_node("x", "input", shape=shape), *nodes, make_node("y", "output", [end])])


def relu(name: str, *sources: str | Edge) -> Node:
    return make_node(name, "activation", sources)


def test_attributes_take_the_defaults_of_the_table() -> None:
    node = make_node("n", "neuron", ["x"], arrays=ONES, **NEURON)
    assert node.attributes == {**NEURON, "levels": 1, "late": 0, "line": 0, "maximum": None}
    assert make_node("p", "max_pool", ["x"], **{**POOL, "kernel": [2, 2]}).attributes["kernel"] == (2, 2)
    assert make_node("a", "activation", ["x"], maximum=6).attributes["maximum"] == 6.0


def test_arrays_and_attributes_cannot_be_changed() -> None:
    source = np.ones((2, 3), np.float64)
    node = make_node("w", "linear", ["x"], arrays={"weight": source})
    source[:] = 7
    assert node.arrays["weight"].dtype == np.float32
    assert (node.arrays["weight"] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        node.arrays["weight"][0] = 2
    with pytest.raises(TypeError):
        node.attributes["stride"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("operator", "attributes", "arrays", "message"),
    [
        ("gelu", {}, {}, r"gelu"),
        ("activation", {"slope": 0.1}, {}, r"slope"),
        ("activation", {}, {"weight": 1.0}, r"weight"),
        ("linear", {}, {}, r"lacks the array 'weight'"),
        ("neuron", {"test": ">", "reset": "zero"}, ONES, r"code of .* is missing"),
        ("neuron", {**NEURON, "code": "analog"}, ONES, r"binary, signed, graded"),
        ("neuron", {**NEURON, "code": 1}, ONES, r"str was wanted"),
        ("neuron", NEURON, {**ONES, "beta": 1.5}, r"beta .*between 0 and 1"),
        ("neuron", {**NEURON, "beta": 1.0}, ONES, r"beta"),
        ("neuron", NEURON, {**ONES, "beta": float("nan")}, r"beta"),
        ("neuron", {**NEURON, "late": 2}, ONES, r"late"),
        ("neuron", {**NEURON, "levels": 2.0}, ONES, r"int was wanted"),
        ("neuron", {**NEURON, "levels": True}, ONES, r"int was wanted"),
        ("neuron", {**NEURON, "levels": 0}, ONES, r"levels"),
        ("neuron", NEURON, {**ONES, "threshold": 0.0}, r"above 0"),
        ("neuron", NEURON, {**ONES, "threshold": [1.0, -1.0, 1.0]}, r"above 0"),
        ("neuron", NEURON, {**ONES, "bias": np.nan}, r"NaN"),
        ("linear", {}, {"weight": [[1.0, np.inf, 0.0]]}, r"infinity"),
        ("linear", {}, {"weight": [[1.0, 1e39, 0.0]]}, r"infinity"),
        ("synaptic_filter", {}, {"alpha": 1.5}, r"between 0 and 1"),
        ("batch_norm", {}, {"mean": [0], "variance": [-1], "weight": [1], "bias": [0]}, r"at least 0"),
        ("activation", {"maximum": float("inf")}, {}, r"maximum"),
        ("activation", {"maximum": -1.0}, {}, r"maximum"),
        ("max_pool", {**POOL, "kernel": 2}, {}, r"tuple was wanted"),
        ("max_pool", {**POOL, "kernel": (2.0, 2)}, {}, r"tuple was wanted"),
        ("max_pool", {**POOL, "kernel": (2, 2, 2)}, {}, r"1 or 2 values"),
        ("max_pool", {**POOL, "stride": (0, 1)}, {}, r"stride"),
        ("max_pool", {**POOL, "kernel": (1 << 40, 1)}, {}, r"kernel"),
        ("conv1d", WINDOW, {"weight": np.ones((1, 1, 1, 1))}, r"1 values"),
        ("conv2d", {**WINDOW, "stride": (1,)}, {"weight": np.ones((1, 1, 1, 1))}, r"2 values"),
        ("delay", {"steps": 0}, {}, r"steps"),
        ("input", {"shape": (3,)}, {}, r"0 to 0"),
        ("multiply", {}, {}, r"has 1 inputs"),
    ],
)
def test_a_wrong_node_is_refused_by_name(operator: str, attributes: dict, arrays: dict, message: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(SpikeportError, match=message) as caught:
        make_node("layer7", operator, ["x"], arrays=arrays, **attributes)
    assert "layer7" in str(caught.value)


def test_the_kinds_of_error() -> None:
    with pytest.raises(UnsupportedError):
        make_node("n", "gelu", ["x"])
    with pytest.raises(RangeError):
        make_node("n", "delay", ["x"], steps=-1)
    with pytest.raises(SpikeportError, match="float64"):
        of(Node("w", "linear", (Edge("x"),), {}, {"weight": np.ones((3, 3))}))
    for name in ("", "a\nb", "\x1b[31m", 5, None):
        with pytest.raises(SpikeportError, match="named"):
            make_node(name, "flatten", ["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([relu("a", "x"), relu("a", "x")], r"not unique: \['a'\]"),
        ([relu("a", "nowhere")], r"a reads 'nowhere'"),
        ([relu("a", Edge("x", -1))], r"delay -1"),
        ([relu("a", Edge("x", 1 << 20))], r"delay"),
        ([relu("a", Edge("x", 1.0))], r"delay 1.0"),  # type: ignore[arg-type]
        ([relu("a", "a")], r"\['a', 'y'\] form or follow a cycle"),
        ([relu("a", "c"), relu("b", "a"), relu("c", "b")], r"cycle without delay"),
        ([make_node("x2", "input", shape=(3,))], r"exactly one input"),
        ([make_node("y2", "output", ["x"])], r"exactly one output"),
        ([relu("a", Edge("b", 1)), relu("b", "a")], r"entered by an add"),
        ([make_node("w", "linear", ["x"], arrays={"weight": np.ones((2, 4))})], r"w \(linear\)"),
    ],
)
def test_a_wrong_graph_is_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(SpikeportError, match=message):
        of(*nodes)


def test_a_graph_needs_an_input_and_an_output() -> None:
    with pytest.raises(SpikeportError, match="exactly one input"):
        Graph.of([])
    with pytest.raises(SpikeportError, match="exactly one output"):
        Graph.of([make_node("x", "input", shape=(3,))])


@pytest.mark.parametrize("delays", [(0, 1), (1, 0), (2, 3), (0, 0)])
def test_a_cycle_needs_a_delay_in_all(delays: tuple[int, int]) -> None:
    nodes = [make_node("sum", "add", ["x", Edge("back", delays[0])]), relu("back", Edge("sum", delays[1]))]
    if sum(delays):
        graph = of(*nodes, last="sum")
        assert graph.recurrent
        assert graph.shapes["back"] == (3,)
    else:
        with pytest.raises(SpikeportError, match="back"):
            of(*nodes, last="sum")


def test_a_loop_that_changes_its_shape_is_refused() -> None:
    nodes = [
        make_node("sum", "add", ["x", Edge("wide", 1)]),
        make_node("wide", "reshape", [Edge("long", 0)], shape=(2, 3)),
        make_node("long", "concat", ["sum", "sum"]),
    ]
    with pytest.raises(ShapeError):
        of(*nodes, last="sum")


def test_a_recurrent_network_in_full(graphs: Mapping[str, Callable[[], Graph]]) -> None:
    graph = graphs["recurrent"]()
    assert graph.recurrent
    assert [node.name for node in graph.nodes] == ["x", "W", "sum", "n", "U", "V", "y"]
    assert graph.shapes == {"x": (4,), "W": (5,), "sum": (5,), "n": (5,), "U": (5,), "V": (3,), "y": (3,)}
    assert graph.consumers["n"] == ("U", "V")


def test_the_order_is_the_given_one_where_it_can_be(graph: Graph) -> None:
    assert Graph.of(graph.nodes).nodes == graph.nodes
    shuffled = Graph.of(tuple(reversed(graph.nodes)))
    assert shuffled.by_name == graph.by_name
    assert shuffled.recurrent == graph.recurrent
    assert shuffled.shapes == graph.shapes
    position = {node.name: i for i, node in enumerate(shuffled.nodes)}
    for node in shuffled.nodes:
        for edge in node.inputs:
            assert position[edge.source] < position[node.name] or (edge.delay and graph.recurrent)


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (make_node("huge", "pad", ["x"], before=(1 << 28,), after=(0,)), (3,)),
        (make_node("huge", "reshape", ["x"], shape=(1,) * 9), (1,)),
        (make_node("huge", "linear", ["x"], arrays={"weight": np.ones((5000, 1))}), (100_000, 1)),
    ],
)
def test_a_value_beyond_all_measure_is_refused(node: Node, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="huge"):
        of(node, shape=shape)


def test_a_large_graph_is_checked_in_no_time_and_a_huge_one_is_refused() -> None:
    """A chain in the worst order, each edge late, inside a loop: a rule that goes round it would never end."""
    count = 20_000
    chain = [make_node("n0", "add", ["x", Edge(f"n{count - 1}", 1)])]
    chain += [relu(f"n{i}", Edge(f"n{i - 1}", 1)) for i in range(1, count)]
    graph = of(*reversed(chain), last="n0")
    assert graph.recurrent
    assert len(graph.shapes) == count + 2
    node = relu("a", "x")
    with pytest.raises(RangeError, match="at most"):
        Graph.of([node] * (MAX_NODES + 1))
