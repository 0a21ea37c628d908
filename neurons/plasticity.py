"""Spike-timing-dependent plasticity: what a synapse learns from when its two neurons fire, without any gradient."""

import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from .kernels.decay import decaying_sum
from .layer import decay_of, require_sequence, require_state

__all__ = ["PairSTDP", "PairSTDPState", "TripletSTDP", "TripletSTDPState", "bounded"]

State = TypeVar("State", bound=NamedTuple)


class PairSTDPState(NamedTuple):
    """The traces of the presynaptic spikes (batch, inputs) and of the postsynaptic ones (batch, outputs)."""

    pre: Tensor
    post: Tensor


class TripletSTDPState(NamedTuple):
    """pre_fast, pre_slow (r1, r2 of the source): (batch, inputs); post_fast, post_slow (o1, o2): (batch, outputs)."""

    pre_fast: Tensor
    pre_slow: Tensor
    post_fast: Tensor
    post_slow: Tensor


def bounded(weight: Tensor, update: Tensor, low: float, high: float) -> Tensor:
    """Return weight + update, held between hard bounds.

    >>> bounded(torch.tensor([0.5, 0.75]), torch.tensor([0.25, 0.5]), 0.0, 1.0).tolist()
    [0.75, 1.0]
    """
    if not low < high:
        raise RangeError(f"low is {low} and high is {high}, but low must be below high.")
    return (weight + update).clamp(low, high)


