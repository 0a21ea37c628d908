"""Random changes of training images, (batch, channels, height, width), that leave their class as it is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._check import ShapeError, require_in_range

__all__ = ["Flip", "Shift"]


@dataclass(frozen=True)
class Flip:
    """Left and right change places in every second image, at random."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return images of the same shape."""
        _require_images(x)
        flipped = torch.rand(len(x), device=x.device) < 0.5
        return torch.where(flipped.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


@dataclass(frozen=True)
class Shift:
    """Each image moves by up to ``pixels`` along both axes, at random; 0 comes in from outside.

    >>> Shift(1)(torch.ones(5, 1, 4, 4)).shape
    torch.Size([5, 1, 4, 4])
    """

    pixels: int

    def __post_init__(self) -> None:
        require_in_range("pixels", self.pixels, 1, 1000)

    def __call__(self, x: Tensor) -> Tensor:
        """Return images of the same shape."""
        _require_images(x)
        height, width = x.shape[-2:]
        room = torch.nn.functional.pad(x, [self.pixels] * 4)
        down, right = torch.randint(2 * self.pixels + 1, (2, len(x), 1), device=x.device)
        rows, columns = torch.arange(height, device=x.device) + down, torch.arange(width, device=x.device) + right
        sample = torch.arange(len(x), device=x.device)
        # indexing brings (batch, height, width) to the front, the axes between to the end
        moved = room.movedim((-2, -1), (1, 2))[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved.movedim((1, 2), (-2, -1))


def _require_images(x: Tensor) -> None:
    if x.ndim < 4:
        raise ShapeError(f"images (batch, ..., height, width) are wanted, but the samples have shape {tuple(x.shape)}.")
