import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    DynamicConfidence,
    ExitCurve,
    Margin,
    MaxSoftmax,
    accuracy,
    accuracy_by_step,
    calibrate_confidence,
    confidence_candidates,
    decide,
    exit_curve,
    pareto_front,
    speedup_steps,
)
from spikeport.inference.calibrate import _last_passing

Simulate = Callable[..., tuple[Tensor, Tensor]]
Data = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def data(simulate: Simulate) -> Data:
    return simulate(1500, seed=1)


def test_calibrating_twice_gives_the_same_rule(data: Data) -> None:
    assert calibrate_confidence(*data) == calibrate_confidence(*data)


def test_the_order_of_samples_changes_nothing(data: Data) -> None:
    outputs, labels = data
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    scores = [MaxSoftmax(10.0), Margin(20.0)]
    again = calibrate_confidence(outputs[:, shuffled], labels[shuffled], scores=scores)
    assert again == calibrate_confidence(outputs, labels, scores=scores)


def test_the_scale_of_the_output_changes_no_decision(data: Data) -> None:
    outputs, labels = data
    plain, scaled = calibrate_confidence(outputs, labels), calibrate_confidence(outputs / 16, labels)
    assert torch.equal(decide(plain, outputs).steps, decide(scaled, outputs / 16).steps)


@pytest.mark.parametrize("max_loss", [0.0, 0.001, 0.01, 0.1])
def test_on_its_own_data_it_loses_at_most_what_is_allowed(data: Data, max_loss: float) -> None:
    outputs, labels = data
    decided = decide(calibrate_confidence(outputs, labels, max_loss=max_loss), outputs)
    full = accuracy(outputs[-1].argmax(-1), labels)
    assert accuracy(decided.label, labels) >= full - max_loss - 1e-12


def test_a_larger_allowance_never_takes_more_steps(data: Data) -> None:
    outputs, _ = data
    losses = (0.0, 0.001, 0.003, 0.01, 0.05, 1.0)
    steps = [decide(calibrate_confidence(*data, max_loss=loss), outputs).steps.double().mean() for loss in losses]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 32
    assert steps[-1] < 1.5


@pytest.mark.parametrize(("n", "times"), [(50, 3.0), (200, 2.0), (800, 1.0)])
def test_little_is_lost_on_new_data_and_steps_are_saved(simulate: Simulate, n: int, times: float) -> None:
    """The fastest threshold that loses nothing on n samples loses more on others, by far more where n is small."""
    outputs, labels = simulate(4_000, seed=2)
    full = float(accuracy_by_step(outputs, labels)[-1])
    lost, naive_lost, speedups = [], [], []
    for seed in range(10):
        part = torch.randperm(4_000, generator=torch.Generator().manual_seed(seed))[:n]
        rule = calibrate_confidence(outputs[:, part], labels[part])
        curve = exit_curve(rule.score, outputs[:, part], labels[part])
        fastest = int((curve.accuracy >= curve.accuracy[0] - 0.001).nonzero().max())
        naive = decide(DynamicConfidence(rule.score, float(curve.threshold[fastest])), outputs)
        decided = decide(rule, outputs)
        lost.append(full - accuracy(decided.label, labels))
        naive_lost.append(full - accuracy(naive.label, labels))
        speedups.append(speedup_steps(outputs, labels, decided.label, decided.steps, resamples=1).value)
    assert sum(lost) / 10 < 0.002
    assert sum(naive_lost) > times * sum(lost)
    assert sum(speedups) / 10 > 2.0


@pytest.mark.parametrize(
    ("lost", "gained", "last"),
    [
        ([0, 0, 0], [0, 0, 0], 2),
        ([0, 2, 0], [0, 0, 0], 0),  # what passes after a failure passes by luck
        ([0, 2, 2], [0, 2, 8], 0),  # no loss in sum, but a standard error of 2
        ([0, 1, 1], [0, 5, 6], 2),  # a gain that outweighs its error
        ([0, 4, 5], [0, 0, 0], 1),  # 4 lost and an error of 2 of the 6 allowed
    ],
)
def test_thresholds_pass_with_their_error_and_up_to_the_first_failure(
    lost: list[int], gained: list[int], last: int
) -> None:
    allowed = 6 if lost[1] == 4 else 1
    curve = ExitCurve(
        torch.tensor([1.0, 0.9, 0.8]), torch.tensor([3, 2, 1]), *map(torch.tensor, (lost, gained)), 900, 1000
    )
    assert _last_passing(curve, allowed / 1000) == last


def test_no_operating_point_beats_one_of_the_front(data: Data) -> None:
    outputs, labels = data
    scores = [MaxSoftmax(8.0), Margin(16.0)]
    front = pareto_front(outputs, labels, scores=scores, limit=10_000)
    pairs = [(point.mean_steps, point.accuracy) for point in front]
    assert pairs == sorted(pairs)
    assert len({a for _, a in pairs}) == len(pairs)
    for curve in (exit_curve(score, outputs, labels) for score in scores):
        for steps, right in zip(curve.mean_steps.tolist()[::50], curve.accuracy.tolist()[::50], strict=True):
            assert any(s <= steps and a >= right for s, a in pairs)


def test_a_point_of_the_front_is_what_its_rule_gives(data: Data) -> None:
    outputs, labels = data
    front = pareto_front(outputs, labels, limit=6)
    assert len(front) == 6
    for point in front:
        decided = decide(point.rule, outputs)
        assert decided.steps.double().mean().item() == pytest.approx(point.mean_steps)
        assert accuracy(decided.label, labels) == pytest.approx(point.accuracy)


def test_one_sample_never_stops_much_too_early(data: Data) -> None:
    outputs, labels = data
    rule = calibrate_confidence(outputs[:, :1], labels[:1])
    assert rule.threshold > 0.99


def test_bad_input_is_refused(data: Data) -> None:
    outputs, labels = data
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(RangeError, match="max_loss"):
            calibrate_confidence(outputs, labels, max_loss=bad)
    with pytest.raises(ShapeError, match="one label a sample"):
        calibrate_confidence(outputs, labels[:5])
    with pytest.raises(ShapeError, match="one step and one sample"):
        calibrate_confidence(outputs[:, :0], labels[:0])
    with pytest.raises(RangeError, match="NaN"):
        calibrate_confidence(outputs.clone().index_fill_(0, torch.tensor([3]), math.nan), labels)
    with pytest.raises(RangeError, match="no score"):
        calibrate_confidence(outputs, labels, scores=[])
    with pytest.raises(RangeError, match="at least 2"):
        pareto_front(outputs, labels, limit=1)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_silent_network_is_refused(classes: int) -> None:
    with pytest.raises(RangeError, match="silent"):
        confidence_candidates(torch.zeros(4, 5, classes))
