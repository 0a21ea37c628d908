"""The short way to the kernels gives what the operator gives, and steps aside for whoever looks at operators."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from spikeport import UnsupportedError
from spikeport.neurons import FastSigmoid, IntegrateAndFire, Leaky, StraightThrough, Triangular
from spikeport.neurons.kernels import leaky_eager

SHAPES = [(5, 3, 7), (1, 2, 3, 4, 4), (40, 6), (3, 2, 70_000)]
LAYERS: dict[str, Callable[[], Leaky]] = {
    "subtract": lambda: Leaky(0.9),
    "strict": lambda: Leaky(0.5, 0.3, test=">"),
    "detached": lambda: Leaky(0.8, detach_reset=True, surrogate=FastSigmoid()),
    "none": lambda: Leaky(0.7, reset="none", surrogate=Triangular()),
    "compact": lambda: Leaky(0.9, compact=True, surrogate=StraightThrough()),
    "no leak": IntegrateAndFire,
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def both_ways(layer: Leaky, x: Tensor, monkeypatch: pytest.MonkeyPatch, *, end: bool) -> list[tuple[Tensor, ...]]:
    """Spikes, membranes and gradients of two calls in turn: by the short way, and by the operator."""
    found = []
    for short in (True, False):
        with monkeypatch.context() as patch:
            if not short:
                patch.setattr(leaky_eager, "serves", lambda *_: False)
            own = x.clone().requires_grad_()
            first, state = layer(own)
            second, state = layer(own.flip(0).contiguous(), state)
            weight = torch.linspace(-1, 1, x.shape[-1])
            loss = (second * weight).sum() + (state.membrane * weight).sum() if end else (second * weight).sum()
            (loss + first.sum()).backward()
            found.append((first, second, state.membrane, own.grad))
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.usefixtures("threads")
def test_the_short_way_gives_what_the_operator_gives(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer, x = LAYERS[name](), torch.randn(shape)
    assert leaky_eager.serves(x, None)
    assert layer._eager_rule() is not None
    for end in (False, True):
        short, long = both_ways(layer, x, monkeypatch, end=end)
        assert all(torch.equal(a, b) for a, b in zip(short, long, strict=True))
        assert short[0].any()
    with torch.no_grad():
        assert torch.equal(layer(x)[0], long[0])


@pytest.mark.parametrize(
    "layer",
    [
        Leaky(0.9, reset="zero"),
        Leaky(0.9, late_reset=True),
        Leaky(0.9, gain=2.0),
        Leaky(0.9, learn_beta=True),
        Leaky(0.9, learn_threshold=True),
        Leaky(torch.full((7,), 0.9)),
        Leaky(0.9).double(),
    ],
    ids=["zero", "late", "gain", "beta", "threshold", "a unit each", "double"],
)
def test_other_neurons_take_the_operator(layer: Leaky) -> None:
    assert layer._eager_rule() is None
    spikes, _ = layer(torch.randn(4, 2, 7))
    assert spikes.shape == (4, 2, 7)


def test_other_inputs_take_the_operator() -> None:
    x = torch.randn(4, 2, 7)
    assert leaky_eager.serves(x, torch.zeros(2, 7))
    others = (x.double(), x.half(), x.transpose(0, 1), x[:, :0], x[0, 0], nn.Parameter(x), x.to("meta"))
    assert not any(leaky_eager.serves(other, None) for other in others)
    assert not leaky_eager.serves(x, torch.zeros(2, 6))
    assert not leaky_eager.serves(x, torch.zeros(2, 7).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not leaky_eager.serves(x, None)


def test_whoever_traces_sees_the_operator() -> None:
    layer, x = Leaky(0.9), torch.randn(4, 2, 7)
    wanted = layer(x)[0]
    graph = make_fx(lambda y: layer(y)[0])(x)
    assert any("spikeport.leaky" in str(node.target) for node in graph.graph.nodes)
    assert torch.equal(graph(x), wanted)
    other = torch.randn(4, 2, 7)
    assert torch.equal(graph(other), layer(other)[0]), "nothing was baked in"


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_mapped_call_is_one_of_each_part() -> None:
    layer, x = Leaky(0.9), torch.randn(3, 4, 2, 7)
    found = torch.vmap(lambda y: layer(y)[0])(x)
    assert torch.equal(found, torch.stack([layer(part)[0] for part in x]))


def test_a_second_derivative_is_refused() -> None:
    layer, x = Leaky(0.9), torch.randn(4, 2, 7, requires_grad=True)
    weight = torch.rand(4, 2, 7, requires_grad=True)
    (first,) = torch.autograd.grad((layer(x)[0] * weight).sum(), x, create_graph=True)
    plain = torch.autograd.grad((layer(x)[0] * weight).sum(), x)[0]
    assert torch.equal(first, plain)
    with pytest.raises(UnsupportedError, match="float64"):
        torch.autograd.grad(first.sum(), weight)


def test_spikes_that_nobody_reads_have_no_gradient() -> None:
    layer, x = Leaky(0.9), torch.randn(4, 2, 7, requires_grad=True)
    _, state = layer(x)
    state.membrane.sum().backward()
    assert x.grad.any()
    x.grad = None
    layer(x)[0].sum().backward()  # a gradient that is one number in memory
    assert x.grad.any()
