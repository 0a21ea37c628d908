"""What each operator computes, in plain PyTorch.

Functions without memory map ``(batch, *features)`` tensors; scans map a sequence ``(time, batch, *features)`` and a
state (a tuple of tensors, batch first) to a sequence and the new state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..neurons.kernels import DifferentialArrays, NeuronArrays, fire, follow, replay
from .quantised import quantised

Attributes = Mapping[str, Any]
Tensors = Mapping[str, Tensor]
State = tuple[Tensor, ...]


def channelwise(array: Tensor, like: Tensor) -> Tensor:
    """View a (), (channels,) or whole-shape array so that it broadcasts against (batch, channels, *spatial)."""
    if array.ndim == 0 or array.ndim == like.ndim - 1:
        return array
    return array.reshape(-1, *([1] * (like.ndim - 2)))


def linear(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """y = x W^T + b."""
    return functional.linear(inputs[0], tensors["weight"], tensors.get("bias"))


def convolution(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Cross-correlation, as PyTorch's conv1d and conv2d."""
    function = functional.conv1d if len(attributes["stride"]) == 1 else functional.conv2d
    return function(
        inputs[0],
        tensors["weight"],
        tensors.get("bias"),
        attributes["stride"],
        attributes["padding"],
        attributes["dilation"],
        attributes["groups"],
    )


