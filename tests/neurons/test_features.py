"""Features of any number of axes, values a unit or a channel, and values out of their range."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import RangeError, ShapeError, neurons
from spikeport.neurons import Atan, Delay, IntegrateAndFire, Leaky, RecurrentLeaky, Synaptic
from spikeport.neurons.izhikevich import CHATTERING

ELEMENTWISE: dict[str, Callable[[float | Tensor], nn.Module]] = {
    "Leaky": neurons.Leaky,
    "Synaptic": lambda decay: neurons.Synaptic(decay, decay),
    "Synaptic late zero": lambda decay: neurons.Synaptic(decay, decay, late_reset=True, reset="zero"),
    "Alpha": lambda decay: neurons.Alpha(decay, decay / 2),
    "AdaptiveLeaky": lambda decay: neurons.AdaptiveLeaky(decay, decay, decay),
    "RecurrentLeaky": lambda decay: neurons.RecurrentLeaky(neurons.OneToOne(decay), decay),
    "RecurrentSynaptic": lambda decay: neurons.RecurrentSynaptic(neurons.OneToOne(decay), decay, decay),
    "ResonateAndFire": lambda decay: neurons.ResonateAndFire(decay, decay),
    "Izhikevich": lambda decay: neurons.Izhikevich(decay / 10, 0.2, -65.0, 8.0),
    "LeakyIntegrator": neurons.LeakyIntegrator,
    "Exponential": neurons.Exponential,
    "DoubleExponential": lambda decay: neurons.DoubleExponential(decay, decay),
    "Delay": lambda decay: neurons.Delay((torch.as_tensor(decay) * 5).long()),
}


@pytest.fixture(params=ELEMENTWISE, ids=str)
def make(request: pytest.FixtureRequest) -> Callable[[float | Tensor], nn.Module]:
    torch.manual_seed(0)
    return ELEMENTWISE[request.param]


def of_strength(layer: nn.Module, *shape: int) -> Tensor:
    return torch.rand(*shape) * (20 if isinstance(layer, neurons.Izhikevich) else 2)


def test_spatial_features_are_flat_ones_in_another_shape(make: Callable[..., nn.Module]) -> None:
    layer = make(0.8)
    x = of_strength(layer, 9, 2, 3, 4, 5)
    wanted, flat_state = layer(x.flatten(2))
    for given in (x, x.flatten(1, 2).contiguous(memory_format=torch.channels_last).reshape(x.shape)):
        y, state = layer(given)
        assert_close(y.flatten(2), wanted)
        for part, flat in zip(state, flat_state, strict=True):
            assert_close(part.reshape(flat.shape), flat)


def test_a_batch_without_features_is_one_unit_a_sample(make: Callable[..., nn.Module]) -> None:
    layer = make(0.8)
    x = of_strength(layer, 9, 2)
    y, state = layer(x)
    assert y.shape == x.shape
    assert all(part.shape in {(2,), (2, 4)} for part in state)
    assert_close(y.unsqueeze(2), layer(x.unsqueeze(2))[0])


def test_a_value_a_channel_is_that_channel_alone(make: Callable[..., nn.Module]) -> None:
    decays = torch.tensor([0.5, 0.7, 0.9])
    layer = make(decays.reshape(3, 1, 1))
    x = of_strength(layer, 9, 2, 3, 4, 5)
    y, _ = layer(x)
    for channel, decay in enumerate(decays):
        assert_close(make(decay)(x[:, :, channel])[0], y[:, :, channel])


def test_values_that_do_not_fit_the_features_are_refused(make: Callable[..., nn.Module]) -> None:
    for shape in ((3,), (4, 1, 1), (1, 3, 4, 5)):
        with pytest.raises(ShapeError, match=r"features have \(3, 4, 5\)"):
            make(torch.full(shape, 0.8))(torch.rand(9, 2, 3, 4, 5))


DECAYS: dict[str, Callable[[float], nn.Module]] = {
    "Leaky.beta": neurons.Leaky,
    "LeakyIntegrator.beta": neurons.LeakyIntegrator,
    "Exponential.alpha": neurons.Exponential,
    "DoubleExponential.rise": lambda v: neurons.DoubleExponential(v, 0.5),
    "DoubleExponential.decay": lambda v: neurons.DoubleExponential(0.5, v),
    "Synaptic.alpha": lambda v: neurons.Synaptic(v, 0.5),
    "Synaptic.beta": lambda v: neurons.Synaptic(0.5, v),
    "Alpha.alpha": lambda v: neurons.Alpha(v, 0.5),
    "Alpha.beta": lambda v: neurons.Alpha(0.5, v),
    "AdaptiveLeaky.beta": lambda v: neurons.AdaptiveLeaky(v, 0.5, 0.5),
    "AdaptiveLeaky.rho": lambda v: neurons.AdaptiveLeaky(0.5, v, 0.5),
    "RecurrentLeaky.beta": lambda v: neurons.RecurrentLeaky(neurons.OneToOne(), v),
    "RecurrentSynaptic.alpha": lambda v: neurons.RecurrentSynaptic(neurons.OneToOne(), v, 0.5),
    "RecurrentSynaptic.beta": lambda v: neurons.RecurrentSynaptic(neurons.OneToOne(), 0.5, v),
    "ResonateAndFire.decay": lambda v: neurons.ResonateAndFire(v, 0.5),
    "a trace": lambda v: neurons.PairSTDP(1.0, 1.0, v, 0.5),
}


@pytest.mark.parametrize("value", [0.0, -0.5, 1.0001, float("nan"), float("inf")])
@pytest.mark.parametrize("name", DECAYS)
def test_a_decay_lies_above_0_and_at_most_at_1(name: str, value: float) -> None:
    with pytest.raises(RangeError, match=name.rpartition(".")[2]):
        DECAYS[name](value)


THRESHOLDS: dict[str, Callable[..., nn.Module]] = {
    "Leaky": lambda *v, **o: neurons.Leaky(0.9, *v, **o),
    "IntegrateAndFire": neurons.IntegrateAndFire,
    "Synaptic": lambda *v, **o: neurons.Synaptic(0.9, 0.9, *v, **o),
    "Alpha": lambda *v, **o: neurons.Alpha(0.9, 0.8, *v, **o),
    "AdaptiveLeaky": lambda *v, **o: neurons.AdaptiveLeaky(0.9, 0.9, 0.1, *v, **o),
    "RecurrentLeaky": lambda *v, **o: neurons.RecurrentLeaky(nn.Identity(), 0.9, *v, **o),
    "RecurrentSynaptic": lambda *v, **o: neurons.RecurrentSynaptic(nn.Identity(), 0.9, 0.9, *v, **o),
    "ResonateAndFire": lambda *v, **o: neurons.ResonateAndFire(0.9, 0.5, *v, **o),
}


@pytest.mark.parametrize("name", THRESHOLDS)
def test_thresholds_and_options_out_of_range_are_refused(name: str) -> None:
    for value in (0.0, -1.0, float("nan"), float("inf"), torch.tensor([1.0, -1.0])):
        with pytest.raises(RangeError, match="threshold"):
            THRESHOLDS[name](value)
    for option in ({"reset": "hard"}, {"test": "=="}):
        with pytest.raises(RangeError, match="must be one of"):
            THRESHOLDS[name](**option)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neurons.Alpha(0.5, 0.5), "alpha .* must be above beta"),
        (lambda: neurons.AdaptiveLeaky(0.9, 0.9, -0.1), "strength"),
        (lambda: neurons.ResonateAndFire(0.9, 4.0), "angle"),
        (lambda: neurons.ResonateAndFire(0.9, 0.5, late_reset=True), "late_reset"),
        (lambda: neurons.ResonateAndFire.from_time_constant(0.1, 0.001, frequency_hz=500.0), "frequency_hz"),
        (lambda: neurons.Izhikevich(*CHATTERING, dt_s=0.005), "dt_s"),
        (lambda: neurons.Izhikevich(0.02, 0.2, 30.0, 8.0), "c is 30"),
        (lambda: neurons.LeakyIntegrator.from_time_constant(0.0, 0.001), "time constant"),
        (lambda: neurons.IntegrateAndFire.from_time_constant(0.02, 0.001), "has no time constant"),
        (lambda: neurons.Synaptic.from_time_constant(0.02, -0.001, tau_current_s=0.01), "dt_s"),
        (lambda: neurons.Delay(-1), "must lie from 0"),
        (lambda: neurons.Delay(5, longest=4), "must lie from 0 to 4"),
        (lambda: neurons.Delay(torch.tensor(1.5)), "whole number"),
        (lambda: neurons.LearnableDelays(0, 4, 5), "must be 1 at least"),
        (lambda: neurons.LearnableDelays(2, 4, 5, delay=torch.full((4, 2), 6.0)), "from 0 to 5"),
        (lambda: neurons.LearnableDelays(2, 4, 5, first_width=0.0), "first_width"),
        (lambda: neurons.LearnableDelays(2, 4, 5).anneal(1.1), "progress"),
        (lambda: neurons.PairSTDP(-1.0, 1.0, 0.5, 0.5), "a_plus"),
        (lambda: neurons.TripletSTDP((1.0, 1.0, float("inf"), 0.0), (0.5, 0.5, 0.5, 0.5)), "a3_plus"),
        (lambda: neurons.bounded(torch.zeros(1), torch.zeros(1), 1.0, 0.0), "low"),
    ],
)
def test_other_values_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RangeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neurons.DelayedLinear(torch.rand(4, 2), torch.zeros(2, 4, dtype=torch.int64)), "outputs, inputs"),
        (lambda: neurons.LearnableDelays(2, 4, 5, delay=torch.zeros(2)), "one row or one column"),
        (lambda: neurons.LearnableDelays(2, 4, 5)(torch.rand(3, 1, 3)), r"takes \(time, batch, 2\)"),
        (lambda: neurons.RecurrentLeaky(nn.Linear(3, 4), 0.9)(torch.rand(3, 1, 3)), "as many outputs as inputs"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        make()


@pytest.mark.parametrize(
    ("made", "decay"),
    [
        (neurons.Leaky.from_time_constant, "beta"),
        (neurons.LeakyIntegrator.from_time_constant, "beta"),
        (neurons.Exponential.from_time_constant, "alpha"),
        (lambda tau, dt: neurons.DoubleExponential.from_time_constant(tau / 2, tau, dt), "decay"),
        (lambda tau, dt: neurons.Synaptic.from_time_constant(tau, dt, tau_current_s=tau / 2), "beta"),
        (lambda tau, dt: neurons.Alpha.from_time_constant(tau, dt, tau_rise_s=tau / 2), "alpha"),
        (lambda tau, dt: neurons.AdaptiveLeaky.from_time_constant(tau, dt, tau_adaptation_s=1, strength=1), "beta"),
        (lambda tau, dt: neurons.RecurrentLeaky.from_time_constant(nn.Identity(), tau, dt), "beta"),
        (lambda tau, dt: neurons.RecurrentSynaptic.from_time_constant(nn.Identity(), tau, dt, tau_current_s=1), "beta"),
        (lambda tau, dt: neurons.ResonateAndFire.from_time_constant(tau, dt, frequency_hz=20.0), "decay"),
    ],
)
def test_a_time_constant_is_a_decay_by_e(made: Callable[..., nn.Module], decay: str) -> None:
    assert getattr(made(0.020, 0.001), decay).item() ** 20 == pytest.approx(torch.e**-1, rel=1e-5)


@pytest.mark.parametrize("make", [Leaky, IntegrateAndFire, lambda *given, **options: Synaptic(0.5, *given, **options)])
def test_options_that_there_are_not_are_refused_by_name(make) -> None:
    given = () if make is IntegrateAndFire else (0.9,)
    meant = {"treshold": "did you mean threshold", "init_hidden": "reset, test", "surogate": "surrogate"}
    for key, said in meant.items():
        with pytest.raises(RangeError, match=f"no option '{key}'; .*{said}"):
            make(*given, **{key: 1})
    for wrong in ("atan", None, Atan):
        with pytest.raises(RangeError, match="surrogate is"):
            make(*given, surrogate=wrong)


def test_a_recurrence_that_is_pruned_is_read_as_it_is_now() -> None:
    from torch.nn.utils import prune

    torch.manual_seed(0)
    back = nn.Linear(6, 6)
    back.weight.data.mul_(3)
    prune.l1_unstructured(back, "weight", 0.5)
    layer, x = RecurrentLeaky(back, 0.9), torch.rand(10, 4, 6)
    before = layer(x)[0]
    back.weight_orig.data.neg_()
    after = layer(x)[0]
    assert not torch.equal(after, before)
    for _ in range(2):
        layer(x)[0].sum().backward()
    assert back.weight_orig.grad.any()


def test_delays_that_are_loaded_must_have_room() -> None:
    held = Delay([0, 1, 5]).state_dict()
    with pytest.raises(RuntimeError, match="longest=5"):
        Delay([0, 1, 2]).load_state_dict(held)
    roomy = Delay([0, 1, 2], longest=7)
    roomy.load_state_dict(held)
    x = torch.rand(9, 2, 3)
    assert torch.equal(roomy(x)[0], Delay([0, 1, 5])(x)[0])
