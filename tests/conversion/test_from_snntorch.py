"""A network trained in snnTorch comes in as a Chain: the same spikes, and all that cannot come in is named."""

import copy
import importlib
import warnings
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport.conversion.chain_import import import_chain
from spikeport.conversion.from_snntorch import from_snntorch
from spikeport.conversion.snntorch_layers import PromptReset
from spikeport.conversion.snntorch_surrogates import Borrowed
from spikeport.neurons import Atan, FastSigmoid, Leaky, OneToOne, Sigmoid, StraightThrough

pytestmark = pytest.mark.needs("snntorch")

STEPS, BATCH, INPUTS, UNITS, CLASSES = 100, 5, 12, 9, 4
LATE_ONLY = ("Lapicque", "Alpha")  # snnTorch offers no other timing for these
KINDS = [
    (kind, reset, delay)
    for kind in ("Leaky", "Lapicque", "Synaptic", "Alpha", "RLeaky", "RLeaky one to one", "RSynaptic")
    for reset in ("subtract", "zero", "none")
    for delay in ((True,) if kind in LATE_ONLY or kind == "RSynaptic" else (True, False))
]
PROMPT = [("subtract", True), ("subtract", False), ("zero", False)]


def snn() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("snntorch")
        importlib.import_module("snntorch.surrogate")
        importlib.import_module("snntorch.utils")
    return module


def per_unit(low: float, high: float, units: int) -> Tensor:
    return torch.linspace(low, high, units)


def neuron(kind: str, units: int, **options: Any) -> nn.Module:
    """One of snnTorch's, with values learned a unit where it can."""
    beta = per_unit(0.6, 0.95, units)
    name, _, one_to_one = kind.partition(" ")
    make = getattr(snn(), name)
    if kind in LATE_ONLY:
        options.pop("reset_delay", None)
    if name == "Lapicque":
        return make(R=5.1, C=1.3, time_step=0.7, threshold=0.4, **options)
    options = {"learn_beta": True, "learn_threshold": True, "threshold": per_unit(0.5, 0.9, units), **options}
    if name.startswith("R"):
        hears = {"V": per_unit(-0.5, 0.5, units), "all_to_all": False} if one_to_one else {"linear_features": units}
        options |= hears
    if name == "Alpha":
        return make(0.97, beta, **options)
    return make(0.5, beta, **options) if name in ("Synaptic", "RSynaptic") else make(beta, **options)


def dense(kind: str, **options: Any) -> nn.Sequential:
    """Two layers of them, after one another; the nested one stands for a block."""
    torch.manual_seed(5)
    first, last = (neuron(kind, units, init_hidden=True, **options) for units in (UNITS, CLASSES))
    last.output = True
    net = nn.Sequential(nn.Sequential(nn.Linear(INPUTS, UNITS), first), nn.Linear(UNITS, CLASSES), last)
    with torch.no_grad():
        for layer in (net[0][0], net[1]):
            layer.weight.mul_(2)
            layer.bias.add_(0.3)
    return net


def spikes_of(net: nn.Module, x: Tensor) -> Tensor:
    """What snnTorch gives, step by step."""
    outputs = [net(step) for step in x]
    return torch.stack([output[0] if isinstance(output, tuple) else output for output in outputs])


class Custom(nn.Module):
    """A network as snnTorch's tutorials write them: states handed on, a loop over time in forward."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, CLASSES)
        self.lif1 = snn().Leaky(per_unit(0.6, 0.95, UNITS), learn_beta=True, threshold=0.5, **options)
        self.lif2 = snn().Synaptic(0.5, 0.8, threshold=0.4)
        self.pool = nn.ModuleList([nn.Identity()])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1 = self.lif1.reset_mem()
        syn2, mem2 = self.lif2.reset_mem()
        spikes, membranes = [], []
        for step in range(len(x)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem=mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(self.pool[0](spk1)), syn2, mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


@pytest.mark.parametrize(("kind", "reset", "delay"), KINDS)
def test_every_neuron_spikes_alike(kind: str, reset: str, delay: bool) -> None:
    net = dense(kind, reset_mechanism=reset, reset_delay=delay)
    chain = from_snntorch(net, example=torch.rand(BATCH, INPUTS))
    x = torch.rand(STEPS, BATCH, INPUTS)
    with torch.no_grad():
        wanted = spikes_of(net, x)
        got, _ = chain(x)
    assert 0.01 < wanted.mean() < 0.99
    assert torch.equal(got, wanted)
    assert torch.equal(from_snntorch(net)(x)[0], wanted), "the linear layers tell how many axes the features have"


@pytest.mark.parametrize("surrogate", ["fast_sigmoid", "spike_rate_escape"])
@pytest.mark.parametrize(
    ("kind", "reset", "delay"),
    [(kind, *timing) for kind in ("Leaky", "Synaptic", "RLeaky") for timing in PROMPT]
    + [(kind, "subtract", True) for kind in ("Lapicque", "RSynaptic", "RLeaky one to one")],
)
def test_gradients_are_alike(kind: str, reset: str, delay: bool, surrogate: str) -> None:
    """One surrogate that we have, and one that is differentiated as it is."""
    grad = getattr(snn().surrogate, surrogate)(slope=5)
    net = dense(kind, reset_mechanism=reset, reset_delay=delay, spike_grad=grad)
    chain = from_snntorch(net)
    x = torch.rand(30, BATCH, INPUTS)
    weights = torch.rand(30, BATCH, CLASSES)
    (spikes_of(net, x) * weights).sum().backward()
    (chain(x)[0] * weights).sum().backward()
    theirs = sorted((tuple(p.shape), float(p.grad.norm())) for p in net.parameters())
    ours = sorted((tuple(p.shape), float(p.grad.norm())) for p in chain.parameters() if p.grad is not None)
    assert [shape for shape, _ in ours] == [shape for shape, _ in theirs]
    assert_close([norm for _, norm in ours], [norm for _, norm in theirs], rtol=1e-3, atol=1e-4)
    assert theirs[0][1] > 0


def test_what_a_reset_leaves_above_the_threshold_lowers_the_next_test() -> None:
    """snnTorch's reset in the same step is not that of others where a membrane passes twice the threshold."""
    net = nn.Sequential(snn().Leaky(0.9, reset_delay=False, init_hidden=True))
    x = torch.tensor([2.5, 0.3, 0.0, 0.0, 0.0]).reshape(5, 1, 1)
    chain = from_snntorch(net)
    assert isinstance(chain[0], PromptReset)
    wanted = spikes_of(net, x)
    assert torch.equal(chain(x)[0], wanted)
    assert not torch.equal(Leaky(0.9, test=">")(x)[0], wanted)


