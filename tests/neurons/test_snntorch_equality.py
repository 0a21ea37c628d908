"""Every model that snnTorch has too gives the same spikes, states and gradients over 200 steps."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import neurons

pytestmark = pytest.mark.needs("snntorch")

STEPS, BATCH, UNITS = 200, 4, 5
LATE: dict[str, Any] = {"test": ">", "late_reset": True, "detach_reset": True}


class Pair(NamedTuple):
    """The same model twice: snnTorch's and ours, with the names of the parameters that both learn."""

    theirs: nn.Module
    ours: nn.Module
    names: dict[str, str]
    feeds_back: bool = False
    low: float = 0.0


def snntorch() -> Any:
    """The package; it warns of its own things on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import snntorch
        import snntorch.surrogate
    return snntorch


def per_unit(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, UNITS)


def surrogates(name: str) -> tuple[Any, neurons.Surrogate]:
    theirs = snntorch().surrogate
    return {
        "atan": (theirs.atan(alpha=3.0), neurons.Atan(alpha=3.0)),
        "fast sigmoid": (theirs.fast_sigmoid(slope=10), neurons.FastSigmoid(slope=10.0)),
    }[name]


def leaky(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    beta, threshold = per_unit(0.7, 0.95), per_unit(0.8, 1.2)
    return Pair(
        snntorch().Leaky(beta.clone(), threshold.clone(), learn_beta=True, learn_threshold=True, **theirs),
        neurons.Leaky(beta, threshold, learn_beta=True, learn_threshold=True, **ours),
        {"beta": "beta", "threshold": "threshold"},
    )


def lapicque(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    return Pair(
        snntorch().Lapicque(R=5.0, C=2.0, time_step=1.0, threshold=0.4, **theirs),
        neurons.lapicque(5.0, 2.0, 1.0, 0.4, **ours),
        {},
    )


def synaptic(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    alpha, beta = per_unit(0.3, 0.6), per_unit(0.7, 0.95)
    return Pair(
        snntorch().Synaptic(alpha.clone(), beta.clone(), learn_alpha=True, learn_beta=True, **theirs),
        neurons.Synaptic(alpha, beta, learn_alpha=True, learn_beta=True, **ours),
        {"alpha": "alpha", "beta": "beta"},
        low=-0.2,
    )


def alpha(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    return Pair(  # snnTorch cannot learn this alpha: it clamps the parameter into a plain tensor and fails
        snntorch().Alpha(0.9, torch.tensor(0.8), learn_beta=True, learn_threshold=True, **theirs),
        neurons.Alpha(0.9, 0.8, learn_beta=True, learn_threshold=True, **ours),
        {"beta": "beta", "threshold": "threshold"},
        low=-0.1,
    )


def rleaky(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    other = snntorch().RLeaky(0.8, linear_features=UNITS, learn_beta=True, **theirs)
    layer = neurons.RecurrentLeaky(nn.Linear(UNITS, UNITS), 0.8, learn_beta=True, **ours)
    layer.recurrent.load_state_dict(other.recurrent.state_dict())
    names = {"beta": "beta", "recurrent.weight": "recurrent.weight", "recurrent.bias": "recurrent.bias"}
    return Pair(other, layer, names, feeds_back=True)


def rleaky_one_to_one(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    weight = per_unit(-0.4, 0.4)
    return Pair(
        snntorch().RLeaky(0.8, V=weight.clone(), all_to_all=False, **theirs),
        neurons.RecurrentLeaky(neurons.OneToOne(weight), 0.8, **ours),
        {"V": "recurrent.weight"},
        feeds_back=True,
    )


def rsynaptic(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    other = snntorch().RSynaptic(0.4, 0.8, linear_features=UNITS, learn_alpha=True, learn_beta=True, **theirs)
    layer = neurons.RecurrentSynaptic(nn.Linear(UNITS, UNITS), 0.4, 0.8, learn_alpha=True, learn_beta=True, **ours)
    layer.recurrent.load_state_dict(other.recurrent.state_dict())
    names = {"alpha": "alpha", "beta": "beta", "recurrent.weight": "recurrent.weight"}
    return Pair(other, layer, names, feeds_back=True, low=-0.2)


def rleaky_convolution(theirs: dict[str, Any], ours: dict[str, Any]) -> Pair:
    other = snntorch().RLeaky(0.8, conv2d_channels=1, kernel_size=3, **theirs)
    layer = neurons.RecurrentLeaky(nn.Conv2d(1, 1, 3, padding=1), 0.8, **ours)
    layer.recurrent.load_state_dict(other.recurrent.state_dict())
    return Pair(other, layer, {"recurrent.weight": "recurrent.weight"}, feeds_back=True)


MODELS = [leaky, lapicque, synaptic, alpha, rleaky, rleaky_one_to_one, rleaky_convolution, rsynaptic]
KINDS = [
    (make, reset) for make in MODELS for reset in ("subtract", "zero", "none") if (make, reset) != (lapicque, "zero")
]


def run_snntorch(pair: Pair, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Step through time, handing over the state by hand."""
    carried: tuple[Tensor, ...] = ()
    spikes = []
    for step in x:
        outputs = pair.theirs(step, *carried)
        carried = outputs if pair.feeds_back else outputs[1:]
        spikes.append(outputs[0])
    return torch.stack(spikes), carried[1:] if pair.feeds_back else carried


