from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    DynamicConfidence,
    Margin,
    MaxSoftmax,
    NormalisedEntropy,
    Score,
    decide,
    exit_curve,
    oracle,
)
from spikeport.inference.sweep import _midway

SCORES = [MaxSoftmax(20.0), Margin(20.0), NormalisedEntropy(8.0), MaxSoftmax(0.01)]
Simulate = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture
def swept(simulate: Simulate) -> tuple[Tensor, Tensor]:
    outputs, labels = simulate(40, 10, margin=5.0)
    return (outputs / 4).round() * 4, labels  # rounding makes equal confidences


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_the_curve_is_what_deciding_at_each_threshold_gives(score: Score, swept: tuple[Tensor, Tensor]) -> None:
    outputs, labels = swept
    curve = exit_curve(score, outputs, labels)
    full = outputs[-1].argmax(-1) == labels
    for k in range(0, len(curve.threshold), 3):
        decided = decide(DynamicConfidence(score, float(curve.threshold[k])), outputs)
        right = decided.label == labels
        assert int(decided.steps.sum()) == int(curve.steps[k])
        assert int((full & ~right).sum()) == int(curve.lost[k])
        assert int((right & ~full).sum()) == int(curve.gained[k])
        assert float(curve.accuracy[k]) == pytest.approx(right.double().mean().item())


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_the_curve_misses_no_threshold(score: Score, swept: tuple[Tensor, Tensor]) -> None:
    outputs, labels = swept
    curve = exit_curve(score, outputs, labels)
    for threshold in torch.linspace(0.001, 1, 57, dtype=torch.float64):
        steps = int(decide(DynamicConfidence(score, float(threshold)), outputs).steps.sum())
        assert steps in curve.steps.tolist()


def test_the_curve_runs_from_the_full_run_to_the_first_step(swept: tuple[Tensor, Tensor]) -> None:
    curve = exit_curve(MaxSoftmax(20.0), *swept)
    assert curve.mean_steps[0] == 10
    assert curve.mean_steps[-1] == 1
    assert bool((curve.threshold.diff() < 0).all())
    assert bool((curve.mean_steps.diff() < 0).all())


def test_a_single_step_has_a_single_point(swept: tuple[Tensor, Tensor]) -> None:
    curve = exit_curve(MaxSoftmax(), swept[0][:1], swept[1])
    assert curve.mean_steps.tolist() == [1.0]


def test_between_neighbouring_numbers_the_lower_is_taken() -> None:
    high = torch.tensor([0.5], dtype=torch.float64)
    low = torch.nextafter(high, torch.zeros_like(high))
    lower = torch.nextafter(low, torch.zeros_like(low))
    for pair in ([high, low], [low, lower]):
        value = torch.cat(pair)
        assert value[1] <= _midway(value)[1] < value[0]


def test_the_oracle_is_at_least_as_good_as_every_rule(swept: tuple[Tensor, Tensor]) -> None:
    bound = oracle(*swept)
    for score in SCORES:
        curve = exit_curve(score, *swept)
        assert float(curve.accuracy.max()) <= bound.accuracy
    assert bound.mean_steps <= bound.mean_steps_never_correct_charged_full


def test_the_oracle_charges_samples_that_are_never_right_both_ways() -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    outputs = torch.tensor([[wrong, wrong, right], [right, wrong, wrong], [wrong, wrong, wrong]])
    bound = oracle(outputs, torch.zeros(3, dtype=torch.int64))
    assert bound == pytest.approx((2 / 3, (2 + 1 + 1) / 3, (2 + 3 + 1) / 3))


def test_labels_that_do_not_belong_are_refused(swept: tuple[Tensor, Tensor]) -> None:
    outputs, labels = swept
    with pytest.raises(ShapeError, match="one label a sample"):
        exit_curve(MaxSoftmax(), outputs, labels[:-1])
    for bad in (labels + 10, labels - 10, labels.double()):
        with pytest.raises(RangeError, match="whole numbers from 0 to 9"):
            exit_curve(MaxSoftmax(), outputs, bad)
