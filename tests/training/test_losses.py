"""Losses equal snnTorch's where they share a formula, and refuse what is no output or no label."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.training.losses import (
    AnytimeCrossEntropy,
    Loss,
    MembraneCrossEntropy,
    RateCrossEntropy,
    SnnTorchLoss,
    SpikeCountError,
    TemporalEfficient,
)
from spikeport.training.penalties import RateBounds, SpikeSparsity

STEPS, BATCH, CLASSES = 7, 5, 10
OURS: list[Loss] = [
    RateCrossEntropy(),
    RateCrossEntropy(gain=5.0, label_smoothing=0.1),
    TemporalEfficient(),
    TemporalEfficient(weight=0.3, level=0.5, gain=2.0),
    SpikeCountError(0.8, 0.1),
    MembraneCrossEntropy(),
    AnytimeCrossEntropy(),
    AnytimeCrossEntropy(gain=3.0, label_smoothing=0.1),
]


def output() -> torch.Tensor:
    return torch.rand(STEPS, BATCH, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def target() -> torch.Tensor:
    return torch.randint(CLASSES, (BATCH,), generator=torch.Generator().manual_seed(2))


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize(
    ("ours", "name", "options"),
    [
        (RateCrossEntropy(gain=float(STEPS)), "ce_count_loss", {}),
        (TemporalEfficient(), "ce_rate_loss", {}),
        (SpikeCountError(0.75, 0.3), "mse_count_loss", {"correct_rate": 0.75, "incorrect_rate": 0.3}),
        (MembraneCrossEntropy(), "ce_max_membrane_loss", {}),
    ],
)
def test_it_equals_snntorch_in_value_and_gradient(ours: Loss, name: str, options: dict[str, float]) -> None:
    values = []
    for loss in (ours, SnnTorchLoss(name, options)):
        y = output().float().requires_grad_()
        value = loss(y, target())
        value.backward()
        assert y.grad is not None
        values.append((value.detach(), y.grad))
    assert_close(values[0], values[1])


@pytest.mark.parametrize("loss", OURS, ids=repr)
def test_gradients_are_those_of_the_formula(loss: Loss) -> None:
    assert torch.autograd.gradcheck(partial(loss, target=target()), (output().requires_grad_(),))


def test_anytime_it_is_the_mean_of_what_each_step_would_have_decided_weighted_by_the_step() -> None:
    y, labels = output(), target()
    each = [RateCrossEntropy()(y[:t], labels) for t in range(1, STEPS + 1)]
    wanted = sum(t * loss for t, loss in enumerate(each, 1)) / sum(range(1, STEPS + 1))
    assert_close(AnytimeCrossEntropy()(y, labels), wanted)


@pytest.mark.parametrize("loss", OURS, ids=repr)
def test_a_batch_weighs_as_its_parts(loss: Loss) -> None:
    y, labels = output(), target()
    parts = 2 / 5 * loss(y[:, :2], labels[:2]) + 3 / 5 * loss(y[:, 2:], labels[2:])
    assert_close(parts, loss(y, labels))


@pytest.mark.parametrize("loss", OURS, ids=repr)
def test_one_step_down_the_gradient_helps(loss: Loss) -> None:
    y = output().requires_grad_()
    before = loss(y, target())
    before.backward()
    assert y.grad is not None
    assert loss(y.detach() - 1e-3 * y.grad, target()) < before
    assert loss.scores(y.detach()).shape == (BATCH, CLASSES)


@pytest.mark.parametrize("loss", OURS, ids=repr)
@pytest.mark.parametrize(
    ("y", "labels", "wanted"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 1]), "time, batch, classes"),
        (torch.zeros(0, 2, 3), torch.tensor([0, 1]), "at least one step"),
        (torch.zeros(4, 2, 3), torch.tensor([0, 1, 2]), "class numbers"),
        (torch.zeros(4, 2, 3), torch.eye(3)[:2], "argmax"),
        (torch.zeros(4, 2, 3), torch.tensor([0.0, 1.0]), "class numbers"),
    ],
)
def test_what_is_no_output_or_no_target_is_refused(
    loss: Loss, y: torch.Tensor, labels: torch.Tensor, wanted: str
) -> None:
    with pytest.raises(ShapeError, match=wanted):
        loss(y, labels)


@pytest.mark.parametrize("loss", OURS, ids=repr)
@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_out_of_range_is_refused(loss: Loss, wrong: int) -> None:
    with pytest.raises(RangeError, match=r"3 outputs, so 0 to 2"):
        loss(torch.zeros(4, 2, 3), torch.tensor([0, wrong]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateCrossEntropy(gain=0.0),
        lambda: RateCrossEntropy(label_smoothing=float("nan")),
        lambda: AnytimeCrossEntropy(gain=-1.0),
        lambda: TemporalEfficient(weight=1.5),
        lambda: SpikeCountError(correct_rate=-0.1),
        lambda: RateBounds(0.5, 0.2),
        lambda: SpikeSparsity(-1.0),
    ],
)
def test_an_option_out_of_range_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RangeError):
        make()


@pytest.mark.needs("snntorch")
def test_a_loss_that_snntorch_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(RangeError, match="ce_rate_loss"):
        SnnTorchLoss("ce_loss")
    with pytest.raises(RangeError, match="speed"):
        SnnTorchLoss("ce_rate_loss", {"speed": 1})


@pytest.mark.needs("snntorch")
def test_a_temporal_loss_decides_for_the_first_spike() -> None:
    spikes = torch.zeros(4, 1, 3)
    spikes[2, 0, 1] = spikes[3, 0, 2] = 1.0
    loss = SnnTorchLoss("mse_temporal_loss")
    assert loss.scores(spikes).argmax(1).tolist() == [1]
    assert loss(spikes, torch.tensor([1])).ndim == 0


@pytest.mark.needs("snntorch")
def test_sparsity_equals_snntorchs_on_one_sample() -> None:
    from snntorch.functional import reg

    spikes = (torch.rand(6, 1, 4) < 0.5).float()
    assert_close(SpikeSparsity(0.1)({"layer": spikes}), reg.l1_rate_sparsity(0.1)(spikes))


def test_rate_bounds_pull_silent_units_up_and_busy_ones_down() -> None:
    spikes = torch.tensor([0.0, 0.3, 1.0]).expand(4, 2, 3).clone().requires_grad_()
    RateBounds(0.1, 0.5)({"layer": spikes}).backward()
    assert spikes.grad is not None
    assert spikes.grad[0, 0].sign().tolist() == [-1.0, 0.0, 1.0]
    assert RateBounds()({}).item() == 0.0
