import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    AnyRule,
    Delayed,
    DynamicConfidence,
    FixedSteps,
    Margin,
    MaxSoftmax,
    MeanProbability,
    NormalisedEntropy,
    Recalled,
    cumulative_outputs,
    decide,
    iterate_decisions,
    patience,
    run_fixed,
    run_with_exit,
)

RULES: list[AnyRule] = [
    DynamicConfidence(MaxSoftmax(8.0), 0.8),
    DynamicConfidence(Margin(8.0), 0.6),
    DynamicConfidence(NormalisedEntropy(8.0), 0.5),
    DynamicConfidence(MaxSoftmax(8.0), 1.0),
    DynamicConfidence(MaxSoftmax(8.0), 0.0),
    FixedSteps(7),
    FixedSteps(20),
    patience(4),
    Delayed(patience(2), 6),
    Recalled(MeanProbability(8.0, 3.0), 0.5),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("can_refill", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "chunk", "cost"),
    [(1, 10, 1.0), (1, 4, 1.0), (8, 3, 0.0), (16, 4, 1.0), (16, 7, math.inf), (200, 20, 0.5), (97, 64, 1.0)],
)
def test_decisions_are_those_of_the_cached_outputs(
    toy, x: Tensor, rule: AnyRule, can_refill: bool, batch_size: int, chunk: int, cost: float
) -> None:
    """Batch size, chunk, refilling and its price change nothing."""
    wanted = decide(rule, cumulative_outputs(toy(), x))
    run = run_with_exit(toy(chunk=chunk, can_refill=can_refill), x, rule, batch_size=batch_size, exchange_cost=cost)
    assert torch.equal(run.label, wanted.label)
    assert torch.equal(run.steps, wanted.steps)
    assert torch.equal(run.confidence, wanted.confidence)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 4), (8, 3), (16, 1), (40, 7), (200, 4)])
def test_putting_samples_in_free_places_changes_no_decision(
    toy, putting, x: Tensor, rule: AnyRule, batch_size: int, chunk: int
) -> None:
    wanted = decide(rule, cumulative_outputs(toy(), x))
    engine, before = putting(chunk=chunk), x.clone()
    run = run_with_exit(engine, x, rule, batch_size=batch_size)
    for found, expected in zip(run, wanted, strict=False):
        assert torch.equal(found, expected)
    assert int(run.steps_computed.sum()) == engine.computed
    assert int(run.steps_computed.max()) < 20 + chunk
    assert torch.equal(x, before)


def test_while_samples_wait_nobody_is_copied(putting, x: Tensor) -> None:
    engine = putting(chunk=2)
    run_with_exit(engine, x, RULES[0], batch_size=8)
    assert engine.puts > engine.exchanges > 0


@pytest.mark.parametrize("can_refill", [True, False])
def test_the_order_of_samples_changes_no_decision(toy, x: Tensor, can_refill: bool) -> None:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    plain = run_with_exit(toy(can_refill=can_refill), x, RULES[0], batch_size=8)
    shuffled = run_with_exit(toy(can_refill=can_refill), x[order], RULES[0], batch_size=8)
    for before, after in list(zip(plain, shuffled, strict=True))[:3]:
        assert torch.equal(before[order], after)


def test_a_longer_window_never_changes_an_earlier_decision(toy, x: Tensor) -> None:
    short = run_with_exit(toy(10), x, RULES[0], batch_size=8)
    long = run_with_exit(toy(40), x, RULES[0], batch_size=8)
    early = long.steps < 10
    assert 0 < int(early.sum()) < len(x)
    assert torch.equal(short.steps[early], long.steps[early])
    assert torch.equal(short.label[early], long.label[early])


@pytest.mark.parametrize("can_refill", [True, False])
@pytest.mark.parametrize("cost", [0.0, 1.0, math.inf])
@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_every_computed_step_is_counted(toy, x: Tensor, can_refill: bool, cost: float, chunk: int) -> None:
    engine = toy(chunk=chunk, can_refill=can_refill)
    run = run_with_exit(engine, x, RULES[0], batch_size=16, exchange_cost=cost)
    assert int(run.steps_computed.sum()) == engine.computed
    assert bool((run.steps_computed >= run.steps).all())
    assert int(run.steps_computed.max()) < 20 + chunk
    assert engine.widest == 16