def sum_pool(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The sum over each window."""
    return _average(attributes, inputs[0], include_pad=True, divisor=1)


def average_pool(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The mean over each window; padded places count when ``count_include_pad`` is 1."""
    return _average(attributes, inputs[0], include_pad=bool(attributes["count_include_pad"]), divisor=None)


def _average(attributes: Attributes, x: Tensor, *, include_pad: bool, divisor: int | None) -> Tensor:
    flat = len(attributes["kernel"]) == 1  # PyTorch's avg_pool1d takes no divisor
    y = functional.avg_pool2d(
        x.unsqueeze(-2) if flat else x,
        (1, *attributes["kernel"])[-2:],
        (1, *attributes["stride"])[-2:],
        (0, *attributes["padding"])[-2:],
        bool(attributes["ceil_mode"]),
        include_pad,
        divisor,
    )
    return y.squeeze(-2) if flat else y


def max_pool(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The maximum over each window; padded places never win."""
    function = functional.max_pool1d if len(attributes["kernel"]) == 1 else functional.max_pool2d
    kernel, stride, padding = attributes["kernel"], attributes["stride"], attributes["padding"]
    return function(inputs[0], kernel, stride, padding, ceil_mode=bool(attributes["ceil_mode"]))


def global_pool(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Mean, sum or maximum of each channel."""
    x = inputs[0].flatten(2)
    if attributes["function"] == "max":
        return x.amax(2)
    return x.mean(2) if attributes["function"] == "mean" else x.sum(2)


def flatten(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Row-major, whatever the memory layout."""
    return inputs[0].reshape(inputs[0].shape[0], -1)


def reshape(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Row-major."""
    return inputs[0].reshape(inputs[0].shape[0], *attributes["shape"])


def transpose(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Feature axes in a new order."""
    return inputs[0].permute(0, *(axis + 1 for axis in attributes["permutation"]))


def pad(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Grow each axis by a constant."""
    pairs = list(zip(attributes["before"], attributes["after"], strict=True))
    widths = [width for pair in reversed(pairs) for width in pair]
    return functional.pad(inputs[0], widths, value=attributes["value"])


def add(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The sum of all inputs, in their order."""
    total = inputs[0]
    for other in inputs[1:]:
        total = total + other
    return total


def multiply(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The elementwise product of two inputs."""
    return inputs[0] * inputs[1]


def concat(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Inputs joined along a feature axis."""
    return torch.cat(list(inputs), attributes["axis"] + 1)


def scale(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """y = factor * x + shift."""
    y = inputs[0] * channelwise(tensors["factor"], inputs[0])
    return y + channelwise(tensors["shift"], inputs[0]) if "shift" in tensors else y


def batch_norm(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """y = weight * (x - mean) / sqrt(variance + epsilon) + bias, with the trained statistics."""
    mean, variance, weight, bias = (tensors[name] for name in ("mean", "variance", "weight", "bias"))
    return functional.batch_norm(inputs[0], mean, variance, weight, bias, False, 0.0, attributes["epsilon"])


def activation(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """relu: max(0, x), cut at ``maximum`` where one is given, or in ``levels`` up to a ceiling (see ``quantised``).

    identity: x, where a value of any sign shall be sent as spikes.  With a ``bound``: 0 where |x| exceeds it or is NaN.
    """
    if "bound" in tensors:
        plain = {key: array for key, array in tensors.items() if key != "bound"}
        inside = inputs[0].abs() <= channelwise(tensors["bound"], inputs[0])  # NaN is nowhere inside
        return torch.where(inside, activation(attributes, plain, inputs), torch.zeros_like(inputs[0]))
    if attributes["function"] == "identity":
        return inputs[0]
    if attributes["levels"] is not None:
        return quantised(inputs[0], channelwise(tensors["ceiling"], inputs[0]), attributes["levels"])
    return inputs[0].clamp(min=0.0, max=attributes["maximum"])


def filter_scan(attributes: Attributes, tensors: Tensors, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Synaptic current of an exponential synapse: i[t] = alpha * i[t-1] + x[t]."""
    (current,), alpha = state, channelwise(tensors["alpha"], x[0])
    steps = []
    for step in x:
        current = current * alpha + step
        steps.append(current)
    return torch.stack(steps), (current,)


def delay_scan(attributes: Attributes, tensors: Tensors, x: Tensor, state: State) -> tuple[Tensor, State]:
    """y[t] = x[t - steps], and 0 before that.  The state (batch, steps, *features) holds what is still to come."""
    joined = torch.cat([state[0].transpose(0, 1), x])
    return joined[: x.shape[0]], (joined[x.shape[0] :].transpose(0, 1),)


def step_bias_scan(attributes: Attributes, tensors: Tensors, x: Tensor, state: State) -> tuple[Tensor, State]:
    """y[t] = x[t] + values[t], and x[t] alone after the last of the ``values`` (steps, channels).

    The state (batch,) counts the steps that each sample has done.  What is lost once, while layers fill, is no matter
    of late steps; what every step lacks belongs into the bias of the neuron.
    Source: Wu et al. 2024 (arXiv 2403.18388), biases by time step.
    """
    (age,), values = state, tensors["values"]
    rows = torch.cat([values, values.new_zeros(1, values.shape[1])])
    bias = rows[(age + torch.arange(len(x), device=age.device)[:, None]).clamp(max=len(values)).long()]
    return x + bias.reshape(*bias.shape, *([1] * (x.ndim - 3))), (age + len(x),)


def output_scan(attributes: Attributes, tensors: Tensors, x: Tensor, state: State) -> tuple[Tensor, State]:
    """The readout, added up over the steps: y[t] = t * sum_k k^r x[k] / sum_k k^r with the ramp r, k = 1 ... t.

    r = 0 is the plain sum.  A ramp lets what comes late count more: early on, deep layers have not filled yet.
    Where what comes is ``decoded`` values and not what spikes add at each step, y[t] = t * x[t].
    The state is the weighted sum and the steps that each sample has done.
    """
    ramp = attributes["ramp"]
    total, age = state
    if attributes["decoded"]:
        times = age + torch.arange(1, len(x) + 1, dtype=x.dtype).unsqueeze(1)
        return x * times.reshape(*times.shape, *([1] * (total.ndim - 1))), (total, times[-1])
    sums = []
    for step in x:  # one addition a step, in order: a chunked sum would round otherwise
        age = age + 1
        spread = age.reshape(-1, *([1] * (total.ndim - 1)))
        total = total + (step * spread**ramp if ramp else step)
        sums.append(total * (spread / _power_sum(spread, ramp)) if ramp else total)
    return torch.stack(sums), (total, age)


def _power_sum(t: Tensor, ramp: int) -> Tensor:
    """1^r + 2^r + ... + t^r (Faulhaber), for r of 1 to 3."""
    if ramp == 1:
        return t * (t + 1) / 2
    return t * (t + 1) * (2 * t + 1) / 6 if ramp == 2 else (t * (t + 1) / 2) ** 2


def neuron_arrays(attributes: Attributes, tensors: Tensors, shape: Sequence[int]) -> NeuronArrays | DifferentialArrays:
    """Threshold and bias spread over the flattened units, in the memory order of ``physical``."""

    def spread(array: Tensor) -> Tensor:
        return physical(channelwise(array, torch.empty(1, *shape, device="meta")).expand(1, *shape))[0].contiguous()

    threshold, bias, beta = spread(tensors["threshold"]), spread(tensors["bias"]), tensors.get("beta")
    if attributes["code"] == "differential":
        maximum = math.inf if attributes["maximum"] is None else attributes["maximum"]
        initial = spread(tensors["initial"])
        return DifferentialArrays(threshold, bias, initial, attributes["levels"], bool(attributes["line"]), maximum)
    return NeuronArrays(
        threshold,
        bias,
        torch.ones_like(threshold) if beta is None else spread(beta),
        attributes["code"],
        attributes["test"] == ">",
        attributes["reset"],
        attributes["levels"],
        bool(attributes["late"]),
    )


def physical(x: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (batch, units) with channels last, as convolutions leave them in memory."""
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).reshape(x.shape[0], -1)


def logical(flat: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of ``physical``, without a copy."""
    if len(shape) != 3:
        return flat.reshape(flat.shape[0], *shape)
    channels, height, width = shape
    return flat.reshape(flat.shape[0], height, width, channels).permute(0, 3, 1, 2)


def neuron_scan(neuron: NeuronArrays | DifferentialArrays, x: Tensor, steps: int, state: State) -> tuple[Tensor, State]:
    """Neurons over ``steps`` steps of x (steps or 1, batch, *features): ``fire_reference`` or ``follow_reference``."""
    rows, batch, *shape = x.shape
    current = physical(x.flatten(0, 1)).reshape(rows, batch, -1)
    if isinstance(neuron, DifferentialArrays):
        decoded = follow(current, steps, state[1], state[0], neuron)
        values = logical(decoded.flatten(0, 1), shape).view(steps, batch, *shape)
        return values, (decoded[-1].clone(), state[1] + steps)
    spikes, membrane, count = fire(current, steps, state[0], state[1] if len(state) > 1 else None, neuron)
    sequence = logical(spikes.flatten(0, 1), shape).view(steps, batch, *shape)
    return sequence, (membrane,) if count is None else (membrane, count)


def limited(tensors: Tensors, scan: Callable[[State], tuple[Tensor, State]], state: State) -> tuple[Tensor, State]:
    """The spikes of ``scan``, and none of a unit once they would be more than its ``limit`` in the window.

    The state's last part counts what was fired, sent or not: (batch, *features).
    """
    if "limit" not in tensors:
        return scan(state)
    *own, fired = state
    spikes, after = scan(tuple(own))
    total = fired + spikes.abs().cumsum(0)
    return spikes * (total <= channelwise(tensors["limit"], fired)), (*after, total[-1])


def replay_scan(neuron: NeuronArrays, x: Tensor, steps: int, state: State, initial: Tensor) -> tuple[Tensor, State]:
    """``neuron_scan`` of binary neurons with a constant current x (1, batch, *features); the state is the age."""
    _, batch, *shape = x.shape
    spikes = replay(physical(x[0]), steps, state[0], initial, neuron)
    return logical(spikes.flatten(0, 1), shape).view(steps, batch, *shape), (state[0] + steps,)
