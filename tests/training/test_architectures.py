"""Networks from words: they have the layers that were named, and a word that is none is refused with its nearest."""

import pytest
import torch

from spikeport import RangeError, SpikeportError
from spikeport.neurons import Leaky, LeakyIntegrator, SuperSpike
from spikeport.training.architectures import build_network, make_surrogate
from spikeport.training.settings import NetworkSettings

SURROGATES = ["atan", "fast_sigmoid", "gaussian", "sigmoid", "straight_through", "super_spike", "triangular"]


def build(*layers: str, features: tuple[int, ...] = (2, 8, 8), **options: object) -> torch.nn.Module:
    return build_network(NetworkSettings(layers=layers, **options), features)


def test_a_network_has_the_layers_that_were_named() -> None:
    convolution = ["conv 4 3x3", "norm", "leaky 0.5", "average 2", "conv 6 1x3 stride 2", "integrate", "pool 2"]
    network = build(*convolution, "flatten", "dropout 0.1", "linear 12", "recurrent", "linear 10", "integrator 0.8")
    y, state = network(torch.rand(3, 5, 2, 8, 8))
    assert y.shape == (3, 5, 10)
    assert list(state) == ["2", "5", "10", "12"]
    assert network[4].stride == (2, 2)
    assert network.training


def test_options_reach_the_neurons() -> None:
    layers = ("flatten", "linear 3", "leaky", "integrator")
    network = build(
        *layers, beta=0.7, threshold=2.0, learn_beta=True, reset="zero", surrogate="super_spike", surrogate_scale=7.0
    )
    leaky, readout = network[2], network[3]
    assert isinstance(leaky, Leaky)
    assert isinstance(readout, LeakyIntegrator)
    assert isinstance(leaky.beta, torch.nn.Parameter)
    assert leaky.beta.item() == pytest.approx(0.7)
    assert leaky.threshold.item() == 2.0
    assert leaky.reset == "zero"
    assert leaky.surrogate == SuperSpike(7.0)


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_trains(name: str) -> None:
    network = build("flatten", "linear 5", "leaky", "linear 3", surrogate=name)
    network(torch.rand(4, 2, 2, 8, 8))[0].sum().backward()
    assert network[1].weight.grad.abs().sum() > 0
    assert (
        make_surrogate(NetworkSettings(surrogate=name, surrogate_scale=3.0))
        != make_surrogate(NetworkSettings(surrogate=name))
        or name == "straight_through"
    )


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        (["flaten"], "layer 1 is 'flaten': there is no 'flaten'; did you mean 'flatten'"),
        (["conv 4"], "conv OUTPUTS ROWSxCOLUMNS"),
        (["conv 4 3x3 strde 2"], "conv OUTPUTS"),
        (["linear 4"], 'after "flatten"'),
        (["flatten", "linear many"], "layer 2"),
        (["leaky fast"], r"leaky \[BETA\]"),
        ([""], "there is no ''"),
        (["leaky 1.5"], "beta"),
    ],
)
def test_a_word_that_is_no_layer_is_refused(layers: list[str], wanted: str) -> None:
    with pytest.raises(RangeError, match=wanted):
        build(*layers)


@pytest.mark.parametrize(
    "words",
    [
        "leaky 0.5 0.6", "integrate 3", "norm 3", "flatten 3", "pool 3 stride 2", "dropout 0.2 x", "linear -5",
        "conv 4 3x-3", "conv 4 0x3", "conv 4 3x3 stride 0", "linear 99999999999999", 1, ["linear 3"],
    ],
    ids=str,
)  # fmt: skip
def test_words_that_say_too_much_or_nothing_are_refused(words: object) -> None:
    with pytest.raises(SpikeportError, match=r"layer [12] is|layer 2, "):
        build(*(["flatten", words] if "linear 9" in str(words) else [words]))


def test_a_layer_that_does_not_fit_is_named() -> None:
    with pytest.raises(SpikeportError, match=r"layer 2, 'pool 9', does not take samples of shape \(4, 8, 8\)"):
        build("conv 4 3x3", "pool 9")
