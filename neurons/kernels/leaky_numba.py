"""Hand tensors over to the numba kernels of ``leaky_cpu``, and choose their types."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import dispatch, leaky_cpu
from .formulas_cpu import RATIONAL, Floats
from .leaky_cpu import leaky_tasks
from .leaky_reference import Firing
from .leaky_steps import Formula
from .memory import in_large_pages

__all__ = ["backward_numba", "forward_numba"]

# glibc gives large blocks back to the system when they are freed, and touching the fresh pages of the next ones takes
# longer than a kernel does.  Once a block of just under 32 MiB was freed, it keeps up to 64 MiB (M_MMAP_THRESHOLD in
# mallopt(3)).  The block is not touched, so it costs nothing; other systems do not care.
torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


def forward_numba(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, firing: Firing, saved: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spikes and new membrane; fill ``saved`` unless it is empty.  float16 is computed as float32."""
    wide = current.float() if current.dtype == torch.float16 else current
    spikes = in_large_pages(torch.empty_like(wide, memory_format=torch.contiguous_format))
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    state = map(_array, (membrane, after, *_each(beta, threshold, current.shape[2])))
    arguments = (*current.shape[:2], _array(wide), *state, _factors(firing), _array(spikes), _array(saved))
    _run("leaky_forward", leaky_tasks(*current.shape[1:]), *arguments)
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
    parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, membrane, beta and threshold; the last two (batch, features), or (0, 0)."""
    wide = to_spikes.float() if to_spikes.dtype == torch.float16 else to_spikes
    to_current = in_large_pages(torch.empty_like(wide, memory_format=torch.contiguous_format))
    to_membrane = torch.empty_like(to_after, memory_format=torch.contiguous_format)
    shape = to_after.shape if parameters else (0, 0)
    sums = to_after.new_empty(shape), to_after.new_empty(shape)
    (formula, *coefficients), each = rule, _each(beta, threshold, to_after.shape[1])
    plain = not parameters and not firing.late and firing.reset != "zero" and formula in RATIONAL
    given = (wide, to_after, saved, *(each if plain else (membrane, *each)))
    found = (to_current, to_membrane, *(() if plain else sums))
    plan = (_factors(firing, *coefficients), formula)
    arguments = (*saved.shape[:2], *map(_array, given), *plan, *map(_array, found))
    _run("leaky_backward_plain" if plain else "leaky_backward", leaky_tasks(*saved.shape[1:]), *arguments)
    return to_current.to(to_spikes.dtype), to_membrane, *sums


def _run(kernel: str, tasks: int, *arguments: Any) -> None:
    """Do all tasks of a kernel in as many threads as torch has."""
    if torch.get_num_threads() == 1 or tasks == 1:
        getattr(leaky_cpu, kernel)(0, tasks, *arguments)
        return
    from . import leaky_cpu_threads

    with dispatch.numba_threads():
        getattr(leaky_cpu_threads, f"{kernel}_threads")(torch.get_num_threads(), tasks, *arguments)


def _array(x: Tensor) -> Floats:
    """The tensor's memory, flat; bfloat16 as its bits, since neither NumPy nor numba has the type."""
    x = x.detach().reshape(-1)
    array: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return array


def _each(beta: Tensor, threshold: Tensor, features: int) -> tuple[Tensor, Tensor]:
    return beta.expand(features), threshold.expand(features)


def _factors(firing: Firing, height: float = 0.0, sharpness: float = 0.0) -> Floats:
    """As ``leaky_cpu`` numbers them."""
    now, late, subtract, zero = not firing.late, firing.late, firing.reset == "subtract", firing.reset == "zero"
    resets = (now and subtract, now and zero, late and subtract, late and zero)
    return np.array([not firing.strict, *resets, not firing.detach, height, sharpness], np.float32)
