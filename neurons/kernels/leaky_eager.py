"""Leaky neurons in the commonest eager call on the CPU, by the shortest way to the kernels.

PyTorch's operators (``leaky_op``) serve compiled and exported networks and everything else; the way through them, and
through the views that any shape may need, takes 0.2 ms there and back, and more than 1 ms where other work has just
filled the caches: a quarter of the time of a layer of 16 x 16 384 neurons and 16 steps.  Values are the same.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import dispatch, leaky_op
from .leaky_reference import Firing
from .memory import in_large_pages

__all__ = ["EagerRule", "advance", "fixed", "serves"]


class EagerRule(NamedTuple):
    """What is the same for all neurons of a layer; formula, height, sharpness: of the surrogate."""

    beta: float
    threshold: float
    formula: int
    height: float
    sharpness: float
    firing: Firing
    compact: bool


def serves(x: Tensor, membrane: Tensor | None) -> bool:
    """Whether nothing but an eager kernel on the CPU looks at this input, and it lies in memory as it is read.

    x: (time, batch, *features) in float32, at least one step.  membrane: (batch, *features), or None for 0.
    """
    return (
        not torch.compiler.is_compiling()
        and _plain(x)
        and x.ndim > 1
        and x.numel() > 0
        and (membrane is None or (_plain(membrane) and membrane.shape == x.shape[1:]))
        and not torch.is_autocast_enabled("cpu")
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and dispatch.threads_survive()
    )


def fixed(value: Tensor) -> bool:
    """Whether a parameter of the neuron is one float32 number on the CPU that nobody wants a gradient of."""
    one = value.ndim == 0 and value.dtype == torch.float32 and value.device.type == "cpu"
    return one and not value.requires_grad


def _plain(x: Tensor) -> bool:
    return type(x) is Tensor and x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous()


def advance(x: Tensor, membrane: Tensor | None, rule: EagerRule) -> tuple[Tensor, Tensor]:
    """Return the spikes like x and the membrane after its last step; gradients reach x and the membrane."""
    if torch.is_grad_enabled() and (x.requires_grad or (membrane is not None and membrane.requires_grad)):
        spikes, after = _Leaky.apply(x, membrane, rule)  # type: ignore[no-untyped-call]
        return spikes, after
    spikes, after, _ = _forward(x, membrane, rule, save=False)
    return spikes, after


def _forward(
    x: Tensor, membrane: Tensor | None, rule: EagerRule, *, save: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    from .leaky_numba import factors, flat_array, run_forward

    spikes = in_large_pages(torch.empty_like(x))
    after = torch.empty_like(x[0])
    saved = in_large_pages(torch.empty_like(x, dtype=torch.bfloat16 if rule.compact else None)) if save else None
    start = _ZERO if membrane is None else flat_array(membrane)
    kept = _NOTHING if saved is None else flat_array(saved)
    numbers = np.float32(rule.beta), np.float32(rule.threshold)
    run_forward(
        len(x),
        flat_array(x),
        start,
        flat_array(after),
        *numbers,
        factors(rule.firing, rule.height, rule.sharpness),
        flat_array(spikes),
        kept,
    )
    return spikes, after, saved


class _Leaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, membrane: Tensor | None, rule: EagerRule) -> tuple[Tensor, Tensor]:
        spikes, after, saved = _forward(x, membrane, rule, save=True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(saved)
        ctx.rule = rule
        return spikes, after

    @staticmethod
    def backward(ctx: Any, to_spikes: Tensor | None, to_after: Tensor | None) -> tuple[Tensor | None, ...]:
        (saved,) = ctx.saved_tensors
        rule: EagerRule = ctx.rule
        if to_spikes is None:
            to_spikes = torch.zeros(saved.shape, dtype=torch.float32, device="cpu")
        initial = ctx.needs_input_grad[1]
        if torch.is_grad_enabled():  # create_graph: the operator says what it cannot do
            return *_by_operator(to_spikes, to_after, saved, rule, initial=initial), None
        from .leaky_numba import factors, flat_array, run_backward

        to_x = in_large_pages(torch.empty(saved.shape, dtype=torch.float32, device="cpu"))
        to_membrane = torch.empty(saved.shape[1:], dtype=torch.float32, device="cpu")
        coming = _ZERO if to_after is None else flat_array(to_after)
        numbers = np.float32(rule.beta), np.float32(rule.threshold)
        plan = factors(rule.firing, rule.height, rule.sharpness)
        arriving, found = (
            (flat_array(to_spikes), coming, flat_array(saved)),
            (flat_array(to_x), flat_array(to_membrane)),
        )
        run_backward(len(saved), *arriving, *numbers, plan, rule.formula, *found)
        return to_x, to_membrane if initial else None, None


def _by_operator(
    to_spikes: Tensor, to_after: Tensor | None, saved: Tensor, rule: EagerRule, *, initial: bool
) -> tuple[Tensor, Tensor | None]:
    steps, batch = saved.shape[:2]
    coming = torch.zeros(saved.shape[1:], dtype=torch.float32, device="cpu") if to_after is None else to_after
    numbers = (torch.tensor(number, dtype=torch.float32, device="cpu") for number in (rule.beta, rule.threshold))
    formula = (rule.formula, rule.height, rule.sharpness)
    rows = (to_spikes.reshape(steps, batch, -1), coming.reshape(batch, -1), saved.reshape(steps, batch, -1))
    empty = coming.new_empty(0, 0)
    to_x, to_membrane, *_ = leaky_op.backward(*rows, empty, *numbers, *formula, *rule.firing, initial, False)
    return to_x.reshape(saved.shape), to_membrane.reshape(coming.shape) if initial else None


_ZERO, _NOTHING = np.zeros(1, np.float32), np.empty(0, np.float32)
