"""A small random network, converted in the tests of the methods, the correction and the report of layers."""

from collections.abc import Callable

import numpy as np
import pytest

from spikeport.networks.graph import Graph, make_node


def cnn(seed: int = 0) -> Graph:
    """Two convolutions with a max-pool, and two linear layers: (1, 8, 8) -> 4."""
    rng = np.random.default_rng(seed)

    def arrays(*shape: int) -> dict[str, np.ndarray]:
        gain = np.sqrt(2 / np.prod(shape[1:]))
        return {"weight": gain * rng.normal(size=shape), "bias": rng.normal(size=shape[0]) / 10}

    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return Graph.of(
        [
            make_node("x", "input", shape=(1, 8, 8)),
            make_node("c1", "conv2d", ["x"], arrays=arrays(6, 1, 3, 3), **window),
            make_node("a1", "activation", ["c1"]),
            make_node("c2", "conv2d", ["a1"], arrays=arrays(8, 6, 3, 3), **window),
            make_node("pool", "max_pool", ["c2"], kernel=(2, 2), stride=(2, 2), padding=(0, 0)),
            make_node("a2", "activation", ["pool"]),
            make_node("flat", "flatten", ["a2"]),
            make_node("l1", "linear", ["flat"], arrays=arrays(12, 128)),
            make_node("a3", "activation", ["l1"], maximum=6.0),
            make_node("l2", "linear", ["a3"], arrays=arrays(4, 12)),
            make_node("y", "output", ["l2"]),
        ]
    )


@pytest.fixture
def network() -> Graph:
    return cnn()


@pytest.fixture
def make_network() -> Callable[[int], Graph]:
    return cnn


@pytest.fixture
def make_samples() -> Callable[..., np.ndarray]:
    """make_samples(n, seed=0): inputs (n, 1, 8, 8)."""
    return lambda n, seed=0: np.random.default_rng(100 + seed).normal(size=(n, 1, 8, 8)).astype(np.float32)