class TraceRule(nn.Module, Generic[State]):
    """What both rules share: decaying traces of the spikes, and their checks."""

    state_type: type[State]
    decays: tuple[float, ...]  # of each trace; the first half are presynaptic

    def _check(self, amplitudes: dict[str, float]) -> None:
        for name, value in amplitudes.items():
            if not 0 <= value < math.inf:
                raise RangeError(f"{name} is {value}, but it must be finite and 0 or above.")
        for decay in self.decays:
            if not 0 < decay <= 1:
                raise RangeError(f"the decay of a trace is {decay}, but a decay a step lies in (0, 1].")

    def initial_state(
        self,
        pre_shape: Sequence[int],
        post_shape: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return the state without any spike; the shapes of a step: (batch, inputs) and (batch, outputs)."""
        half = len(self.decays) // 2
        shapes = [tuple(pre_shape)] * half + [tuple(post_shape)] * half
        return self.state_type._make(torch.zeros(shape, device=device, dtype=dtype) for shape in shapes)

    def _begin(self, pre: Tensor, post: Tensor, state: State | None) -> tuple[list[Tensor], State]:
        """Return each trace as it is in front of each step's spikes, and the new state."""
        name = type(self).__name__
        for spikes in (pre, post):
            require_sequence(name, spikes)
        if pre.ndim != 3 or post.ndim != 3 or pre.shape[:2] != post.shape[:2]:
            raise ShapeError(
                f"{name} takes spikes (time, batch, inputs) and (time, batch, outputs), but was given "
                f"{tuple(pre.shape)} and {tuple(post.shape)}."
            )
        shapes = (pre.shape[1:], post.shape[1:])
        if state is None:
            wide = torch.float64 if torch.float64 in (pre.dtype, post.dtype) else torch.float32
            state = self.initial_state(*shapes, device=pre.device, dtype=wide)
        require_state(self, state)
        half, before, after = len(self.decays) // 2, [], []
        for k, (trace, decay) in enumerate(zip(state, self.decays, strict=True)):
            if trace.shape != shapes[k // half]:
                raise ShapeError(
                    f"{name} state has a {state._fields[k]} of shape {tuple(trace.shape)}, but the spikes need "
                    f"{tuple(shapes[k // half])}; make a fresh one with "
                    f"initial_state({tuple(shapes[0])}, {tuple(shapes[1])})."
                )
            spikes = (pre, post)[k // half].to(trace.dtype)
            traces = decaying_sum(spikes, trace, torch.tensor(decay, dtype=trace.dtype, device=trace.device))
            before.append(decay * torch.cat([trace.unsqueeze(0), traces[:-1]]))
            after.append(traces[-1].clone())
        return before, self.state_type._make(after)


def _product(post: Tensor, pre: Tensor) -> Tensor:
    """Sum over time and batch of post[t, n, o] * pre[t, n, i]."""
    return post.flatten(0, 1).T @ pre.flatten(0, 1)


class PairSTDP(TraceRule[PairSTDPState]):
    """Pair-based STDP, all spikes with all: the update of the weights (outputs, inputs), for you to add.

    dw = a_plus * post[t] * x - a_minus * pre[t] * y, summed over time and batch; x' = decay_plus * x + pre[t],
    y' = decay_minus * y + post[t] are traces; a step's spikes see the traces of the steps before it, so that two spikes
    in the same step change nothing.  A pair dt = t_post - t_pre apart gives a_plus * decay_plus^dt where dt > 0 and
    -a_minus * decay_minus^-dt where dt < 0.
    a_plus, a_minus: 0 or above; decay_plus, decay_minus: a step, in (0, 1].  Add the update with ``bounded``; divide it
    by the batch for its mean.  No gradient flows through a rule.
    Source: Morrison et al. 2008 (doi 10.1007/s00422-008-0233-1).

    >>> rule = PairSTDP(a_plus=1.0, a_minus=1.0, decay_plus=0.5, decay_minus=0.5)
    >>> pre, post = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    >>> rule(pre.reshape(3, 1, 1), post.reshape(3, 1, 1))[0].item()
    0.25
    """

    state_type = PairSTDPState

    def __init__(self, a_plus: float, a_minus: float, decay_plus: float, decay_minus: float) -> None:
        super().__init__()
        self.a_plus, self.a_minus, self.decays = a_plus, a_minus, (decay_plus, decay_minus)
        self._check({"a_plus": a_plus, "a_minus": a_minus})

    @classmethod
    def from_time_constant(
        cls, tau_plus_s: float, tau_minus_s: float, dt_s: float, *, a_plus: float, a_minus: float
    ) -> "PairSTDP":
        """Return the rule with decays exp(-dt / tau); all in seconds."""
        return cls(a_plus, a_minus, decay_of(tau_plus_s, dt_s), decay_of(tau_minus_s, dt_s))

    @torch.no_grad()
    def forward(self, pre: Tensor, post: Tensor, state: PairSTDPState | None = None) -> tuple[Tensor, PairSTDPState]:
        """Return the update (outputs, inputs) and the state; pre: (time, batch, inputs), post: the same of outputs."""
        (x, y), state = self._begin(pre, post, state)
        update = self.a_plus * _product(post.to(x.dtype), x) - self.a_minus * _product(y, pre.to(y.dtype))
        return update, state


class TripletSTDP(TraceRule[TripletSTDPState]):
    """Triplet STDP, all spikes with all: pairing counts more where the postsynaptic neuron has fired before.

    dw = post[t] * r1 * (a2_plus + a3_plus * o2) - pre[t] * o1 * (a2_minus + a3_minus * r2), summed over time and batch

    r1, r2 are traces of the presynaptic spikes with ``decay_plus`` and ``decay_x``, o1, o2 of the postsynaptic ones
    with ``decay_minus`` and ``decay_y``; a step's spikes see the traces of the steps before it.  With a3 = 0 it is
    `PairSTDP`. amplitudes: (a2_plus, a2_minus, a3_plus, a3_minus), 0 or above; decays: (decay_plus, decay_x,
    decay_minus, decay_y) a step, in (0, 1].
    Source: Pfister and Gerstner 2006 (doi 10.1523/JNEUROSCI.1425-06.2006).

    >>> rule = TripletSTDP(amplitudes=(1.0, 0.0, 1.0, 0.0), decays=(0.5, 0.5, 0.5, 0.5))
    >>> pre, post = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0])
    >>> rule(pre.reshape(3, 1, 1), post.reshape(3, 1, 1))[0].item()  # 0.5 + 0.25 * (1 + 0.5)
    0.875
    """

    state_type = TripletSTDPState

    def __init__(
        self, amplitudes: tuple[float, float, float, float], decays: tuple[float, float, float, float]
    ) -> None:
        super().__init__()
        self.amplitudes, self.decays = amplitudes, decays
        self._check(dict(zip(("a2_plus", "a2_minus", "a3_plus", "a3_minus"), amplitudes, strict=True)))

    @classmethod
    def from_time_constant(
        cls, taus_s: tuple[float, float, float, float], dt_s: float, *, amplitudes: tuple[float, float, float, float]
    ) -> "TripletSTDP":
        """Return the rule with decays exp(-dt / tau); taus: (tau_plus, tau_x, tau_minus, tau_y) in seconds."""
        plus, x, minus, y = (decay_of(tau, dt_s) for tau in taus_s)
        return cls(amplitudes, (plus, x, minus, y))

    @torch.no_grad()
    def forward(
        self, pre: Tensor, post: Tensor, state: TripletSTDPState | None = None
    ) -> tuple[Tensor, TripletSTDPState]:
        """Return the update (outputs, inputs) and the state; pre: (time, batch, inputs), post: the same of outputs."""
        (r1, r2, o1, o2), state = self._begin(pre, post, state)
        a2_plus, a2_minus, a3_plus, a3_minus = self.amplitudes
        stronger = _product(post.to(r1.dtype) * (a2_plus + a3_plus * o2), r1)
        weaker = _product(o1, pre.to(o1.dtype) * (a2_minus + a3_minus * r2))
        return stronger - weaker, state
