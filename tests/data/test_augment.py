"""Changed images are the images moved or mirrored, each on its own."""

import math

import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.data.augment import Affine, Flip, Shift


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


def spots(x: torch.Tensor) -> torch.Tensor:
    """The middle of what is in each image, (images, 2): right and down from the centre, in pixels."""
    height, width = x.shape[-2:]
    weight = x / x.sum((-2, -1), keepdim=True)
    right, down = torch.arange(width) - (width - 1) / 2, torch.arange(height) - (height - 1) / 2
    return torch.stack([(weight.sum(-2) * right).sum(-1), (weight.sum(-1) * down).sum(-1)], -1)


def spot(n: int, right: int, down: int) -> torch.Tensor:
    """Images of 21 × 31 with a spot of 3 × 3 pixels."""
    x = torch.zeros(n, 1, 21, 31)
    x[:, :, 10 + down - 1 : 10 + down + 2, 15 + right - 1 : 15 + right + 2] = 1
    return x


def test_an_affine_change_turns_and_stretches_about_the_centre() -> None:
    torch.manual_seed(0)
    before = torch.tensor([6.0, 2.0])
    turned = spots(Affine(degrees=30)(spot(200, 6, 2)))[:, 0]
    assert (turned.norm(dim=1) - before.norm()).abs().max() < 0.2, "distances stay, also where wider than high"
    angle = torch.rad2deg(torch.atan2(turned[:, 1], turned[:, 0]) - torch.atan2(before[1], before[0]))
    assert angle.min() < -25
    assert angle.max() > 25
    assert angle.abs().max() < 32
    stretched = spots(Affine(stretch=0.2)(spot(200, 6, 2)))[:, 0] / before
    assert stretched.min() > math.exp(-0.2) - 0.05
    assert stretched.max() < math.exp(0.2) + 0.05
    assert stretched.std(0).min() > 0.05, "both axes are stretched"
    assert stretched.T.corrcoef()[0, 1].abs() < 0.3, "each on its own"


def test_an_affine_change_shears_and_moves() -> None:
    torch.manual_seed(0)
    sheared = spots(Affine(shear=0.3)(spot(200, 0, 5)))[:, 0]
    assert (sheared[:, 1] - 5).abs().max() < 0.1
    assert 1.2 < sheared[:, 0].abs().max() < 1.7
    moved = spots(Affine(pixels=3)(spot(200, 0, 0)))[:, 0]
    assert moved.abs().max() < 3.1
    assert (moved.amax(0) > 2.5).all()
    assert (moved.amin(0) < -2.5).all()


def test_frames_of_a_recording_change_as_one_and_recordings_on_their_own() -> None:
    torch.manual_seed(0)
    x = images().mul(255).byte()
    frames = Affine(degrees=20, stretch=0.1, shear=0.1, pixels=1)(x.unsqueeze(1).repeat(1, 3, 1, 1, 1))
    assert frames.dtype == torch.float32
    assert torch.equal(frames[:, 0], frames[:, 2])
    same = Affine(degrees=20)(x[:1].repeat(4, 1, 1, 1))
    assert not torch.equal(same[0], same[1])


def test_an_affine_change_has_something_to_change() -> None:
    for given in ({}, {"degrees": -1}, {"stretch": 3}, {"pixels": float("nan")}):
        with pytest.raises(RangeError):
            Affine(**given)


def test_what_is_no_image_is_refused() -> None:
    for change in (Flip(), Shift(1), Affine(degrees=1)):
        with pytest.raises(ShapeError):
            change(torch.zeros(3, 5))
    with pytest.raises(RangeError):
        Shift(0)
