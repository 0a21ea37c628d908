"""Filters, delays and second-order neurons compile and export, the length of time left open."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import neurons

pytestmark = pytest.mark.slow
UNITS = 3


class Output(nn.Module):
    """The sequence alone; `torch.export` wants no state types that it does not know."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def decays() -> Tensor:
    return torch.tensor([0.5, 0.7, 0.9])


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "LeakyIntegrator": lambda: neurons.LeakyIntegrator(decays(), learn_beta=True),
    "Exponential": lambda: neurons.Exponential(0.5),
    "DoubleExponential": lambda: neurons.DoubleExponential(0.5, decays()),
    "Synaptic": lambda: neurons.Synaptic(decays(), 0.9, learn_alpha=True, learn_beta=True),
    "Delay": lambda: neurons.Delay([0, 3, 1]),
    "Delay of all": lambda: neurons.Delay(2),
    "DelayedLinear": lambda: neurons.DelayedLinear(torch.rand(4, UNITS), torch.randint(0, 4, (4, UNITS))),
    "LearnableDelays": lambda: neurons.LearnableDelays(UNITS, 4, 5),
}
BY_STEP: dict[str, Callable[[], nn.Module]] = {  # their loop is unrolled: a graph for each length
    "Alpha": lambda: neurons.Alpha(0.9, 0.8, learn_beta=True),
    "AdaptiveLeaky": lambda: neurons.AdaptiveLeaky(decays(), 0.9, 0.1, learn_beta=True),
    "RecurrentLeaky": lambda: neurons.RecurrentLeaky(nn.Linear(UNITS, UNITS), 0.9),
    "ResonateAndFire": lambda: neurons.ResonateAndFire(0.9, 0.5),
    "Izhikevich": lambda: neurons.Izhikevich(0.02, 0.2, -65.0, 8.0),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_exported_layer_takes_any_length_of_time(name: str) -> None:
    network = Output(WHOLE[name]())
    time = torch.export.Dim("time", min=2, max=4096)
    exported = torch.export.export(network, (torch.rand(7, 2, UNITS),), dynamic_shapes={"x": {0: time}}).module()
    for steps in (2, 5, 30):
        x = torch.rand(steps, 2, UNITS)
        assert_close(exported(x), network(x))


@pytest.mark.parametrize("name", [*WHOLE, *BY_STEP])
def test_a_compiled_layer_gives_the_same_values_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    network = Output({**WHOLE, **BY_STEP}[name]())
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    for steps in (6, 9) if name in WHOLE else (6,):
        x = torch.rand(steps, 2, UNITS, requires_grad=True)
        got, wanted = compiled(x), network(x)
        assert_close(got, wanted)
        assert_close(*(torch.autograd.grad(part.square().sum(), x)[0] for part in (got, wanted)))
