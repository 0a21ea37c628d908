"""Run the integer networks of public models on the backends and count every spike that is not the reference's.

python benchmarks/backend_table.py --data DATA --keep DIR [--rows NAME ...] [--backends torch ...] [--limit N]

--data and --keep are the folders of ``conversion_table.py``; SPIKEPORT_DATA names the one of lava-dl's file.  The
integer network is the one of the kept folder, or is made from its network for all inputs that pixels can give.  Each
row is kept in benchmarks/results/backends.json as soon as it is measured, and the table is written from there.
The NumPy reference is slow: minutes to an hour a row.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from backend_networks import Network, digits_demo, lava_dl, trained
from tables import put_table

from spikeport.data import Preprocessing
from spikeport.evaluation.integer import input_range
from spikeport.evaluation.run import backend_named
from spikeport.hardware.backend import Recording, Session, compare, compiled, reference_recording
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.file import load_graph
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "backends.json"
INTEGER = "network.int8.safetensors"
VALUES = 1 << 26  # spikes recorded at a time


@dataclass(frozen=True)
class Row:
    """A converted network, the samples it is run on, for how many steps, and how many of them each backend gets."""

    title: str
    data: str
    steps: int
    samples: dict[str, int]


ROWS = {
    "digits": Row("digits CNN of the demo", "", 16, {"torch": 360, "lava": 360, "brian2": 50}),
    "mnist_cnn": Row("MNIST CNN (sinabs weights)", "mnist_test", 16, {"torch": 10_000, "lava": 200, "brian2": 10}),
    "resnet20_binary": Row("ResNet-20, binary", "cifar10_test", 16, {"torch": 1000, "lava": 20}),
    "resnet20_signed": Row("ResNet-20, signed", "cifar10_test", 16, {"torch": 1000}),
    "trained": Row("leaky network with delays, trained with spikes", "", 16, {"torch": 360, "lava": 360, "brian2": 50}),
    "lava_dl": Row("lava-dl's MNIST network, imported", "mnist_test", 23, {"torch": 1000, "lava": 1000, "brian2": 20}),
}


def program_of(
    folder: Path, graph: Graph, preprocessing: Preprocessing, images: np.ndarray, steps: int
) -> IntegerProgram:
    """The integer network of a folder; from its float network where it has none."""
    if (folder / INTEGER).is_file():
        return IntegerProgram.load(folder / INTEGER)
    every = np.stack([preprocessing.apply(np.full_like(images[:1], value)) for value in range(256)])
    return lower(graph, input_code(**input_range(every)), steps=max(steps, 32))


def network_of(name: str, row: Row, keep: Path, data: Path, most: int) -> Network:
    """The float network (None where there is none), the integer one, and the first samples with their labels."""
    if name == "digits":
        found = digits_demo(keep, row.steps)
    elif name == "trained":
        found = trained(keep, row.steps)
    elif name == "lava_dl":
        file = Path(os.environ["SPIKEPORT_DATA"]) / "models" / "lavadl_netx_mnist.net"
        found = lava_dl(file, data / f"{row.data}.npz", row.steps)
    else:
        graph = load_graph(keep / name / "network.safetensors")
        preprocessing = Preprocessing.from_json(graph.information["preprocessing"])
        arrays = np.load(data / f"{row.data}.npz")
        program = program_of(keep / name, graph, preprocessing, arrays["x"], row.steps)
        found = graph, program, preprocessing.apply(arrays["x"][:most]), arrays["y"]
    return found[0], found[1], found[2][:most].astype(np.float32), found[3][:most]


def measure(name: str, row: Row, keep: Path, data: Path, backends: Sequence[str], limit: int | None) -> dict[str, Any]:
    """One row: the accuracies of the float and the integer network, and each backend's agreement with the reference."""
    n = {each: min(row.samples.get(each, 0), limit or 1 << 30) for each in backends}
    most = max(n.values())
    graph, program, x, y = network_of(name, row, keep, data, most)
    real = None if graph is None else outputs_over_time(graph, x, row.steps)[-1].argmax(1).numpy()
    sessions = {name: compiled(backend_named(name), program) for name in backends if n[name]}
    found = agreement(program, sessions, x, row.steps, n)
    labels = found.pop("labels")
    result = {
        "n": len(y), "steps": row.steps, "float_accuracy": None if real is None else float((real == y).mean()),
        "integer_accuracy": float((labels == y).mean()),
        "labels_that_differ": None if real is None else int((labels != real).sum()),
        "backends": {each: {**found[each], "engine": session.report()} for each, session in sessions.items()},
    }  # fmt: skip
    for session in sessions.values():
        session.close()
    return result


