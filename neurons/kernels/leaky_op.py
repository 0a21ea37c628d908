"""Leaky integrate-and-fire as two operators of PyTorch, so that a compiled or exported network has a node for each.

They are opaque: the device and the type choose the code inside (numba, Triton or plain PyTorch).  Both have a shape
rule, so that `torch.compile` and `torch.export` never run them, also with a length of time that is left open.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._check import UnsupportedError
from . import dispatch, leaky_gpu
from .leaky_reference import Firing
from .leaky_steps import steps_backward, steps_forward
from .memory import in_large_pages

__all__ = ["backward", "forward"]

Operator = Callable[..., Any]


# Defined in the library and not with the ``custom_op`` decorator, whose first call imports the compiler: seconds.
_LIBRARY = torch.library.Library("spikeport", "FRAGMENT")  # the operators live as long as this name
_LIBRARY.define(
    "leaky(Tensor current, Tensor membrane, Tensor beta, Tensor threshold, int formula, float height, float sharpness,"
    " str reset, bool strict, bool late, bool detach, bool save, bool compact) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "leaky_backward(Tensor to_spikes, Tensor to_after, Tensor saved, Tensor membrane, Tensor beta, Tensor threshold,"
    " int formula, float height, float sharpness, str reset, bool strict, bool late, bool detach, bool initial,"
    " bool parameters)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
forward: Operator = torch.ops.spikeport.leaky.default
backward: Operator = torch.ops.spikeport.leaky_backward.default


@torch.library.impl(_LIBRARY, "leaky", "CompositeExplicitAutograd")
def _forward(  # noqa: PLR0913 - an operator takes plain values
    current: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    formula: int,
    height: float,
    sharpness: float,
    reset: str,
    strict: bool,
    late: bool,
    detach: bool,
    save: bool,
    compact: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the spikes, the new membrane and, if ``save``, u - threshold (else an empty tensor).

    current: (time, batch, features) in float32, bfloat16 or float16; the others float32.  u - threshold is saved, and
    not u: its sign survives bfloat16, so that the backward pass sees the spikes as they were.  compact: save it in
    bfloat16 for float32 currents too.
    """
    firing = Firing(reset, strict, late, detach)
    saved = in_large_pages(current.new_empty(current.shape if save else 0, dtype=_saved_type(current, compact)))
    if current.device.type == "cpu" and dispatch.threads_survive():
        from .leaky_numba import forward_numba

        return *forward_numba(current, membrane, beta, threshold, firing, saved), saved
    if current.is_cuda and leaky_gpu.AVAILABLE:
        return *leaky_gpu.forward_triton(current, membrane, beta, threshold, firing, saved), saved
    spikes, after, exact = steps_forward(current, membrane, beta, threshold, firing)
    return spikes, after, saved.copy_(exact) if save else saved


