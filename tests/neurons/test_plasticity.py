"""Both rules give the sum over pairs and triplets of spikes that their papers write down, and keep a layer's laws."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spikeport import RangeError, ShapeError, neurons

PAIR = {"a_plus": 0.7, "a_minus": 0.4, "decay_plus": 0.8, "decay_minus": 0.9}
AMPLITUDES, DECAYS = (0.5, 0.3, 0.8, 0.2), (0.8, 0.95, 0.7, 0.9)


def pair() -> neurons.PairSTDP:
    return neurons.PairSTDP(**PAIR)


def triplet() -> neurons.TripletSTDP:
    return neurons.TripletSTDP(AMPLITUDES, DECAYS)


@pytest.fixture(params=[pair, triplet])
def rule(request: pytest.FixtureRequest) -> torch.nn.Module:
    return request.param()


@pytest.fixture
def trains() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple((torch.rand(30, 3, n, generator=generator) < 0.2).double() for n in (4, 2))


def times(train: Tensor) -> list[int]:
    return train.nonzero().flatten().tolist()


def test_the_pair_rule_is_the_sum_over_all_pairs(trains: tuple[Tensor, Tensor]) -> None:
    pre, post = trains
    wanted = torch.zeros(2, 4, dtype=torch.float64)
    for n, o, i in itertools.product(range(3), range(2), range(4)):
        for a, b in itertools.product(times(pre[:, n, i]), times(post[:, n, o])):
            if b > a:
                wanted[o, i] += PAIR["a_plus"] * PAIR["decay_plus"] ** (b - a)
            elif a > b:
                wanted[o, i] -= PAIR["a_minus"] * PAIR["decay_minus"] ** (a - b)
    assert_close(pair()(pre, post)[0], wanted)


def test_the_triplet_rule_is_the_sum_over_all_pairs_and_triplets(trains: tuple[Tensor, Tensor]) -> None:
    pre, post = trains
    a2_plus, a2_minus, a3_plus, a3_minus = AMPLITUDES
    plus, x, minus, y = DECAYS
    wanted = torch.zeros(2, 4, dtype=torch.float64)
    for n, o, i in itertools.product(range(3), range(2), range(4)):
        before, after = times(pre[:, n, i]), times(post[:, n, o])
        for t in after:
            r1 = sum(plus ** (t - a) for a in before if a < t)
            wanted[o, i] += r1 * (a2_plus + a3_plus * sum(y ** (t - b) for b in after if b < t))
        for t in before:
            o1 = sum(minus ** (t - b) for b in after if b < t)
            wanted[o, i] -= o1 * (a2_minus + a3_minus * sum(x ** (t - a) for a in before if a < t))
    assert_close(triplet()(pre, post)[0], wanted)


def test_without_triplets_the_triplet_rule_is_the_pair_rule(trains: tuple[Tensor, Tensor]) -> None:
    values = PAIR.values()
    a_plus, a_minus, decay_plus, decay_minus = values
    rule = neurons.TripletSTDP((a_plus, a_minus, 0.0, 0.0), (decay_plus, 0.5, decay_minus, 0.5))
    assert_close(rule(*trains)[0], pair()(*trains)[0])


def before(period: int) -> Tensor:
    """60 spikes, one a period."""
    train = torch.zeros(60 * period, 1, 1)
    train[::period] = 1
    return train


def after(period: int) -> Tensor:
    """The same, 10 steps later."""
    return before(period).roll(10, 0)


def test_only_triplets_care_how_often_pairs_come() -> None:
    """60 pairs, 10 ms from pre to post: faster pairing strengthens more, as in the experiments of the source."""
    rule = neurons.TripletSTDP.from_time_constant(
        (0.0168, 0.101, 0.0337, 0.125), 0.001, amplitudes=(0.0, 0.007, 0.0062, 0.0002)
    )
    changes = [rule(before(period), after(period))[0].item() for period in (1000, 100, 50, 20)]
    assert changes == sorted(changes)
    assert 0 <= changes[0] < 0.01 * changes[-1]
    pairs = neurons.PairSTDP.from_time_constant(0.0168, 0.0337, 0.001, a_plus=0.007, a_minus=0.007)
    slow, fast = (pairs(*(train(period) for train in (before, after)))[0].item() for period in (1000, 20))
    assert fast < slow, "with pairs alone it is the other way round"


def test_spikes_of_one_step_change_nothing_together(rule: torch.nn.Module) -> None:
    both = torch.zeros(5, 1, 1)
    both[2] = 1
    assert rule(both, both)[0].item() == 0


@pytest.mark.parametrize("cut", [1, 17, 29])
def test_splitting_time_changes_nothing(rule: torch.nn.Module, trains: tuple[Tensor, Tensor], cut: int) -> None:
    pre, post = trains
    whole, end = rule(pre, post)
    first, state = rule(pre[:cut], post[:cut])
    rest, state = rule(pre[cut:], post[cut:], state)
    assert_close(first + rest, whole)
    assert_close(tuple(state), tuple(end))


def test_a_batch_gives_the_sum_of_its_samples(rule: torch.nn.Module, trains: tuple[Tensor, Tensor]) -> None:
    pre, post = trains
    whole, end = rule(pre, post)
    parts = [rule(pre[:, n : n + 1], post[:, n : n + 1]) for n in range(3)]
    assert_close(sum(update for update, _ in parts), whole)
    for k, part in enumerate(end):
        assert_close(torch.cat([state[k] for _, state in parts]), part)


def test_no_spike_no_change_and_nothing_is_kept(rule: torch.nn.Module, trains: tuple[Tensor, Tensor]) -> None:
    update, state = rule(*(torch.zeros_like(train) for train in trains))
    assert update.count_nonzero() == sum(part.count_nonzero() for part in state) == 0
    first = rule(*trains)[0]
    assert torch.equal(rule(*trains)[0], first)
    assert rule.state_dict() == {}


def test_no_gradient_flows_through_a_rule(rule: torch.nn.Module, trains: tuple[Tensor, Tensor]) -> None:
    assert not rule(trains[0].requires_grad_(), trains[1])[0].requires_grad


def test_input_that_does_not_fit_is_refused(rule: torch.nn.Module, trains: tuple[Tensor, Tensor]) -> None:
    pre, post = trains
    _, state = rule(pre, post)
    for wrong in ((pre[:, :2], post), (pre[:5], post), (pre[..., 0], post[..., 0]), (pre[:0], post[:0])):
        with pytest.raises(ShapeError):
            rule(*wrong)
    with pytest.raises(ShapeError, match="make a fresh one"):
        rule(pre[:, :2], post[:, :2], state)
    with pytest.raises(RangeError, match="floating"):
        rule(pre.int(), post)


def test_a_synapse_learns_which_of_its_inputs_come_before_it_fires() -> None:
    """Weights of inputs in front of the neuron's forced spikes end at the upper bound, those behind at the lower."""
    rule = neurons.PairSTDP.from_time_constant(0.02, 0.02, 0.001, a_plus=0.02, a_minus=0.02)
    weight, state = torch.full((1, 2), 0.5), None
    for _ in range(40):
        pre, post = torch.zeros(60, 1, 2), torch.zeros(60, 1, 1)
        pre[20, 0, 0], post[25], pre[30, 0, 1] = 1, 1, 1
        update, state = rule(pre, post, state)
        weight = neurons.bounded(weight, update, 0.0, 1.0)
    assert weight[0].tolist() == pytest.approx([1.0, 0.0], abs=0.1)
