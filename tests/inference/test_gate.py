import math

import pytest
import torch

from spikeport import RangeError, ShapeError
from spikeport.inference import FixedSteps, Recalled, accuracy_by_step, decide, fit_gate, trace
from spikeport.inference.gate import FEATURES, LearnedGate, expected_cost, gate_features


@pytest.fixture(scope="module")
def fitted(simulate) -> Recalled:
    return fit_gate(*simulate(1200, 16, seed=1), max_loss=0.02)


def test_a_gate_saves_steps_and_keeps_the_accuracy_on_new_samples(simulate, fitted: Recalled) -> None:
    outputs, labels = simulate(3000, 16, seed=2)
    found = decide(fitted, outputs)
    assert found.steps.double().mean() < 0.8 * len(outputs)
    full = float(accuracy_by_step(outputs, labels)[-1])
    assert float((found.label == labels).double().mean()) > full - 0.03


def test_training_lowers_the_expected_cost_below_that_of_every_fixed_step(simulate, fitted: Recalled) -> None:
    outputs, labels = simulate(3000, 16, seed=3)
    time = torch.arange(1, 17)[:, None] / 16
    cost = (outputs.argmax(-1) != labels) + 0.1 * time
    at = decide(fitted, outputs).steps - 1
    gated = float(cost.gather(0, at[None]).mean())
    assert gated < min(float(cost[t].mean()) for t in range(16))


def test_the_same_seed_gives_the_same_gate(simulate) -> None:
    data = simulate(200, 8)
    assert fit_gate(*data, max_loss=0.1, seed=3) == fit_gate(*data, max_loss=0.1, seed=3)
    assert fit_gate(*data, max_loss=0.1, seed=3) != fit_gate(*data, max_loss=0.1, seed=4)


def test_no_loss_allowed_means_nobody_stops_early(simulate) -> None:
    outputs, labels = simulate(200, 8)
    assert decide(fit_gate(outputs, labels, max_loss=0.0), outputs).steps.eq(8).all()


def test_a_gate_splits_time_anywhere(simulate, fitted: Recalled) -> None:
    outputs, _ = simulate(50, 16)
    whole = trace(fitted.recall, outputs)
    memory, rows = torch.zeros(50, 2, dtype=torch.float64), []
    for begin, end in ((0, 3), (3, 4), (4, 16)):
        row, memory = fitted.recall.over(outputs[begin:end], torch.full((50,), begin), memory)
        rows.append(row)
    torch.testing.assert_close(torch.cat(rows), whole)


def test_features_lie_between_0_and_1_and_the_clock_stops_at_the_horizon(simulate) -> None:
    outputs, _ = simulate(50, 16)
    features, _ = gate_features(outputs, torch.zeros(50, dtype=torch.int64), torch.zeros(50, 2), 20.0, 8)
    assert features.shape == (16, 50, len(FEATURES))
    assert features.min() >= 0
    assert features.max() <= 1
    assert features[7:, :, FEATURES.index("time")].eq(1).all()


def test_the_expected_cost_is_that_of_stopping_by_chance() -> None:
    g = torch.tensor([0.3, 0.6, 0.2])
    cost = torch.tensor([1.0, 5.0, 11.0])
    wanted = 0.3 * 1 + 0.7 * 0.6 * 5 + 0.7 * 0.4 * 11
    assert expected_cost(torch.logit(g)[:, None], cost[:, None]).item() == pytest.approx(wanted)


def test_the_gradient_weighs_a_gate_by_the_chance_that_it_is_asked() -> None:
    """What is seldom reached is hardly changed: the weights do not cancel."""
    gates = torch.logit(torch.tensor([[0.99], [0.5], [0.5]])).requires_grad_()
    expected_cost(gates, torch.tensor([[0.0], [1.0], [0.0]])).backward()
    sure, late = gates.grad[1].abs().item(), 0.5 * 0.5 * 1.0
    assert sure == pytest.approx(0.01 * late, rel=1e-4)


def test_what_cannot_train_a_gate_is_refused(simulate) -> None:
    outputs, labels = simulate(100, 6)
    with pytest.raises(RangeError, match="at least 40"):
        fit_gate(outputs[:, :39], labels[:39])
    with pytest.raises(RangeError, match="max_loss"):
        fit_gate(outputs, labels, max_loss=1.5)
    with pytest.raises(ShapeError):
        fit_gate(outputs, labels[:-1])
    with pytest.raises(RangeError, match="same for every class"):
        fit_gate(torch.zeros_like(outputs), labels)
    spoilt = outputs.clone()
    spoilt[2, 3, 1] = math.nan
    with pytest.raises(RangeError, match="NaN"):
        fit_gate(spoilt, labels)
    with pytest.raises(RangeError, match="one class"):
        fit_gate(outputs[:, :, :1], torch.zeros(100, dtype=torch.int64))


def test_a_gate_is_named_without_its_weights(fitted: Recalled) -> None:
    assert isinstance(fitted.recall, LearnedGate)
    assert "first=" not in str(fitted)
    assert FixedSteps(2).min_steps > fitted.min_steps
