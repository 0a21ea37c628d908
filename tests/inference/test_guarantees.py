"""What is promised holds over many draws of the calibration samples, and would not without the correction."""

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.inference import (
    ConformalExit,
    DynamicConfidence,
    calibrate_coverage,
    control_loss,
    decide,
    exit_curve,
    samples_needed,
)

T, CLASSES = 10, 5


def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a network that gets surer with time; some samples turn late, some are hopeless."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    drift = rng.gamma(1.5, 0.6, n)
    mislead = np.where(rng.random(n) < 0.3, rng.gamma(2.0, 1.5, n), 0.0)
    noise = rng.normal(0, 1, (T, n, CLASSES)).cumsum(0)
    outputs = noise
    outputs[:, np.arange(n), labels] += np.arange(1, T + 1)[:, None] * drift
    outputs[:, np.arange(n), (labels + 1) % CLASSES] += mislead * np.minimum(np.arange(1, T + 1), 4)[:, None] / 2
    return torch.from_numpy(outputs), torch.from_numpy(labels)


POPULATION = draw(20000, 1)


def fall(rule, outputs, labels) -> float:
    """How much accuracy the rule loses against the full run."""
    early = (decide(rule, outputs).label == labels).double().mean()
    return float((outputs[-1].argmax(-1) == labels).double().mean() - early)


def parts(n: int, seed: int):
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(POPULATION[1])))
    chosen, rest = order[:n], order[n:6000]
    return (POPULATION[0][:, chosen], POPULATION[1][chosen]), (POPULATION[0][:, rest], POPULATION[1][rest])


def test_the_loss_stays_below_the_asked_one_in_the_promised_share_of_draws():
    epsilon, delta, broken, faster = 0.02, 0.1, 0, 0
    for seed in range(60):
        (outputs, labels), fresh = parts(400, seed)
        found = control_loss(outputs, labels, epsilon=epsilon, delta=delta, seed=seed)
        assert found.p_value <= delta
        broken += fall(found.rule, *fresh) > epsilon
        faster += decide(found.rule, fresh[0]).steps.double().mean() < T
    assert broken <= 60 * delta + 3 * np.sqrt(60 * delta * (1 - delta))
    assert faster > 40  # it is no empty promise


def test_without_the_correction_the_promise_breaks():
    """The fastest threshold that loses no more than epsilon on the calibration samples themselves."""
    epsilon, broken = 0.02, 0
    for seed in range(60):
        (outputs, labels), fresh = parts(400, seed)
        score = control_loss(outputs, labels, epsilon=epsilon, delta=0.1, seed=seed).rule.score
        curve = exit_curve(score, outputs, labels)
        loss = (curve.lost - curve.gained).double() / curve.samples
        entry = int(torch.nonzero(loss <= epsilon)[-1])
        broken += fall(DynamicConfidence(score, float(curve.threshold[entry])), *fresh) > epsilon
    assert broken > 60 * 0.1 + 3 * np.sqrt(60 * 0.1 * 0.9)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 0.05), (0.005, 0.05), (0.05, 0.01)])
def test_too_few_samples_are_refused_with_the_number_that_is_needed(epsilon, delta):
    needed = samples_needed(epsilon, delta)
    outputs, labels = draw(needed, 2)
    with pytest.raises(RangeError, match=f"at least {needed} are needed"):
        control_loss(outputs[:, :-1], labels[:-1], epsilon=epsilon, delta=delta)
    found = control_loss(outputs, labels, epsilon=epsilon, delta=delta)
    assert found.n == needed - int(needed * 0.25)


def test_a_rule_that_cannot_be_shown_to_lose_little_never_stops_early():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, CLASSES, 600))
    outputs = torch.from_numpy(rng.normal(0, 5, (T, 600, CLASSES)))
    outputs[-1] += 100 * torch.nn.functional.one_hot(labels, CLASSES)  # the last step turns everything over
    rule = control_loss(outputs, labels, epsilon=0.01, delta=0.05).rule
    assert fall(rule, outputs, labels) <= 0.01


