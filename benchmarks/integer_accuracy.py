"""What eight bits cost: the integer network against the float one, on all test samples, at T = 32 (digits also at 8).

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/integer_accuracy.py --data DATA --keep DIR [--rows NAME ...] [--limit N] [--draws K]

Each row runs networks of a folder that conversion_table.py kept on the same samples, none of which chose anything: the
float one, the integer one as ``convert`` makes it (weights rounded to the nearest, mean currents kept by biases), the
one whose rounding is fitted to calibration samples, the one that no samples helped, and, to see what any small change
does, the float one with noise of 1e-4 of a layer's largest weight on its weights.
Accuracy, paired difference and its 95 % interval are kept in benchmarks/results/integer_accuracy.json.

With ``--draws K`` something else is measured and kept beside it: K float networks, each with its own such noise, and
the integer network of each.  One spiking network's labels move with any small change, so one pair of networks says
little about eight bits; the mean over K pairs says what they cost beyond that.  Its interval is over samples.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion_table import RESULTS, ROWS, Row, measure
from models import data_folder
from tables import put_table

from spikeport import load_data
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.integer import FIT_SAMPLES, MEAN_SAMPLES, input_range, integer_outputs
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.hardware.rounding import input_moments
from spikeport.inference import accuracy_interval, paired_difference_interval
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time

FILE = RESULTS / "integer_accuracy.json"
STEPS = 32
MOVED = 1e-4
ALL = {**ROWS, "digits32": replace(ROWS["digits"], timesteps=STEPS, wanted={})}  # for as many steps as the others


def samples(row: Row, name: str, data: Path, held: Any, limit: int | None) -> Any:
    """The part of a row's data that ``name`` says, as the network sees it."""
    spec = getattr(row, name)
    spec = spec if spec == "digits" else str(data / f"{spec}.npz")
    part = "calibration" if name == "calibration" else "evaluation"
    features, classes = held.shapes
    return load_data(spec, held.preprocessing, part=part, features=features, classes=classes, limit=limit)


def lowerings(held: Any, row: Row, data: Path) -> dict[str, Callable[[Graph], IntegerProgram]]:
    """The ways to make integer networks of the folder's float one, with the row's calibration samples."""
    x = samples(row, "calibration", data, held, row.samples).x
    made = partial(lower, code=input_code(**input_range(x)), steps=row.timesteps)
    means = input_moments(held.spiking, x[:MEAN_SAMPLES], row.timesteps, covariance=False)
    fit = input_moments(held.spiking, x[:FIT_SAMPLES], row.timesteps)
    return {"integer": partial(made, moments=means), "fitted": partial(made, moments=fit), "bare": made}


def moved(graph: Graph, seed: int = 0) -> Graph:
    """The network with normal noise on its weights, MOVED of the largest of each layer."""
    rng, nodes = np.random.default_rng(seed), []
    for node in graph.nodes:
        if "weight" in node.arrays:
            weight = np.asarray(node.arrays["weight"])
            noise = MOVED * np.abs(weight).max() * rng.standard_normal(weight.shape)
            node = replace(node, arrays={**node.arrays, "weight": (weight + noise).astype(np.float32)})
        nodes.append(node)
    return Graph.of(nodes, graph.information)


def measured(row: Row, folder: Path, data: Path, limit: int | None) -> dict[str, Any]:
    """All networks on the same samples."""
    held = read_folder(folder)
    test = samples(row, "data", data, held, limit)
    steps = min(STEPS, row.timesteps)
    programs = {key: make(held.spiking) for key, make in lowerings(held, row, data).items()}
    real = outputs_over_time(held.spiking, test.x, steps)[-1]
    outputs = {key: integer_outputs(program, test.x, steps)[-1] for key, program in programs.items()}
    outputs["moved"] = outputs_over_time(moved(held.spiking), test.x, steps)[-1]
    truth = torch.from_numpy(test.y)
    found: dict[str, Any] = {"title": row.title, "spikes": row.spikes, "n": len(test), "steps": steps}
    found["float"] = accuracy_of(real, truth)
    for key, output in outputs.items():
        change = paired_difference_interval(output.argmax(1), real.argmax(1), truth)
        found[key] = {
            **accuracy_of(output, truth),
            "change": change.value,
            "change_ci95": [change.low, change.high],
            "labels_that_differ": float((output.argmax(1) != real.argmax(1)).double().mean()),
            "error": float((output - real).square().mean().sqrt() / real.std()),
        }
    coarser = programs["integer"].graph.information["integer"]["channels_with_coarser_weights"]
    return {**found, "channels_with_coarser_weights": sum(coarser.values())}


