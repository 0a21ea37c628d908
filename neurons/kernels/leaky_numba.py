"""Hand tensors over to the numba kernels of ``leaky_cpu``, and choose their types."""

import numpy as np
import torch
from torch import Tensor

from . import dispatch
from .formulas_cpu import Floats
from .leaky_cpu import Factors, leaky_backward, leaky_forward
from .leaky_reference import Firing
from .leaky_steps import Formula

__all__ = ["backward_numba", "forward_numba"]


def forward_numba(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, firing: Firing, saved: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spikes and new membrane; fill ``saved`` unless it is empty.  float16 is computed as float32."""
    wide = current.float() if current.dtype == torch.float16 else current
    spikes = torch.empty_like(wide, memory_format=torch.contiguous_format)
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    kept = saved if saved.ndim == current.ndim else saved.new_empty(0, *current.shape[1:])
    state = (membrane, after, beta.reshape(-1), threshold.reshape(-1))
    with dispatch.numba_threads():
        leaky_forward(_array(wide), *map(_array, state), _factors(firing), _array(spikes), _array(kept))
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
    to_current = torch.empty_like(wide, memory_format=torch.contiguous_format)
    to_membrane = torch.empty_like(to_after, memory_format=torch.contiguous_format)
    shape = to_after.shape if parameters else (0, 0)
    sums = to_after.new_empty(shape), to_after.new_empty(shape)
    given = (wide, to_after, saved, membrane, beta.reshape(-1), threshold.reshape(-1))
    formula, height, sharpness = rule
    plan = (_factors(firing), formula, np.float32(height), np.float32(sharpness))
    with dispatch.numba_threads():
        leaky_backward(*map(_array, given), *plan, *map(_array, (to_current, to_membrane, *sums)))
    return to_current.to(to_spikes.dtype), to_membrane, *sums


def _array(x: Tensor) -> Floats:
    """The tensor's memory; bfloat16 as its bits, since neither NumPy nor numba has the type."""
    x = x.detach().contiguous()
    array: Floats = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return array


def _factors(firing: Firing) -> Factors:
    late, now = firing.late, not firing.late
    flags = (
        not firing.strict,
        now and firing.reset == "subtract",
        now and firing.reset == "zero",
        late and firing.reset == "subtract",
        late and firing.reset == "zero",
        not firing.detach,
    )
    return Factors(*map(np.float32, flags))
