"""Changed images are the images moved or mirrored, each on its own."""

import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.data.augment import Flip, Shift


def images() -> torch.Tensor:
    return torch.rand(40, 2, 6, 5, generator=torch.Generator().manual_seed(0))


def test_some_are_flipped_and_the_others_left() -> None:
    torch.manual_seed(0)
    x = images()
    y = Flip()(x)
    same = [torch.equal(a, b) for a, b in zip(y, x, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(y, x, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 8 < sum(same) < 32


@pytest.mark.parametrize("frames", [False, True])
def test_each_is_moved_by_at_most_so_many_pixels(frames: bool) -> None:
    torch.manual_seed(0)
    x = images().unsqueeze(1).repeat(1, 3, 1, 1, 1) if frames else images()
    y = Shift(2)(x)
    assert y.shape == x.shape
    room = torch.nn.functional.pad(x, [2] * 4)
    seen = set()
    for before, after in zip(room, y, strict=True):
        places = [(i, j) for i in range(5) for j in range(5) if torch.equal(before[..., i : i + 6, j : j + 5], after)]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 10


def test_what_is_no_image_is_refused() -> None:
    for change in (Flip(), Shift(1)):
        with pytest.raises(ShapeError):
            change(torch.zeros(3, 5))
    with pytest.raises(RangeError):
        Shift(0)