def averaged(row: Row, folder: Path, data: Path, limit: int | None, draws: int, ways: Sequence[str]) -> dict[str, Any]:
    """Mean accuracies of networks with small noise, and of the integer networks made of them."""
    held = read_folder(folder)
    test = samples(row, "data", data, held, limit)
    make = lowerings(held, row, data)
    steps, right = min(STEPS, row.timesteps), []
    for seed in range(draws):
        graph = moved(held.spiking, seed)
        outputs = [outputs_over_time(graph, test.x, steps)[-1]]
        outputs += [integer_outputs(make[key](graph), test.x, steps)[-1] for key in ways]
        right.append([(output.argmax(1).numpy() == test.y).astype(float) for output in outputs])
        print(f"  draw {seed}: {[float(each.mean()) for each in right[-1]]}", flush=True)
    real, *others = np.mean(right, 0)  # of each sample: the share of the draws that were right
    found = {"draws": draws, "noise": MOVED, "n": len(test), "steps": steps, "float": {"accuracy": float(real.mean())}}
    for key, whole in zip(ways, others, strict=True):
        mean, half = float((whole - real).mean()), 1.96 * float((whole - real).std(ddof=1)) / len(test) ** 0.5
        found[key] = {"accuracy": float(whole.mean()), "change": mean, "change_ci95": [mean - half, mean + half]}
    return found


def change_of(part: dict[str, Any] | None) -> str:
    """A change in points with its interval."""
    if part is None:
        return "–"
    value, low, high = (100 * each for each in (part["change"], *part["change_ci95"]))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def write_table() -> None:
    """Write the table of docs/results.md from what was kept."""
    found = json.loads(FILE.read_text())
    heads = ["network", "spikes", "T", "n", "float, %", "eight bits", "no samples", "rounding fitted", "moved"]
    lines = [
        f"| {' | '.join([*heads, 'labels that differ, eight bits and moved'])} | mean over pairs | without samples |"
    ]
    lines.append(f"|{'---|' * (len(heads) + 3)}")
    for row in found.values():
        cells = [
            row["title"],
            row["spikes"],
            str(row["steps"]),
            f"{row['n']:,}",
            f"{100 * row['float']['accuracy']:.2f}",
        ]
        cells += [change_of(row.get(key)) for key in ("integer", "bare", "fitted", "moved")]
        differ = (row[key]["labels_that_differ"] for key in ("integer", "moved"))
        cells.append(" and ".join(f"{100 * each:.1f} %" for each in differ))
        mean = row.get("averaged", {})
        about = f"; {mean['draws']} pairs, n = {mean['n']:,}" if mean else ""
        cells += [change_of(mean.get("integer")) + about, change_of(mean.get("bare"))]
        lines.append(f"| {' | '.join(cells)} |")
    put_table("eight_bits", "\n".join(lines))


def accuracy_of(output: torch.Tensor, truth: torch.Tensor) -> dict[str, Any]:
    """Share of right answers, with its interval."""
    accuracy = float((output.argmax(1) == truth).double().mean())
    return {"accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(truth)))}


def main() -> None:
    """Measure the rows that were asked for, keeping each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ALL), choices=list(ALL))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--draws", type=int, help="measure the mean over as many networks with small noise instead")
    parser.add_argument("--ways", nargs="*", default=["integer", "bare"], choices=["integer", "fitted", "bare"])
    options = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in options.rows:
        if name not in ROWS and not (options.keep / name).is_dir():
            measure(ALL[name], options.data, data_folder(), options.keep / name)
        if not (options.keep / name).is_dir():
            print(f"{name}: no folder in {options.keep}; run conversion_table.py --keep first")
            continue
        if options.draws:
            mean = averaged(ALL[name], options.keep / name, options.data, options.limit, options.draws, options.ways)
            found[name] = {**found.get(name, {}), "averaged": mean}
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            for key in options.ways:
                value, low, high = (100 * each for each in (mean[key]["change"], *mean[key]["change_ci95"]))
                print(f"{name}, {key}: {value:+.2f} points ({low:+.2f} to {high:+.2f}), n = {mean['n']}")
            continue
        kept = {key: value for key, value in found.get(name, {}).items() if key == "averaged"}
        found[name] = measured(ALL[name], options.keep / name, options.data, options.limit) | kept
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: n = {found[name]['n']}, T = {found[name]['steps']}")
        for key in ("integer", "fitted", "bare", "moved"):
            part = found[name][key]
            low, high = part["change_ci95"]
            print(f"  {key}: {100 * part['change']:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), "
                  f"{100 * part['labels_that_differ']:.2f} % of labels differ, error {part['error']:.3f}")  # fmt: skip
    write_table()


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
