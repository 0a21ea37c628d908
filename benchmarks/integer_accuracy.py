"""What eight bits cost: the integer network against the float one, on all test samples, at T = 32 (digits also at 8).

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/integer_accuracy.py --data DATA --keep DIR [--rows NAME ...] [--limit N]

Each row runs both networks of a folder that conversion_table.py kept on the same samples, none of which chose anything,
and keeps accuracy, paired difference and its 95 % interval in benchmarks/results/integer_accuracy.json.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion_table import RESULTS, ROWS, Row, measure
from models import data_folder

from spikeport import load_data
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.integer import input_range, integer_outputs
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.inference import accuracy_interval, paired_difference_interval
from spikeport.networks.outputs import outputs_over_time

FILE = RESULTS / "integer_accuracy.json"
STEPS = 32
ALL = {**ROWS, "digits32": replace(ROWS["digits"], timesteps=STEPS, wanted={})}  # for as many steps as the others


def samples(row: Row, name: str, data: Path, held: Any, limit: int | None) -> Any:
    """The part of a row's data that ``name`` says, as the network sees it."""
    spec = getattr(row, name)
    spec = spec if spec == "digits" else str(data / f"{spec}.npz")
    part = "calibration" if name == "calibration" else "evaluation"
    features, classes = held.shapes
    return load_data(spec, held.preprocessing, part=part, features=features, classes=classes, limit=limit)


def program_of(held: Any, row: Row, data: Path) -> IntegerProgram:
    """The integer network, made anew from the folder's float one and the range of the row's calibration samples."""
    said = input_range(samples(row, "calibration", data, held, row.samples).x)
    return lower(held.spiking, input_code(**said), steps=row.timesteps)


def measured(row: Row, folder: Path, data: Path, limit: int | None) -> dict[str, Any]:
    """Both networks on the same samples."""
    held = read_folder(folder)
    test = samples(row, "data", data, held, limit)
    steps = min(STEPS, row.timesteps)
    program = program_of(held, row, data)
    float_label = outputs_over_time(held.spiking, test.x, steps)[-1].argmax(1)
    integer_label = integer_outputs(program, test.x, steps)[-1].argmax(1)
    truth = torch.from_numpy(test.y)
    change = paired_difference_interval(integer_label, float_label, truth)
    found: dict[str, Any] = {"title": row.title, "spikes": row.spikes, "n": len(test), "steps": steps}
    for key, label in (("float", float_label), ("integer", integer_label)):
        accuracy = float((label == truth).double().mean())
        found[key] = {"accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(test)))}
    return {
        **found,
        "change": change.value,
        "change_ci95": [change.low, change.high],
        "labels_that_differ": float((integer_label != float_label).double().mean()),
        "channels_with_coarser_weights": sum(
            program.graph.information["integer"]["channels_with_coarser_weights"].values()
        ),
    }


def main() -> None:
    """Measure the rows that were asked for, keeping each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ALL), choices=list(ALL))
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in options.rows:
        if name not in ROWS and not (options.keep / name).is_dir():
            measure(ALL[name], options.data, data_folder(), options.keep / name)
        if not (options.keep / name).is_dir():
            print(f"{name}: no folder in {options.keep}; run conversion_table.py --keep first")
            continue
        found[name] = measured(ALL[name], options.keep / name, options.data, options.limit)
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        low, high = found[name]["change_ci95"]
        print(f"{name}: {100 * found[name]['change']:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}, "
              f"n = {found[name]['n']}, T = {found[name]['steps']})")  # fmt: skip


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
