"""Neurons that oscillate below their threshold: they answer best to input at their own frequency."""

import math
from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from .._check import RangeError
from .layer import FiringOptions, SpikingLayer, decay_of

__all__ = ["ResonateAndFire", "ResonateAndFireState"]


class ResonateAndFireState(NamedTuple):
    """The real part (current-like) and the imaginary part (voltage-like) of z, both (batch, *features)."""

    real: Tensor
    imaginary: Tensor


class ResonateAndFire(SpikingLayer[ResonateAndFireState]):
    """A damped oscillator that fires when its imaginary part reaches the threshold.

    z = decay * exp(i * angle) * z + x[t];  s = [Im z >= threshold];
    "subtract": Im z loses the threshold where s; "zero": z becomes 0 where s; "none": z goes on.

    decay: of the amplitude a step, in (0, 1]; angle: turn a step in radians, in (0, pi]; threshold: above 0.  Each a
    number, or a tensor that broadcasts against the features; learned with its ``learn_`` option (decay is held in
    [0, 1]).  Options of firing: see `FiringOptions`; the reset is in the same step always.  The input is real: the
    imaginary part answers from the step after it on.
    Source: Izhikevich 2001 (doi 10.1016/S0893-6080(01)00078-8): z' = (b + i w) z + I, solved exactly over a step; his
    own reset, z = i, is none of the three.

    >>> quarter_turn = ResonateAndFire(decay=1.0, angle=math.pi / 2, threshold=0.5)
    >>> quarter_turn(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1))[0].flatten().tolist()
    [0.0, 1.0, 0.0]
    """

    state_type = ResonateAndFireState

    def __init__(
        self,
        decay: float | Tensor,
        angle: float | Tensor,
        threshold: float | Tensor = 1.0,
        *,
        learn_decay: bool = False,
        learn_angle: bool = False,
        learn_threshold: bool = False,
        **firing: Unpack[FiringOptions],
    ) -> None:
        super().__init__(threshold, learn_threshold=learn_threshold, **firing)
        if self.late_reset:
            raise RangeError("ResonateAndFire resets in the same step; leave late_reset out.")
        self._hold("decay", decay, 0, 1, learn=learn_decay)
        self._hold("angle", angle, 0, math.pi, learn=learn_angle)

    @classmethod
    def from_time_constant(
        cls, tau_s: float, dt_s: float, *, frequency_hz: float, threshold: float = 1.0, **firing: Unpack[FiringOptions]
    ) -> "ResonateAndFire":
        """Return the neuron that rings at ``frequency_hz`` and whose amplitude decays with ``tau_s`` (seconds).

        decay = exp(-dt / tau), angle = 2 pi * frequency * dt.  Raises RangeError at half the sampling rate and above.
        """
        if not 0 < frequency_hz * dt_s < 0.5:
            raise RangeError(
                f"frequency_hz is {frequency_hz}, but steps of {dt_s} s show those above 0 and below half of 1 / dt_s."
            )
        return cls(decay_of(tau_s, dt_s), 2 * math.pi * frequency_hz * dt_s, threshold, **firing)

    def forward(self, x: Tensor, state: ResonateAndFireState | None = None) -> tuple[Tensor, ResonateAndFireState]:
        """Return spikes (0 or 1) like ``x`` (time, batch, *features) and the state after the last step."""
        real, imaginary = self._begin(x, state)
        decay, angle, threshold = (self._unit(name, x, real.dtype) for name in ("decay", "angle", "threshold"))
        decay = decay.clamp(0, 1)
        c, s = decay * angle.cos(), decay * angle.sin()
        spikes = []
        for step in x.to(real.dtype).unbind(0):
            real, imaginary = c * real - s * imaginary + step, s * real + c * imaginary
            spike = self._spike(imaginary, threshold)
            imaginary = self._less(imaginary, spike, threshold)
            if self.reset == "zero":
                real = self._less(real, spike, threshold)
            spikes.append(spike)
        return torch.stack(spikes).to(x.dtype), ResonateAndFireState(real, imaginary)
