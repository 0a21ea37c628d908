"""Neurons that hear their own spikes through a matrix: all of time in one node of the gradient's graph.

Time stays a loop, a product of matrices a step; what this saves against autograd are the nodes of every step, and the
gradient of the matrix becomes one product at the end.  The oracle is the loop in plain autograd of ``RecurrentLeaky``
and ``RecurrentSynaptic``.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from ..surrogates import Surrogate
from .leaky_reference import Firing

__all__ = ["Population", "Start", "recurrent"]


class Start(NamedTuple):
    """The state in front of the first step, each (batch, units); current: None without alpha."""

    current: Tensor | None
    membrane: Tensor
    spikes: Tensor


class Population(NamedTuple):
    """weight: (units, units); bias: (units,) or None; alpha (None: no current), beta, threshold: () or (units,)."""

    weight: Tensor
    bias: Tensor | None
    alpha: Tensor | None
    beta: Tensor
    threshold: Tensor


def recurrent(
    x: Tensor, start: Start, population: Population, surrogate: Surrogate, firing: Firing
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the spikes (time, batch, units), the new current (None without alpha) and the new membrane.

    i = alpha * i + x[t] + s W^T + b;  u = beta * v + i;  then as ``leaky_reference``, but a late zero takes u whole.
    All tensors share one type.  Differentiable once; a late reset to zero only if detached (what it takes is not kept).
    """
    spikes, membrane, current = _Recurrent.apply(x, *start, *population, surrogate, firing)  # type: ignore[no-untyped-call]
    return spikes, None if population.alpha is None else current, membrane


def _fires(above: Tensor, firing: Firing) -> Tensor:
    return (above > 0 if firing.strict else above >= 0).to(above.dtype)


def _less(u: Tensor, spikes: Tensor, threshold: Tensor, reset: str) -> Tensor:
    if reset == "subtract":
        return u - spikes * threshold
    return u - spikes * u if reset == "zero" else u


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
        start, population, (surrogate, firing) = Start(*given[:3]), Population(*given[3:8]), given[8:]
        weight, bias, alpha, beta, threshold = population
        spikes, above = torch.empty_like(x), torch.empty_like(x)
        currents = None if alpha is None else torch.empty_like(x)
        i, v, s = start
        resetting = _fires(v - threshold, firing)
        for t in range(len(x)):
            heard = linear(s, weight, bias)
            if currents is None or i is None or alpha is None:
                u = (beta * v).add_(x[t]).add_(heard)
            else:
                i = torch.mul(i, alpha, out=currents[t]).add_(x[t]).add_(heard)
                u = (beta * v).add_(i)
            if firing.late:
                u = _less(u, resetting, threshold, firing.reset)
            resetting = s = spikes[t].copy_(_fires(torch.sub(u, threshold, out=above[t]), firing))
            v = u if firing.late else _less(u, s, threshold, firing.reset)
        ctx.surrogate, ctx.firing = surrogate, firing
        ctx.save_for_backward(*start, *population, spikes, above, currents)
        return spikes, v.clone(), torch.empty(0) if i is None else i.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        start, population, (spikes, above, currents) = Start(*tensors[:3]), Population(*tensors[3:8]), tensors[8:]
        slope = ctx.surrogate.derivative(above)
        back = _Backwards(start, population, ctx.firing, spikes, above, slope)
        to_start = back.run(gradients, ctx.surrogate)
        return back.to_x, *to_start, *back.to_population(currents, ctx.needs_input_grad[4:9]), None, None


class _Backwards:
    """Time backwards; ``to_u``, ``to_x``, ``through``: gradients of beta v + i, of x, and of s through its slope."""

    def __init__(self, start: Start, population: Population, firing: Firing, *sequences: Tensor) -> None:
        self.start, self.population, self.firing = start, population, firing
        self.spikes, self.above, self.slope = sequences
        self.to_u, self.to_x, self.through = (torch.empty_like(self.spikes) for _ in range(3))
        self.to_threshold = torch.zeros_like(start.membrane)

    def run(self, gradients: tuple[Tensor, ...], surrogate: Surrogate) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Fill the sequences; returns the gradients of the start: current, membrane, spikes."""
        weight, _, alpha, beta, threshold = self.population
        late_start = _fires(self.start.membrane - threshold, self.firing)
        to_spikes, to_v, to_i = gradients
        heard = to_reset = None
        for t in range(len(self.spikes) - 1, -1, -1):
            to_s = to_spikes[t] if heard is None else to_spikes[t] + heard
            if self.firing.late:
                to_s = to_s if to_reset is None else to_s + to_reset
                to_u = to_v + torch.mul(to_s, self.slope[t], out=self.through[t])
                resetting = self.spikes[t - 1] if t else late_start
                to_u, to_reset = self._through_reset(to_u, resetting, None)
            else:
                to_v, to_reset = self._through_reset(to_v, self.spikes[t], self.above[t])
                to_s = to_s if to_reset is None else to_s + to_reset
                to_u = to_v + torch.mul(to_s, self.slope[t], out=self.through[t])
            self.to_u[t] = to_u
            to_v = beta * to_u
            self.to_x[t] = to_u if alpha is None else to_u + to_i
            to_i = to_i if alpha is None else alpha * self.to_x[t]
            heard = self.to_x[t] @ weight
        if self.firing.late and to_reset is not None:
            first = to_reset * surrogate.derivative(self.start.membrane - threshold)
            to_v, self.to_threshold = to_v + first, self.to_threshold - first
        return None if alpha is None else to_i, to_v, heard

    def _through_reset(self, to_v: Tensor, spikes: Tensor, above: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """From the gradient of v = less(u, s) to those of u and, unless it is detached, of s."""
        reset, threshold = self.firing.reset, self.population.threshold
        if reset == "none":
            return to_v, None
        if reset == "subtract":
            self.to_threshold = self.to_threshold - spikes * to_v
            return to_v, None if self.firing.detach else -threshold * to_v
        if self.firing.detach or above is None:
            return to_v - spikes * to_v, None
        return to_v - spikes * to_v, -(above + threshold) * to_v

    def to_population(self, currents: Tensor | None, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """Return the gradients of weight, bias, alpha, beta, threshold: sums over time and batch."""
        _, bias, alpha, beta, threshold = self.population
        to_weight = to_bias = to_alpha = to_beta = to_threshold = None
        if needed[0]:
            heard = torch.cat([self.start.spikes.unsqueeze(0), self.spikes[:-1]])
            to_weight = self.to_x.flatten(0, 1).T @ heard.flatten(0, 1)
        if needed[1] and bias is not None:
            to_bias = self.to_x.sum((0, 1))
        if needed[2] and alpha is not None and currents is not None and self.start.current is not None:
            before = (self.to_x[1:] * currents[:-1]).sum(0) + self.to_x[0] * self.start.current
            to_alpha = before.sum_to_size(alpha.shape)
        if needed[3]:
            v = self.above[:-1] + threshold
            v = v if self.firing.late else _less(v, self.spikes[:-1], threshold, self.firing.reset)
            to_beta = ((self.to_u[1:] * v).sum(0) + self.to_u[0] * self.start.membrane).sum_to_size(beta.shape)
        if needed[4]:
            to_threshold = (self.to_threshold - self.through.sum(0)).sum_to_size(threshold.shape)
        return to_weight, to_bias, to_alpha, to_beta, to_threshold
