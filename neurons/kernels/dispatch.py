"""Which kernel runs: chosen by the tensor's device and type, never by a flag."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from .reference import NeuronArrays, fire_reference

_started_in: list[int] = []  # the process in which the compiled kernel's threads were started
_one_at_a_time = Lock()  # one of numba's thread pools dies when two threads enter it


def threads_survive() -> bool:
    """Threads of the compiled kernel do not survive a fork: a child would hang or die in it.

    torch shares them (one OpenMP library), so the child gives torch a single thread too.
    """
    if not _started_in:
        _started_in.append(os.getpid())
    if _started_in[0] == os.getpid():
        return True
    torch.set_num_threads(1)
    warnings.warn(
        "this process was forked after a spikeport kernel ran; it uses the slower reference kernel on one thread "
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
    if current.device.type != "cpu" or current.dtype != torch.float32 or not threads_survive():
        return fire_reference(current.expand(steps, *current.shape[1:]), membrane, count, neuron)
    spikes = current.new_empty(steps, *current.shape[1:])
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    counted = None if count is None else count.clone(memory_format=torch.contiguous_format)
    state = (membrane.contiguous(), after, after if counted is None else counted)
    _fire_compiled(current.contiguous(), state, neuron, spikes)
    return spikes, after, counted


def _fire_compiled(current: Tensor, state: tuple[Tensor, Tensor, Tensor], neuron: NeuronArrays, spikes: Tensor) -> None:
    """Run the numba kernel on (membrane, new membrane, count); numba is imported here, nothing else waits for it."""
    from . import cpu

    with numba_threads():
        cpu.fire_float32(
            current.numpy(),
            len(spikes),
            *(part.numpy() for part in state),
            neuron.threshold.numpy(),
            neuron.bias.numpy(),
            neuron.beta.numpy(),
            cpu.LATE
            if neuron.late
            else {"binary": cpu.BINARY, "signed": cpu.SIGNED, "graded": cpu.GRADED}[neuron.code],
            neuron.strict,
            {"subtract": cpu.SUBTRACT, "zero": cpu.ZERO, "none": cpu.NONE}[neuron.reset],
            np.float32(neuron.levels),
            spikes.numpy(),
        )


@contextmanager
def numba_threads() -> Iterator[None]:
    """Wait for a turn and let numba use as many threads as torch."""
    import numba

    threads = torch.get_num_threads()
    with _one_at_a_time:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        yield
    if torch.get_num_threads() != threads:  # numba sets the number of the OpenMP library that torch shares
        torch.set_num_threads(threads)
