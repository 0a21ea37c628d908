"""Each method's threshold is what its formula says, recomputed here from the activations themselves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport import RangeError, SpikeportError
from spikeport.conversion.statistics import BINS, activation_histograms, by_channel, watch
from spikeport.conversion.thresholds import LocalThresholdBalancing, MeanSquare, Percentile, ThresholdMethod
from spikeport.networks.graph import Graph, make_node

METHODS: list[ThresholdMethod] = [
    Percentile(99.0),
    MeanSquare(),
    MeanSquare(levels=4),
    LocalThresholdBalancing(tolerance=0.05),
]
CUT = 1.5


def network(scale: float = 1.0) -> Graph:
    """A convolution, a cut activation and a linear layer; the last channel of the first layer is dead."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(5, 2, 3, 3)).astype(np.float32) * scale
    bias = np.float32([0.1, 0, -0.1, 0.2, -1e3])
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    second = rng.normal(size=(7, 5 * 36)).astype(np.float32) / 8
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 6, 6)),
            make_node("c", "conv2d", ["x"], arrays={"weight": first, "bias": bias}, **window),
            make_node("a", "activation", ["c"]),
            make_node("f", "flatten", ["a"]),
            make_node("l", "linear", ["f"], arrays={"weight": second}),
            make_node("b", "activation", ["l"], maximum=CUT),
            make_node("y", "output", ["b"]),
        ]
    )


def samples(n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2, 6, 6)).astype(np.float32)


def activations(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """(channels, values) of each activation node."""
    found: dict[str, list[Tensor]] = {}
    watch(graph, x, lambda name, values: found.setdefault(name, []).append(by_channel(values)))
    return {name: torch.cat(parts, 1).double().numpy() for name, parts in found.items()}


@pytest.fixture(params=METHODS, ids=lambda method: method.name)
def method(request: pytest.FixtureRequest) -> ThresholdMethod:
    return request.param


def test_histograms_count_every_value() -> None:
    graph, x = network(), samples()
    for name, values in activations(graph, x).items():
        found = activation_histograms(graph, x)[name]
        np.testing.assert_allclose(found.maximum, values.max(1), rtol=1e-6)
        assert found.total == values.shape[1]
        np.testing.assert_array_equal(found.counts.sum(1), (values > 0).sum(1))
        np.testing.assert_allclose(found.mean(), values.mean(1), atol=float(values.max()) / BINS)


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0, 99.9, 100.0])
def test_a_percentile_is_numpys_within_a_bin(percent: float) -> None:
    graph, x = network(), samples()
    values = activations(graph, x)
    found = Percentile(percent).thresholds(graph, x, 8)
    for name in values:
        wanted = np.percentile(values[name], percent, axis=1, method="inverted_cdf")
        width = values[name].max(1) / BINS
        for one, other, bin_width in zip(found[name], wanted, width, strict=True):
            assert bin_width == 0 or abs(one - other) <= bin_width + 1e-9


@pytest.mark.parametrize("levels", [1, 4, 32])
def test_mean_square_is_as_good_as_every_candidate(levels: int) -> None:
    graph, x = network(), samples()
    values = activations(graph, x)
    found = MeanSquare(candidates=50).thresholds(graph, x, levels)

    def error(a: np.ndarray, theta: float) -> float:
        return float(np.square(a - theta / levels * np.clip(np.floor(a * levels / theta + 0.5), 0, levels)).mean())

    for name, rows in values.items():
        for a, theta in zip(rows, found[name], strict=True):
            if a.max() > 0:
                best = min(error(a, fraction * a.max()) for fraction in np.linspace(1 / 50, 1, 50))
                assert error(a, theta) <= 1.02 * best + (a.max() / BINS) ** 2


def test_its_own_levels_stand_for_the_time_steps() -> None:
    graph, x = network(), samples()
    for name, theta in MeanSquare().thresholds(graph, x, 4).items():
        np.testing.assert_array_equal(theta, MeanSquare(levels=4).thresholds(graph, x, 32)[name])


