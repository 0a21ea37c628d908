"""Integrate-and-fire over a chunk of time, written to be read: the oracle of every other kernel."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class NeuronArrays(NamedTuple):
    """What a neuron population does in time.

    threshold, bias: (features,) flattened, in the units of the membrane; beta: (features,), decay a step, 1 = no leak.
    code: "binary" (0, 1), "signed" (-1, 0, 1), "graded" (0, 1, ..., levels).
    strict: fire at v > threshold instead of v >= threshold.  reset: "subtract", "zero" or "none".  late: what a
    binary spike subtracts leaves in the next step, after the decay; the membrane is then the one before its reset.
    """

    threshold: Tensor
    bias: Tensor
    beta: Tensor
    code: str
    strict: bool
    reset: str
    levels: int
    late: bool = False


Spike = Callable[[Tensor, Tensor | None, NeuronArrays], Tensor]


def spike_of(membrane: Tensor, count: Tensor | None, neuron: NeuronArrays) -> Tensor:
    """The spikes of membranes, by the rule of the neuron's code; it has no gradient."""
    if neuron.code == "graded":
        level = membrane / neuron.threshold
        level = torch.ceil(level) - 1 if neuron.strict else torch.floor(level)
        return level.clamp(0, neuron.levels)
    fired = membrane > neuron.threshold if neuron.strict else membrane >= neuron.threshold
    if count is None:
        return fired.to(membrane.dtype)
    taken_back = ~fired & (membrane < 0) & (count > 0)
    return fired.to(membrane.dtype) - taken_back.to(membrane.dtype)


def fire_reference(
    current: Tensor, membrane: Tensor, count: Tensor | None, neuron: NeuronArrays, *, spike: Spike = spike_of
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Advance integrate-and-fire neurons by ``current.shape[0]`` steps.

    v <- beta * v + current[t] + bias; s = spike(v); v <- v - threshold * s (or 0 where s, or v)
    late: v <- beta * v + current[t] + bias - threshold * s; s <- spike(v)
    binary: s = [v >= threshold].  graded: s = the largest k <= levels with v >= k * threshold.
    signed: s = 1 if v >= threshold; else -1 if v < 0 and n > 0 (a spike given too early is taken back); n <- n + s.

    current: (time, batch, features); membrane, count: (batch, features); count is the net
    number of spikes so far, for signed neurons only (None for the others).  spike: how a membrane becomes spikes; one
    with a surrogate gradient lets gradients through.
    Returns spikes like ``current``, the new membrane and the new count.
    Source: subtractive reset: Rueckauer et al. 2017 (doi 10.3389/fnins.2017.00682); signed spikes with the
    guard n > 0: Hu et al. 2023 (doi 10.1109/TPAMI.2023.3275769).
    """
    threshold, spikes = neuron.threshold, []
    for step in current.unbind(0):
        before = spike(membrane, count, neuron) if neuron.late else None
        membrane = membrane * neuron.beta + step + neuron.bias
        if before is not None:
            membrane = membrane - threshold * before
        fired = spike(membrane, count, neuron)
        if neuron.late:
            pass
        elif neuron.reset == "subtract":
            membrane = membrane - threshold * fired
        elif neuron.reset == "zero":
            membrane = torch.where(fired != 0, torch.zeros_like(membrane), membrane)
        count = None if count is None else count + fired
        spikes.append(fired)
    return torch.stack(spikes), membrane, count
