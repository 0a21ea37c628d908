"""Do the promises hold?  1,000 random splits of a real network's outputs, beside the rule without the correction.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/guarantees.py --data DATA --keep DIR [--row mnist_cnn] [--splits 1000] [--steps 16]

Of the test samples' outputs each split takes N at random to calibrate and the others to look.  "broken" is the share of
splits in which accuracy fell by more than epsilon against the full run: at most delta for the guaranteed rule (its 95 %
interval is given), and more for the fastest rule that loses no more than epsilon on the calibration samples themselves.
Coverage is the mean over splits, with its standard error.  Written to benchmarks/results/guarantees.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion_table import RESULTS, ROWS
from integer_accuracy import samples

from spikeport.evaluation.folder import read_folder
from spikeport.inference import (
    DynamicConfidence,
    accuracy_interval,
    calibrate_coverage,
    control_loss,
    decide,
    exit_curve,
)
from spikeport.networks.outputs import outputs_over_time

EPSILON, DELTA, COVERAGE = 0.005, 0.05, 0.95
CALIBRATION = 1000


def fall(rule: Any, outputs: torch.Tensor, labels: torch.Tensor, full: torch.Tensor) -> tuple[float, float]:
    """By how much the accuracy falls, and the mean steps."""
    found = decide(rule, outputs)
    return float((full.double() - (found.label == labels).double()).mean()), float(found.steps.double().mean())


def uncorrected(rule: DynamicConfidence, outputs: torch.Tensor, labels: torch.Tensor) -> DynamicConfidence:
    """The fastest threshold that loses no more than epsilon on the calibration samples."""
    curve = exit_curve(rule.score, outputs, labels)
    fits = torch.nonzero((curve.lost - curve.gained).double() / curve.samples <= EPSILON)
    return DynamicConfidence(rule.score, float(curve.threshold[int(fits[-1])]))


def split(outputs: torch.Tensor, labels: torch.Tensor, seed: int) -> dict[str, float]:
    """One split: what each rule loses and how long it takes, and what the sets cover."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    chosen, rest = order[:CALIBRATION], order[CALIBRATION:]
    here, there = (outputs[:, chosen], labels[chosen]), (outputs[:, rest], labels[rest])
    full = there[0][-1].argmax(1) == there[1]
    kept = control_loss(*here, epsilon=EPSILON, delta=DELTA, seed=seed).rule
    lost, steps = fall(kept, *there, full)
    plain_lost, plain_steps = fall(uncorrected(kept, *here), *there, full)
    sets = calibrate_coverage(*here, coverage=COVERAGE)
    decisions = decide(sets, there[0])
    held = sets.sets(there[0], decisions)[torch.arange(len(rest)), there[1]]
    return {
        "lost": lost,
        "steps": steps,
        "plain_lost": plain_lost,
        "plain_steps": plain_steps,
        "covered": float(held.double().mean()),
        "set_steps": float(decisions.steps.double().mean()),
    }


def main() -> None:
    """Run the splits and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--row", default="mnist_cnn", choices=list(ROWS))
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--limit", type=int, default=4000)
    options = parser.parse_args()
    held = read_folder(options.keep / options.row)
    test = samples(ROWS[options.row], "data", options.data, held, options.limit)
    outputs, labels = outputs_over_time(held.spiking, test.x, options.steps), torch.from_numpy(test.y)
    rows = [split(outputs, labels, seed) for seed in range(options.splits)]
    values = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    found: dict[str, Any] = {
        "row": options.row, "samples": len(test), "steps": options.steps, "splits": options.splits,
        "calibration": CALIBRATION, "epsilon": EPSILON, "delta": DELTA, "coverage": COVERAGE,
    }  # fmt: skip
    for name, key in (("guaranteed", "lost"), ("uncorrected", "plain_lost")):
        broken = float((values[key] > EPSILON).mean())
        steps = float(values["steps" if name == "guaranteed" else "plain_steps"].mean())
        found[name] = {
            "broken": broken, "broken_ci95": list(accuracy_interval(broken, options.splits)), "mean_steps": steps,
            "mean_loss": float(values[key].mean()),
        }  # fmt: skip
    found["sets"] = {
        "covered": float(values["covered"].mean()),
        "standard_error": float(values["covered"].std() / np.sqrt(options.splits)),
        "mean_steps": float(values["set_steps"].mean()),
    }
    (RESULTS / "guarantees.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
