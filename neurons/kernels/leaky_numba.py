"""Hand tensors over to the numba kernels of ``leaky_cpu``, and choose their types."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import dispatch
from .formulas_cpu import Floats
from .leaky_backward_cpu import leaky_backward, leaky_backward_threads
from .leaky_cpu import leaky_forward, leaky_forward_threads
from .leaky_plain_cpu import (
    LONG_BLOCK,
    plain_backward,
    plain_backward_threads,
    plain_forward,
    plain_forward_threads,
)
from .leaky_plan_cpu import RATIONAL, leaky_tasks
from .leaky_reference import Firing
from .leaky_steps import Formula
from .memory import in_large_pages, keep_freed_memory

__all__ = ["backward_numba", "factors", "flat_array", "forward_numba", "run_backward", "run_forward"]

Kernel = tuple[Callable[..., None], Callable[..., None]]
FORWARD: Kernel = leaky_forward, leaky_forward_threads
BACKWARD: Kernel = leaky_backward, leaky_backward_threads
FORWARD_PLAIN: Kernel = plain_forward, plain_forward_threads
BACKWARD_PLAIN: Kernel = plain_backward, plain_backward_threads

keep_freed_memory()


def forward_numba(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, firing: Firing, saved: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spikes and new membrane; fill ``saved`` unless it is empty.  float16 is computed as float32."""
    wide = current.float() if current.dtype == torch.float16 else current
    spikes = in_large_pages(torch.empty_like(wide, memory_format=torch.contiguous_format))
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    state, found = (flat_array(wide), _row(membrane), flat_array(after)), (flat_array(spikes), flat_array(saved))
    if _one_value(beta, threshold) and not firing.late:
        numbers = np.float32(beta), np.float32(threshold)
        run_forward(len(current), *state, *numbers, factors(firing), *found)
    else:
        arrays = map(flat_array, _each(beta, threshold, current.shape[2]))
        tasks = leaky_tasks(*current.shape[1:])
        _run(FORWARD, tasks, *current.shape[:2], *state, *arrays, factors(firing), *found)
    return spikes.to(current.dtype), after


def backward_numba(  # noqa: PLR0913 - what the forward pass had, and the two gradients
    to_spikes: Tensor,
    to_after: Tensor,
    saved: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    firing: Firing,
    rule: Formula,
    initial: bool,
    parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, membrane, beta and threshold; the last three (batch, features), or (0, 0)."""
    wide = to_spikes.float() if to_spikes.dtype == torch.float16 else to_spikes
    to_current = in_large_pages(torch.empty_like(wide, memory_format=torch.contiguous_format))
    shape = to_after.shape if parameters else (0, 0)
    sums = to_after.new_empty(shape), to_after.new_empty(shape)
    formula, *coefficients = rule
    plan = factors(firing, *coefficients), formula
    plain = not parameters and not firing.late and firing.reset != "zero" and formula in RATIONAL
    to_membrane = to_after.new_empty(to_after.shape)
    arriving, found = (
        (flat_array(wide), _row(to_after), flat_array(saved)),
        (flat_array(to_current), flat_array(to_membrane)),
    )
    if plain and _one_value(beta, threshold):
        numbers = np.float32(beta), np.float32(threshold)
        run_backward(len(saved), *arriving, *numbers, *plan, *found)
    else:
        given = map(flat_array, (to_after, saved, membrane, *_each(beta, threshold, to_after.shape[1])))
        tasks = leaky_tasks(*saved.shape[1:])
        _run(BACKWARD, tasks, *saved.shape[:2], arriving[0], *given, *plan, *found, *map(flat_array, sums))
    return to_current.to(to_spikes.dtype), to_membrane if initial else to_after.new_empty(0, 0), *sums


def run_forward(steps: int, current: Floats, membrane: Floats, after: Floats, *others: Any) -> None:
    """``plain_forward`` in as many threads as torch has; arrays are flat."""
    _run(FORWARD_PLAIN, *_long_tasks(len(after)), steps, current, membrane, after, *others)


def run_backward(steps: int, *arguments: Any) -> None:
    """``plain_backward`` in as many threads as torch has; its last array has a value a unit."""
    _run(BACKWARD_PLAIN, *_long_tasks(len(arguments[-1])), steps, *arguments)


def _run(kernel: Kernel, tasks: int, *arguments: Any) -> None:
    """Do all tasks of a kernel, which is (for one thread, for several), in as many threads as torch has."""
    threads = torch.get_num_threads()
    if threads == 1 or tasks == 1:
        kernel[0](0, tasks, *arguments)
        return
    with dispatch.numba_threads():
        kernel[1](threads, tasks, *arguments)


def _one_value(*parameters: Tensor) -> bool:
    return all(parameter.ndim == 0 for parameter in parameters)


def _long_tasks(units: int) -> tuple[int, int]:
    """How many tasks the plain kernels have for so many units, and the units of each: one a thread at least."""
    units = max(units, 1)
    block = min(LONG_BLOCK, -(-units // (16 * torch.get_num_threads())) * 16)
    return -(-units // block), block


def flat_array(x: Tensor) -> Floats:
    """The tensor's memory, flat; bfloat16 as its bits, since neither NumPy nor numba has the type."""
    x = x.detach().contiguous().reshape(-1)
    array: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return array


def _row(x: Tensor) -> Floats:
    """``flat_array``, or one value where x is the same everywhere and lies in memory once."""
    return flat_array(x[:1, :1]) if not any(x.stride()) and x.numel() else flat_array(x)


def _each(beta: Tensor, threshold: Tensor, features: int) -> tuple[Tensor, Tensor]:
    return beta.expand(features), threshold.expand(features)


@cache
def factors(firing: Firing, height: float = 0.0, sharpness: float = 0.0) -> Floats:
    """As ``leaky_plan_cpu`` numbers them."""
    now, late, subtract, zero = not firing.late, firing.late, firing.reset == "subtract", firing.reset == "zero"
    resets = (now and subtract, now and zero, late and subtract, late and zero)
    return np.array([not firing.strict, *resets, not firing.detach, height, sharpness], np.float32)
