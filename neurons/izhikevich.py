"""Izhikevich's simple model: two equations that fire as cortical neurons do."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .._check import RangeError
from .layer import Layer
from .surrogates import Atan, Surrogate

__all__ = ["Izhikevich", "IzhikevichState"]

# a, b, c, d of figure 2 of the source
REGULAR_SPIKING = (0.02, 0.2, -65.0, 8.0)
FAST_SPIKING = (0.1, 0.2, -65.0, 2.0)
CHATTERING = (0.02, 0.2, -50.0, 2.0)
INTRINSICALLY_BURSTING = (0.02, 0.2, -55.0, 4.0)


class IzhikevichState(NamedTuple):
    """The membrane v (mV) and the recovery u, both (batch, *features)."""

    membrane: Tensor
    recovery: Tensor


class Izhikevich(Layer[IzhikevichState]):
    """Izhikevich's neuron in steps of ``dt_s`` (Euler; v in two half steps, as the source's program does it).

    v' = 0.04 v^2 + 5 v + 140 - u + x,  u' = a (b v - u), in mV and ms;  s = [v >= peak];  where s: v = c, u = u + d

    a, b, c, d: a number each, or a tensor that broadcasts against the features; `from_pattern` has the source's values.
    peak: mV, at least 1 above c.  Input in the source's unit (10 drives a regular spiking cell).  At rest v and u stand
    still (where no rest exists, at v = c, u = b c), so that without input there is no spike.
    The surrogate sees (v - peak) / (peak - c); ``detach_reset``: no gradient flows through the spike that resets.
    Source: Izhikevich 2003 (doi 10.1109/TNN.2003.820440); the spike is told in the step that reaches the peak, a step
    before his program tells it.

    >>> spikes, _ = Izhikevich.from_pattern(REGULAR_SPIKING)(torch.full((100, 1, 1), 10.0))
    >>> int(spikes.sum())
    3
    """

    state_type = IzhikevichState
    b: Tensor
    c: Tensor

    def __init__(
        self,
        a: float | Tensor,
        b: float | Tensor,
        c: float | Tensor,
        d: float | Tensor,
        *,
        dt_s: float = 0.001,
        peak: float = 30.0,
        detach_reset: bool = False,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        if not 0 < dt_s <= 0.002:
            raise RangeError(f"dt_s is {dt_s}, but the model is stable for steps above 0 and at most 0.002 seconds.")
        for name, value, low, high in (
            ("a", a, 0, math.inf),
            ("b", b, -math.inf, math.inf),
            ("c", c, -math.inf, peak - 1),
            ("d", d, -math.inf, math.inf),
        ):
            self._hold(name, value, low, high)
        self.dt_s, self.peak, self.detach_reset = dt_s, peak, detach_reset
        self.surrogate = Atan() if surrogate is None else surrogate

    @classmethod
    def from_pattern(cls, pattern: tuple[float, float, float, float], *, dt_s: float = 0.001) -> "Izhikevich":
        """Return the neuron with ``pattern`` = (a, b, c, d), such as `REGULAR_SPIKING` or `CHATTERING`."""
        return cls(*pattern, dt_s=dt_s)

    def _rest(
        self, shape: tuple[int, ...], device: torch.device | str | None, dtype: torch.dtype | None
    ) -> list[Tensor]:
        """The lower root of 0.04 v^2 + (5 - b) v + 140 = 0, with u = b v."""
        dtype = torch.get_default_dtype() if dtype is None else dtype
        b, c = (value.to(device, torch.float64) for value in (self.b, self.c))
        square = (5 - b) ** 2 - 4 * 0.04 * 140
        v = torch.where(square >= 0, -((5 - b) + square.clamp(min=0).sqrt()) / 0.08, c)
        return [part.to(dtype).expand(shape).clone() for part in torch.broadcast_tensors(v, b * v)]

    def forward(self, x: Tensor, state: IzhikevichState | None = None) -> tuple[Tensor, IzhikevichState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        v, u = self._begin(x, state)
        a, b, c, d = (self._unit(name, x, v.dtype) for name in "abcd")
        dt_ms = self.dt_s * 1000
        spikes = []
        for step in x.to(v.dtype).unbind(0):
            for _ in range(2):
                v = v + 0.5 * dt_ms * (0.04 * v * v + 5 * v + 140 - u + step)
            u = u + dt_ms * a * (b * v - u)
            spike = self.surrogate.spike((v - self.peak) / (self.peak - c))
            resetting = spike.detach() if self.detach_reset else spike
            v, u = (1 - resetting) * v + resetting * c, u + resetting * d
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), IzhikevichState(v, u)
