"""Each model computes its formula, and is another model where its extra part is switched off."""

import cmath
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import neurons
from spikeport.neurons import izhikevich

WAYS = [
    {},
    {"test": ">", "reset": "zero"},
    {"reset": "none"},
    {"late_reset": True},
    {"late_reset": True, "detach_reset": True},
]


def impulse(steps: int, height: float = 1.0) -> Tensor:
    x = torch.zeros(steps, 1, 1, dtype=torch.float64)
    x[0] = height
    return x


def steps_of(spikes: Tensor) -> list[int]:
    return spikes.flatten().nonzero().flatten().tolist()


def test_filters_answer_an_impulse_with_their_formula() -> None:
    t = torch.arange(20, dtype=torch.float64)
    rise, decay = 0.5, 0.9
    answers = {
        neurons.Exponential(decay): decay**t,
        neurons.LeakyIntegrator(decay, gain=0.1): 0.1 * decay**t,
        neurons.DoubleExponential(rise, decay): (decay ** (t + 1) - rise ** (t + 1)) / (decay - rise),
        neurons.DoubleExponential(decay, rise): (decay ** (t + 1) - rise ** (t + 1)) / (decay - rise),
        neurons.DoubleExponential(decay, decay): (t + 1) * decay**t,
    }
    for layer, wanted in answers.items():
        assert_close(layer(impulse(20))[0].flatten(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_synaptic_is_an_exponential_filter_before_a_leaky_neuron(way: dict) -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 3, 4).requires_grad_()
    layer = neurons.Synaptic(0.6, 0.8, **way)
    spikes, state = layer(x)
    current, filtered = neurons.Exponential(0.6)(x)
    wanted, membrane = neurons.Leaky(0.8, **way)(current)
    assert torch.equal(spikes, wanted)
    assert torch.equal(state.membrane, membrane.membrane)
    assert torch.equal(state.current, filtered.current)
    weight = torch.rand_like(x)
    assert_close(*(torch.autograd.grad((part * weight).sum(), x, retain_graph=True)[0] for part in (spikes, wanted)))


def silent(units: int) -> nn.Module:
    module = nn.Linear(units, units, bias=False)
    nn.init.zeros_(module.weight)
    return module


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_recurrent_neurons_that_hear_nothing_are_the_plain_ones(way: dict) -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 3, 4).requires_grad_()
    weight = torch.rand_like(x)
    for layer, plain in (
        (neurons.RecurrentLeaky(silent(4), 0.8, **way), neurons.Leaky(0.8, **way)),
        (neurons.RecurrentSynaptic(silent(4), 0.6, 0.8, **way), neurons.Synaptic(0.6, 0.8, **way)),
        (neurons.AdaptiveLeaky(0.8, 0.9, 0.0, **way), neurons.Leaky(0.8, **way)),
    ):
        spikes, state = layer(x)
        wanted, plain_state = plain(x)
        assert torch.equal(spikes, wanted)
        assert_close(state.membrane, plain_state.membrane)
        gradients = [torch.autograd.grad((part * weight).sum(), x)[0] for part in (spikes, wanted)]
        assert_close(*gradients)


def test_a_spike_is_heard_in_the_next_step() -> None:
    ring = nn.Linear(3, 3, bias=False)
    ring.weight.data = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    x = torch.zeros(6, 1, 3)
    x[0, 0, 0] = 1
    spikes, _ = neurons.RecurrentLeaky(ring, 0.5)(x)
    assert torch.equal(spikes[:, 0], torch.eye(3).repeat(2, 1)), "one spike goes round"


def test_alpha_answers_with_the_difference_of_two_exponentials() -> None:
    t = torch.arange(30, dtype=torch.float64)
    tau = math.log(0.8) / (math.log(0.8) - math.log(0.9))
    layer, state, membrane = neurons.Alpha(0.9, 0.8), None, []
    for step in impulse(30, 0.5).unsqueeze(1):
        _, state = layer(step, state)
        membrane.append(state.membrane.item())
    wanted = 0.5 * tau * (0.9**t - 0.8**t)
    assert_close(torch.tensor(membrane, dtype=torch.float64), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("reset", "kept"), [("subtract", 1.0), ("zero", 0.0), ("none", 2.0)])
def test_alpha_loses_its_threshold_or_everything_where_it_fires(reset: str, kept: float) -> None:
    """An input so high that the membrane is at 2 thresholds in the step after it."""
    tau = math.log(0.8) / (math.log(0.8) - math.log(0.9))
    spikes, state = neurons.Alpha(0.9, 0.8, reset=reset)(impulse(2, 2 / (tau * 0.1)))
    assert steps_of(spikes) == [1]
    assert state.membrane.item() == pytest.approx(kept, abs=1e-5)
    assert (state.excitatory + state.inhibitory).item() * tau == pytest.approx(kept, abs=1e-5)