@pytest.mark.parametrize("largest", [1, 2])
def test_sets_hold_the_true_class_as_often_as_promised(largest):
    coverage, covered, early = 0.9, [], []
    for seed in range(40):
        (outputs, labels), (fresh, truth) = parts(300, seed)
        rule = calibrate_coverage(outputs, labels, coverage=coverage, largest=largest)
        decisions = decide(rule, fresh)
        sets = rule.sets(fresh, decisions)
        covered.append(float(sets[torch.arange(len(truth)), truth].double().mean()))
        early.append(float(decisions.steps.double().mean()))
        stopped = decisions.steps < T
        assert (sets[stopped].sum(1) <= largest).all()
        assert sets[torch.arange(len(truth)), decisions.label].all()
        assert set(decisions.steps.unique().tolist()) <= set(rule.checkpoints)
    assert np.mean(covered) >= coverage - 3 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(early) < T


def test_without_bonferroni_the_coverage_breaks():
    """Limits for one checkpoint each: the sample chooses where it stops, and stops where the set is wrong and small."""
    covered = []
    for seed in range(40):
        (outputs, labels), (fresh, truth) = parts(300, seed)
        whole = calibrate_coverage(outputs, labels, coverage=0.9)
        limits = []
        for step in whole.checkpoints:
            p = torch.softmax(outputs[step - 1] / whole.divisor, -1)
            score = (1 - p.gather(1, labels[:, None])[:, 0]).sort().values
            limits.append(float(score[int(np.ceil(301 * 0.9)) - 1]))
        rule = ConformalExit(whole.divisor, whole.checkpoints, tuple(limits), 1, 0.9)
        sets = rule.sets(fresh, decide(rule, fresh))
        covered.append(float(sets[torch.arange(len(truth)), truth].double().mean()))
    assert np.mean(covered) < 0.9 - 3 * np.std(covered) / np.sqrt(len(covered))


def test_a_longer_window_never_changes_an_earlier_decision():
    (outputs, labels), (fresh, _) = parts(300, 0)
    rule = calibrate_coverage(outputs, labels, coverage=0.9)
    whole = rule.stops(fresh, torch.zeros(fresh.shape[1], dtype=torch.int64))
    for cut in (1, 4, 7):
        late = rule.stops(fresh[cut:], torch.full((fresh.shape[1],), cut))
        torch.testing.assert_close(whole[cut:], late)


def test_too_few_samples_for_a_coverage_are_refused():
    outputs, labels = draw(60, 3)
    with pytest.raises(RangeError, match="are needed"):
        calibrate_coverage(outputs[:, :10], labels[:10], coverage=0.95)
    assert calibrate_coverage(outputs, labels, coverage=0.95).limits
    few = calibrate_coverage(outputs, labels, coverage=0.95).checkpoints
    many = calibrate_coverage(*draw(2000, 3), coverage=0.95).checkpoints
    assert len(few) < len(many)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_values_out_of_range_are_refused(bad):
    outputs, labels = draw(600, 0)
    with pytest.raises(RangeError):
        control_loss(outputs, labels, epsilon=bad)
    with pytest.raises(RangeError):
        control_loss(outputs, labels, epsilon=0.1, delta=bad)
    with pytest.raises(RangeError):
        calibrate_coverage(outputs, labels, coverage=bad)


def test_bad_outputs_and_labels_are_refused():
    outputs, labels = draw(600, 0)
    with pytest.raises(ShapeError):
        control_loss(outputs[0], labels, epsilon=0.1)
    with pytest.raises(RangeError, match="labels"):
        control_loss(outputs, labels[:-1], epsilon=0.1)
    with pytest.raises(RangeError, match="labels"):
        calibrate_coverage(outputs, labels + 3)
    spoilt = outputs.clone()
    spoilt[3, 2, 1] = float("nan")
    with pytest.raises(RangeError, match="NaN"):
        control_loss(spoilt, labels, epsilon=0.1)
    with pytest.raises(RangeError, match="rising"):
        ConformalExit(1.0, (3, 2), (0.5, 0.5), 1, 0.9)
    with pytest.raises(RangeError, match="limits"):
        ConformalExit(1.0, (2, 3), (0.5, 1.5), 1, 0.9)
