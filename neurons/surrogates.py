"""Surrogate gradients: what stands for the derivative of the spike, which is zero or undefined itself.

A surrogate is a frozen object: the name of its formula and its scale.  ``u`` is the membrane minus the threshold.  A
class of your own derives from `Surrogate` and writes ``derivative``; it runs on the reference kernel.
Where snnTorch (1.0) or SpikingJelly (2.0) has a function of the same name, the docstrings say whose values are equal.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._check import RangeError

__all__ = [
    "Atan",
    "FastSigmoid",
    "Gaussian",
    "Sigmoid",
    "StraightThrough",
    "SuperSpike",
    "Surrogate",
    "Triangular",
]


def _sigmoid(u: Tensor, a: float, b: float) -> Tensor:
    e = torch.exp(-b * u.abs())  # even in u, and no overflow
    return a * e / (1 + e).square()


# By ``kernel_id``, with the two coefficients a and b; the compiled kernels number them in the same way.
FORMULAS: tuple[Callable[[Tensor, float, float], Tensor], ...] = (
    lambda u, a, b: a / (1 + (b * u).square()),
    lambda u, a, b: a / (1 + b * u.abs()).square(),
    _sigmoid,
    lambda u, a, b: a * (1 - b * u.abs()).clamp(min=0),
    lambda u, a, b: a * torch.exp(-b * u.square()),
    lambda u, a, _: torch.full_like(u, a),
)


class _Spike(torch.autograd.Function):
    """The step function forwards, the surrogate's derivative backwards; saves u alone."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: "Surrogate", strict: bool) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u > 0 if strict else u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return gradient * ctx.surrogate.derivative(u), None, None


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogates: ``derivative(u)`` stands for ds/du.

    kernel_id: which formula of the compiled kernels this is; None (yours) runs on the reference kernel.
    """

    kernel_id: ClassVar[int | None] = None

    def __init_subclass__(cls) -> None:
        """Take the compiled kernels from a class that writes a formula of its own."""
        if "derivative" in vars(cls) and "kernel_id" not in vars(cls):
            cls.kernel_id = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise RangeError(f"{type(self).__name__}: {name} is {value}, but it must be a number above 0.")

    def derivative(self, u: Tensor) -> Tensor:
        """Return what stands for ds/du at u = membrane - threshold, shaped like ``u``."""
        if self.kernel_id is None:
            raise NotImplementedError(f"{type(self).__name__} must define derivative(u).")
        return FORMULAS[self.kernel_id](u, *self.coefficients)

    @property
    def coefficients(self) -> tuple[float, float]:
        """The two numbers a and b of the formula: height and sharpness."""
        return 1.0, 1.0

    def spike(self, u: Tensor, strict: bool = False) -> Tensor:
        """Return 1 where u >= 0 (``strict``: u > 0) and 0 elsewhere, in the type of u, with this gradient.

        >>> Atan().spike(torch.tensor([-0.5, 0.0, 0.5])).tolist()
        [0.0, 1.0, 1.0]
        """
        if torch.compiler.is_compiling():  # the tracer stumbles over the function; this has its value and its gradient
            slope = self.derivative(u.detach()) * u
            return (u > 0 if strict else u >= 0).to(u.dtype) + (slope - slope.detach())
        spikes: Tensor = _Spike.apply(u, self, strict)  # type: ignore[no-untyped-call]
        return spikes


@dataclass(frozen=True)
class Atan(Surrogate):
    """ds/du = (alpha / 2) / (1 + (pi / 2 * alpha * u)^2).

    Equals snnTorch's ``atan(alpha)`` and SpikingJelly's ``ATan(alpha)``.  Source: Fang et al. 2021 (arXiv 2007.05785).

    >>> Atan(alpha=2.0).derivative(torch.tensor(0.0)).item()
    1.0
    """

    alpha: float = 2.0
    kernel_id: ClassVar[int | None] = 0

    @property
    def coefficients(self) -> tuple[float, float]:
        """a / (1 + (b u)^2)."""
        return self.alpha / 2, math.pi / 2 * self.alpha


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """ds/du = 1 / (1 + slope * |u|)^2.

    Equals snnTorch's ``fast_sigmoid(slope)``.  Source: Zenke and Ganguli 2018 (doi 10.1162/neco_a_01086).
    """

    slope: float = 25.0
    kernel_id: ClassVar[int | None] = 1

    @property
    def coefficients(self) -> tuple[float, float]:
        """a / (1 + b |u|)^2."""
        return 1.0, self.slope


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """ds/du = scale / (1 + slope * |u|)^2: `FastSigmoid` with a height and the slope of its first use.

    Equals norse's ``superspike(alpha=slope)`` with scale 1.  Source: Zenke and Ganguli 2018 (doi 10.1162/neco_a_01086).
    """

    slope: float = 100.0
    scale: float = 1.0
    kernel_id: ClassVar[int | None] = 1

    @property
    def coefficients(self) -> tuple[float, float]:
        """a / (1 + b |u|)^2."""
        return self.scale, self.slope


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """ds/du = slope * exp(-slope * u) / (1 + exp(-slope * u))^2, the logistic function's derivative.

    Equals snnTorch's ``sigmoid(slope)`` (default 25) and SpikingJelly's ``Sigmoid(alpha=slope)`` (default 4).
    """

    slope: float = 25.0
    kernel_id: ClassVar[int | None] = 2

    @property
    def coefficients(self) -> tuple[float, float]:
        """a e / (1 + e)^2 with e = exp(-b |u|)."""
        return self.slope, self.slope


@dataclass(frozen=True)
class Triangular(Surrogate):
    """ds/du = height * max(0, 1 - |u| / width).

    Equals SpikingJelly's ``PiecewiseQuadratic(alpha)`` with width = 1 / alpha and height = alpha.  snnTorch's function
    of this name is no triangle: it gives +threshold below the threshold and -threshold above, and is not rebuilt here.
    Source: Esser et al. 2016 (doi 10.1073/pnas.1604850113).
    """

    width: float = 1.0
    height: float = 1.0
    kernel_id: ClassVar[int | None] = 3

    @property
    def coefficients(self) -> tuple[float, float]:
        """a max(0, 1 - b |u|)."""
        return self.height, 1 / self.width


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """ds/du = scale / (sigma * sqrt(2 pi)) * exp(-u^2 / (2 sigma^2)).

    Equals SpikingJelly's ``Erf(alpha)`` with sigma = 1 / (alpha * sqrt(2)), scale 1.
    """

    sigma: float = 0.5
    scale: float = 1.0
    kernel_id: ClassVar[int | None] = 4

    @property
    def coefficients(self) -> tuple[float, float]:
        """a exp(-b u^2)."""
        return self.scale / (self.sigma * math.sqrt(2 * math.pi)), 1 / (2 * self.sigma**2)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """ds/du = scale, whatever u is.

    Equals snnTorch's ``straight_through_estimator()`` with scale 1.  Source: Bengio et al. 2013 (arXiv 1308.3432).
    """

    scale: float = 1.0
    kernel_id: ClassVar[int | None] = 5

    @property
    def coefficients(self) -> tuple[float, float]:
        """The height; the other number is not used."""
        return self.scale, 1.0