def test_the_adaptive_threshold_is_that_of_the_source() -> None:
    """Bellec's equations, one after the other, with the reset a step late as he writes it."""
    torch.manual_seed(0)
    x = torch.rand(200, dtype=torch.float64)
    v = a = z = 0.0
    wanted = []
    for current in x.tolist():
        v, a = 0.9 * v + current - 1.0 * z, 0.97 * a + z
        z = float(v >= 1.0 + 0.3 * a)
        wanted.append(z)
    torch.set_default_dtype(torch.float64)
    layer = neurons.AdaptiveLeaky(0.9, 0.97, 0.3, late_reset=True)
    torch.set_default_dtype(torch.float32)
    assert layer(x.reshape(-1, 1, 1))[0].flatten().tolist() == wanted
    assert 0 < sum(wanted) < 200


def test_adaptation_lengthens_the_intervals() -> None:
    x = torch.full((400, 1, 1), 0.3)
    fired = steps_of(neurons.AdaptiveLeaky(0.9, 0.99, 0.2, reset="zero")(x)[0])
    gaps = [b - a for a, b in pairwise(fired)]
    assert gaps[0] < gaps[1] < gaps[-1]
    plain = steps_of(neurons.Leaky(0.9)(x)[0])
    assert len(plain) > len(fired)


def test_a_resonator_rings_at_its_frequency_and_answers_it_best() -> None:
    layer = neurons.ResonateAndFire.from_time_constant(0.2, 0.001, frequency_hz=20.0, threshold=1e9)
    state = layer(impulse(1))[1]
    z = cmath.exp(complex(-0.001 / 0.2, 2 * math.pi * 0.02))
    for t in range(1, 100):
        _, state = layer(torch.zeros(1, 1, 1, dtype=torch.float64), state)
        assert complex(state.real.item(), state.imaginary.item()) == pytest.approx(z**t, abs=1e-5)
    counts = {}
    for frequency in (10, 20, 40):
        x = torch.sin(2 * math.pi * frequency * torch.arange(1000) / 1000).reshape(-1, 1, 1)
        firing = neurons.ResonateAndFire.from_time_constant(0.2, 0.001, frequency_hz=20.0, threshold=50.0, reset="zero")
        counts[frequency] = int(firing(x)[0].sum())
    assert counts[20] > 0
    assert counts[10] == counts[40] == 0


def program_of_the_source(pattern: tuple[float, ...], current: float, steps: int) -> list[int]:
    """Izhikevich's published program for one neuron that starts at rest; it tells of a spike a step late."""
    a, b, c, d = pattern
    v, u, fired = -70.0, -14.0, []
    for t in range(steps):
        if v >= 30:
            fired.append(t - 1)
            v, u = c, u + d
        for _ in range(2):
            v = v + 0.5 * (0.04 * v * v + 5 * v + 140 - u + current)
        u = u + a * (b * v - u)
    return fired


PATTERNS = ("REGULAR_SPIKING", "FAST_SPIKING", "CHATTERING", "INTRINSICALLY_BURSTING")


@pytest.mark.parametrize("name", PATTERNS)
def test_izhikevich_fires_as_the_program_of_its_source(name: str) -> None:
    """In double precision and from the same start to the last bit: with each spike a difference of rounding grows."""
    pattern = getattr(izhikevich, name)
    torch.set_default_dtype(torch.float64)
    layer = neurons.Izhikevich.from_pattern(pattern)
    torch.set_default_dtype(torch.float32)
    start = neurons.IzhikevichState(*(torch.full((1, 1), value, dtype=torch.float64) for value in (-70.0, -14.0)))
    spikes, _ = layer(torch.full((1000, 1, 1), 10.0, dtype=torch.float64), start)
    wanted = program_of_the_source(pattern, 10.0, 1001)
    assert len(wanted) > 15
    assert steps_of(spikes) == wanted


def test_izhikevich_s_patterns_differ_as_their_names_say() -> None:
    x = torch.full((1000, 1, 1), 10.0)
    gaps = {}
    for name in PATTERNS:
        fired = steps_of(neurons.Izhikevich.from_pattern(getattr(izhikevich, name))(x)[0])[4:]
        gaps[name] = [b - a for a, b in pairwise(fired)]
    assert max(gaps["FAST_SPIKING"]) < min(gaps["REGULAR_SPIKING"])
    assert min(gaps["CHATTERING"]) < 10 < 30 < max(gaps["CHATTERING"])


def test_an_izhikevich_neuron_stays_at_rest_and_without_a_rest_starts_at_c() -> None:
    resting = neurons.Izhikevich.from_pattern(izhikevich.REGULAR_SPIKING)
    _, state = resting(torch.zeros(500, 1, 1))
    assert_close(tuple(state), tuple(resting.initial_state((1, 1))), rtol=0, atol=1e-3)
    restless = neurons.Izhikevich(0.02, 0.3, -65.0, 8.0)
    assert [part.item() for part in restless.initial_state((1, 1))] == pytest.approx([-65.0, -19.5])
