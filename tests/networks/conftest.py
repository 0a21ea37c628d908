"""Small networks whose arithmetic is exact: every weight and input is a multiple of 1/4, every decay a power of 2.

So sums do not depend on their order, and the laws below hold bit for bit, on every machine.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.networks.graph import Edge, Graph, Node, make_node

Window = dict[str, Any]


def grid(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).integers(-4, 6, shape).astype(np.float32) / 4


def window(axes: int = 2, *, stride: int = 1, padding: int = 0, groups: int = 1, dilation: int = 1) -> Window:
    return {
        "stride": (stride,) * axes,
        "padding": (padding,) * axes,
        "dilation": (dilation,) * axes,
        "groups": groups,
    }


def neuron(name: str, source: str | Edge, code: str = "binary", **attributes: Any) -> Node:
    arrays = {"threshold": 1.0, "initial": 0.5, "bias": 0.0, **attributes.pop("arrays", {})}
    wanted = {"code": code, "test": ">=", "reset": "subtract", "levels": 3, **attributes}
    return make_node(name, "neuron", [source], arrays=arrays, **wanted)


def dense() -> Graph:
    return Graph.of(
        [
            make_node("x", "input", shape=(5,)),
            make_node("w1", "linear", ["x"], arrays={"weight": grid(7, 5), "bias": grid(7)}),
            neuron("n1", "w1", arrays={"threshold": np.abs(grid(7)) + 0.5}),
            make_node("w2", "linear", ["n1"], arrays={"weight": grid(6, 7)}),
            neuron("n2", "w2", "graded", test=">"),
            make_node("w3", "linear", ["n2"], arrays={"weight": grid(3, 6)}),
            make_node("y", "output", ["w3"]),
        ]
    )


def residual() -> Graph:
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    nodes = [
        make_node("x", "input", shape=(3, 6, 6)),
        make_node("c1", "conv2d", ["x"], arrays={"weight": grid(4, 3, 3, 3), "bias": grid(4)}, **window(padding=1)),
        neuron("n1", "c1", "signed", arrays={"threshold": np.float32([1, 2, 0.5, 4]), "bias": grid(4)}),
        make_node("c2", "conv2d", ["n1"], arrays={"weight": grid(4, 2, 3, 3)}, **window(padding=1, stride=2, groups=2)),
        make_node("short", "conv2d", ["n1"], arrays={"weight": grid(4, 4, 1, 1)}, **window(stride=2)),
        make_node("sum", "add", ["c2", "short"]),
        neuron("n2", "sum", reset="zero", arrays={"threshold": np.abs(grid(4, 3, 3)) + 0.5, "beta": np.float32(0.5)}),
        make_node("wide", "pad", ["n2"], before=(0, 0, 1), after=(0, 1, 0)),
        make_node("pool", "average_pool", ["wide"], **pool),
        make_node("top", "max_pool", ["wide"], **pool),
        make_node("both", "concat", ["pool", "top"]),
        make_node("turn", "transpose", ["both"], permutation=(1, 2, 0)),
        make_node("flat", "flatten", ["turn"]),
        make_node("w", "linear", ["flat"], arrays={"weight": grid(5, 32), "bias": grid(5)}),
        make_node("y", "output", ["w"]),
    ]
    return Graph.of(nodes)


def delayed() -> Graph:
    """Delays on edges and in nodes, a filter, and an input that is read directly; feed-forward."""
    nodes = [
        make_node("x", "input", shape=(2, 6)),
        make_node("c", "conv1d", ["x"], arrays={"weight": grid(3, 2, 3)}, **window(1, padding=2, dilation=2)),
        neuron("n1", "c", reset="none", arrays={"beta": np.float32([0.5, 0.25, 0])}),
        make_node("late", "delay", ["n1"], steps=3),
        make_node("echo", "add", ["late", Edge("n1", 2), "n1", Edge("c", 1)]),
        make_node("current", "synaptic_filter", ["echo"], arrays={"alpha": np.float32([0.5, 0.25, 0])}),
        make_node("scaled", "scale", ["current"], arrays={"factor": grid(3), "shift": np.float32(0.25)}),
        neuron("n2", "scaled"),
        make_node("flat", "flatten", ["n2"]),
        make_node("flat_x", "flatten", [Edge("x", 5)]),
        make_node("joined", "concat", ["flat", "flat_x"]),
        make_node("w", "linear", ["joined"], arrays={"weight": grid(4, 30)}),
        make_node("y", "output", ["w"]),
    ]
    return Graph.of(nodes)


def recurrent() -> Graph:
    """x -> W -> (+) -> neuron -> V -> y, and back from the neuron through U to the sum, one step later."""
    nodes = [
        make_node("x", "input", shape=(4,)),
        make_node("W", "linear", ["x"], arrays={"weight": grid(5, 4)}),
        make_node("sum", "add", ["W", Edge("U", 1)]),
        neuron("n", "sum", late=1, arrays={"beta": np.float32(0.75)}),
        make_node("U", "linear", ["n"], arrays={"weight": grid(5, 5, seed=1)}),
        make_node("V", "linear", ["n"], arrays={"weight": grid(3, 5)}),
        make_node("y", "output", ["V"]),
    ]
    return Graph.of(nodes)


GRAPHS: Mapping[str, Callable[[], Graph]] = {
    "dense": dense,
    "residual": residual,
    "delayed": delayed,
    "recurrent": recurrent,
}


@pytest.fixture(params=GRAPHS)
def graph(request: pytest.FixtureRequest) -> Graph:
    """Each of the networks in turn."""
    return GRAPHS[request.param]()


@pytest.fixture
def graphs() -> Mapping[str, Callable[[], Graph]]:
    """The functions that make them, by name."""
    return GRAPHS


@pytest.fixture
def make_neuron() -> Callable[..., Node]:
    """neuron(name, source, code="binary", arrays={...}, **attributes)."""
    return neuron


@pytest.fixture
def make_window() -> Callable[..., Window]:
    """window(axes, stride=, padding=, groups=, dilation=): the attributes of a convolution."""
    return window


@pytest.fixture
def inputs() -> Callable[..., Tensor]:
    """inputs(graph, *leading): inputs on the grid, of the shape (*leading, *features)."""
    return lambda graph, *leading, seed=0: torch.from_numpy(grid(*leading, *graph.shapes["x"], seed=seed))