def test_a_longer_window_never_needs_lower_thresholds_of_its_grid() -> None:
    graph, x = network(), samples()
    few, many = (MeanSquare().thresholds(graph, x, steps) for steps in (2, 64))
    assert all((few[name] <= many[name] + 1e-6).all() for name in few)


def test_balanced_thresholds_clip_no_more_than_the_tolerance() -> None:
    graph, x = network(), samples()
    for tolerance in (0.1, 0.02):
        found = LocalThresholdBalancing(tolerance).thresholds(graph, x, 8)
        for name, values in activations(graph, x).items():
            over = np.maximum(values - found[name][:, None], 0)
            assert over.sum() <= 1.3 * tolerance * values.sum()  # the share is a moving mean over batches


def test_balancing_that_has_not_converged_says_so() -> None:
    with pytest.raises(RangeError, match=r"did not converge in 3 batches: [ab] still clips"):
        LocalThresholdBalancing(iterations=3).thresholds(network(), samples(), 8)


def test_thresholds_are_usable(method: ThresholdMethod) -> None:
    graph, x = network(), samples()
    found = method.thresholds(graph, x, 8)
    assert found.keys() == {"a", "b"}
    assert found["a"].shape == (5,)
    assert found["b"].shape == (7,)
    for theta in found.values():
        assert np.isfinite(theta).all()
        assert (theta > 0).all()
    assert found["b"].max() <= CUT
    assert found["a"][4] == pytest.approx(np.median(found["a"][:4]), rel=1e-6), "the dead channel"


def test_a_layer_that_never_is_active_has_usable_thresholds(method: ThresholdMethod) -> None:
    for theta in method.thresholds(network(), np.zeros((12, 2, 6, 6), np.float32) - 0.0, 8).values():
        assert (theta > 0).all()
        assert np.isfinite(theta).all()


@pytest.mark.parametrize("tiny", [1e-38, 1e-42])
def test_channels_that_weight_decay_left_at_almost_nothing_are_dead(method: ThresholdMethod, tiny: float) -> None:
    weight = np.eye(3, dtype=np.float32)
    weight[1, 1] = tiny
    graph = Graph.of(
        [
            make_node("x", "input", shape=(3,)),
            make_node("w", "linear", ["x"], arrays={"weight": weight}),
            make_node("a", "activation", ["w"]),
            make_node("y", "output", ["a"]),
        ]
    )
    x = np.abs(np.random.default_rng(0).normal(size=(40, 3))).astype(np.float32)
    theta = method.thresholds(graph, x, 8)["a"]
    assert theta.min() > 0.1


def test_calibrating_twice_gives_the_same(method: ThresholdMethod) -> None:
    graph, x = network(), samples()
    first, second = (method.thresholds(graph, x, 8) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_thresholds_follow_the_scale_of_the_activations() -> None:
    """Twice the input, twice the threshold; a network without biases or cuts."""
    nodes = [n for n in network().nodes if n.name in ("x", "f")]
    graph = Graph.of(
        [
            nodes[0],
            make_node("f", "flatten", ["x"]),
            make_node("w", "linear", ["f"], arrays={"weight": np.random.default_rng(1).normal(size=(6, 72))}),
            make_node("a", "activation", ["w"]),
            make_node("y", "output", ["a"]),
        ]
    )
    for method in METHODS:
        once, twice = (method.thresholds(graph, factor * samples(), 8)["a"] for factor in (1, 2))
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def test_data_that_cannot_calibrate_are_refused(method: ThresholdMethod) -> None:
    with pytest.raises(SpikeportError, match="no calibration data"):
        method.thresholds(network(), samples(0), 8)
    for value in (np.nan, np.inf):
        x = samples(40)
        x[35, 0, 0, 0] = value
        with pytest.raises(RangeError, match="not finite"):
            method.thresholds(network(), x, 8)


@pytest.mark.parametrize("percent", [0.0, 49.0, 101.0, float("nan")])
def test_a_percentage_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(RangeError, match="percent"):
        Percentile(percent).thresholds(network(), samples(), 8)


def test_names_tell_methods_apart() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
