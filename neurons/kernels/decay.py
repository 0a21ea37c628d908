"""A decaying sum over time, y[t] = decay * y[t - 1] + x[t]: synaptic currents, traces and membranes that never fire.

One custom operator, so that `torch.compile` and `torch.export` see a single node; its gradient is the same sum run
backwards in time, so it can be differentiated again.  The tensor's device and type choose the kernel: numba for float32
on the CPU (bit for bit the loop's values), else a loop with two operations a step.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["decay_reference", "decaying_sum"]


def decay_reference(x: Tensor, start: Tensor, decay: Tensor) -> Tensor:
    """Return y with y[t] = decay * y[t - 1] + x[t] and y[-1] = start, in plain autograd PyTorch: the oracle.

    x: (time, batch, features); start: (batch, features); decay: () or (features,).

    >>> decay_reference(torch.tensor([[[1.0]], [[0.0]]]), torch.tensor([[2.0]]), torch.tensor(0.5)).flatten().tolist()
    [2.0, 1.0]
    """
    sums = []
    for step in x.unbind(0):
        start = decay * start + step
        sums.append(start)
    return torch.stack(sums)


def decaying_sum(x: Tensor, start: Tensor, decay: Tensor) -> Tensor:
    """As ``decay_reference``, with the kernel that fits; differentiable in all three, any number of times.

    x, start and decay share one floating type; time is not empty.
    """
    total: Tensor = torch.ops.spikeport.decaying_sum(x, start, decay, False)
    return total


def _sum(x: Tensor, start: Tensor, decay: Tensor, backwards: bool) -> Tensor:
    """``backwards``: y[t] = decay * y[t + 1] + x[t], starting behind the last step."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if x.device.type == "cpu" and x.dtype == torch.float32 and _sum_compiled(x, start, decay, backwards, y):
        return y
    before = start
    for t in range(len(x) - 1, -1, -1) if backwards else range(len(x)):
        torch.mul(before, decay, out=y[t])
        before = y[t].add_(x[t])
    return y


def _sum_compiled(x: Tensor, start: Tensor, decay: Tensor, backwards: bool, y: Tensor) -> bool:
    """Fill y with the numba kernel; False where its threads are lost (a forked process)."""
    from . import dispatch

    if not dispatch.threads_survive():
        return False
    from .decay_cpu import sum_float32

    arrays = [part.contiguous().numpy() for part in (x, start, decay.expand(x.shape[2:]))]
    with dispatch.numba_threads():
        sum_float32(*arrays, backwards, y.numpy())
    return True


def _shape(x: Tensor, start: Tensor, decay: Tensor, backwards: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
    _, start, decay, backwards = inputs
    ctx.backwards, ctx.needs_decay = backwards, ctx.needs_input_grad[2]
    ctx.save_for_backward(decay, *((start, output) if ctx.needs_decay else ()))


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
    """p[t] = dL/dx[t] = g[t] + decay * p[t + 1];  dL/ddecay = sum of p[t] * y[t - 1];  dL/dstart = decay * p[0]."""
    decay, *values = ctx.saved_tensors
    to_x: Tensor = torch.ops.spikeport.decaying_sum(gradient, torch.zeros_like(gradient[0]), decay, not ctx.backwards)
    first = to_x[-1] if ctx.backwards else to_x[0]
    to_decay = None
    if ctx.needs_decay:
        start, y = values
        if ctx.backwards:
            to_decay = (to_x[:-1] * y[1:]).sum(0) + first * start
        else:
            to_decay = (to_x[1:] * y[:-1]).sum(0) + first * start
        to_decay = to_decay.sum_to_size(decay.shape)
    return to_x, first * decay, to_decay, None


# `torch.library.custom_op` would import torch's compiler, seconds of work, at the first call of the operator.
_NAME = "spikeport::decaying_sum"
torch.library.define(_NAME, "(Tensor x, Tensor start, Tensor decay, bool backwards) -> Tensor")
torch.library.impl(_NAME, "default", _sum)
torch.library.register_fake(_NAME, _shape)
torch.library.register_autograd(_NAME, _gradient, setup_context=_save)