def test_free_exchange_computes_the_rest_of_a_chunk_and_no_more(toy, x: Tensor) -> None:
    run = run_with_exit(toy(chunk=4), x, RULES[0], batch_size=16, exchange_cost=0.0)
    assert torch.equal(run.steps_computed, (run.steps + 3) // 4 * 4)


def test_refilling_saves_work_and_its_price_holds_it_back(toy, x: Tensor) -> None:
    engines = [toy(chunk=2) for _ in range(4)]
    for engine, cost in zip(engines, (0.0, 1.0, 4.0, math.inf), strict=True):
        run_with_exit(engine, x, RULES[0], batch_size=16, exchange_cost=cost)
    assert all(a.exchanges > b.exchanges for a, b in pairwise(engines))
    assert all(a.computed < b.computed for a, b in pairwise(engines))
    assert engines[-1].exchanges == 0


@pytest.mark.parametrize("rule", [DynamicConfidence(MaxSoftmax(8.0), 1.0), FixedSteps(8)], ids=str)
def test_where_all_end_together_no_state_is_copied_and_no_step_wasted(toy, x: Tensor, rule: AnyRule) -> None:
    engine = toy()
    run = run_with_exit(engine, x, rule, batch_size=16)
    assert engine.exchanges == 0
    assert torch.equal(run.steps_computed, run.steps)


def test_iterating_yields_every_sample_once_and_the_sure_ones_first(toy, x: Tensor) -> None:
    run = run_with_exit(toy(), x, RULES[0], batch_size=len(x))
    yielded = list(iterate_decisions(toy(), x, RULES[0], batch_size=len(x)))
    assert sorted(i for i, _ in yielded) == list(range(len(x)))
    for i, decision in yielded:
        assert decision == (run.label[i], run.steps[i], run.confidence[i])
    chunks = [(decision.steps - 1) // 4 for _, decision in yielded]
    assert chunks == sorted(chunks)


def test_progress_rises_to_all(toy, x: Tensor) -> None:
    for run in (
        lambda report: run_with_exit(toy(), x, RULES[0], batch_size=16, progress=report),
        lambda report: run_fixed(toy(), x, 5, batch_size=16, progress=report),
        lambda report: cumulative_outputs(toy(), x, batch_size=16, progress=report),
    ):
        seen: list[tuple[int, int]] = []
        run(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1] == (97, 97)


@pytest.mark.parametrize(("batch_size", "chunk"), [(1, None), (16, 3), (200, 20), (16, 100)])
def test_a_fixed_run_is_a_slice_of_the_outputs(toy, x: Tensor, batch_size: int, chunk: int | None) -> None:
    outputs = cumulative_outputs(toy(), x)
    assert outputs.shape == (20, 97, 5)
    assert torch.equal(cumulative_outputs(toy(), x, 9, batch_size=batch_size, chunk=chunk), outputs[:9])
    for steps in (1, 9, 20):
        label = run_fixed(toy(can_refill=False), x, steps, batch_size=batch_size, chunk=chunk)
        assert torch.equal(label, outputs[steps - 1].argmax(-1))


def test_bad_input_is_refused_before_work(toy, x: Tensor) -> None:
    rule = RULES[0]
    for run in (run_with_exit, iterate_decisions):
        with pytest.raises(ShapeError, match="at least one sample"):
            run(toy(), x[:0], rule)
        with pytest.raises(RangeError, match="batch_size is 0"):
            run(toy(), x, rule, batch_size=0)
        with pytest.raises(RangeError, match="asks for 21 steps"):
            run(toy(), x, FixedSteps(21))
        with pytest.raises(RangeError, match="exchange_cost"):
            run(toy(), x, rule, exchange_cost=math.nan)
        with pytest.raises(RangeError, match="chunk 0"):
            run(toy(chunk=0), x, rule)
    for run in (run_fixed, cumulative_outputs):
        with pytest.raises(ShapeError, match="at least one sample"):
            run(toy(), x[:0], 3)
        with pytest.raises(RangeError, match="batch_size is -1"):
            run(toy(), x, 3, batch_size=-1)
        with pytest.raises(RangeError, match="chunk is 0"):
            run(toy(), x, 3, chunk=0)
        for steps in (0, 21):
            with pytest.raises(RangeError, match=f"asks for {steps} steps"):
                run(toy(), x, steps)


@pytest.mark.parametrize("can_refill", [True, False])
def test_nan_in_the_output_is_refused(toy, x: Tensor, can_refill: bool) -> None:
    x[40, 2] = math.nan
    engine = toy(can_refill=can_refill)
    with pytest.raises(RangeError, match="NaN"):
        run_with_exit(engine, x, RULES[0], batch_size=16)
    with pytest.raises(RangeError, match="NaN"):
        run_fixed(engine, x, 3)
    with pytest.raises(RangeError, match="NaN"):
        cumulative_outputs(engine, x)


def test_a_misshapen_output_is_refused(toy, x: Tensor) -> None:
    class Last(toy):
        def advance(self, x, state, steps):
            output, state = super().advance(x, state, steps)
            return output[-1:], state

    for run in (run_with_exit, iterate_decisions):
        with pytest.raises(ShapeError, match="cumulative output of every step"):
            list(run(Last(), x, RULES[0]))
    with pytest.raises(ShapeError, match=r"\(4, 64, classes\) was wanted"):
        run_fixed(Last(), x, 8)


def test_an_error_of_the_engine_comes_through(toy, x: Tensor) -> None:
    class Failing(toy):
        def select(self, state, index):
            raise ConnectionError("the chip is gone")

    with pytest.raises(ConnectionError, match="the chip is gone"):
        run_with_exit(Failing(), x, RULES[0], batch_size=16)
