import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.inference import Margin, MaxSoftmax, NormalisedEntropy, Score

KINDS = [MaxSoftmax, Margin, NormalisedEntropy]
SCORES = [kind(divisor) for kind in KINDS for divisor in (0.5, 30.0)]


@pytest.fixture
def output() -> Tensor:
    return 20 * torch.randn(6, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_a_score_is_a_number_in_0_to_1_for_each_entry(score: Score, output: Tensor) -> None:
    confidence = score(output)
    assert confidence.shape == (6, 7)
    assert bool(((confidence >= 0) & (confidence <= 1)).all())


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_a_score_ignores_the_order_of_classes_and_a_common_shift(score: Score, output: Tensor) -> None:
    assert_close(score(output[..., [2, 0, 3, 1]]), score(output))
    assert_close(score(output.double() + 5.0), score(output))


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_one_of_a_batch_scores_as_a_batch_of_one(score: Score, output: Tensor) -> None:
    assert_close(score(output)[2, 3], score(output[2, 3]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_that_grows_makes_surer_and_a_larger_divisor_less_sure(kind: type[MaxSoftmax]) -> None:
    gaps = torch.tensor([[1.0, 2.0, 4.0, 8.0], [0.0] * 4, [0.0] * 4]).T
    assert bool((kind(2.0)(gaps).diff() > 0).all())
    assert bool((kind(2.0)(gaps) > kind(4.0)(gaps)).all())


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.floats(0.1, 100))
def test_scores_equal_their_formulas(output: list[float], divisor: float) -> None:
    weights = [math.exp((v - max(output)) / divisor) for v in output]
    p = sorted((w / sum(weights) for w in weights), reverse=True)
    entropy = -sum(q * math.log(q) for q in p if q > 0) / math.log(len(p))
    tensor = torch.tensor(output, dtype=torch.float64)
    assert MaxSoftmax(divisor)(tensor).item() == pytest.approx(p[0], abs=1e-9)
    assert Margin(divisor)(tensor).item() == pytest.approx(p[0] - p[1], abs=1e-9)
    assert NormalisedEntropy(divisor)(tensor).item() == pytest.approx(1 - entropy, abs=1e-9)


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_output_that_is_no_number_is_refused(score: Score, output: Tensor, bad: float) -> None:
    output[5, 6, 3] = bad
    with pytest.raises(RangeError, match="NaN or infinity"):
        score(output)


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_fewer_than_two_classes_are_refused(score: Score) -> None:
    with pytest.raises(RangeError, match="at least 2"):
        score(torch.ones(3, 1))
    with pytest.raises(ShapeError, match="single number"):
        score(torch.tensor(1.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("divisor", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_divisor_is_refused(kind: type[MaxSoftmax], divisor: float) -> None:
    with pytest.raises(RangeError, match="divisor"):
        kind(divisor)
