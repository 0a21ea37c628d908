import pytest
import torch

from spikeport import RangeError
from spikeport.inference import (
    Delayed,
    DynamicConfidence,
    Energy,
    FixedSteps,
    MaxSoftmax,
    PerStepThresholds,
    TopTwoGap,
    accuracy_by_step,
    calibrate_steps,
    decide,
    fitted_divisor,
)


def test_equal_thresholds_are_one_threshold(simulate):
    outputs, _ = simulate(200)
    score = MaxSoftmax(20.0)
    one, many = DynamicConfidence(score, 0.8), PerStepThresholds(score, (0.8,) * 3)
    assert torch.equal(decide(one, outputs).steps, decide(many, outputs).steps)


def test_thresholds_for_each_step_keep_the_accuracy_and_save_steps(simulate):
    outputs, labels = simulate(3000, seed=1)
    rule = calibrate_steps(MaxSoftmax(20.0), outputs, labels, max_loss=0.01)
    fresh, truth = simulate(3000, seed=2)
    decisions = decide(rule, fresh)
    assert decisions.steps.double().mean() < 0.8 * len(fresh)
    full = accuracy_by_step(fresh, truth)[-1]
    assert (decisions.label == truth).double().mean() > float(full) - 0.02


def test_no_loss_allowed_means_none_on_the_samples_themselves(simulate):
    outputs, labels = simulate(500)
    rule = calibrate_steps(MaxSoftmax(20.0), outputs, labels, max_loss=0.0)
    found, full = decide(rule, outputs).label == labels, outputs[-1].argmax(-1) == labels
    assert not bool((full & ~found).any())


def test_a_delay_holds_a_rule_back_and_no_longer(simulate):
    outputs, _ = simulate(200)
    rule = DynamicConfidence(MaxSoftmax(20.0), 0.6)
    plain, late = decide(rule, outputs), decide(Delayed(rule, 6), outputs)
    assert late.steps.min() >= 6
    after = plain.steps >= 6
    assert torch.equal(late.steps[after], plain.steps[after])
    with pytest.raises(RangeError, match="asks for 40 steps"):
        decide(Delayed(rule, 40), outputs)
    assert Delayed(FixedSteps(9), 3).min_steps == 9


def test_a_larger_gap_stops_later(simulate):
    outputs, _ = simulate(200)
    steps = [decide(TopTwoGap(gap), outputs).steps.double().mean() for gap in (0.0, 20.0, 60.0)]
    assert steps[0] < steps[1] < steps[2]


def test_energy_grows_with_evidence_for_any_class():
    few, much = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([9.0, 9.0, -1.0])
    assert Energy(2.0)(few) < Energy(2.0)(much)
    assert Energy(2.0)(few - 50) < 1e-6


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_the_fitted_divisor_follows_the_scale_of_the_outputs(simulate, scale):
    outputs, labels = simulate(2000)
    assert fitted_divisor(scale * outputs, labels).divisor == pytest.approx(
        scale * fitted_divisor(outputs, labels).divisor, rel=1e-3
    )


def test_the_fitted_divisor_finds_a_known_temperature():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 5, generator=g) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fitted_divisor(7.0 * logits[None], labels).divisor == pytest.approx(7.0, rel=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PerStepThresholds(MaxSoftmax(1.0), ()),
        lambda: PerStepThresholds(MaxSoftmax(1.0), (0.5, 1.5)),
        lambda: Delayed(FixedSteps(1), 0),
        lambda: TopTwoGap(-1.0),
        lambda: TopTwoGap(float("nan")),
        lambda: Energy(0.0),
        lambda: TopTwoGap(1.0).stops(torch.zeros(1, 1, 1), torch.zeros(1)),
        lambda: calibrate_steps(MaxSoftmax(1.0), torch.zeros(2, 2, 2), torch.zeros(2).long(), max_loss=2.0),
        lambda: fitted_divisor(torch.zeros(2, 2, 2), torch.zeros(2).long()),
    ],
)
def test_senseless_values_are_refused(make):
    with pytest.raises(RangeError):
        make()
