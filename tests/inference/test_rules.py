import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    AnyRule,
    ConformalExit,
    Delayed,
    DynamicConfidence,
    Energy,
    FixedSteps,
    Margin,
    MaxSoftmax,
    MeanProbability,
    NormalisedEntropy,
    PerStepThresholds,
    Recalled,
    TopTwoGap,
    ask,
    decide,
    patience,
)

RULES: list[AnyRule] = [
    DynamicConfidence(MaxSoftmax(20.0), 0.7),
    DynamicConfidence(Margin(20.0), 0.5),
    DynamicConfidence(NormalisedEntropy(20.0), 0.6),
    DynamicConfidence(Energy(20.0), 0.9),
    FixedSteps(5),
    PerStepThresholds(MaxSoftmax(20.0), (1.0, 0.9, 0.8, 0.7, 0.6)),
    Delayed(DynamicConfidence(MaxSoftmax(20.0), 0.7), 3),
    TopTwoGap(25.0),
    ConformalExit(20.0, (2, 4, 9), (0.3, 0.4, 0.5), 1, 0.9),
    patience(3),
    Delayed(patience(2), 4),
    Recalled(MeanProbability(20.0, 3.0), 0.5),
]


@pytest.fixture
def outputs() -> Tensor:
    return (10 * torch.randn(12, 40, 5, generator=torch.Generator().manual_seed(1))).cumsum(0)


def test_the_first_step_above_the_threshold_decides_and_equal_is_not_above() -> None:
    score = MaxSoftmax(1.0)
    outputs = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [9.0, 0.0]])[:, None]
    at_two = float(score(outputs[1, 0]))
    assert decide(DynamicConfidence(score, at_two), outputs).steps.tolist() == [3]
    assert decide(DynamicConfidence(score, at_two - 1e-9), outputs).steps.tolist() == [2]
    decided = decide(DynamicConfidence(score, 0.9), outputs)
    assert (decided.steps.item(), decided.label.item()) == (3, 1)
    assert decided.confidence.item() == pytest.approx(score(outputs[2, 0]).item())


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_decisions_equal_a_plain_loop(rule: AnyRule, outputs: Tensor) -> None:
    decided = decide(rule, outputs)
    for i in range(outputs.shape[1]):
        memory = None
        for t in range(len(outputs)):
            one = outputs[t : t + 1, i : i + 1]
            stops, memory = ask(rule, one, torch.tensor([t]), memory)
            if stops.item() or t == len(outputs) - 1:
                break
        assert decided.steps[i] == t + 1
        assert decided.label[i] == one.argmax()
        assert decided.confidence[i].item() == pytest.approx(rule.confidence(one).item())


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_block_stops_where_its_single_steps_do(rule: AnyRule, outputs: Tensor) -> None:
    done = torch.arange(40) % 7
    whole, _ = ask(rule, outputs, done, None)
    assert whole.shape == (12, 40)
    memory, rows = None, []
    for t in range(12):
        row, memory = ask(rule, outputs[t : t + 1], done + t, memory)
        rows.append(row)
    assert torch.equal(whole, torch.cat(rows))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_longer_window_never_changes_an_earlier_decision(rule: AnyRule, outputs: Tensor) -> None:
    short, long = decide(rule, outputs[:8]), decide(rule, outputs)
    early = long.steps < 8
    assert bool(early.any())
    for before, after in zip(short, long, strict=True):
        assert torch.equal(before[early], after[early])
    assert bool((short.steps[~early] == 8).all())


def test_a_higher_threshold_never_stops_earlier(outputs: Tensor) -> None:
    steps = [decide(DynamicConfidence(MaxSoftmax(20.0), t), outputs).steps for t in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert all(bool((a <= b).all()) for a, b in pairwise(steps))
    assert bool((steps[0] == 1).all())
    assert bool((steps[-1] == 12).all())


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
def test_a_threshold_that_is_no_confidence_is_refused(threshold: float) -> None:
    with pytest.raises(RangeError, match="between 0 and 1"):
        DynamicConfidence(MaxSoftmax(), threshold)


def test_steps_outside_the_window_are_refused(outputs: Tensor) -> None:
    with pytest.raises(RangeError, match="count from 1"):
        FixedSteps(0)
    with pytest.raises(RangeError, match="asks for 13 steps"):
        decide(FixedSteps(13), outputs)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2)])
def test_outputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="at least one step"):
        decide(FixedSteps(1), torch.zeros(shape))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_nan_is_refused(rule: AnyRule, outputs: Tensor) -> None:
    with pytest.raises(RangeError, match="NaN"):
        decide(rule, torch.full_like(outputs, math.nan))
