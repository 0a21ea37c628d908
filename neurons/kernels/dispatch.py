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

_RESETS = {"subtract": 0, "zero": 1, "none": 2}  # as cpu numbers them
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
    if not _compiled_fits(current):
        return fire_reference(current.expand(steps, *current.shape[1:]), membrane, count, neuron)
    spikes = current.new_empty(steps, *current.shape[1:])
    after = torch.empty_like(membrane, memory_format=torch.contiguous_format)
    counted = None if count is None else count.clone(memory_format=torch.contiguous_format)
    state = (membrane.contiguous(), after, after if counted is None else counted)
    _fire_compiled(current.contiguous(), state, neuron, spikes)
    return spikes, after, counted


def replay(current: Tensor, steps: int, age: Tensor, initial: Tensor, neuron: NeuronArrays) -> Tensor:
    """Spikes (steps, batch, features) of binary neurons with a constant current, after ``age`` (batch,) steps of it.

    What ``fire`` gives that has gone ``age`` steps from the membrane ``initial`` (features,): with a constant current
    a sample's age is all that such a neuron has to remember.  current: (batch, features).
    """
    if not _compiled_fits(current):
        longest = int(age.max()) + steps
        spikes, *_ = fire_reference(current.expand(longest, *current.shape), initial.expand_as(current), None, neuron)
        when = age + torch.arange(steps, device=age.device)[:, None]
        return spikes.gather(0, when.unsqueeze(2).expand(-1, -1, current.shape[1]))
    from . import cpu

    spikes = current.new_empty(steps, *current.shape)
    arrays = (neuron.threshold.numpy(), neuron.bias.numpy(), neuron.beta.numpy())
    with numba_threads():
        cpu.replay_float32(
            current.contiguous().numpy(), age.numpy(), initial.numpy(), arrays, neuron.strict, _RESETS[neuron.reset],
            spikes.numpy(),
        )  # fmt: skip
    return spikes


def _compiled_fits(current: Tensor) -> bool:
    return current.device.type == "cpu" and current.dtype == torch.float32 and threads_survive()


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
            _RESETS[neuron.reset],
            np.float32(neuron.levels),
            spikes.numpy(),
        )


@contextmanager
def numba_threads() -> Iterator[None]:
    """Wait for a turn and let numba use as many threads as torch."""
    import numba

    threads = torch.get_num_threads()
    with _one_at_a_time:
        wanted = min(threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        if numba.get_num_threads() != wanted:
            numba.set_num_threads(wanted)
        yield
    if torch.get_num_threads() != threads:  # numba sets the number of the OpenMP library that torch shares
        torch.set_num_threads(threads)
