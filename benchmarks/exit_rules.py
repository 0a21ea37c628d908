"""Which exit rule is worth what: every rule on the same cached outputs, calibrated on held-out ones.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/exit_rules.py --data DATA --keep DIR [--rows NAME ...] [--limit N] [--steps T] [--max-loss SHARE]

For each network that conversion_table.py kept: outputs of the test samples are computed once; each rule is calibrated
on the exit split of the conversion with the same allowed loss (that of conversion_table.py's row, unless given), and
decides on them.  A row has the accuracy, its paired difference to the full run, mean steps, the speed-up against the
smallest fixed T of equal accuracy and the share of steps saved against the network's own T, with 95 % intervals
(bootstrap over samples).  "fixed" is the smallest T that loses at most the same on the exit split.  Kept in
benchmarks/results/exit_rules.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from conversion_table import RESULTS, ROWS
from integer_accuracy import samples

from spikeport.data import Dataset
from spikeport.evaluation.convert import ExitData
from spikeport.evaluation.engines import engine_of
from spikeport.evaluation.folder import Conversion, read_folder
from spikeport.evaluation.policies import POLICIES, Policy, exit_labels
from spikeport.inference import (
    AnyRule,
    FixedSteps,
    accuracy_by_step,
    decide,
    mean_interval,
    oracle,
    paired_difference_interval,
    smallest_fixed_steps_of_equal_accuracy,
    speedup_steps,
)
from spikeport.networks.outputs import outputs_of

FILE = RESULTS / "exit_rules.json"


def fixed(exit_data: ExitData, max_loss: float) -> FixedSteps:
    """The smallest fixed window that loses at most max_loss on the exit split."""
    right = accuracy_by_step(torch.from_numpy(exit_data.outputs), exit_labels(exit_data))
    return FixedSteps(int((right >= right[-1] - max_loss - 1e-9).nonzero()[0]) + 1)


def measured(rule: AnyRule, outputs: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """What one rule does on the test samples."""
    found = decide(rule, outputs)
    change = paired_difference_interval(found.label, outputs[-1].argmax(1), labels)
    speedup = speedup_steps(outputs, labels, found.label, found.steps)
    saved = mean_interval(1 - found.steps.double() / len(outputs))
    accuracy = float((found.label == labels).double().mean())
    return {
        "accuracy": accuracy,
        "change": [change.value, change.low, change.high],
        "mean_steps": float(found.steps.double().mean()),
        "fixed_steps_of_equal_accuracy": smallest_fixed_steps_of_equal_accuracy(outputs, labels, accuracy),
        "speedup_steps": [speedup.value, speedup.low, speedup.high],
        "steps_saved": [saved.value, saved.low, saved.high],
        "rule": str(rule),
    }


def compared(
    title: str, held: Conversion, test: Dataset, *, max_loss: float, steps: int | None = None
) -> dict[str, Any]:
    """All rules on the outputs of one network for samples that chose nothing."""
    steps = min(steps or len(held.exit.outputs), len(held.exit.outputs))
    engine = engine_of(held.spiking, max_steps=steps)
    outputs = outputs_of(engine, (held.shapes[1],), test.x, steps)
    labels = torch.from_numpy(test.y)
    known = held.exit
    exit_data = ExitData(known.outputs[:steps], known.labels, known.ann_labels, known.hashes, known.calibration_hashes)
    rules: dict[str, AnyRule] = {"fixed": fixed(exit_data, max_loss)}
    rules |= {kind: Policy(kind).rule(exit_data, max_loss=max_loss) for kind in POLICIES}
    return {
        "title": title,
        "n": len(test),
        "n_exit": len(known.labels),
        "steps": steps,
        "max_loss": max_loss,
        "accuracy_full": float((outputs[-1].argmax(1) == labels).double().mean()),
        "oracle": oracle(outputs, labels)._asdict(),
        "rules": {kind: measured(rule, outputs, labels) for kind, rule in rules.items()},
    }


def keep(name: str, row: dict[str, Any]) -> None:
    """Put a row beside the others, and show it."""
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    found[name] = row
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(table({name: row}), flush=True)


def table(found: dict[str, Any]) -> str:
    """What a person wants to see of it."""
    lines = ["network, rule: accuracy (change) in mean steps, speed-up in steps, steps saved"]
    for name, result in found.items():
        for kind, said in result["rules"].items():
            value, low, high = said["change"]
            speed, slow, fast = said["speedup_steps"]
            lines.append(
                f"{name:16} {kind:12} {100 * said['accuracy']:6.2f} ({100 * value:+.2f}, {100 * low:+.2f} to "
                f"{100 * high:+.2f}) in {said['mean_steps']:5.2f} of {result['steps']}; {speed:.2f} "
                f"({slow:.2f} to {fast:.2f}); {100 * said['steps_saved'][0]:.1f} %"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure the rows that are asked for and keep them beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--max-loss", type=float)
    options = parser.parse_args()
    for name in options.rows:
        if (options.keep / name).is_dir():
            held = read_folder(options.keep / name)
            test = samples(ROWS[name], "data", options.data, held, options.limit)
            title = f"{ROWS[name].title}, {ROWS[name].spikes}"
            allowed = ROWS[name].max_loss if options.max_loss is None else options.max_loss
            keep(name, compared(title, held, test, max_loss=allowed, steps=options.steps))


if __name__ == "__main__":
    main()
