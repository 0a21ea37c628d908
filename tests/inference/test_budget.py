import math

import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.inference import BudgetAlarm, calibrate_alarm


def stream(n: int, mean: float, seed: int) -> torch.Tensor:
    return 1 + torch.poisson(torch.full((n,), mean - 1), generator=torch.Generator().manual_seed(seed)).long()


def test_false_alarms_are_as_rare_as_promised() -> None:
    alarm = calibrate_alarm(stream(2000, 4.0, 0), horizon=300, false_alarms=0.05)
    rang = sum(alarm.watch(stream(300, 4.0, seed)).rang is not None for seed in range(1, 201))
    assert rang <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


def test_it_rings_soon_when_samples_take_longer() -> None:
    alarm = calibrate_alarm(stream(2000, 4.0, 0), horizon=300, false_alarms=0.01)
    rang = [alarm.watch(stream(300, 8.0, seed)).rang for seed in range(20)]
    assert all(at is not None and at < 30 for at in rang)


def test_samples_that_take_less_never_ring_and_leave_nothing_owed() -> None:
    alarm = calibrate_alarm(stream(500, 4.0, 0))
    assert alarm.watch(torch.ones(1000)) == (0.0, None)


@pytest.mark.parametrize("cut", [1, 40, 99])
def test_a_stream_may_be_cut_anywhere(cut: int) -> None:
    alarm, steps = BudgetAlarm(3.0, 1e9), stream(100, 4.0, 3)
    first = alarm.watch(steps[:cut])
    assert alarm.watch(steps[cut:], first.level) == alarm.watch(steps)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BudgetAlarm(math.nan, 1.0),
        lambda: BudgetAlarm(1.0, 0.0),
        lambda: BudgetAlarm(1.0, 1.0).watch(torch.tensor([1, 0])),
        lambda: calibrate_alarm(torch.ones(9)),
        lambda: calibrate_alarm(torch.ones(20), false_alarms=1.0),
        lambda: calibrate_alarm(torch.ones(20), slack=-1.0),
        lambda: calibrate_alarm(torch.ones(20), horizon=0),
    ],
)
def test_senseless_values_are_refused(make) -> None:
    with pytest.raises(RangeError):
        make()


def test_steps_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError):
        calibrate_alarm(torch.ones(20, 2))
