"""The decaying sum equals its reference, forwards and in every gradient, whichever kernel runs."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from spikeport.neurons.kernels.decay import decay_reference, decaying_sum
from spikeport.neurons.kernels.decay_cpu import BLOCK


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("features", [1, 7, BLOCK - 1, BLOCK, BLOCK + 3])
@pytest.mark.parametrize("shared", [True, False], ids=["one decay", "one decay a unit"])
def test_the_kernel_equals_the_reference(dtype: torch.dtype, features: int, shared: bool) -> None:
    generator = torch.Generator().manual_seed(features)
    x, start, weight = (
        torch.randn(*shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((9, 2, features), (2, features), (9, 2, features))
    )
    decay = torch.rand(() if shared else (features,), generator=generator).to(dtype).requires_grad_()
    got, wanted = (function(x, start, decay) for function in (decaying_sum, decay_reference))
    assert torch.equal(got, wanted)
    wanted_gradients = torch.autograd.grad((wanted * weight).sum(), (x, start, decay))
    gradients = torch.autograd.grad((got * weight).sum(), (x, start, decay))
    for gradient, other in zip(gradients[:2], wanted_gradients[:2], strict=True):
        assert torch.equal(gradient, other)
    if dtype != torch.bfloat16:  # a sum over all steps: rounded in another order
        torch.testing.assert_close(gradients[2], wanted_gradients[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, start, decay = (torch.rand(n, dtype=torch.float64, requires_grad=True) for n in ((4, 2, 3), (2, 3), shape))
    assert gradcheck(decaying_sum, (x, start, decay))
    assert gradgradcheck(decaying_sum, (x, start, decay))


def test_layouts_and_parts_that_need_no_gradient() -> None:
    x = torch.randn(2, 5, 3).transpose(0, 1)
    start, decay = torch.randn(3, 2).T, torch.tensor(0.5, requires_grad=True)
    got = decaying_sum(x, start, decay)
    assert torch.equal(got, decay_reference(x, start, decay))
    assert torch.autograd.grad(got.sum(), decay)[0].shape == ()


def test_the_operator_keeps_the_rules_of_torch() -> None:
    x, start, decay = torch.rand(4, 2, 3, requires_grad=True), torch.rand(2, 3), torch.rand(3, requires_grad=True)
    for backwards in (False, True):
        torch.library.opcheck(torch.ops.spikeport.decaying_sum.default, (x, start, decay, backwards))
