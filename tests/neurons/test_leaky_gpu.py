"""The Triton kernels equal the reference: on a GPU, and wherever Triton is installed in its interpreter on the CPU."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from spikeport.neurons import Leaky, surrogates
from spikeport.neurons.kernels.leaky import leaky
from spikeport.neurons.kernels.leaky_reference import Firing, leaky_reference

FIRINGS = [Firing(*each) for each in itertools.product(("subtract", "zero", "none"), *[(False, True)] * 3)]
SURROGATES = [
    surrogates.Atan(),
    surrogates.FastSigmoid(5.0),
    surrogates.Sigmoid(4.0),
    surrogates.Triangular(0.5, 2.0),
    surrogates.Gaussian(0.4),
    surrogates.StraightThrough(0.3),
]


def inputs(device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(11, 3, 300, generator=generator).to(dtype)
    membrane = torch.randint(-2, 7, (3, 300), generator=generator) / 4
    parts = [current, membrane, torch.rand(300, generator=generator), torch.rand(300, generator=generator) + 0.3]
    return [part.to(device).requires_grad_() for part in parts]


def run(function: object, tensors: list[Tensor], *arguments: object, **options: object) -> list[Tensor]:
    spikes, after = function(*tensors, *arguments, **options)
    weight = torch.linspace(-1, 1, spikes.numel(), device=spikes.device).reshape(spikes.shape).to(spikes.dtype)
    return [spikes, after, *torch.autograd.grad((spikes * weight).sum() + after.sum(), tensors)]


@pytest.mark.needs("gpu")
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
@pytest.mark.parametrize("firing", FIRINGS, ids=lambda firing: "-".join(map(str, firing)))
def test_the_kernel_of_the_gpu_equals_the_reference(firing: Firing, surrogate: surrogates.Surrogate) -> None:
    tensors = inputs("cuda")
    names = {"strict": firing.strict, "late_reset": firing.late, "detach_reset": firing.detach}
    got = run(leaky, tensors, surrogate, reset=firing.reset, **names)
    wanted = run(leaky_reference, tensors, surrogate, firing)
    assert torch.equal(got[0], wanted[0])
    assert torch.equal(got[1], wanted[1])
    for ours, theirs in zip(got[2:], wanted[2:], strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1e-6)


@pytest.mark.needs("gpu")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_the_gpu_gives_the_spikes_of_its_values(dtype: torch.dtype) -> None:
    tensors = inputs("cuda", dtype)
    spikes, after = leaky(*tensors, surrogates.Atan())
    wanted, end = leaky(tensors[0].detach().float(), *tensors[1:], surrogates.Atan())
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), wanted)
    assert torch.equal(after, end)


@pytest.mark.needs("gpu")
def test_both_devices_give_the_same_spikes() -> None:
    x = torch.randn(20, 4, 8, 6, 6)
    layer = Leaky(torch.rand(8, 1, 1), 0.7)
    on_cpu, _ = layer(x)
    on_gpu, _ = layer.to("cuda")(x.to("cuda"))
    assert torch.equal(on_gpu.cpu(), on_cpu)


INTERPRETED = """
import contextlib, itertools, torch
from spikeport.neurons.kernels import leaky_gpu
from spikeport.neurons.kernels.leaky_reference import Firing
from spikeport.neurons.kernels.leaky_steps import steps_backward, steps_forward
torch.cuda.device = lambda device: contextlib.nullcontext()
current, membrane, beta, threshold = torch.randn(4, 3, 100), torch.randn(3, 100), torch.rand(100), torch.rand(100) + 0.3
to_spikes, to_after = torch.randn(4, 3, 100), torch.randn(3, 100)
flags = itertools.product(("subtract", "zero", "none"), *[(False, True)] * 3)
for number, firing in enumerate(Firing(*each) for each in flags):
    spikes, after, exact = steps_forward(current, membrane, beta, threshold, firing)
    saved = torch.empty_like(current)
    got = leaky_gpu.forward_triton(current, membrane, beta, threshold, firing, saved)
    assert all(map(torch.equal, (*got, saved), (spikes, after, exact))), firing
    rest = (exact, membrane, beta, threshold, firing, (number % 6, 0.9, 3.0))
    wanted = steps_backward(to_spikes, to_after, *rest)
    for parameters in (True, False):
        got = leaky_gpu.backward_triton(to_spikes, to_after, *rest, parameters)
        for a, b in zip(got[: 4 if parameters else 2], wanted):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max(), firing
"""


@pytest.mark.needs("triton")
@pytest.mark.slow
def test_triton_s_interpreter_computes_what_the_steps_compute() -> None:
    variables = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=variables, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
