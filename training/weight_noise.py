"""Noise on weights while gradients are taken, so that the network learns to do without their last digits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .._check import require_in_range
from .weights import weights_of

__all__ = ["noisy_weights"]


@contextmanager
def noisy_weights(network: nn.Module, share: float, *, seed: int) -> Iterator[None]:
    """Within the block every weight w of two axes or more is w + share * max |w of its output| * N(0, 1).

    Forward and backward see the noisy weights, the optimiser the ones without noise.  The same seed gives the same
    noise.  share 0 changes nothing.
    Raises RangeError for a share outside 0 to 1.
    Source: Joshi et al. 2020 (doi 10.1038/s41467-020-16108-9), noise on weights during training for analog memory.
    """
    require_in_range("weight_noise", share, 0.0, 1.0, remedy="It is a share of an output's largest weight.")
    kept: list[tuple[nn.Parameter, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)
    try:
        for parameter in weights_of(network) if share else ():
            kept.append((parameter, parameter.detach().clone()))
            size = parameter.detach().abs().flatten(1).amax(1).view(-1, *([1] * (parameter.ndim - 1)))
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.data = parameter.detach() + share * size * noise
        yield
    finally:
        for parameter, clean in kept:
            parameter.data = clean
