"""Multi-level graded spikes with differential coding: a neuron that sends how its decoded value changes."""

from typing import NamedTuple

import torch
from torch import Tensor

from .dispatch import _compiled_fits, numba_threads

__all__ = ["DifferentialArrays", "follow", "follow_reference"]

NEAREST = 0.75  # the middle between a level and the next one, half as large


class DifferentialArrays(NamedTuple):
    """What a population does in time.

    threshold, bias, initial: (features,), theta, what is added to the value, and the membrane before the first step.
    levels: how many sizes a spike can have: theta, theta / 2, ..., theta / 2^(levels - 1).  line: any sign passes;
    else the decoded value never falls below 0.  maximum: the value is cut there.
    """

    threshold: Tensor
    bias: Tensor
    initial: Tensor
    levels: int
    line: bool
    maximum: float


def follow_reference(value: Tensor, age: Tensor, decoded: Tensor, neuron: DifferentialArrays) -> Tensor:
    """The decoded values R[t] over the steps of ``value``, for samples that have done ``age`` steps.

    v <- v + t (z[t] - z[t-1]) + z[t-1] - R[t-1];  s = level(v);  v <- v - s;  R[t] = R[t-1] + s / t
    As v = initial + t (z[t] - R[t]) after every step, R and t are all that has to be remembered.
    level(v) = sign(v) theta 2^-k with the largest 2^-k such that |v| >= 3/4 theta 2^-k, or 0 where there is none;
    unless ``line``, a negative one is at most t R[t-1], so that no more is taken back than was given.

    value: (time, batch, features), z; age: (batch,); decoded: (batch, features), R.  A silent step keeps R.
    Source: differential coding with graded units, Huang et al. 2025 (ICML; DCGS); the closed form of v is ours.
    """
    theta, steps = neuron.threshold, torch.empty_like(value)
    for index, z in enumerate(value):
        t = (age + index + 1).to(z.dtype).unsqueeze(1)
        v = neuron.initial + t * ((z + neuron.bias).clamp(max=neuron.maximum) - decoded)
        size = v.abs() / (theta * NEAREST)
        if not neuron.line:
            size = torch.where(v < 0, torch.minimum(size, t * decoded / theta), size)
        share = torch.zeros_like(v)
        for k in reversed(range(neuron.levels)):
            share = torch.where(size >= 2.0**-k, 2.0**-k, share)
        size = theta * share
        decoded = decoded + torch.where(v < 0, -size, size) / t  # no copysign: ONNX has none
        decoded = decoded if neuron.line else decoded.clamp(min=0)
        steps[index] = decoded
    return steps


def follow(value: Tensor, steps: int, age: Tensor, decoded: Tensor, neuron: DifferentialArrays) -> Tensor:
    """``follow_reference`` by the kernel that fits.

    value: (steps, batch, features), or (1, batch, features) for the same value at every step.  The last of the decoded
    values (steps, batch, features) that come back is the state after them; the arguments are left as they are.
    """
    if not _compiled_fits(value):
        return follow_reference(value.expand(steps, *value.shape[1:]), age, decoded, neuron)
    from .differential_cpu import follow_float32

    found = value.new_empty(steps, *value.shape[1:])
    with numba_threads():
        follow_float32(
            value.contiguous().numpy(),
            age.numpy(),
            decoded.contiguous().numpy(),
            tuple(part.numpy() for part in (neuron.threshold, neuron.bias, neuron.initial)),
            2.0 ** (1 - neuron.levels),
            neuron.line,
            neuron.maximum,
            found.numpy(),
        )
    return found
