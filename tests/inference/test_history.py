"""Rules that look back: patience and averaged confidence.  Laws of every rule are in test_rules and test_exit."""

import math
from itertools import pairwise

import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    DynamicConfidence,
    MaxSoftmax,
    MeanProbability,
    Recalled,
    RunLength,
    StreamingSession,
    decide,
    patience,
    trace,
)


def one_hot(choices: list[int], classes: int = 3) -> torch.Tensor:
    """Outputs (T, 1, classes) of one sample whose first choice is given; -1: all classes are equal."""
    rows = [torch.full((classes,), 2.0) for _ in choices]
    for row, choice in zip(rows, choices, strict=True):
        if choice >= 0:
            row[choice] += 1
    return torch.stack(rows)[:, None]


@pytest.mark.parametrize(
    ("choices", "runs"),
    [
        ([0, 0, 0, 0], [1, 2, 3, 4]),
        ([1, 1, 0, 0], [1, 2, 1, 2]),
        ([2, 0, 2, 2], [1, 1, 1, 2]),
        ([-1, -1, 0, 0], [0, 0, 1, 2]),
        ([0, -1, 0, 0], [1, 0, 1, 2]),
    ],
)
def test_runs_are_counted_and_a_tie_is_no_choice(choices: list[int], runs: list[int]) -> None:
    found = trace(RunLength(4), one_hot(choices))[:, 0] * 4
    assert found.tolist() == runs


def test_patience_of_one_stops_at_once_and_of_more_than_the_window_never() -> None:
    outputs = one_hot([1, 0, 1, 1])
    assert decide(patience(1), outputs).steps.tolist() == [1]
    assert decide(patience(2), outputs).steps.tolist() == [4]
    assert decide(patience(9), outputs).steps.tolist() == [4]


def test_a_silent_network_never_agrees_with_itself() -> None:
    assert decide(patience(2), torch.zeros(6, 3, 4)).steps.tolist() == [6] * 3


def test_more_patience_never_stops_earlier(simulate) -> None:
    outputs, _ = simulate(300)
    steps = [decide(patience(k), outputs).steps for k in (1, 2, 4, 8)]
    assert all(bool((a <= b).all()) for a, b in pairwise(steps))
    assert steps[0].double().mean() < steps[-1].double().mean() < len(outputs)


def test_the_average_of_one_step_is_dynamic_confidence(simulate) -> None:
    outputs, _ = simulate(200)
    now = decide(DynamicConfidence(MaxSoftmax(20.0), 0.7), outputs)
    for a, b in zip(decide(Recalled(MeanProbability(20.0, 1.0), 0.7), outputs), now, strict=True):
        torch.testing.assert_close(a, b)


def test_a_single_sure_step_does_not_stop_an_average() -> None:
    outputs = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0], [0.0, 60.0], [0.0, 90.0]])[:, None]
    assert decide(DynamicConfidence(MaxSoftmax(1.0), 0.8), outputs).steps.tolist() == [2]
    found = decide(Recalled(MeanProbability(1.0, 2.0), 0.8), outputs)
    assert (found.steps.tolist(), found.label.tolist()) == ([5], [1])


def test_a_session_remembers_from_frame_to_frame_and_forgets_between_samples() -> None:
    class Counter:
        """Its output is the frame."""

        max_steps = 9

        def initial_state(self, batch):
            return None

        def advance(self, x, state, steps):
            return x, None

    frames = torch.cat([one_hot([0, 1, 1]), one_hot([1, 0, 0])])[:, 0]
    decisions = list(StreamingSession(Counter(), patience(2)).push(frames))
    assert [(d.label, d.steps) for d in decisions] == [(1, 3), (0, 3)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: patience(0),
        lambda: RunLength(0),
        lambda: MeanProbability(0.0),
        lambda: MeanProbability(1.0, 0.5),
        lambda: MeanProbability(1.0, math.nan),
        lambda: Recalled(RunLength(3), 1.5),
        lambda: Recalled(RunLength(3), math.nan),
        lambda: decide(patience(2), torch.zeros(3, 2, 1)),
        lambda: decide(Recalled(MeanProbability(1.0), 0.5), torch.zeros(3, 2, 1)),
        lambda: decide(patience(2), torch.full((3, 2, 2), math.nan)),
    ],
)
def test_senseless_values_are_refused(make) -> None:
    with pytest.raises(RangeError):
        make()


def test_a_trace_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError):
        trace(RunLength(3), torch.zeros(3, 4))