def agreement(
    program: IntegerProgram, sessions: dict[str, Session], x: np.ndarray, steps: int, n: dict[str, int]
) -> dict[str, Any]:
    """Every spike and every current of the readout, beside the reference's; batch by batch."""
    names = [node.name for node in program.neurons]
    units = sum(int(np.prod(program.graph.shapes[name])) for name in names)
    size = max(1, min(64, VALUES // (units * steps)))
    labels, seconds = [], dict.fromkeys(("reference", *sessions), 0.0)
    totals: dict[str, Any] = {name: {"n": n[name], "compared": 0, "mismatches": 0, "first": None} for name in sessions}
    for first in range(0, len(x), size):
        block = x[first : first + size]
        began = time.perf_counter()
        wanted = reference_recording(program, block, steps, record=names)
        seconds["reference"] += time.perf_counter() - began
        labels.append(program.real_output(wanted.output)[-1].argmax(-1))
        for name, session in sessions.items():
            part = min(len(block), n[name] - first)
            if part < 1:
                continue
            began = time.perf_counter()
            session.start(block[:part])
            got = session.advance(steps, record=names)
            seconds[name] += time.perf_counter() - began
            add(totals[name], got, shortened(wanted, part), first)
    for name, total in totals.items():
        total["seconds"] = seconds[name]
    return {"labels": np.concatenate(labels), **totals}


def add(total: dict[str, Any], got: Recording, wanted: Recording, first: int) -> None:
    """Add one comparison to the total."""
    compared = compare(got, wanted)
    total["compared"] += compared.spikes_compared
    total["mismatches"] += compared.mismatches
    if compared.first_divergence is not None and total["first"] is None:
        total["first"] = [*compared.first_divergence, first]


def shortened(recording: Recording, n: int) -> Recording:
    """The first n samples."""
    return Recording(recording.output[:, :n], {name: values[:, :n] for name, values in recording.spikes.items()})


def keep_row(name: str, row: dict[str, Any]) -> None:
    """Add a row to the results; accuracies stay those of the run with the most samples."""
    kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    before = kept.get(name, {})
    backends = before.get("backends", {}) | row["backends"]
    kept[name] = {**(before if before.get("n", 0) > row["n"] else row), "backends": backends}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


def write_readme() -> None:
    """Put the table between its marks."""
    kept = json.loads(RESULT.read_text())
    columns = ("torch", "lava", "brian2")
    lines = [
        "| integer network | T | float, % | integer, % | n | torch | Lava | Brian2 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        if name not in kept:
            continue
        found = kept[name]
        shares = [
            "–" if found[key] is None else f"{100 * found[key]:.2f}" for key in ("float_accuracy", "integer_accuracy")
        ]
        cells = [cell(found["backends"].get(column)) for column in columns]
        lines.append(" | ".join([f"| {row.title}", str(row.steps), *shares, f"{found['n']:,}", *cells]) + " |")
    put_table("backends", "\n".join(lines))


def cell(found: dict[str, Any] | None) -> str:
    """What a backend's run says."""
    if found is None:
        return "not run"
    said = "the same bits" if not found["mismatches"] else f"{found['mismatches']:,} of {found['compared']:,} differ"
    return f"{said}, n = {found['n']:,} ({found['seconds']:.0f} s)"


def main() -> None:
    """Measure the rows that are asked for, and keep each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare_data.py wrote")
    parser.add_argument("--keep", type=Path, required=True, help="the folder of the converted networks")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--backends", nargs="*", default=["torch"])
    parser.add_argument("--limit", type=int, help="samples a row; a limited row is printed and not kept")
    options = parser.parse_args()
    for name in options.rows:
        row = measure(name, ROWS[name], options.keep, options.data, options.backends, options.limit)
        print(name, json.dumps(row), flush=True)
        if options.limit is None:
            keep_row(name, row)
            write_readme()


if __name__ == "__main__":
    main()
