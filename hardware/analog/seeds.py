"""Random draws that a seed and a purpose name, one stream for each instance of a device.

Each instance has a generator of its own, so that instance 3 is the same chip whether 5 or 25 of them are simulated.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

__all__ = ["generators", "normal", "uniform"]


def generators(instances: int, seed: int, *purpose: object) -> list[torch.Generator]:
    """One generator for each instance: a pure function of the seed, the purpose and the instance's number.

    >>> five, two = generators(5, 7, "conv1", "write"), generators(2, 7, "conv1", "write")
    >>> five[1].initial_seed() == two[1].initial_seed() != generators(2, 7, "conv1", "read")[1].initial_seed()
    True
    """
    found = []
    for instance in range(instances):
        digest = blake2b(repr((seed, *purpose, instance)).encode(), digest_size=8).digest()
        found.append(torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1))
    return found


def normal(shape: Sequence[int], streams: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal draws (instances, *shape), in the type and on the device of ``like``."""
    draws = torch.empty(len(streams), *shape, dtype=like.dtype)
    for draw, stream in zip(draws, streams, strict=True):
        draw.normal_(generator=stream)
    return draws.to(like.device)


def uniform(shape: Sequence[int], streams: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Draws from [0, 1), (instances, *shape), in the type and on the device of ``like``."""
    draws = torch.empty(len(streams), *shape, dtype=like.dtype)
    for draw, stream in zip(draws, streams, strict=True):
        draw.uniform_(generator=stream)
    return draws.to(like.device)
