import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    DynamicConfidence,
    FixedSteps,
    MaxSoftmax,
    accuracy,
    accuracy_by_step,
    accuracy_interval,
    decide,
    interleaved_medians,
    mean_interval,
    paired_difference_interval,
    percentile_steps,
    smallest_fixed_steps_of_equal_accuracy,
    speedup_steps,
    steps_within,
)

Simulate = Callable[..., tuple[Tensor, Tensor]]
Data = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def data(simulate: Simulate) -> Data:
    return simulate(800, seed=4)


def test_accuracy_by_step_is_the_accuracy_of_each_fixed_run(data: Data) -> None:
    outputs, labels = data
    by_step = accuracy_by_step(outputs, labels)
    assert by_step.tolist() == [accuracy(decide(FixedSteps(t), outputs).label, labels) for t in range(1, 33)]


def test_the_interval_of_an_accuracy_covers_the_truth_as_often_as_it_says() -> None:
    draws = torch.binomial(torch.full((4000,), 200.0), torch.tensor(0.97), generator=torch.Generator().manual_seed(0))
    intervals = [accuracy_interval(k / 200, 200) for k in draws.tolist()]
    assert 0.93 < sum(low <= 0.97 <= high for low, high in intervals) / 4000 < 0.98


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_interval_of_a_clean_sweep_is_not_a_point(fraction: float) -> None:
    low, high = accuracy_interval(fraction, 20)
    assert 0.0 <= low < high <= 1.0


def test_bootstrap_agrees_with_theory_and_with_itself() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    estimate = mean_interval(values, seed=5)
    half = 1.96 * float(values.std()) / math.sqrt(2000)
    assert estimate.n == 2000
    assert estimate.value == pytest.approx(float(values.mean()))
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.15)
    assert estimate == mean_interval(values, seed=5)
    assert estimate != mean_interval(values, seed=6)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.zeros(1000, dtype=torch.int64)
    first = (torch.rand(1000, generator=g) < 0.3).long()
    second = torch.where(torch.rand(1000, generator=g) < 0.02, 1 - first, first)
    estimate = paired_difference_interval(first, second, labels)
    assert estimate.value == pytest.approx(accuracy(first, labels) - accuracy(second, labels))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.high - estimate.low < 0.03
    assert paired_difference_interval(first, first, labels)[:3] == (0.0, 0.0, 0.0)


def test_the_smallest_fixed_steps_are_where_the_accuracy_first_arrives() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    outputs = torch.zeros(4, 10, 2)
    for t, wrong in enumerate((6, 2, 3, 1)):  # accuracy 0.4, 0.8, 0.7, 0.9
        outputs[t, :wrong, 1] = 1.0
    for wanted, steps in ((0.4, 1), (0.41, 2), (0.8, 2), (0.8005, 2), (0.85, 4), (0.901, 4), (1.0, 4)):
        assert smallest_fixed_steps_of_equal_accuracy(outputs, labels, wanted) == steps


def test_a_fixed_run_is_no_faster_than_itself(data: Data) -> None:
    outputs, labels = data
    decided = decide(FixedSteps(6), outputs)
    estimate = speedup_steps(outputs, labels, decided.label, decided.steps)
    assert estimate.value <= 1.0
    assert estimate.high <= 1.0


def test_speedup_is_the_ratio_and_its_interval_holds_it(data: Data) -> None:
    outputs, labels = data
    decided = decide(DynamicConfidence(MaxSoftmax(8.0), 0.95), outputs)
    fixed = smallest_fixed_steps_of_equal_accuracy(outputs, labels, accuracy(decided.label, labels))
    estimate = speedup_steps(outputs, labels, decided.label, decided.steps)
    assert estimate.value == pytest.approx(fixed / float(decided.steps.double().mean()))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low < estimate.high
    assert estimate.n == 800
    assert estimate == speedup_steps(outputs, labels, decided.label, decided.steps)


@pytest.mark.parametrize(
    ("by_step", "points", "steps"),
    [
        ([0.9, 0.99, 0.99], 1.0, 2),
        ([0.98, 0.99, 0.99], 1.0, 1),
        ([0.99, 0.9, 0.98], 1.0, 3),
        ([0.99, 0.99, 0.9], 1.0, None),
        ([], 1.0, None),
        ([0.5, 0.989], 0.1, 2),
    ],
)
def test_steps_within_is_where_the_accuracy_stays(by_step: list[float], points: float, steps: int | None) -> None:
    assert steps_within(0.99, by_step, points) == steps


def test_percentile_is_the_smallest_step_that_covers_enough() -> None:
    steps = torch.arange(1, 101)
    assert percentile_steps(steps) == 95
    assert percentile_steps(steps[:99]) == 95
    assert percentile_steps(steps, 1.0) == 100
    assert percentile_steps(steps, 0.0) == 1


def test_bad_input_is_refused(data: Data) -> None:
    outputs, labels = data
    with pytest.raises(ShapeError, match="one of each"):
        accuracy(labels[:3], labels)
    with pytest.raises(ShapeError, match="one of each"):
        accuracy(labels[:0], labels[:0])
    with pytest.raises(RangeError, match="fraction"):
        accuracy_interval(97.0, 100)
    with pytest.raises(RangeError, match="0 samples"):
        accuracy_interval(0.5, 0)
    with pytest.raises(RangeError, match="level"):
        mean_interval(torch.ones(3), level=95)
    with pytest.raises(RangeError, match="resamples"):
        mean_interval(torch.ones(3), resamples=0)
    with pytest.raises(RangeError, match="NaN"):
        mean_interval(torch.tensor([1.0, math.nan]))
    with pytest.raises(ShapeError, match="at least one sample"):
        mean_interval(torch.ones(0))
    with pytest.raises(ShapeError, match="counted from 1"):
        speedup_steps(outputs, labels, labels, labels * 0)
    with pytest.raises(ShapeError, match="at least one sample"):
        percentile_steps(torch.ones(0))


def test_functions_take_turns_and_the_median_is_reported() -> None:
    calls: list[str] = []
    times = iter([0, 1, 10, 13, 20, 29, 30, 34, 40, 42, 50, 55])
    medians = interleaved_medians(
        [lambda: calls.append("a"), lambda: calls.append("b")], 3, clock=lambda: float(next(times))
    )
    assert "".join(calls) == "ab" + "ababab"
    assert medians == [2.0, 4.0]
    with pytest.raises(RangeError, match="at least one round"):
        interleaved_medians([], 0)
