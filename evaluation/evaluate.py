"""What a spiking network is worth on data that nothing was chosen on: accuracy, steps, operations and wall time."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..conversion.layers import analog_operations
from ..conversion.source import analog_output
from ..data import Dataset, refuse_shared
from ..hardware.program import IntegerProgram
from ..inference import (
    AnyRule,
    ConformalExit,
    Decisions,
    Delayed,
    DynamicConfidence,
    Energy,
    FixedSteps,
    LearnedGate,
    Margin,
    MeanProbability,
    NormalisedEntropy,
    PerStepThresholds,
    RunLength,
    TopTwoGap,
    accuracy_interval,
    calibrate_confidence,
    decide,
    oracle,
    percentile_steps,
    run_with_exit,
    smallest_fixed_steps_of_equal_accuracy,
    speedup_steps,
)
from ..networks.activity import analog_synapses
from ..networks.graph import Graph
from .activity import Activity, measured
from .convert import ExitData, Progress, accuracy_rows, require_labels
from .engines import Network, engine_of, fixed_nodes, graph_of
from .figures import exit_figures
from .guarantee import Guarantee, measured_sets
from .integer import BITS
from .policies import Policy
from .timing import timed

__all__ = ["calibrated_rule", "evaluate_network", "exit_rule", "policy_name"]

EXIT_CHUNK = 4
ENGINE_SAMPLES = 512  # that the exit engine decides again, in batches whose samples come and go
BATCH = 64
_SCORES = {Margin: "margin", NormalisedEntropy: "entropy", Energy: "energy"}
_NAMES = {
    DynamicConfidence: "confidence",
    ConformalExit: "prediction sets",
    FixedSteps: "fixed",
    PerStepThresholds: "thresholds by step",
    TopTwoGap: "top-two gap",
    RunLength: "patience",
    MeanProbability: "averaged confidence",
    LearnedGate: "learned gate",
}


def calibrated_rule(exit_data: ExitData, *, max_loss: float = 0.001) -> DynamicConfidence:
    """Dynamic confidence calibrated on the exit split; on agreement with the analog network where it has no labels."""
    labels = exit_data.labels if exit_data.labelled else exit_data.ann_labels
    return calibrate_confidence(torch.from_numpy(exit_data.outputs), torch.from_numpy(labels), max_loss=max_loss)


def evaluate_network(  # noqa: PLR0913 - four parts and five options
    spiking: Network,
    analog: Graph | None,
    exit_data: ExitData,
    data: Dataset,
    *,
    policy: FixedSteps | Guarantee | Policy | None = None,
    max_loss: float = 0.001,
    seed: int = 0,
    timing: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run every sample for all T steps, then with early exit, and compare; the JSON of ``spikeport evaluate``.

    spiking: the network, or its integer program, which runs in whole numbers.

    policy: None for dynamic confidence, calibrated on ``exit_data`` and never on ``data``; another Policy or a
    Guarantee, likewise; or FixedSteps(T).
    Without labels, agreement with the analog network is measured and the result says so.  analog: None for a network
    that was trained with spikes; it needs labels.
    Raises RangeError if a sample of ``data`` is one of the calibration's, SpikeportError where labels are needed.
    """
    tell = progress or (lambda stage, done: None)
    refuse_shared(data.hashes, exit_data.calibration_hashes)
    steps = len(exit_data.outputs)
    if isinstance(policy, FixedSteps) and policy.steps > steps:
        raise RangeError(f"fixed:{policy.steps} asks for more steps than the {steps} of the conversion")
    tell("run the analog network", 0.0)
    ann_labels = None if analog is None else analog_output(analog, data.x).argmax(1)
    labels = ann_labels if data.y is None else data.y
    if labels is None:
        raise SpikeportError(f"{data.name} has no labels, and this network no analog one to agree with; add labels")
    require_labels("the labels", labels, exit_data.outputs.shape[2])
    activity = measured(spiking, data.x, steps, lambda done: tell("run all steps", done))
    truth = torch.from_numpy(labels)
    rule, promised = exit_rule(policy, exit_data, max_loss, seed)
    decisions, early = _early(spiking, data, rule, activity, truth, seed, tell)
    if isinstance(rule, ConformalExit):
        promised |= measured_sets(rule, activity.outputs, decisions, truth)
    early["guarantee"] = promised or None
    if timing:
        early |= timed(spiking, data.x, rule, steps, early["smallest_fixed_steps_of_equal_accuracy"], tell, seed)
    return {
        "data": data.name,
        "seed": seed,
        "timesteps": steps,
        "bits": BITS if isinstance(spiking, IntegerProgram) else None,
        "labels": "ann" if data.y is None else "true",
        "calibration_labels": "true" if exit_data.labelled else "ann",
        **accuracy_rows(activity.outputs, labels, ann_labels),
        **_spent(activity, graph_of(spiking), steps),
        "early_exit": early,
        "oracle": oracle(activity.outputs, truth)._asdict(),
        "figures": exit_figures(spiking, data.x, activity, decisions, truth, steps),
    }


