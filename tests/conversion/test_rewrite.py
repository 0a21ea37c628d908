"""Every rewrite leaves the analog output as it is, and leaves nothing behind that spikes cannot pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import UnsupportedError
from spikeport.conversion.differential import with_lines
from spikeport.conversion.rewrite import arranged, folded, is_maximum, simplified, without_lines
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import require_convertible
from spikeport.networks.graph import Graph, Node, make_node

POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
Build = Callable[[], list[Node]]


def grid(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def conv(
    name: str, source: str, outputs: int, inputs: int, size: int = 3, *, bias: bool = True, **options: Any
) -> Node:
    arrays = {"weight": grid(outputs, inputs // options.get("groups", 1), size, size)}
    window = {"stride": (1, 1), "padding": (size // 2,) * 2, "dilation": (1, 1), **options}
    return make_node(name, "conv2d", [source], arrays=arrays | ({"bias": grid(outputs)} if bias else {}), **window)


def norm(name: str, source: str, channels: int, sign: float = 1.0) -> Node:
    arrays = {"mean": grid(channels), "variance": np.abs(grid(channels)) + 0.5, "bias": grid(channels)}
    arrays["weight"] = sign * (np.abs(grid(channels)) + 0.1)
    return make_node(name, "batch_norm", [source], arrays=arrays)


def relu(name: str, source: str, maximum: float | None = None) -> Node:
    return make_node(name, "activation", [source], maximum=maximum)


def pool(name: str, source: str) -> Node:
    return make_node(name, "max_pool", [source], **POOL)


def plain() -> list[Node]:
    return [conv("c", "x", 4, 2, bias=False), norm("b", "c", 4), relu("r", "b"), pool("p", "r")]


def groups() -> list[Node]:
    return [conv("c", "x", 4, 2, groups=2), norm("b", "c", 4, -1), relu("r", "b", 0.7), pool("p", "r")]


def norm_first() -> list[Node]:
    return [norm("b", "x", 2), conv("c", "b", 3, 2), relu("p", "c")]


def norm_after_activation() -> list[Node]:
    return [conv("c", "x", 4, 2), relu("r", "c"), norm("b", "r", 4), pool("p", "b")]


def two_readers() -> list[Node]:
    return [
        conv("c", "x", 4, 2),
        relu("r", "c"),
        pool("top", "r"),
        make_node("mean", "average_pool", ["r"], **POOL),
        make_node("p", "add", ["top", "mean"]),
    ]


def norm_of_a_shared_convolution() -> list[Node]:
    return [conv("c", "x", 4, 2), norm("b", "c", 4), relu("r", "b"), relu("s", "c"), make_node("p", "add", ["r", "s"])]


def two_norms() -> list[Node]:
    return [conv("c", "x", 4, 2), norm("b", "c", 4), norm("d", "b", 4, -1), relu("p", "d")]


def option_a() -> list[Node]:
    return [
        conv("rows", "x", 2, 2, 1, bias=False, stride=(2, 1)),
        conv("columns", "rows", 2, 2, 1, bias=False, stride=(1, 2)),
        make_node("wide", "pad", ["columns"], before=(1, 0, 0), after=(1, 0, 0)),
        conv("main", "x", 4, 2, stride=(2, 2)),
        make_node("sum", "add", ["main", "wide"]),
        relu("p", "sum"),
    ]


def pad_with_another_value() -> list[Node]:
    wide = make_node("wide", "pad", ["c"], before=(1, 0, 0), after=(0, 0, 0), value=2.0)
    return [conv("c", "x", 2, 2, 1, bias=False), wide, relu("p", "wide")]


def fire() -> list[Node]:
    return [
        conv("c", "x", 4, 2),
        conv("d", "x", 3, 2, 1),
        relu("r", "c"),
        relu("s", "d", 1.0),
        make_node("both", "concat", ["r", "s"]),
        pool("p", "both"),
    ]


def nested_concat() -> list[Node]:
    ends = [make_node("all", "concat", ["both", "t"]), make_node("p", "global_pool", ["all"], function="max")]
    return [*fire()[:-1], conv("e", "x", 2, 2), relu("t", "e"), *ends]


def concat_with_readers() -> list[Node]:
    mean = make_node("mean", "average_pool", ["both"], **POOL)
    return [*fire()[:-1], pool("top", "both"), mean, make_node("p", "concat", ["top", "mean"])]


def pool_of_pool() -> list[Node]:
    return [conv("c", "x", 4, 2), relu("r", "c"), pool("q", "r"), make_node("p", "global_pool", ["q"], function="max")]


def activations() -> list[Node]:
    chain = [relu("r", "c"), relu("s", "r", 2.0), relu("t", "s", 0.5), relu("u", "t", 1.0), relu("v", "u")]
    return [conv("c", "x", 4, 2), *chain, pool("q", "v"), make_node("m", "average_pool", ["q"], **POOL), relu("p", "m")]


def activation_with_readers() -> list[Node]:
    return [conv("c", "x", 4, 2), relu("r", "c"), relu("s", "r", 0.5), make_node("p", "add", ["r", "s"])]


BODIES: dict[str, Build] = {
    function.__name__: function
    for function in (
        plain,
        groups,
        norm_first,
        norm_after_activation,
        two_readers,
        norm_of_a_shared_convolution,
        two_norms,
        option_a,
        pad_with_another_value,
        fire,
        nested_concat,
        concat_with_readers,
        pool_of_pool,
        activations,
        activation_with_readers,
    )
}


def whole(body: list[Node], shape: tuple[int, ...] = (2, 8, 8)) -> Graph:
    """The body between an input and a linear head that reads its node "p"."""
    nodes = [make_node("x", "input", shape=shape), *body, make_node("flat", "flatten", ["p"])]
    units = Graph.of([*nodes, make_node("y", "output", ["flat"])]).shapes["flat"][0]
    head = make_node("head", "linear", ["flat"], arrays={"weight": grid(5, units)})
    return Graph.of([*nodes, head, make_node("y", "output", ["head"])], {"kept": 1})


@pytest.fixture(params=BODIES)
def graph(request: pytest.FixtureRequest) -> Graph:
    return whole(BODIES[request.param]())


def test_the_analog_output_stays(graph: Graph) -> None:
    x = np.random.default_rng(0).normal(size=(6, *graph.shapes["x"])).astype(np.float32)
    after = simplified(graph)
    wanted = analog_output(graph, x)
    assert np.ptp(wanted, 0).min() > 1e-3, "a constant output shows nothing"
    np.testing.assert_allclose(analog_output(after, x), wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert after.information == graph.information


def test_nothing_that_stands_in_the_way_is_left(graph: Graph) -> None:
    after = simplified(graph)
    assert not after.of_operator("batch_norm")
    for node in filter(is_maximum, after.nodes):
        assert after.by_name[node.sources[0]].operator not in ("activation", "concat")
    for node in after.of_operator("activation"):
        assert after.by_name[node.sources[0]].operator != "activation"
    require_convertible(after)


def test_simplifying_again_changes_nothing(graph: Graph) -> None:
    after = simplified(graph)
    assert simplified(after) is after


def operators(graph: Graph) -> list[str]:
    return [node.operator for node in graph.nodes]


def test_a_plain_chain_is_folded() -> None:
    assert operators(simplified(whole(plain()))) == [
        "input", "conv2d", "max_pool", "activation", "flatten", "linear", "output",
    ]  # fmt: skip


def test_an_activation_that_others_read_stays_for_them() -> None:
    after = simplified(whole(two_readers()))
    names = {node.name for node in after.of_operator("activation")}
    assert names == {"r", "r.pooled"}
    assert after.by_name["mean"].sources == ("r",)
    kept = simplified(whole(activation_with_readers()))
    assert {n.name: n.attributes["maximum"] for n in kept.of_operator("activation")} == {"r": None, "s": 0.5}


def test_a_shared_convolution_keeps_its_weights() -> None:
    graph = whole(norm_of_a_shared_convolution())
    after = simplified(graph)
    np.testing.assert_array_equal(after.by_name["c"].arrays["weight"], graph.by_name["c"].arrays["weight"])
    assert len(after.of_operator("scale")) == 1


def test_a_chain_of_activations_is_one_with_the_lowest_cut() -> None:
    after = simplified(whole(activations()))
    assert [node.attributes["maximum"] for node in after.of_operator("activation")] == [0.5]


def test_an_option_a_shortcut_is_one_convolution() -> None:
    after = simplified(whole(option_a()))
    assert sorted(operators(after)).count("conv2d") == 2
    assert not after.of_operator("pad")
    shortcut = next(n for n in after.of_operator("conv2d") if n.name != "main")
    assert shortcut.attributes["stride"] == (2, 2)


def test_a_maximum_after_a_concat_along_another_axis_is_refused() -> None:
    body = fire()
    body[1:2] = [conv("d", "x", 4, 2, 1)]
    body[4] = make_node("both", "concat", ["r", "s"], axis=1)
    with pytest.raises(UnsupportedError, match=r"p \(max_pool\).*maximum of rates"):
        require_convertible(simplified(whole(body)))


@pytest.mark.parametrize("between", ["average_pool", "negative norm", "add"])
def test_a_maximum_of_rates_is_refused(between: str) -> None:
    middle = {
        "average_pool": make_node("m", "average_pool", ["r"], **POOL),
        "negative norm": norm("m", "r", 4, -1),
        "add": make_node("m", "add", ["r", "r"]),
    }[between]
    graph = simplified(whole([conv("c", "x", 4, 2), relu("r", "c"), middle, pool("p", "m")]))
    with pytest.raises(UnsupportedError, match=r"p \(max_pool\).*maximum of rates"):
        require_convertible(graph)


def test_a_network_without_activation_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no ReLU"):
        require_convertible(whole([conv("p", "x", 4, 2)]))


def test_a_shift_by_row_is_not_taken_for_one_by_unit() -> None:
    """After a linear layer on (rows, units) the channels are the rows."""
    scale = make_node("s", "scale", ["w"], arrays={"factor": np.float32(1), "shift": grid(4)})
    body = [make_node("w", "linear", ["x"], arrays={"weight": grid(4, 4)}), scale, relu("p", "s")]
    graph = whole(body, (4, 4))
    x = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(analog_output(simplified(graph), x), analog_output(graph, x), rtol=1e-5, atol=1e-5)


def test_arranged_keeps_batch_norm_and_the_output() -> None:
    nodes = [
        conv("c", "x", 4, 2, bias=False),
        norm("b", "c", 4),
        relu("r", "b"),
        relu("twice", "r"),
        pool("p", "twice"),
    ]
    graph = Graph.of([make_node("x", "input", shape=(2, 8, 8)), *nodes, make_node("y", "output", ["p"])])
    made = arranged(graph)
    assert [node.operator for node in made.nodes] == [
        "input",
        "conv2d",
        "batch_norm",
        "max_pool",
        "activation",
        "output",
    ]
    x = np.random.default_rng(0).normal(size=(5, 2, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(analog_output(made, x), analog_output(graph, x), atol=1e-5)
    assert not simplified(made).of_operator("batch_norm")


def test_lines_can_be_taken_out_again() -> None:
    nodes = [
        make_node("x", "input", shape=(6,)),
        make_node("l1", "linear", ["x"], arrays={"weight": grid(5, 6)}),
        make_node("l2", "linear", ["l1"], arrays={"weight": grid(4, 5)}),
        make_node("l3", "linear", ["l2"], arrays={"weight": grid(3, 4)}),
        make_node("y", "output", ["l3"]),
    ]
    graph = Graph.of(nodes)
    lined = with_lines(graph)
    assert len(lined.of_operator("activation")) == 2
    back = without_lines(lined)
    assert [node.name for node in back.nodes] == [node.name for node in graph.nodes]
    assert [node.inputs for node in back.nodes] == [node.inputs for node in graph.nodes]


@pytest.mark.parametrize("between", ["max_pool", "average_pool", "global_pool"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_batch_norm_behind_a_pool_goes_into_the_weights_before_it(between: str, sign: float) -> None:
    options = {"function": "mean"} if between == "global_pool" else POOL
    body = [conv("c", "x", 4, 2), make_node("q", between, ["c"], **options), norm("b", "q", 4, sign), relu("p", "b")]
    before = whole(body)
    after = folded(before)
    x = grid(5, 2, 8, 8)
    np.testing.assert_allclose(analog_output(after, x), analog_output(before, x), rtol=1e-5, atol=1e-5)
    assert not after.of_operator("batch_norm")
    stays = between == "max_pool" and sign < 0  # the largest of the negated is not the negated largest
    assert bool(after.of_operator("scale")) == stays


def test_padding_keeps_batch_norm_behind_a_mean() -> None:
    padded = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1)}
    body = [conv("c", "x", 4, 2), make_node("q", "average_pool", ["c"], **padded), norm("b", "q", 4), relu("p", "b")]
    after = folded(whole(body))
    x = grid(5, 2, 8, 8)
    np.testing.assert_allclose(analog_output(after, x), analog_output(whole(body), x), rtol=1e-5, atol=1e-5)
    assert len(after.of_operator("scale")) == 1
