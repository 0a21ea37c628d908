"""Random changes of training images, (batch, channels, height, width), that leave their class as it is."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["Affine", "Flip", "Shift"]


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
        room = functional.pad(x, [self.pixels] * 4)
        down, right = torch.randint(2 * self.pixels + 1, (2, len(x), 1), device=x.device)
        rows, columns = torch.arange(height, device=x.device) + down, torch.arange(width, device=x.device) + right
        sample = torch.arange(len(x), device=x.device)
        # indexing brings (batch, height, width) to the front, the axes between to the end
        moved = room.movedim((-2, -1), (1, 2))[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved.movedim((1, 2), (-2, -1))


@dataclass(frozen=True)
class Affine:
    """Each image is turned, stretched, sheared and moved at random; 0 comes in from outside.

    A pixel at p from the centre shows what was at R(a) · K · p + d, read between pixels linearly:
    R turns by a, uniform in ±degrees; K = [[e^u, k], [0, e^v]] with u, v uniform in ±stretch (0.1: about 10 %) and k in
    ±shear; both parts of d are uniform in ±pixels.  Frames of events, (batch, time, polarity, height, width), change as
    one.
    Raises RangeError where all four are 0.

    >>> Affine(degrees=10, pixels=2)(torch.ones(5, 3, 1, 4, 4)).shape
    torch.Size([5, 3, 1, 4, 4])
    """

    degrees: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    pixels: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("degrees", 180.0), ("stretch", 2.0), ("shear", 2.0), ("pixels", 1e3)):
            require_in_range(name, getattr(self, name), 0.0, most)
        if not any((self.degrees, self.stretch, self.shear, self.pixels)):
            raise RangeError("degrees, stretch, shear and pixels are all 0; give the largest change of at least one.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return images of the same shape, as float."""
        _require_images(x)
        images = x.flatten(1, -3)
        images = images if images.is_floating_point() else images.float()
        grid = functional.affine_grid(self._draw(images), list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, align_corners=False).reshape(x.shape)

    def _draw(self, images: Tensor) -> Tensor:
        """One 2 × 3 matrix an image; torch measures places from −1 to 1 over the height and the width."""
        n, (height, width) = len(images), images.shape[-2:]
        a, u, v, k, right, down = (2 * torch.rand(6, n, dtype=images.dtype, device=images.device) - 1).unbind()
        a, u, v, k = a * math.radians(self.degrees), u * self.stretch, v * self.stretch, k * self.shear
        ratio = height / width
        across = (a.cos() * u.exp(), (a.cos() * k - a.sin() * v.exp()) * ratio, right * 2 * self.pixels / width)
        along = (a.sin() * u.exp() / ratio, a.sin() * k + a.cos() * v.exp(), down * 2 * self.pixels / height)
        return torch.stack([torch.stack(across, 1), torch.stack(along, 1)], 1)


def _require_images(x: Tensor) -> None:
    if x.ndim < 4:
        raise ShapeError(f"images (batch, ..., height, width) are wanted, but the samples have shape {tuple(x.shape)}.")
