"""The hand-written gradient of ``leaky_reference`` in PyTorch, step by step: for devices without a kernel of their own.

It saves what the compiled kernels save, u - threshold, and is the readable form of what they do.
"""

import torch
from torch import Tensor

from ..surrogates import FORMULAS
from .leaky_reference import Firing

__all__ = ["Formula", "steps_backward", "steps_forward"]

Formula = tuple[int, float, float]  # kernel_id and coefficients of a surrogate


def steps_forward(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, firing: Firing
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the spikes, the new membrane and u - threshold at every step; no graph is recorded."""
    spikes = torch.empty_like(current, memory_format=torch.contiguous_format)
    saved = torch.empty(current.shape, dtype=membrane.dtype, device=current.device)
    late_subtract, late_zero = (firing.late and firing.reset == reset for reset in ("subtract", "zero"))
    for t, step in enumerate(current.to(membrane.dtype).unbind(0)):
        fired = _fired(membrane - threshold, firing)
        before = (1 - fired) * membrane if late_zero else membrane
        u = beta * before + step
        u = u - fired * threshold if late_subtract else u
        saved[t] = u - threshold
        fired = _fired(saved[t], firing)
        spikes[t] = fired
        membrane = u if firing.late else _reset(u, fired, threshold, firing.reset)
    return spikes, membrane, saved


def steps_backward(
    to_spikes: Tensor,
    to_after: Tensor,
    saved: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    firing: Firing,
    formula: Formula,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, membrane, beta and threshold (both shaped like the membrane), time backwards.

    With p the surrogate's derivative at d = u - threshold and r the gradient that reaches the spike through the reset:
    dL/du[t] = (what the reset leaves of dL/dv[t]) + p * (dL/ds[t] + r).
    """
    to_current = torch.empty_like(to_spikes, dtype=membrane.dtype, memory_format=torch.contiguous_format)
    to_v, to_next = to_after, torch.zeros_like(to_after)  # gradients of v[t], and of u[t + 1]
    to_beta, to_threshold = torch.zeros_like(to_after), torch.zeros_like(to_after)
    for t in range(len(saved) - 1, -1, -1):
        d = saved[t].to(membrane.dtype)
        v = _reset(d + threshold, _fired(d, firing), threshold, "none" if _late_subtract(firing) else firing.reset)
        to_beta += to_next * v
        pending = firing.late and t == len(saved) - 1  # the last spike has not reset the membrane yet
        to_u, through, to_reset = _through_reset(
            d, to_v, to_next, threshold, firing._replace(reset="none") if pending else firing
        )
        through = FORMULAS[formula[0]](d, *formula[1:]) * (to_spikes[t] + through)
        to_next = to_current[t] = to_u + through
        to_threshold -= through + to_reset
        to_v = beta * to_next
    if firing.late:
        d = membrane - threshold
        v = _reset(membrane, _fired(d, firing), threshold, "none" if _late_subtract(firing) else firing.reset)
        to_v, through, to_reset = _through_reset(d, to_v, to_next, threshold, firing)
        through = FORMULAS[formula[0]](d, *formula[1:]) * through
        to_v = to_v + through
        to_threshold -= through + to_reset
        return to_current, to_v, to_beta + to_next * v, to_threshold
    return to_current, to_v, to_beta + to_next * membrane, to_threshold


def _fired(d: Tensor, firing: Firing) -> Tensor:
    return (d > 0 if firing.strict else d >= 0).to(d.dtype)


def _reset(u: Tensor, fired: Tensor, threshold: Tensor, reset: str) -> Tensor:
    if reset == "subtract":
        return u - fired * threshold
    return (1 - fired) * u if reset == "zero" else u


def _late_subtract(firing: Firing) -> bool:
    return firing.late and firing.reset == "subtract"


def _through_reset(
    d: Tensor, to_v: Tensor, to_next: Tensor, threshold: Tensor, firing: Firing
) -> tuple[Tensor, Tensor | float, Tensor | float]:
    """Return what the reset hands back to u, to the spike and (with the sign turned) to the threshold."""
    fired = _fired(d, firing)
    if firing.reset == "none":
        return to_v, 0.0, 0.0
    if firing.reset == "zero":
        return (1 - fired) * to_v, 0.0 if firing.detach else -(d + threshold) * to_v, 0.0
    seen = to_next if firing.late else to_v  # a late subtraction comes after the leak
    return to_v, 0.0 if firing.detach else -threshold * seen, fired * seen
