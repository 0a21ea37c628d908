"""Confidence, exit rules, their calibration and the early-exit engine; all of it sees tensors only."""

from .calibrate import OperatingPoint, calibrate_confidence, confidence_candidates, pareto_front
from .conformal import ConformalExit, calibrate_coverage
from .engine import Replacing, StepEngine
from .exit import ExitRun, iterate_decisions, run_with_exit
from .fixed import cumulative_outputs, run_fixed
from .metrics import (
    Estimate,
    Interval,
    accuracy,
    accuracy_by_step,
    accuracy_interval,
    mean_interval,
    paired_difference_interval,
    percentile_steps,
    smallest_fixed_steps_of_equal_accuracy,
    speedup_steps,
    steps_within,
)
from .oracle import Oracle, oracle
from .risk import RiskControl, control_loss, samples_needed
from .rules import Decision, Decisions, DynamicConfidence, ExitRule, FixedSteps, decide
from .scores import Energy, Margin, MaxSoftmax, NormalisedEntropy, Score
from .streaming import SequenceEngine, StreamingSession
from .sweep import ExitCurve, correct_by_step, exit_curve
from .timing import interleaved_medians
from .variants import Delayed, PerStepThresholds, TopTwoGap, calibrate_steps, fitted_divisor

__all__ = [
    "ConformalExit",
    "Decision",
    "Decisions",
    "Delayed",
    "DynamicConfidence",
    "Energy",
    "Estimate",
    "ExitCurve",
    "ExitRule",
    "ExitRun",
    "FixedSteps",
    "Interval",
    "Margin",
    "MaxSoftmax",
    "NormalisedEntropy",
    "OperatingPoint",
    "Oracle",
    "PerStepThresholds",
    "Replacing",
    "RiskControl",
    "Score",
    "SequenceEngine",
    "StepEngine",
    "StreamingSession",
    "TopTwoGap",
    "accuracy",
    "accuracy_by_step",
    "accuracy_interval",
    "calibrate_confidence",
    "calibrate_coverage",
    "calibrate_steps",
    "confidence_candidates",
    "control_loss",
    "correct_by_step",
    "cumulative_outputs",
    "decide",
    "exit_curve",
    "fitted_divisor",
    "interleaved_medians",
    "iterate_decisions",
    "mean_interval",
    "oracle",
    "paired_difference_interval",
    "pareto_front",
    "percentile_steps",
    "run_fixed",
    "run_with_exit",
    "samples_needed",
    "smallest_fixed_steps_of_equal_accuracy",
    "speedup_steps",
    "steps_within",
]