def conv_net() -> nn.Sequential:
    torch.manual_seed(6)
    s = snn()
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        s.Leaky(torch.tensor([0.5, 0.7, 0.9]).reshape(3, 1, 1), learn_beta=True, threshold=0.3, init_hidden=True),
        nn.MaxPool2d(2),
        s.RLeaky(0.8, conv2d_channels=3, kernel_size=3, threshold=0.4, init_hidden=True),
        nn.Conv2d(3, 4, 3),
        s.Leaky(per_unit(0.5, 0.9, 2), threshold=0.2, init_hidden=True, reset_mechanism="zero"),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
        s.Leaky(0.8, threshold=0.2, init_hidden=True, output=True),
    )


@pytest.mark.parametrize("shown", [True, False], ids=["with an example", "without"])
def test_convolutions_spike_alike(shown: bool) -> None:
    """A decay a channel, and one a column: (2,) broadcasts against the last axis of (batch, 4, 2, 2)."""
    net = conv_net().eval()
    x = torch.rand(STEPS, 2, 1, 8, 8)
    chain = from_snntorch(net, example=x[0] if shown else None)
    with torch.no_grad():
        wanted = spikes_of(net, x)
        assert 0.01 < wanted.mean() < 0.99
        assert torch.equal(chain(x)[0], wanted)
    assert not any(module.training for module in chain.modules())


def test_a_forward_of_its_own_spikes_alike() -> None:
    torch.manual_seed(7)
    net = Custom()
    x = torch.rand(STEPS, BATCH, INPUTS)
    chain = from_snntorch(net, example=x[:3])
    assert [type(layer).__name__ for layer in chain.layers] == ["Linear", "Leaky", "Identity", "Linear", "Synaptic"]
    wanted, membranes = net(x)
    got, state = chain(x)
    assert 0.01 < wanted.mean() < 0.99
    assert torch.equal(got, wanted)
    assert_close(state["4"].membrane, membranes[-1], rtol=1e-5, atol=1e-5)