@torch.library.impl(_LIBRARY, "leaky_backward", "CompositeExplicitAutograd")
def _backward(  # noqa: PLR0913 - an operator takes plain values
    to_spikes: Tensor,
    to_after: Tensor,
    saved: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    formula: int,
    height: float,
    sharpness: float,
    reset: str,
    strict: bool,
    late: bool,
    detach: bool,
    initial: bool,
    parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, membrane, and of beta and threshold for each (batch, features).

    That of the membrane is empty without ``initial``, the last two without ``parameters``.
    membrane: where the sequence started; it may be empty if the reset is not late and ``parameters`` is not set.
    """
    firing, rule = Firing(reset, strict, late, detach), (formula, height, sharpness)
    if to_spikes.device.type == "cpu" and dispatch.threads_survive():
        from .leaky_numba import backward_numba

        return backward_numba(to_spikes, to_after, saved, membrane, beta, threshold, firing, rule, initial, parameters)
    nothing = to_after.new_empty(0, 0)
    if to_spikes.is_cuda and leaky_gpu.AVAILABLE:
        given = (to_spikes, to_after, saved, membrane, beta, threshold)
        to_current, to_membrane, to_beta, to_threshold = leaky_gpu.backward_triton(*given, firing, rule, parameters)
        return to_current, to_membrane if initial else nothing, to_beta, to_threshold
    start = membrane if membrane.numel() else torch.zeros_like(to_after)
    found = steps_backward(to_spikes, to_after, saved, start, beta, threshold, firing, rule)
    to_membrane = found[1] if initial else nothing
    sums = found[2:] if parameters else (to_after.new_empty(0, 0), to_after.new_empty(0, 0))
    return found[0].to(to_spikes.dtype), to_membrane, *sums


def _saved_type(current: Tensor, compact: bool) -> torch.dtype:
    return torch.bfloat16 if compact or current.dtype != torch.float32 else torch.float32


@torch.library.register_fake("spikeport::leaky", lib=_LIBRARY)
def _(current: Tensor, membrane: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    save, compact = arguments[-2:]
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    return spikes, after, current.new_empty(current.shape if save else 0, dtype=_saved_type(current, compact))


@torch.library.register_fake("spikeport::leaky_backward", lib=_LIBRARY)
def _(to_spikes: Tensor, to_after: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    to_current = torch.empty_like(to_spikes, memory_format=torch.contiguous_format)
    initial, shape = (to_after.shape if wanted else (0, 0) for wanted in arguments[-2:])
    return to_current, to_after.new_empty(initial), to_after.new_empty(shape), to_after.new_empty(shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """Keep what the backward pass needs: u - threshold, the parameters, and the first membrane if it is asked for."""
    _, membrane, beta, threshold, *plan, _, _ = inputs
    ctx.plan, ctx.dtype, ctx.shape = plan, output[0].dtype, output[1].shape
    ctx.parameters = any(ctx.needs_input_grad[2:4])
    start = membrane if plan[5] or ctx.parameters else membrane.new_empty(0, 0)
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[2], start, beta, threshold)


def _gradient(ctx: Any, to_spikes: Tensor | None, to_after: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    saved, start, beta, threshold = ctx.saved_tensors
    if to_after is None:
        to_after = _zeros(ctx.shape, beta)
    if to_spikes is None:
        to_spikes = saved.new_zeros(saved.shape, dtype=ctx.dtype)
    initial = ctx.needs_input_grad[1]
    found = backward(to_spikes, to_after, saved, start, beta, threshold, *ctx.plan, initial, ctx.parameters)
    to_beta, to_threshold = (
        _summed(each, parameter) if needed else None
        for each, parameter, needed in zip(found[2:], (beta, threshold), ctx.needs_input_grad[2:4], strict=True)
    )
    return found[0], found[1] if initial else None, to_beta, to_threshold, *[None] * (len(ctx.plan) + 2)


def _zeros(shape: torch.Size, like: Tensor) -> Tensor:
    """Zeros, on the CPU a single one in memory."""
    return like.new_zeros(()).expand(shape) if like.device.type == "cpu" else like.new_zeros(shape)


def _summed(each: Tensor, parameter: Tensor) -> Tensor:
    return each.sum() if parameter.ndim == 0 else each.sum(0)


torch.library.register_autograd("spikeport::leaky", _gradient, setup_context=_remember, lib=_LIBRARY)


def _refuse(ctx: Any, *_: Any) -> tuple[None, ...]:
    raise UnsupportedError(
        "the gradient of the leaky kernel cannot be differentiated again; float64 input runs on the reference, "
        "which can be"
    )


torch.library.register_autograd("spikeport::leaky_backward", _refuse, lib=_LIBRARY)


def _autocast(device: str, key: str) -> Callable[..., Any]:
    """The rule under `torch.autocast`: the current takes its type, the state and the parameters stay float32."""

    def rule(_: torch.DispatchKeySet, current: Tensor, *others: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))):
            return forward(current.to(torch.get_autocast_dtype(device)), *others)

    return rule


# ``register_autocast`` would cast every tensor: a beta of 0.99 would become 0.988 in bfloat16.
for _device, _key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
    _LIBRARY.impl("leaky", _autocast(_device, _key), _key, with_keyset=True)
