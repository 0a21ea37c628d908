"""The layers that every law is run through."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from spikeport import neurons
from spikeport.neurons.izhikevich import CHATTERING

UNITS = 6


class Case(NamedTuple):
    """A layer, how strong an input must be to make it fire, and whether it does.

    fires: it gives spikes, one train a unit; the others give what they like.
    """

    make: Callable[[], nn.Module]
    drive: float = 1.0
    fires: bool = True


def _recurrent() -> nn.Module:
    return nn.Linear(UNITS, UNITS, bias=False)


def _per_unit() -> Tensor:
    return torch.linspace(0.5, 0.95, UNITS)


def _neuron(make: Callable[..., nn.Module], late: bool = True) -> dict[str, Callable[[], nn.Module]]:
    """The neuron in every way to fire."""
    ways = {
        "": {},
        " > zero": {"test": ">", "reset": "zero"},
        " none": {"reset": "none"},
        " detached": {"detach_reset": True},
    }
    if late:
        ways |= {" late": {"late_reset": True}, " late zero": {"late_reset": True, "reset": "zero"}}
    return {name: lambda options=options: make(**options) for name, options in ways.items()}


def _cases() -> dict[str, Case]:
    leaky = {
        "Leaky": lambda **o: neurons.Leaky(0.9, **o),
        "Synaptic": lambda **o: neurons.Synaptic(0.8, _per_unit(), **o),
        "Alpha": lambda **o: neurons.Alpha(0.9, 0.8, **o),
        "AdaptiveLeaky": lambda **o: neurons.AdaptiveLeaky(0.9, 0.95, 0.5, **o),
        "RecurrentLeaky": lambda **o: neurons.RecurrentLeaky(_recurrent(), 0.9, **o),
        "RecurrentSynaptic": lambda **o: neurons.RecurrentSynaptic(_recurrent(), 0.7, 0.9, **o),
    }
    cases = {name + way: Case(make) for name, of in leaky.items() for way, make in _neuron(of).items()}
    resonating = _neuron(lambda **o: neurons.ResonateAndFire(0.95, 0.6, **o), late=False)
    cases |= {"ResonateAndFire" + way: Case(make) for way, make in resonating.items()}
    cases |= {
        "IntegrateAndFire": Case(neurons.IntegrateAndFire),
        "lapicque": Case(lambda: neurons.lapicque(5.0, 2.0)),
        "Leaky learned": Case(
            lambda: neurons.Leaky(_per_unit(), 1 + _per_unit(), learn_beta=True, learn_threshold=True)
        ),
        "Synaptic learned": Case(
            lambda: neurons.Synaptic(0.8, _per_unit(), learn_alpha=True, learn_beta=True, learn_threshold=True)
        ),
        "Alpha learned": Case(lambda: neurons.Alpha(0.9, 0.8, learn_alpha=True, learn_beta=True, learn_threshold=True)),
        "AdaptiveLeaky learned": Case(
            lambda: neurons.AdaptiveLeaky(0.9, _per_unit(), 0.5, learn_beta=True, learn_rho=True, learn_strength=True)
        ),
        "RecurrentLeaky one to one": Case(lambda: neurons.RecurrentLeaky(neurons.OneToOne(-0.3), 0.9, learn_beta=True)),
        "ResonateAndFire learned": Case(
            lambda: neurons.ResonateAndFire(_per_unit(), 0.6, learn_decay=True, learn_angle=True, learn_threshold=True)
        ),
        "Izhikevich": Case(lambda: neurons.Izhikevich(0.02, 0.2, -65.0, 8.0), drive=20.0),
        "Izhikevich detached": Case(lambda: neurons.Izhikevich(*CHATTERING, detach_reset=True), drive=20.0),
        "LeakyIntegrator": Case(lambda: neurons.LeakyIntegrator(0.9), fires=False),
        "Exponential": Case(lambda: neurons.Exponential(_per_unit()), fires=False),
        "DoubleExponential": Case(lambda: neurons.DoubleExponential(0.6, _per_unit()), fires=False),
        "Delay": Case(lambda: neurons.Delay([0, 3, 1, 3, 0, 5]), fires=False),
        "Delay of all": Case(lambda: neurons.Delay(2, longest=4), fires=False),
        "DelayedLinear": Case(
            lambda: neurons.DelayedLinear(torch.randn(4, UNITS), torch.randint(0, 6, (4, UNITS))), fires=False
        ),
        "LearnableDelays": Case(lambda: neurons.LearnableDelays(UNITS, 4, 7), fires=False),
        "LearnableDelays triangular": Case(
            lambda: neurons.LearnableDelays(UNITS, 4, 7, window=neurons.TriangularWindow()), fires=False
        ),
    }
    return cases


CASES = _cases()


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """Each layer in turn."""
    torch.manual_seed(0)
    return CASES[request.param]


@pytest.fixture
def layer(case: Case) -> nn.Module:
    """The layer itself."""
    return case.make()


@pytest.fixture
def x(case: Case) -> Tensor:
    """Input that makes neurons fire at some of the steps: (time, batch, units)."""
    return case.drive * torch.rand(12, 3, UNITS, generator=torch.Generator().manual_seed(1))
