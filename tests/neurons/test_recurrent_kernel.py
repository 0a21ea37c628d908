"""The recurrent kernel equals the loop in plain autograd: spikes, states and every gradient."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import neurons

UNITS = 5
WAYS = [
    {"reset": reset, "test": test, "late_reset": late, "detach_reset": detach}
    for reset, test, late, detach in itertools.product(
        ("subtract", "zero", "none"), (">=", ">"), (False, True), (False, True)
    )
]


def layers(kind: str, way: dict, per_unit: bool, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """The layer with its kernel, and with the same matrix in a module that only autograd can run."""
    torch.manual_seed(0)
    matrix = nn.Linear(UNITS, UNITS, bias=bias)
    value = torch.linspace(0.5, 0.9, UNITS) if per_unit else 0.8
    learned = {"learn_beta": True, "learn_threshold": True, **way}
    if kind == "RecurrentLeaky":
        made = [neurons.RecurrentLeaky(module, value, value, **learned) for module in (matrix, nn.Sequential(matrix))]
    else:
        made = [
            neurons.RecurrentSynaptic(module, value, value, value, learn_alpha=True, **learned)
            for module in (matrix, nn.Sequential(matrix))
        ]
    return made[0].double(), made[1].double()


def run(layer: nn.Module, x: Tensor, state: tuple) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs; and gradients of a loss in which all of them count."""
    parameters = [part for _, part in sorted(layer.named_parameters(), key=lambda item: item[0].replace(".0.", "."))]
    spikes, end = layer(x, type(layer.initial_state((1, UNITS)))._make(state))
    generator = torch.Generator().manual_seed(1)
    outputs = [spikes, *end]
    loss = sum((part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum() for part in outputs)
    return outputs, list(torch.autograd.grad(loss, [x, *state, *parameters], allow_unused=True))


@pytest.mark.parametrize("per_unit", [False, True], ids=["shared", "a unit"])
@pytest.mark.parametrize("kind", ["RecurrentLeaky", "RecurrentSynaptic"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_the_kernel_equals_autograd(kind: str, way: dict, per_unit: bool) -> None:
    fast, slow = layers(kind, way, per_unit)
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(15, 3, UNITS, dtype=torch.float64, generator=generator).requires_grad_()
    parts = len(fast.initial_state((3, UNITS)))
    state = tuple(torch.rand(3, UNITS, dtype=torch.float64, generator=generator) for _ in range(parts - 1))
    state = tuple(
        part.requires_grad_() for part in (*state, (torch.rand(3, UNITS, generator=generator) < 0.5).double())
    )
    outputs, gradients = run(fast, x, state)
    wanted, wanted_gradients = run(slow, x, state)
    for one, other in zip(outputs, wanted, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(gradients, wanted_gradients, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert 0 < outputs[0].mean() < 1


def test_the_kernel_is_what_a_linear_module_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only that: hooks, other types and autocast see every step of the module."""
    fast, slow = layers("RecurrentLeaky", {}, per_unit=False, bias=False)
    x = torch.rand(4, 2, UNITS, dtype=torch.float64, requires_grad=True)
    kernel = "_RecurrentBackward"
    assert kernel in type(fast(x)[0].grad_fn).__name__
    assert kernel not in type(slow(x)[0].grad_fn).__name__
    seen = []
    handle = fast.recurrent.register_forward_hook(lambda *_: seen.append(1))
    fast(x)
    handle.remove()
    assert len(seen) == len(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernel not in type(fast.float()(x.float())[0].grad_fn).__name__
