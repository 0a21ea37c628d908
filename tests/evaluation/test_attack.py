"""Attacks change the input within their bounds, and break early exit more than noise does; defences are measured."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.evaluation.attack import Attack, attacked, bounds_of, noisy, outputs_with_gradient
from spikeport.evaluation.policies import Policy
from spikeport.evaluation.robustness import measure_robustness, shortest_cap
from spikeport.inference import FixedSteps, decide, patience
from spikeport.networks.graph import Graph, make_node
from spikeport.networks.outputs import outputs_over_time

LOSS, EPSILON = 0.02, 0.08


@pytest.fixture(scope="module")
def rule(digits):
    return Policy().rule(digits.converted.exit, max_loss=LOSS)


@pytest.fixture(scope="module")
def result(digits, rule) -> dict[str, Any]:
    held = digits.converted
    options = {"epsilon": EPSILON, "n": 40, "iterations": 6, "max_loss": LOSS}
    return measure_robustness(held.spiking, held.analog, held.exit, digits.evaluation, rule, **options)


def row(result: dict[str, Any], name: str, defence: str = "none") -> dict[str, Any]:
    (found,) = [r for r in result["rows"] if (r["input"], r["defence"]) == (name, defence)]
    return found


def test_the_forward_pass_is_that_of_the_network(digits) -> None:
    graph, x = digits.converted.spiking, digits.evaluation.x[:20]
    run = outputs_with_gradient(graph, 8)
    torch.testing.assert_close(run(torch.from_numpy(x)), outputs_over_time(graph, x, 8), rtol=1e-4, atol=1e-4)


def code(kind: str, levels: int = 1) -> Graph:
    arrays = {"threshold": 1.0, "initial": 0.5, "bias": 0.0}
    nodes = [
        make_node("x", "input", shape=(3,)),
        make_node("w", "linear", ["x"], arrays={"weight": np.eye(3) + 0.25}),
        make_node("n", "neuron", ["w"], arrays=arrays, code=kind, levels=levels, test=">=", reset="subtract"),
        make_node("v", "linear", ["n"], arrays={"weight": np.eye(3)}),
        make_node("y", "output", ["v"], decoded=int(kind == "differential")),
    ]
    return Graph.of(nodes)


@pytest.mark.parametrize(("kind", "levels"), [("binary", 1), ("signed", 1), ("graded", 4), ("differential", 8)])
def test_more_input_is_felt_as_more_output(kind: str, levels: int) -> None:
    x = torch.full((2, 3), 0.3, requires_grad=True)
    outputs_with_gradient(code(kind, levels), 6)(x)[-1].sum().backward()
    assert bool((x.grad > 0).all())


def test_delayed_exits_come_later_than_by_noise_and_keep_the_answer(result) -> None:
    clean, noise, delay = (row(result, name) for name in ("clean", "noise", "delay"))
    assert delay["mean_steps"] > noise["mean_steps"] > clean["mean_steps"]
    assert delay["answer_kept"] > 0.9


def test_early_exits_are_fooled_alone(result) -> None:
    early, clean = row(result, "early"), row(result, "clean")
    assert early["wrong_only_early"] > clean["wrong_only_early"] + 0.1
    assert early["accuracy_full"] > early["accuracy"] + 0.1


def test_a_cap_bounds_the_steps_and_the_alarm_rings_for_the_attack_alone(result) -> None:
    capped = row(result, "delay", "cap")
    assert capped["mean_steps"] <= capped["cap"]
    assert capped["mean_steps"] <= row(result, "delay")["mean_steps"]
    rang = result["alarm"]["rang_after"]
    assert rang["clean"] is None
    assert rang["delay"] is not None


def test_the_result_is_json_with_every_row(result) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    names = {"clean", "noise", "delay", "early", "delay, by the ANN"}
    assert {(r["input"], r["defence"]) for r in result["rows"]} == {
        (name, defence) for name in names for defence in ("none", "cap", "average")
    }


@pytest.mark.parametrize("kind", ["delay", "early"])
def test_perturbations_stay_within_their_bounds(digits, rule, kind: str) -> None:
    x, labels = torch.from_numpy(digits.evaluation.x[:10]), torch.from_numpy(digits.evaluation.y[:10])
    bounds, attack = bounds_of(torch.from_numpy(digits.evaluation.x), EPSILON), Attack(kind, EPSILON, 3.0, 3)
    run = outputs_with_gradient(digits.converted.spiking, 8)
    for changed in (
        attacked(run, x, labels, attack, bounds, rule),
        attacked(run, x, labels, attack, bounds, None),
        noisy(run, x, labels, attack, bounds, rule, 0),
    ):
        assert float((changed - x).abs().max()) <= EPSILON * (bounds.high - bounds.low).max() * 1.001
        assert bool((changed >= bounds.low).all() & (changed <= bounds.high).all())
    assert float((changed - x).abs().max()) > 0


def test_the_shortest_cap_costs_no_more_than_asked(digits) -> None:
    held = digits.converted.exit
    outputs, labels = torch.from_numpy(held.outputs), torch.from_numpy(held.labels)
    for rule in (FixedSteps(3), patience(3)):
        cap = shortest_cap(rule, outputs, labels, 0.02)
        whole, short = decide(rule, outputs), decide(rule, outputs[:cap])
        fall = (whole.label == labels).double().mean() - (short.label == labels).double().mean()
        assert float(fall) <= 0.02 + 1e-9
    assert shortest_cap(FixedSteps(3), outputs, labels, 0.02) == 3


def test_bad_input_is_refused(digits, rule) -> None:
    held, data = digits.converted, digits.evaluation
    for bad in ({"epsilon": 0.0}, {"epsilon": 1.5}, {"iterations": 0}, {"n": 0}):
        with pytest.raises(RangeError):
            measure_robustness(held.spiking, held.analog, held.exit, data, rule, **bad)
    with pytest.raises(RangeError, match="no attack"):
        Attack("loud", 0.1, 1.0)
    with pytest.raises(ShapeError):
        bounds_of(torch.zeros(0, 3), 0.1)
    with pytest.raises(SpikeportError, match="no labels"):
        measure_robustness(held.spiking, None, held.exit, replace(data, y=None), rule)
    shared = digits.calibration.take(np.arange(5))
    with pytest.raises(RangeError, match="5 of 5 samples"):
        measure_robustness(held.spiking, held.analog, held.exit, shared, rule)