def _spent(activity: Activity, graph: Graph, steps: int) -> dict[str, Any]:
    """What all steps cost a sample."""
    return {
        "spikes_per_sample_by_step": activity.spikes.mean(1).cumsum(0).tolist(),
        "synaptic_operations_by_step": activity.accumulates.mean(1).cumsum(0).tolist(),
        "payload_bits_per_sample_by_step": activity.payload.mean(1).cumsum(0).tolist(),
        "multiply_accumulates_per_sample": multiplies(graph, steps),
        "analog_operations_per_sample": analog_operations(graph, steps),
    }


def exit_rule(
    policy: FixedSteps | Guarantee | Policy | None, exit_data: ExitData, max_loss: float, seed: int
) -> tuple[AnyRule, dict[str, Any]]:
    """The rule that a policy gives on the exit split, and what it promises."""
    if isinstance(policy, Guarantee):
        return policy.rule(exit_data, seed=seed)
    if isinstance(policy, Policy):
        return policy.rule(exit_data, max_loss=max_loss, seed=seed), {}
    return policy or calibrated_rule(exit_data, max_loss=max_loss), {}


def _early(
    network: Network, data: Dataset, rule: AnyRule, activity: Activity, labels: Tensor, seed: int, tell: Progress
) -> tuple[Decisions, dict[str, Any]]:
    """Decide all samples on the outputs that are there, and let the engine really exit early on some of them."""
    decisions = decide(rule, activity.outputs)
    some = np.random.default_rng(seed).permutation(len(labels))[:ENGINE_SAMPLES]
    run = run_with_exit(
        engine_of(network, max_steps=len(activity.outputs), chunk=EXIT_CHUNK),
        torch.from_numpy(data.x[some]),
        rule,
        batch_size=BATCH,
        progress=lambda done, n: tell("run with early exit", done / n),
    )
    differs = (run.label != decisions.label[some]) | (run.steps != decisions.steps[some])
    return decisions, {
        **exit_numbers(rule, decisions, activity, labels, seed),
        "mean_steps_computed": float(run.steps_computed.double().mean()),
        "engine_n": len(some),
        "engine_mismatches": int(differs.sum()),
    }


def policy_name(rule: AnyRule) -> str:
    """How results call a rule."""
    if isinstance(rule, Delayed):
        return f"{policy_name(rule.rule)} from step {rule.first}"
    named = _SCORES.get(type(getattr(rule, "score", None))) if isinstance(rule, DynamicConfidence) else None
    return named or _NAMES.get(type(getattr(rule, "recall", rule)), type(rule).__name__)


def multiplies(graph: Graph, steps: int) -> int:
    """Multiply-accumulates a sample: once where the input is constant, at every step where a value stays analog."""
    fixed = fixed_nodes(graph)
    return sum(count * (1 if name in fixed else steps) for name, count in analog_synapses(graph).items())


def exit_numbers(rule: AnyRule, decisions: Decisions, activity: Activity, labels: Tensor, seed: int) -> dict[str, Any]:
    """What the decisions are worth beside fixed windows on the same samples; speed-ups in steps."""
    accuracy = float((decisions.label == labels).double().mean())
    at, inner = decisions.steps - 1, rule.rule if isinstance(rule, Delayed) else rule
    spent = {
        key: float(counts.cumsum(0).gather(0, at[None])[0].mean())
        for key, counts in (
            ("spikes_per_sample", activity.spikes),
            ("synaptic_operations_per_sample", activity.accumulates),
        )
    }
    speedup = speedup_steps(activity.outputs, labels, decisions.label, decisions.steps, seed=seed)
    return {
        "policy": policy_name(rule),
        "threshold": getattr(inner, "threshold", None),
        "divisor": getattr(getattr(inner, "recall", getattr(inner, "score", None)), "divisor", None),
        "rule": str(rule),
        "accuracy": accuracy,
        "accuracy_ci95": list(accuracy_interval(accuracy, len(labels))),
        "mean_steps": float(decisions.steps.double().mean()),
        "p95_steps": percentile_steps(decisions.steps),
        **spent,
        "smallest_fixed_steps_of_equal_accuracy": smallest_fixed_steps_of_equal_accuracy(
            activity.outputs, labels, accuracy
        ),
        "speedup_steps": speedup.value,
        "speedup_steps_ci95": [speedup.low, speedup.high],
    }
