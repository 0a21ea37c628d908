"""What early exit is worth on inputs that somebody made to break it, and what the defences change."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..conversion.source import analog_output
from ..data import Dataset, refuse_shared
from ..inference import (
    AnyRule,
    Delayed,
    accuracy_interval,
    calibrate_alarm,
    confidence_candidates,
    decide,
    mean_interval,
)
from ..networks.graph import Graph
from ..networks.outputs import outputs_over_time
from .attack import Attack, attacked, bounds_of, noisy, outputs_with_gradient
from .convert import ExitData, Progress, require_labels
from .policies import Policy, exit_labels
from .recordings import refuse_recordings

__all__ = ["measure_robustness", "shortest_cap"]

Run = Callable[[Tensor], Tensor]


def measure_robustness(  # noqa: PLR0913 - five parts and five options
    spiking: Graph,
    analog: Graph | None,
    exit_data: ExitData,
    data: Dataset,
    rule: AnyRule,
    *,
    epsilon: float = 0.03,
    n: int = 200,
    iterations: int = 20,
    max_loss: float = 0.001,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Attack n samples, drawn by the seed, within epsilon of each channel's range; the JSON of ``evaluate --attack``.

    Inputs: as they are; the best of as much random noise; made to exit late (by the network's own gradient, and by the
    analog network's: transfer); made to be wrong only early.  Each under the deployed rule, which is what was attacked,
    then with a cap on its steps and with averaged confidence.  Cap, average and alarm are set on the exit split.
    Raises RangeError for shared samples and values out of range, SpikeportError for data without labels and ANN.
    """
    tell = progress or (lambda stage, done: None)
    refuse_recordings(spiking, "an attack")
    refuse_shared(data.hashes, exit_data.calibration_hashes)
    if n < 1:
        raise RangeError(f"{n} samples were asked for; an attack needs at least 1.")
    some = data.take(np.random.default_rng(seed).permutation(len(data))[:n])
    labels = _labels(some, analog, exit_data.outputs.shape[2])
    steps, x = len(exit_data.outputs), torch.from_numpy(some.x)
    divisor = _divisor(rule, exit_data)
    delay, early = (Attack(kind, epsilon, divisor, iterations) for kind in ("delay", "early"))
    bounds = bounds_of(torch.from_numpy(data.x), epsilon)

    def run(changed: Tensor) -> Tensor:
        return outputs_over_time(spiking, changed.numpy(), steps)

    through = outputs_with_gradient(spiking, steps)
    answers = decide(rule, run(x)).label
    inputs = {"clean": x}
    tell("attack", 0.1)
    inputs["noise"] = noisy(run, x, answers, delay, bounds, rule, seed)
    tell("attack", 0.3)
    inputs["delay"] = attacked(through, x, answers, delay, bounds, rule)
    tell("attack", 0.6)
    inputs["early"] = attacked(through, x, labels, early, bounds, rule)
    if analog is not None:
        static = Attack("delay", epsilon, divisor / steps, iterations)
        inputs["delay, by the ANN"] = attacked(outputs_with_gradient(analog, 1), x, answers, static, bounds, None)
    tell("attack", 0.9)
    outputs = {name: run(changed) for name, changed in inputs.items()}
    rules = _defended(rule, exit_data, max_loss, seed)
    return {
        "epsilon": epsilon, "n": len(some), "iterations": iterations, "seed": seed, "timesteps": steps,
        "rows": [
            _row(name, defence, *defended, found, labels, answers)
            for name, found in outputs.items()
            for defence, defended in rules.items()
        ],
        "alarm": _alarm(rule, exit_data, outputs, seed),
    }  # fmt: skip


def _labels(data: Dataset, analog: Graph | None, classes: int) -> Tensor:
    if data.y is None and analog is None:
        raise SpikeportError(f"{data.name} has no labels, and this network no analog one to agree with; add labels")
    labels = data.y if data.y is not None or analog is None else analog_output(analog, data.x).argmax(1)
    require_labels("the labels", np.asarray(labels), classes)
    return torch.from_numpy(np.asarray(labels, dtype=np.int64))


def _divisor(rule: AnyRule, exit_data: ExitData) -> float:
    """That of the rule, or a middle one where it has none."""
    inner = rule.rule if isinstance(rule, Delayed) else rule
    scored = getattr(inner, "recall", getattr(inner, "score", inner))
    candidates = confidence_candidates(torch.from_numpy(exit_data.outputs))
    return float(getattr(scored, "divisor", candidates[len(candidates) // 2].divisor))


def shortest_cap(rule: AnyRule, outputs: Tensor, labels: Tensor, max_loss: float) -> int:
    """The fewest steps after which everyone may have to answer, for at most ``max_loss`` of accuracy on these samples.

    outputs: cumulative, (T, N, classes), held out; labels: int64 (N,).
    """
    whole = float((decide(rule, outputs).label == labels).double().mean())
    for cap in range(rule.min_steps, len(outputs)):
        if float((decide(rule, outputs[:cap]).label == labels).double().mean()) >= whole - max_loss - 1e-9:
            return cap
    return len(outputs)


def _defended(rule: AnyRule, exit_data: ExitData, max_loss: float, seed: int) -> Mapping[str, tuple[AnyRule, int]]:
    """Name -> (rule, steps after which everyone answers)."""
    steps, outputs = len(exit_data.outputs), torch.from_numpy(exit_data.outputs)
    averaged = Policy("average").rule(exit_data, max_loss=max_loss, seed=seed)
    return {
        "none": (rule, steps),
        "cap": (rule, shortest_cap(rule, outputs, exit_labels(exit_data), max_loss)),
        "average": (averaged, steps),
    }


def _row(
    name: str, defence: str, rule: AnyRule, cap: int, outputs: Tensor, labels: Tensor, answers: Tensor
) -> dict[str, Any]:
    found, full = decide(rule, outputs[:cap]), outputs[-1].argmax(-1)
    right = float((found.label == labels).double().mean())
    taken = mean_interval(found.steps.double())
    return {
        "input": name,
        "defence": defence,
        "cap": cap,
        "accuracy": right,
        "accuracy_ci95": list(accuracy_interval(right, len(labels))),
        "accuracy_full": float((full == labels).double().mean()),
        "answer_kept": float((found.label == answers).double().mean()),
        "wrong_only_early": float(((found.label != labels) & (full == labels)).double().mean()),
        "mean_steps": taken.value,
        "mean_steps_ci95": [taken.low, taken.high],
    }


def _alarm(rule: AnyRule, exit_data: ExitData, outputs: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    """Set on the exit split; after how many samples it rings on each kind of input (null: it does not)."""
    usual = decide(rule, torch.from_numpy(exit_data.outputs)).steps
    if len(usual) < 10:
        return {"refused": f"{len(usual)} samples in the exit split do not say what is usual"}
    alarm = calibrate_alarm(usual, seed=seed)
    rang = {name: alarm.watch(decide(rule, found).steps).rang for name, found in outputs.items()}
    return {"allowed_steps": alarm.allowed, "limit": alarm.limit, "false_alarms_in_1000": 0.01, "rang_after": rang}
