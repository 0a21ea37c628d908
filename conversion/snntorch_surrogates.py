"""The gradient of the spike of a network that was trained in snnTorch."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._check import UnsupportedError
from ..neurons.surrogates import Atan, FastSigmoid, Sigmoid, StraightThrough, Surrogate

__all__ = ["Borrowed", "surrogate_of"]

# snnTorch's constructor -> ours of the same values, and the variable of the closure that holds its scale
KNOWN: dict[str, tuple[Callable[..., Surrogate], str]] = {
    "atan": (Atan, "alpha"),
    "fast_sigmoid": (FastSigmoid, "slope"),
    "sigmoid": (Sigmoid, "slope"),
    "straight_through_estimator": (StraightThrough, ""),
}
PROBE = (-2.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 2.0)  # membranes minus threshold, the threshold itself among them


@dataclass(frozen=True)
class Borrowed(Surrogate):
    """ds/du as a function from elsewhere has it: ``function`` maps u to spikes, and torch differentiates it.

    For snnTorch's surrogates that we do not have, and for your own ones.  Runs on the reference kernel.
    """

    function: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        """There is no scale to check."""

    def derivative(self, u: Tensor) -> Tensor:
        """Return ds/du, 0 where the function has no gradient (``surrogate_disable=True``)."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            spikes = self.function(u)
            if not spikes.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(spikes.sum(), u)
        return slope


def surrogate_of(spike_grad: Callable[[Tensor], Tensor]) -> Surrogate:
    """Return our surrogate with the gradient of a neuron's ``spike_grad``.

    Raises UnsupportedError where the function is no step at the threshold, or draws at random.
    """
    name = str(getattr(spike_grad, "__qualname__", "")).split(".")[0]
    if getattr(spike_grad, "__module__", "") == "snntorch.surrogate" and name in KNOWN:
        make, field = KNOWN[name]
        scale = inspect.getclosurevars(spike_grad).nonlocals.get(field)
        if not field:
            return make()
        if isinstance(scale, int | float) and 0 < scale < math.inf:
            return make(float(scale))
    _require_a_step(spike_grad)
    return Borrowed(spike_grad)


def _require_a_step(spike_grad: Callable[[Tensor], Tensor]) -> None:
    u = torch.tensor(PROBE)
    try:
        with torch.random.fork_rng(devices=[]):
            spikes = [spike_grad(u.clone()).detach() for _ in range(2)]
            slopes = [Borrowed(spike_grad).derivative(u) for _ in range(2)]
    except Exception as error:
        raise UnsupportedError(f"its spike_grad fails ({type(error).__name__}: {error})") from error
    if any(not torch.equal(each, (u > 0).to(u.dtype)) for each in spikes):
        raise UnsupportedError("its spike_grad is no step at the threshold; take one of snntorch.surrogate")
    if not torch.equal(slopes[0], slopes[1]):
        raise UnsupportedError(
            "its spike_grad has a gradient that is drawn at random; set spike_grad = snntorch.surrogate.atan(), "
            "which spikes alike"
        )
