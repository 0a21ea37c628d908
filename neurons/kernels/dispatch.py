"""Which kernel runs: chosen by the tensor's device and type, never by a flag."""

import os
import warnings

import numba
import torch
from torch import Tensor

from . import cpu
from .reference import NeuronArrays, fire_reference

_CODES = {"binary": cpu.BINARY, "signed": cpu.SIGNED, "graded": cpu.GRADED}
_RESETS = {"subtract": cpu.SUBTRACT, "zero": cpu.ZERO, "none": cpu.NONE}
_started_in: list[int] = []  # the process in which the compiled kernel's threads were started


def _threads_survive() -> bool:
    """Threads of the compiled kernel do not survive a fork: a child would hang or die in it."""
    if not _started_in:
        _started_in.append(os.getpid())
    if _started_in[0] == os.getpid():
        return True
    warnings.warn(
        "this process was forked after a spikeport kernel ran; it uses the slower reference kernel "
        "(start processes with the 'spawn' method to keep the fast one)",
        RuntimeWarning,
        stacklevel=4,
    )
    return False


def fire(
    current: Tensor, steps: int, membrane: Tensor, count: Tensor | None, neuron: NeuronArrays
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Advance integrate-and-fire neurons by ``steps`` steps with the kernel that fits (see ``fire_reference``).

    current: (steps, batch, features), or (1, batch, features) for the same current at every step.
    The arguments are left as they are; spikes, membrane and count come back as new tensors.
    """
    if current.device.type != "cpu" or current.dtype != torch.float32 or not _threads_survive():
        return fire_reference(current.expand(steps, *current.shape[1:]), membrane, count, neuron)
    spikes = current.new_empty(steps, *current.shape[1:])
    membrane = membrane.clone(memory_format=torch.contiguous_format)
    counted = None if count is None else count.clone(memory_format=torch.contiguous_format)
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    cpu.fire_float32(
        current.contiguous().numpy(),
        steps,
        membrane.numpy(),
        (membrane if counted is None else counted).numpy(),
        neuron.threshold.numpy(),
        neuron.bias.numpy(),
        neuron.threshold.numpy().dtype.type(neuron.beta),
        _CODES[neuron.code],
        neuron.strict,
        _RESETS[neuron.reset],
        neuron.threshold.numpy().dtype.type(neuron.levels),
        spikes.numpy(),
    )
    return spikes, membrane, counted
