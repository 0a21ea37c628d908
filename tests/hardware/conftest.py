"""Networks for every backend: one of each thing that an integer program can hold."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.graph import Edge, Graph, Node, make_node

Make = Callable[[np.random.Generator], list[Node]]


def neuron(name: str, source: str | Edge, shape: Sequence[int], rng: np.random.Generator, **fields) -> Node:
    arrays = {
        "threshold": rng.uniform(0.5, 2.0, shape[0]),
        "initial": rng.uniform(-0.2, 0.6, shape[0]),
        "bias": rng.normal(0, 0.05, shape[0]),
    }
    arrays |= {"beta": rng.uniform(0.7, 1.0, shape[0])} if fields.pop("leak", False) else {}
    return make_node(
        name, "neuron", [source], arrays=arrays, **{"code": "binary", "test": ">=", "reset": "subtract", **fields}
    )


def dense(rng, code="binary", test=">=", reset="subtract", **more) -> list[Node]:
    return [
        make_node("x", "input", shape=(6,)),
        make_node("a", "linear", ["x"], arrays={"weight": rng.normal(0, 1, (9, 6)), "bias": rng.normal(0, 0.2, 9)}),
        neuron("n", "a", (9,), rng, code=code, test=test, reset=reset, **more),
        make_node("b", "linear", ["n"], arrays={"weight": rng.normal(0, 1, (4, 9)), "bias": rng.normal(0, 0.2, 4)}),
        neuron("m", "b", (4,), rng),
        make_node("c", "linear", ["m"], arrays={"weight": rng.normal(0, 1, (3, 4))}),
        make_node("y", "output", ["c"], ramp=1),
    ]


def convolution(rng) -> list[Node]:
    same = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    pool = {"stride": (2, 2), "kernel": (2, 2), "padding": (0, 0)}
    return [
        make_node("x", "input", shape=(2, 8, 8)),
        make_node(
            "a", "conv2d", ["x"], arrays={"weight": rng.normal(0, 1, (4, 2, 3, 3)), "bias": rng.normal(0, 1, 4)}, **same
        ),
        make_node("p", "max_pool", ["a"], **pool),
        neuron("n", "p", (4,), rng),
        make_node("b", "conv2d", ["n"], arrays={"weight": rng.normal(0, 1, (4, 2, 3, 3))}, groups=2, **same),
        make_node("s", "scale", ["n"], arrays={"factor": rng.uniform(0.2, 1.5, 4)}),
        make_node("r", "add", ["b", "s"]),
        neuron("m", "r", (4,), rng, code="signed"),
        make_node("q", "average_pool", ["m"], **pool),
        make_node("f", "flatten", ["q"]),
        make_node("c", "linear", ["f"], arrays={"weight": rng.normal(0, 1, (3, 16)), "bias": rng.normal(0, 1, 3)}),
        make_node("y", "output", ["c"]),
    ]


def odd_windows(rng) -> list[Node]:
    return [
        make_node("x", "input", shape=(2, 7)),
        make_node(
            "a",
            "conv1d",
            ["x"],
            arrays={"weight": rng.normal(0, 1, (4, 2, 3)), "bias": rng.normal(0, 1, 4)},
            stride=(1,),
            padding=(2,),
            dilation=(2,),
        ),
        make_node("p", "max_pool", ["a"], kernel=(3,), stride=(2,), padding=(1,), ceil_mode=1),
        neuron("n", "p", (4,), rng, code="graded", levels=3),
        make_node("t", "transpose", ["n"], permutation=(1, 0)),
        make_node("z", "pad", ["t"], before=(1, 0), after=(0, 2)),
        make_node("w", "linear", ["z"], arrays={"weight": rng.normal(0, 1, (5, 6)), "bias": rng.normal(0, 1, 5)}),
        neuron("m", "w", (5,), rng, test=">"),
        make_node("g", "global_pool", ["m"], function="mean"),
        make_node("h", "concat", ["g", "g"]),
        make_node("c", "linear", ["h"], arrays={"weight": rng.normal(0, 1, (3, 10))}),
        make_node("y", "output", ["c"]),
    ]


def recurrent(rng) -> list[Node]:
    """Leak, filters, delays, a loop, and a residual of spikes."""
    return [
        make_node("x", "input", shape=(5,)),
        make_node("a", "linear", ["x"], arrays={"weight": rng.normal(0, 1, (6, 5)), "bias": rng.normal(0, 0.2, 6)}),
        make_node(
            "back",
            "linear",
            [Edge("n", 1)],
            arrays={"weight": rng.normal(0, 0.4, (6, 6)), "bias": rng.normal(0, 0.2, 6)},
        ),
        make_node("sum", "add", ["a", "back"]),
        make_node("i", "synaptic_filter", ["sum"], arrays={"alpha": rng.uniform(0.2, 0.9, 6)}),
        neuron("n", "i", (6,), rng, leak=True, late=1),
        make_node("d", "delay", ["n"], steps=3),
        make_node(
            "late", "linear", [Edge("n", 2)], arrays={"weight": rng.normal(0, 1, (6, 6)), "bias": rng.normal(0, 0.2, 6)}
        ),
        make_node("slow", "delay", ["late"], steps=2),
        make_node("u", "add", ["slow", "d"]),
        neuron("m", "u", (6,), rng, leak=True, reset="zero"),
        make_node("c", "linear", ["m"], arrays={"weight": rng.normal(0, 1, (3, 6))}),
        make_node("i2", "synaptic_filter", ["c"], arrays={"alpha": np.float32(0.8)}),
        make_node("y", "output", ["i2"]),
    ]


NETWORKS: dict[str, Make] = {
    "binary": dense,
    "signed": lambda rng: dense(rng, code="signed"),
    "graded": lambda rng: dense(rng, code="graded", levels=4),
    "greater": lambda rng: dense(rng, test=">"),
    "graded_greater": lambda rng: dense(rng, code="graded", levels=4, test=">"),
    "zero": lambda rng: dense(rng, reset="zero"),
    "none": lambda rng: dense(rng, reset="none", leak=True),
    "leak": lambda rng: dense(rng, leak=True),
    "late": lambda rng: dense(rng, late=1),
    "convolution": convolution,
    "odd_windows": odd_windows,
    "recurrent": recurrent,
}


@pytest.fixture(params=sorted(NETWORKS))
def graph(request: pytest.FixtureRequest) -> Graph:
    """A float network."""
    return Graph.of(NETWORKS[request.param](np.random.default_rng(5)))


@pytest.fixture
def program(graph: Graph) -> IntegerProgram:
    """The integer network of ``graph``, for up to 16 steps."""
    return lower(graph, input_code(-2.0, 2.0), steps=16)


@pytest.fixture
def samples(graph: Graph) -> np.ndarray:
    """Seven analog samples."""
    shape = graph.shapes[graph.input.name]
    return np.random.default_rng(6).uniform(-2, 2, (7, *shape)).astype(np.float32)
