"""Every policy by name: calibrated on the exit split alone, the same in the engine, and strict about what it gets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeport import RangeError, SpikeportError
from spikeport.evaluation.convert import ExitData
from spikeport.evaluation.evaluate import calibrated_rule, policy_name
from spikeport.evaluation.policies import POLICIES, Policy
from spikeport.inference import FixedSteps, decide

T, N, CLASSES = 12, 600, 5


def held(seed: int = 0, n: int = N) -> ExitData:
    """A network that gets surer with time, and turns over what it says at first for some samples."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    outputs = rng.normal(0, 1, (T, n, CLASSES)).cumsum(0)
    outputs[:, np.arange(n), labels] += np.arange(1, T + 1)[:, None] * rng.gamma(3, 0.7, n)
    hashes = np.arange(n).astype("S32")
    return ExitData(outputs.astype(np.float32), labels, labels, hashes, hashes)


@pytest.fixture(scope="module")
def exit_data() -> ExitData:
    return held()


def accuracy(rule, data: ExitData) -> tuple[float, float]:
    found = decide(rule, torch.from_numpy(data.outputs))
    return float((found.label.numpy() == data.labels).mean()), float(found.steps.double().mean())


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_saves_steps_and_loses_little_on_new_samples(exit_data: ExitData, kind: str) -> None:
    rule = Policy(kind).rule(exit_data, max_loss=0.02)
    fresh = held(1, 3000)
    right, steps = accuracy(rule, fresh)
    full = float((fresh.outputs[-1].argmax(1) == fresh.labels).mean())
    assert right > full - 0.04
    assert steps < T
    assert policy_name(rule) != type(rule).__name__


@pytest.mark.parametrize("kind", POLICIES)
def test_no_loss_allowed_means_that_nobody_is_lost(exit_data: ExitData, kind: str) -> None:
    found = decide(Policy(kind).rule(exit_data, max_loss=0.0), torch.from_numpy(exit_data.outputs))
    full = torch.from_numpy(exit_data.outputs[-1]).argmax(1)
    labels = torch.from_numpy(exit_data.labels)
    assert not bool(((full == labels) & (found.label != labels)).any())


@pytest.mark.parametrize("kind", POLICIES)
def test_nobody_stops_before_the_first_step_and_some_stop_soon_after(exit_data: ExitData, kind: str) -> None:
    steps = decide(Policy(kind, 5).rule(exit_data, max_loss=0.1), torch.from_numpy(exit_data.outputs)).steps
    assert steps.min() >= 5
    assert steps.double().mean() < T


@pytest.mark.parametrize("kind", POLICIES)
def test_calibrating_twice_gives_the_same_rule(exit_data: ExitData, kind: str) -> None:
    assert Policy(kind).rule(exit_data, max_loss=0.02, seed=3) == Policy(kind).rule(exit_data, max_loss=0.02, seed=3)


def test_confidence_is_the_rule_of_the_evaluation(exit_data: ExitData) -> None:
    assert Policy().rule(exit_data, max_loss=0.02) == calibrated_rule(exit_data, max_loss=0.02)


def test_without_labels_agreement_counts(exit_data: ExitData) -> None:
    unlabelled = replace(exit_data, labels=np.full(N, -1))
    assert Policy("gap").rule(unlabelled, max_loss=0.02) == Policy("gap").rule(exit_data, max_loss=0.02)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: replace(data, outputs=data.outputs[:, :, :1], labels=np.zeros(N, np.int64)), "class"),
        (lambda data: replace(data, outputs=np.where(data.outputs > 9, np.float32(np.nan), data.outputs)), "NaN"),
        (lambda data: replace(data, outputs=np.zeros_like(data.outputs)), "same for every class"),
        (lambda data: replace(data, labels=data.labels + 3), "whole numbers from 0 to 4"),
    ],
)
def test_outputs_and_labels_that_say_nothing_are_refused(exit_data: ExitData, kind: str, spoil, said: str) -> None:
    with pytest.raises(RangeError, match=said):
        Policy(kind).rule(spoil(exit_data), max_loss=0.02)


@pytest.mark.parametrize("kind", POLICIES)
def test_labels_of_one_class_only_still_give_a_rule(exit_data: ExitData, kind: str) -> None:
    some = exit_data.labels == 2
    one = replace(exit_data, outputs=exit_data.outputs[:, some], labels=exit_data.labels[some])
    found = decide(Policy(kind).rule(one, max_loss=0.05), torch.from_numpy(one.outputs))
    assert found.steps.min() >= 1


def test_senseless_policies_are_refused(exit_data: ExitData) -> None:
    for bad in (-0.1, 1.1, math.nan):
        for kind in POLICIES:
            with pytest.raises(SpikeportError, match="max_loss"):
                Policy(kind).rule(exit_data, max_loss=bad)
    with pytest.raises(RangeError, match="no exit policy"):
        Policy("hope")
    with pytest.raises(RangeError, match="count from 1"):
        Policy("confidence", 0)
    with pytest.raises(RangeError, match=f"first step is 13, but this network runs {T} steps"):
        Policy("confidence", 13).rule(exit_data)


def test_auto_takes_what_serves_best_where_it_was_not_calibrated() -> None:
    """Some samples stay wrong until step 9 with large margins: only a threshold a step keeps them apart."""
    data, fresh = held_late(3), held_late(4)
    found = {kind: accuracy(Policy(kind).rule(data, max_loss=0.01), fresh) for kind in ("confidence", "auto")}
    full = float((fresh.outputs[-1].argmax(1) == fresh.labels).mean())
    assert found["auto"][0] > full - 0.02
    assert found["auto"][1] < 0.95 * found["confidence"][1]


def held_late(seed: int) -> ExitData:
    data = held(seed, 4000)
    data.outputs[:8, np.arange(4000) % 4 == 0] *= -1
    return data


def test_auto_does_not_trust_a_rule_that_loses_on_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "gap", lambda outputs, labels, max_loss, skip, seed: FixedSteps(1 + skip))
    rule, fresh = Policy("auto").rule(held(5), max_loss=0.02), held(6, 3000)
    assert rule != FixedSteps(1)
    assert accuracy(rule, fresh)[0] > float((fresh.outputs[-1].argmax(1) == fresh.labels).mean()) - 0.04


@pytest.mark.parametrize("kind", ["confidence", "steps", "gap"])
def test_few_samples_make_a_rule_careful(kind: str) -> None:
    """On average over draws of 60 samples, none of which can show so small a loss."""
    fresh = held(99, 3000)
    full = float((fresh.outputs[-1].argmax(1) == fresh.labels).mean())
    lost = [full - accuracy(Policy(kind).rule(held(seed, 60), max_loss=0.005), fresh)[0] for seed in range(12)]
    assert np.mean(lost) < 0.01
