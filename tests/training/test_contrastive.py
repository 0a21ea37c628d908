"""Projections bring together what belongs together, and retrieval is measured as it says."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.training.contrastive import (
    ContrastiveSettings,
    clip_loss,
    fit_projections,
    retrieval,
    soft_clip_loss,
)


def modality(seed: int, width: int) -> tuple[Tensor, Tensor]:
    """Forty samples of four classes around random centres."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % 4
    return torch.randn(4, width, generator=generator)[labels] + 0.1 * torch.randn(
        40, width, generator=generator
    ), labels


def test_the_loss_of_pairs_that_are_all_alike_is_that_of_guessing() -> None:
    same = torch.ones(8, 5)
    assert clip_loss(same, same, 0.1).item() == pytest.approx(math.log(8), rel=1e-5)
    assert soft_clip_loss(same, same, 0.1).item() == pytest.approx(math.log(8), rel=1e-5)


@pytest.mark.parametrize("loss", [clip_loss, soft_clip_loss])
def test_the_order_of_pairs_and_of_modalities_changes_nothing(loss: object) -> None:
    first, second = modality(0, 6)[0], modality(1, 6)[0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    value = loss(first, second, 0.2)  # type: ignore[operator]
    assert_close(loss(first[order], second[order], 0.2), value)  # type: ignore[operator]
    assert_close(loss(second, first, 0.2), value)  # type: ignore[operator]
    assert_close(loss(3 * first, second, 0.2), value)  # type: ignore[operator]


@pytest.mark.parametrize("soft", [False, True])
def test_what_belongs_together_is_found_in_both_directions(soft: bool) -> None:
    seen, heard = modality(0, 6), modality(1, 9)
    made = fit_projections(seen, heard, ContrastiveSettings(width=4, steps=200, learning_rate=1e-2, soft=soft))
    first, second = (made.of_first(seen[0]), seen[1]), (made.of_second(heard[0]), heard[1])
    assert bool(retrieval(second, first).all())
    assert bool(retrieval(first, second).all())
    assert_close(first[0].norm(dim=1), torch.ones(40))


def test_the_same_seed_gives_the_same_projections() -> None:
    one, two = (fit_projections(modality(0, 6), modality(1, 9), ContrastiveSettings(steps=5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_vectors_that_say_nothing_are_found_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    query = (torch.randn(4000, 8, generator=generator), torch.arange(4000) % 5)
    gallery = (torch.randn(50, 8, generator=generator), torch.arange(50) % 5)
    assert float(retrieval(query, gallery).double().mean()) == pytest.approx(1 / 5, abs=0.03)


def test_bad_input_is_refused() -> None:
    features, labels = modality(0, 6)
    with pytest.raises(ShapeError, match="make no pairs"):
        clip_loss(features, features[:5], 0.1)
    with pytest.raises(ShapeError, match="do not go with"):
        fit_projections((features, labels[:20]), (features, labels))
    with pytest.raises(RangeError, match="must have the same"):
        fit_projections((features, labels), (features, labels.clamp(max=2)))
    with pytest.raises(RangeError, match="temperature"):
        fit_projections((features, labels), (features, labels), ContrastiveSettings(temperature=0.0))
    with pytest.raises(RangeError, match="holds nothing"):
        retrieval((features, labels), (features[:2], labels[:2]))