def gradients(layer: nn.Module, names: list[str], x: Tensor, spikes: Tensor, state: tuple[Tensor, ...]) -> list[Tensor]:
    """Of a loss that weighs every spike and every part of the last state differently."""
    generator = torch.Generator().manual_seed(7)
    loss = torch.zeros(())
    for part in (spikes, *state):
        loss = loss + (part * torch.randn(part.shape, generator=generator)).sum()
    return list(torch.autograd.grad(loss, [x, *(layer.get_parameter(name) for name in names)]))


@pytest.mark.parametrize("surrogate", ["atan", "fast sigmoid"])
@pytest.mark.parametrize(("make", "reset"), KINDS, ids=lambda part: getattr(part, "__name__", part))
def test_spikes_states_and_gradients_are_equal(make: Callable[..., Pair], reset: str, surrogate: str) -> None:
    torch.manual_seed(3)
    theirs, ours = surrogates(surrogate)
    pair = make({"reset_mechanism": reset, "spike_grad": theirs}, {"reset": reset, "surrogate": ours, **LATE})
    shape = (STEPS, BATCH, 1, UNITS, UNITS) if make is rleaky_convolution else (STEPS, BATCH, UNITS)
    x = (torch.rand(shape) * 0.8 + pair.low).requires_grad_()
    wanted, their_state = run_snntorch(pair, x)
    spikes, state = pair.ours(x)
    state = tuple(part for name, part in zip(state._fields, state, strict=True) if name != "spikes")
    assert 0.02 < wanted.mean() < (1.01 if reset == "none" else 0.6)
    assert torch.equal(spikes, wanted)
    for one, other in zip(state, their_state, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-6)
    got = gradients(pair.ours, list(pair.names.values()), x, spikes, state)
    asked = gradients(pair.theirs, list(pair.names), x, wanted, their_state)
    assert asked[0].abs().max() > 0
    for one, other in zip(got, asked, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() + 3e-5


def test_the_reset_in_the_same_step_is_equal_too() -> None:
    """snnTorch's ``reset_delay=False``, its gradient aside: it keeps the reset of the step before in the graph."""
    torch.manual_seed(3)
    x = torch.rand(STEPS, BATCH, UNITS) * 0.8
    for reset in ("subtract", "none"):
        theirs = snntorch().Leaky(0.9, reset_mechanism=reset, reset_delay=False)
        spikes, state = neurons.Leaky(0.9, reset=reset, test=">")(x)
        wanted, (membrane,) = run_snntorch(Pair(theirs, theirs, {}), x)
        assert torch.equal(spikes, wanted)
        assert_close(state.membrane, membrane, rtol=1e-5, atol=1e-5)


def test_the_readout_is_a_leaky_neuron_without_reset() -> None:
    torch.manual_seed(3)
    x = torch.randn(STEPS, BATCH, UNITS)
    theirs, membrane, membranes = snntorch().Leaky(0.9, reset_mechanism="none"), None, []
    for step in x:
        _, membrane = theirs(step, membrane)
        membranes.append(membrane)
    assert torch.equal(neurons.LeakyIntegrator(0.9)(x)[0], torch.stack(membranes))


def spike_steps(layer: nn.Module, x: Tensor) -> list[int]:
    return layer(x)[0].flatten().nonzero().flatten().tolist()


def test_the_known_differences() -> None:
    """What each default does to one neuron on a constant input with a gap, and who agrees with whom."""
    x = torch.full((60, 1, 1), 0.25)
    x[20:30] = 0
    theirs = run_snntorch(Pair(snntorch().Leaky(0.9), nn.Identity(), {}), x)[0]
    late = [4, 10, 15, 33, 39, 44, 50, 55]
    assert theirs.flatten().nonzero().flatten().tolist() == late
    assert spike_steps(neurons.Leaky(0.9, **LATE), x) == late
    same_step = [4, 9, 14, 19, 34, 39, 44, 49, 54, 59]
    assert spike_steps(neurons.Leaky(0.9), x) == same_step
    at_threshold = torch.ones(3, 1, 1)
    assert spike_steps(neurons.Leaky(0.5), at_threshold) == [0, 1, 2], "a membrane at the threshold fires"
    assert spike_steps(neurons.Leaky(0.5, test=">"), at_threshold) == [1, 2]


def test_lapicque_differs_where_a_late_reset_goes_to_zero() -> None:
    """snnTorch's ``Lapicque`` loses the input of the step after a spike, its ``Leaky`` does not; ours is a `Leaky`."""
    x = torch.full((20, 1, 1), 0.5)
    pair = lapicque({"reset_mechanism": "zero"}, {"reset": "zero", **LATE})
    wanted, _ = run_snntorch(pair, x)
    assert spike_steps(pair.ours, x) != wanted.flatten().nonzero().flatten().tolist()
