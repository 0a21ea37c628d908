"""Confidence, exit rules, their calibration and the early-exit engine; all of it sees tensors only."""

from .budget import BudgetAlarm, Watch, calibrate_alarm
from .calibrate import OperatingPoint, calibrate_confidence, confidence_candidates, pareto_front, safe_threshold
from .conformal import ConformalExit, calibrate_coverage
from .engine import Replacing, StepEngine
from .exit import ExitRun, iterate_decisions, run_with_exit
from .fixed import cumulative_outputs, run_fixed
from .gate import LearnedGate, fit_gate
from .history import MeanProbability, Recall, Recalled, RunLength, patience, trace
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
from .rules import AnyRule, Decision, Decisions, DynamicConfidence, ExitRule, FixedSteps, LookingBack, ask, decide
from .scores import Energy, Margin, MaxSoftmax, NormalisedEntropy, Score
from .streaming import SequenceEngine, StreamingSession
from .sweep import ExitCurve, correct_by_step, curve_of, exit_curve
from .timing import interleaved_medians
from .variants import Delayed, PerStepThresholds, TopTwoGap, calibrate_steps, fitted_divisor

__all__ = [
    "AnyRule",
    "BudgetAlarm",
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
    "LearnedGate",
    "LookingBack",
    "Margin",
    "MaxSoftmax",
    "MeanProbability",
    "NormalisedEntropy",
    "OperatingPoint",
    "Oracle",
    "PerStepThresholds",
    "Recall",
    "Recalled",
    "Replacing",
    "RiskControl",
    "RunLength",
    "Score",
    "SequenceEngine",
    "StepEngine",
    "StreamingSession",
    "TopTwoGap",
    "Watch",
    "accuracy",
    "accuracy_by_step",
    "accuracy_interval",
    "ask",
    "calibrate_alarm",
    "calibrate_confidence",
    "calibrate_coverage",
    "calibrate_steps",
    "confidence_candidates",
    "control_loss",
    "correct_by_step",
    "cumulative_outputs",
    "curve_of",
    "decide",
    "exit_curve",
    "fit_gate",
    "fitted_divisor",
    "interleaved_medians",
    "iterate_decisions",
    "mean_interval",
    "oracle",
    "paired_difference_interval",
    "pareto_front",
    "patience",
    "percentile_steps",
    "run_fixed",
    "run_with_exit",
    "safe_threshold",
    "samples_needed",
    "smallest_fixed_steps_of_equal_accuracy",
    "speedup_steps",
    "steps_within",
    "trace",
]