def test_the_same_input_in_every_step_and_a_reset_of_all_neurons() -> None:
    class Constant(Custom):
        def forward(self, x: Tensor) -> Tensor:
            snn().utils.reset(self)
            return torch.stack([self.lif(self.fc1(x)) for _ in range(20)])

    torch.manual_seed(8)
    net = Constant()
    net.lif = snn().Leaky(0.8, threshold=0.5, init_hidden=True)
    other = snn().Leaky(0.8, init_hidden=True)
    other(torch.ones(2, 2))
    x = torch.rand(BATCH, INPUTS)
    chain = from_snntorch(net, example=x)
    assert other.mem.sum() == 4, "a neuron elsewhere was reset"
    assert torch.equal(chain(x.expand(20, *x.shape))[0], net(x))


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "with hidden states in a graph of gradients"])
def test_the_source_is_left_as_it_is(trained: bool) -> None:
    net = dense("RLeaky").train()
    net[0].eval()
    x = torch.rand(3, BATCH, INPUTS)
    if trained:
        spikes_of(net, x).sum().backward()
    before = copy.deepcopy(net.state_dict())
    hidden = [net[0][1].mem, net[0][1].spk]
    modes = [module.training for module in net.modules()]
    chain = from_snntorch(net, example=x[0])
    assert net[0][1].mem is hidden[0]
    assert net[0][1].spk is hidden[1]
    assert [module.training for module in net.modules()] == modes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in chain.modules())
    assert (chain.training, chain[0].training, chain[1].training, chain[3].training) == (True, False, False, True)
    with torch.no_grad():
        for value in chain.parameters():
            value.add_(1)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_predictions_of_a_trained_network_are_the_same() -> None:
    """Some steps of snnTorch's own loop over real digits, and then sample for sample."""
    torch.manual_seed(9)
    digits = load_digits()
    x, y = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
    s = snn()
    net = nn.Sequential(
        nn.Linear(64, 40),
        s.Leaky(torch.full((40,), 0.8), learn_beta=True, learn_threshold=True, init_hidden=True),
        nn.Linear(40, 10),
        s.Leaky(0.9, init_hidden=True, output=True),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(60):
        s.utils.reset(net)
        rows = torch.arange(64 * step, 64 * step + 64) % 1500
        counts = torch.stack([net(x[rows])[0] for _ in range(10)]).sum(0)
        optimizer.zero_grad()
        nn.functional.cross_entropy(counts, y[rows]).backward()
        optimizer.step()
    s.utils.reset(net)
    chain = from_snntorch(net)
    with torch.no_grad():
        wanted = spikes_of(net, x.expand(10, *x.shape))
        got, _ = chain(x.expand(10, *x.shape))
    assert (wanted.sum(0).argmax(1) == y).float()[1500:].mean() > 0.7
    assert torch.equal(got, wanted)


def test_a_plain_layer_that_stands_in_two_places_stays_one() -> None:
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, snn().Leaky(0.9, init_hidden=True), shared, snn().Leaky(0.9, init_hidden=True))
    for chain in (from_snntorch(net), from_snntorch(net, example=torch.rand(2, 3))):
        assert len(chain) == 4
        assert chain[0] is chain[2]
        assert chain[0] is not shared


def test_graded_spikes_become_a_factor() -> None:
    net = nn.Sequential(
        snn().Leaky(
            0.9, init_hidden=True, graded_spikes_factor=0.5, learn_graded_spikes_factor=True, reset_delay=False
        ),
        nn.Linear(3, 2),
        snn().Leaky(0.9, init_hidden=True),
    )
    chain = from_snntorch(net)
    assert isinstance(chain[1], OneToOne)
    assert chain[1].weight.requires_grad
    x = torch.rand(STEPS, 2, 3)
    assert torch.equal(chain(x)[0], spikes_of(net, x))


def test_decays_that_training_drove_out_of_range_come_in_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 3), snn().Leaky(torch.tensor([-0.2, 0.5, 1.3]), learn_beta=True, init_hidden=True))
    chain = from_snntorch(net)
    x = 2 * torch.rand(STEPS, 2, 3)
    assert_close(chain[1].beta, net[1].beta)
    assert torch.equal(chain(x)[0], spikes_of(net, x))


def test_double_precision_comes_in_exactly() -> None:
    net = nn.Sequential(nn.Linear(3, 3), snn().Leaky(1 / 3, init_hidden=True)).double()
    net[1].beta = torch.tensor(1 / 3, dtype=torch.float64)
    chain = from_snntorch(net)
    assert chain[1].beta.item() == 1 / 3


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("atan", {"alpha": 3.0}, Atan(3.0)),
        ("fast_sigmoid", {"slope": 10}, FastSigmoid(10.0)),
        ("sigmoid", {"slope": 7}, Sigmoid(7.0)),
        ("straight_through_estimator", {}, StraightThrough()),
        ("triangular", {"threshold": 2.0}, None),
        ("SFS", {}, None),
        ("heaviside", {}, None),
        ("custom_surrogate", {"custom_surrogate_function": lambda u, gradient, spikes: gradient * u.abs()}, None),
    ],
)
def test_surrogates_come_in(name: str, arguments: dict[str, Any], wanted: object) -> None:
    """Those that we have by name; the others are differentiated as they are."""
    function = getattr(snn().surrogate, name)(**arguments)
    surrogate = from_snntorch(nn.Sequential(snn().Leaky(0.9, spike_grad=function, init_hidden=True)))[0].surrogate
    assert surrogate == wanted if wanted else isinstance(surrogate, Borrowed)
    u = torch.linspace(-2, 2, 40, requires_grad=True)
    (slope,) = torch.autograd.grad(function(u).sum(), u)
    assert_close(surrogate.derivative(u.detach()), slope)


def test_a_disabled_surrogate_has_no_gradient() -> None:
    chain = from_snntorch(nn.Sequential(nn.Linear(2, 2), snn().Leaky(0.9, surrogate_disable=True, init_hidden=True)))
    chain(torch.rand(5, 3, 2))[0].sum().backward()
    assert not chain[0].weight.grad.any()


def test_what_came_in_becomes_a_graph() -> None:
    graph = import_chain(from_snntorch(conv_net().eval()), (1, 8, 8))
    assert sum(node.operator == "neuron" for node in graph.nodes) == 4
