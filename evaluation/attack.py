"""Inputs made to cost time, or to fool a network only where it stops early: gradients through the spikes.

The forward pass is the network's own, spike for spike; backwards a spike has a surrogate's derivative.  Perturbations
are bounded in every value (L-infinity) and found by projected gradient descent; of all iterates each sample keeps the
one that serves the attack best under the rule that is deployed.
Source: projected gradients: Madry et al. 2018, arXiv 1706.06083; delaying exits: Haque et al. 2020 (ILFO), Hong et al.
2021 (DeepSloth), arXiv 2010.02432; fooling early exits alone: 2308.08709; the surrogate: Fang et al. 2021 (atan).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .._check import RangeError, ShapeError
from ..inference import AnyRule, Decisions, decide
from ..networks.graph import Graph
from ..networks.programs import StartProgram, StepsProgram
from ..neurons.kernels import DifferentialArrays, NeuronArrays, follow_reference
from ..neurons.kernels.reference import spike_of

__all__ = ["ATTACKS", "Attack", "Bounds", "attacked", "bounds_of", "noisy", "outputs_with_gradient"]

SHARPNESS = 2.0  # of the surrogate: atan's derivative is SHARPNESS / 2 at the threshold
KEEP = 1.0  # weight of the answer that shall stay
BATCH = 50

Loss = Callable[[Tensor, Tensor, "Attack"], Tensor]


class Bounds(NamedTuple):
    """Where perturbed samples may lie, shaped to broadcast against (N, *features); ``radius`` around each value."""

    low: Tensor
    high: Tensor
    radius: Tensor

    def around(self, x: Tensor, changed: Tensor) -> Tensor:
        """``changed``, moved to the nearest point that is allowed around x."""
        near = torch.minimum(torch.maximum(changed, x - self.radius), x + self.radius)
        return torch.minimum(torch.maximum(near, self.low), self.high)


@dataclass(frozen=True)
class Attack:
    """kind: "delay" (exit late, answer the same) or "early" (be wrong early and right at the end).

    epsilon: largest change of a value, as a share of its channel's range.  divisor: of the softmax that is attacked.
    Raises RangeError for values out of range.
    """

    kind: str
    epsilon: float
    divisor: float
    iterations: int = 20

    def __post_init__(self) -> None:
        if self.kind not in ATTACKS:
            raise RangeError(f"there is no attack {self.kind!r}; choose one of {', '.join(ATTACKS)}.")
        if not 0 < self.epsilon <= 1:
            raise RangeError(f"epsilon is {self.epsilon}, but it is a share of the range: above 0, at most 1.")
        if not (self.divisor > 0 and math.isfinite(self.divisor)) or self.iterations < 1:
            raise RangeError("the divisor is finite and above 0, and an attack has at least 1 iteration.")


def bounds_of(x: Tensor, epsilon: float) -> Bounds:
    """The range of each channel (axis 1 of images) or of all values, and epsilon of it.  Raises ShapeError if empty."""
    if x.ndim < 2 or len(x) == 0:
        raise ShapeError(f"the samples have the shape {tuple(x.shape)}, but (samples, *features) was wanted.")
    axes = (0, 2, 3) if x.ndim == 4 else tuple(range(x.ndim))
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    return Bounds(low, high, epsilon * (high - low))


def outputs_with_gradient(graph: Graph, steps: int) -> Callable[[Tensor], Tensor]:
    """The function x (N, *features) -> cumulative output (steps, N, classes) of a network, with surrogate gradients."""
    start = StartProgram(graph)
    window = 1 if graph.recurrent else steps
    step = StepsProgram(graph, steps=window, spike=spike_through, follow=follow_through)

    def run(x: Tensor) -> Tensor:
        values, outputs = start(x), []
        for _ in range(steps // window):
            output, *state = step(*values)
            values = (*values[: start.constants], *state)
            outputs.append(output)
        return torch.cat(outputs)

    return run


def spike_through(membrane: Tensor, count: Tensor | None, neuron: NeuronArrays) -> Tensor:
    """The spikes of ``spike_of``, with the derivative of atan around each threshold (graded: of the clipped level)."""
    hard = spike_of(membrane.detach(), count if count is None else count.detach(), neuron)
    scaled = membrane / neuron.threshold
    if neuron.code == "graded":
        soft = scaled.clamp(0, neuron.levels)
    else:
        soft = _atan(scaled - 1)
        if count is not None:
            soft = soft + torch.where(count > 0, _atan(scaled), 0.0)
    return hard + soft - soft.detach()


def follow_through(value: Tensor, age: Tensor, decoded: Tensor, neuron: DifferentialArrays) -> Tensor:
    """The decoded values of ``follow_reference``, with the derivative of the value that they follow."""
    hard = follow_reference(value.detach(), age, decoded.detach(), neuron)
    soft = (value + neuron.bias).clamp(min=-math.inf if neuron.line else 0.0, max=neuron.maximum)
    return hard + soft - soft.detach()


def _atan(u: Tensor) -> Tensor:
    return torch.atan(math.pi / 2 * SHARPNESS * u) / math.pi


def log_odds(outputs: Tensor, label: Tensor, divisor: float) -> Tensor:
    """ln p / (1 - p) of a label at every step, p = softmax(output / divisor): (T, N)."""
    scaled = outputs / divisor
    own = scaled.gather(2, label.expand(len(outputs), -1).unsqueeze(2))[..., 0]
    others = scaled.masked_fill(functional.one_hot(label, scaled.shape[2]).bool(), -math.inf)
    return own - torch.logsumexp(others, 2)


def _delay(outputs: Tensor, label: Tensor, attack: Attack) -> Tensor:
    """How sure the network is of anything, over all steps, and how unsure of its answer at the last; (N,)."""
    scaled = outputs / attack.divisor
    best = scaled.topk(2, dim=2).values
    return (best[..., 0] - best[..., 1]).mean(0) + KEEP * functional.relu(
        1 - log_odds(outputs[-1:], label, attack.divisor)[0]
    )


def _early(outputs: Tensor, label: Tensor, attack: Attack) -> Tensor:
    """How right the network is in the first half, and how wrong at the last step; (N,)."""
    odds = log_odds(outputs, label, attack.divisor)
    half = max(1, len(outputs) // 2)
    return functional.relu(odds[:half] + 3).mean(0) + KEEP * functional.relu(1 - odds[-1])


ATTACKS: dict[str, Loss] = {"delay": _delay, "early": _early}


def _serves(kind: str, decisions: Decisions, full: Tensor, label: Tensor) -> Tensor:
    """How well each sample serves the attack under the deployed rule; (N,), larger is better."""
    if kind == "delay":
        return decisions.steps.double() * (decisions.label == label)
    return ((decisions.label != label) & (full == label)).double()


def attacked(
    run: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, attack: Attack, bounds: Bounds, rule: AnyRule | None
) -> Tensor:
    """Perturbed samples, shaped like x (N, *features).

    run: x -> cumulative outputs (T, N, classes), with gradients (``outputs_with_gradient``).  labels: int64 (N,), the
    answers to keep (delay) or the true ones (early).  rule: by which iterates are chosen; None takes the last.
    """
    parts = [
        _batch(run, x[i : i + BATCH], labels[i : i + BATCH], attack, bounds, rule) for i in range(0, len(x), BATCH)
    ]
    return torch.cat(parts)


def _batch(
    run: Callable[[Tensor], Tensor], x: Tensor, label: Tensor, attack: Attack, bounds: Bounds, rule: AnyRule | None
) -> Tensor:
    rate = 2.5 / attack.iterations
    best, served = x.clone(), torch.full((len(x),), -1.0, dtype=torch.float64)
    changed = x.clone()
    for index in range(attack.iterations + 1):
        changed.requires_grad_()
        with torch.enable_grad():
            outputs = run(changed)
            loss = ATTACKS[attack.kind](outputs, label, attack).sum()
            (gradient,) = torch.autograd.grad(loss, changed)
        seen, changed = outputs.detach(), changed.detach()
        if rule is not None:
            value = _serves(attack.kind, decide(rule, seen), seen[-1].argmax(-1), label)
            better = value > served
            best[better], served = changed[better], torch.maximum(served, value)
        if index < attack.iterations:
            changed = bounds.around(x, changed - rate * bounds.radius * gradient.sign())
    return changed if rule is None else best


def noisy(
    run: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, attack: Attack, bounds: Bounds, rule: AnyRule, seed: int
) -> Tensor:
    """The control: of as many random perturbations of full size as an attack has iterates, the one that serves best."""
    generator = torch.Generator().manual_seed(seed)
    best, served = x.clone(), torch.full((len(x),), -1.0, dtype=torch.float64)
    for _ in range(attack.iterations + 1):
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
        changed = bounds.around(x, x + bounds.radius * signs)
        outputs = run(changed)
        value = _serves(attack.kind, decide(rule, outputs), outputs[-1].argmax(-1), labels)
        better = value > served
        best[better], served = changed[better], torch.maximum(served, value)
    return best
