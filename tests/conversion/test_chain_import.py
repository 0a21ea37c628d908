"""A spiking network in Python and its Graph give the same spikes; what a Graph does not hold is listed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikeport import Engine, Graph, UnsupportedError, load_graph, save_graph
from spikeport.conversion.chain_import import import_chain
from spikeport.networks import Chain, Feedback, Residual
from spikeport.neurons import (
    Delay,
    DelayedLinear,
    DoubleExponential,
    Exponential,
    IntegrateAndFire,
    Izhikevich,
    Leaky,
    LeakyIntegrator,
    OneToOne,
    RecurrentLeaky,
    RecurrentSynaptic,
    Synaptic,
    lapicque,
)

STEPS, BATCH = 40, 3
UNITS = torch.linspace(0.6, 0.95, 6)


def fires(**options: object) -> Callable[[], nn.Module]:
    return lambda: Chain(nn.Linear(4, 6), Leaky(UNITS, 0.5, **options), nn.Linear(6, 3))  # type: ignore[arg-type]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"leaky {reset} {test} {'late' if late else 'now'}": fires(reset=reset, test=test, late_reset=late)
        for reset in ("subtract", "zero", "none")
        for test in (">", ">=")
        for late in (False, True)
    },
    "no leak": lambda: Chain(nn.Linear(4, 6), IntegrateAndFire(0.5), nn.Linear(6, 3)),
    "circuit": lambda: Chain(nn.Linear(4, 6), lapicque(5.0, 2.0, threshold=0.2), nn.Linear(6, 3)),
    "second order": lambda: Chain(nn.Linear(4, 6), Synaptic(0.5, UNITS, 0.7), nn.Linear(6, 3)),
    "second order, late": lambda: Chain(nn.Linear(4, 6), Synaptic(0.5, 0.9, late_reset=True, test=">")),
    "filters": lambda: Chain(nn.Linear(4, 6), Exponential(UNITS), Leaky(0.9), DoubleExponential(0.3, 0.6)),
    "readout": lambda: Chain(nn.Linear(4, 6), Leaky(0.9), nn.Linear(6, 3), LeakyIntegrator(0.8, gain=0.2)),
    "recurrent": lambda: Chain(nn.Linear(4, 6), RecurrentLeaky(nn.Linear(6, 6), UNITS, 0.5), nn.Linear(6, 3)),
    "one to one": lambda: Chain(nn.Linear(4, 6), RecurrentLeaky(OneToOne(UNITS - 0.7), 0.9, 0.5, late_reset=True)),
    "recurrent current": lambda: Chain(nn.Linear(4, 6), RecurrentSynaptic(nn.Linear(6, 6), 0.4, 0.8, 0.5)),
    "delay": lambda: Chain(nn.Linear(4, 6), Leaky(0.9, 0.5), Delay(3), nn.Linear(6, 3)),
    "delays": lambda: Chain(nn.Linear(4, 6), Leaky(0.9, 0.5), Delay([0, 2, 2, 5, 0, 1]), nn.Linear(6, 3)),
    "delayed synapses": lambda: Chain(
        nn.Linear(4, 6),
        Leaky(0.9, 0.5),
        DelayedLinear(torch.randn(5, 6), torch.randint(0, 4, (5, 6)), bias=torch.rand(5)),
        Leaky(0.9, 0.25),
    ),
    "skip": lambda: Chain(nn.Linear(4, 6), Residual(nn.Linear(6, 6), Leaky(0.9, 0.5)), nn.Linear(6, 3), Leaky(0.9)),
    "loop": lambda: Chain(Feedback(nn.Linear(4, 6), Leaky(0.9, 0.5), back=nn.Linear(6, 4)), nn.Linear(6, 3)),
}
CONVOLUTIONAL: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: Chain(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        Leaky(torch.linspace(0.5, 0.9, 4).reshape(4, 1, 1), 0.5),
        nn.MaxPool2d(2),
        Residual(nn.Conv2d(4, 4, 3, padding=1), Leaky(0.8, 0.5), shortcut=nn.Conv2d(4, 4, 1)),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(16, 3),
    ),
    "recurrent convolution": lambda: Chain(
        nn.Conv2d(2, 3, 3, padding=1), RecurrentLeaky(nn.Conv2d(3, 3, 3, padding=1), 0.9, 0.5), nn.Flatten()
    ),
}


def made(make: Callable[[], nn.Module], *features: int) -> tuple[nn.Module, Graph, Tensor]:
    """A network on a coarse grid of weights, where sums are exact in any order."""
    torch.manual_seed(3)
    network = make().eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if not name.endswith(("beta", "threshold", "alpha")):
                value.copy_((value * 8).round() / 8 + 0.125)
    x = torch.randint(-2, 5, (STEPS, BATCH, *features)) / 4
    return network, import_chain(network, features), x


def cumulative(graph: Graph, x: Tensor) -> Tensor:
    engine = Engine(graph, max_steps=STEPS, constant_input=False)
    return engine.advance(x, engine.initial_state(BATCH), STEPS)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_gives_what_the_network_gives(name: str) -> None:
    network, graph, x = made(NETWORKS[name], 4)
    wanted = network(x)[0].cumsum(0)
    assert wanted.unique().numel() > 8, "something fires, at different times"
    torch.testing.assert_close(cumulative(graph, x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_graph_of_a_convolutional_network_gives_what_it_gives(name: str) -> None:
    network, graph, x = made(CONVOLUTIONAL[name], 2, 4, 4)
    torch.testing.assert_close(cumulative(graph, x), network(x)[0].cumsum(0), rtol=1e-4, atol=1e-4)


def test_a_constant_input_is_the_sequence_of_it() -> None:
    network, graph, x = made(CONVOLUTIONAL["convolutions"], 2, 4, 4)
    engine = Engine(graph, max_steps=STEPS)
    output, _ = engine.advance(x[0], engine.start(x[0]), STEPS)
    wanted = network(x[:1].expand(STEPS, -1, -1, -1, -1))[0].cumsum(0)
    torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)


def test_the_graph_goes_through_its_file(tmp_path) -> None:
    _, graph, x = made(NETWORKS["delayed synapses"], 4)
    save_graph(graph, tmp_path / "network.safetensors")
    assert torch.equal(cumulative(load_graph(tmp_path / "network.safetensors"), x), cumulative(graph, x))


def test_everything_that_is_not_covered_is_listed() -> None:
    network = Chain(
        nn.Linear(4, 6),
        Izhikevich(0.02, 0.2, -65.0, 8.0),
        nn.Softplus(),
        Synaptic(0.5, 0.5, reset="zero", late_reset=True),
        nn.Linear(6, 2),
    )
    with pytest.raises(UnsupportedError) as caught:
        import_chain(network, (4,))
    assert len(caught.value.problems) == 3
    for wanted in ("1 (Izhikevich", "2: ", "softplus", "3 (Synaptic: a late reset"):
        assert wanted in str(caught.value)
