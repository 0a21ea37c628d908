"""Run the integer networks of public models on the backends and count every spike that is not the reference's.

python benchmarks/backend_table.py --data DATA --keep DIR [--rows NAME ...] [--backends torch ...] [--limit N]

--data and --keep are the folders of ``conversion_table.py``.  The integer network is the one of the kept folder, or is
made from its network for all inputs that pixels can give.  Each row is kept in benchmarks/results/backends.json as soon
as it is measured.  The NumPy reference is slow: minutes to an hour a row.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.data import Preprocessing
from spikeport.evaluation.run import backend_named
from spikeport.hardware.backend import Recording, Session, compare, compiled, reference_recording
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.file import load_graph
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time

RESULT = Path(__file__).resolve().parent / "results" / "backends.json"
INTEGER = "network.int8.safetensors"
VALUES = 1 << 26  # spikes recorded at a time


@dataclass(frozen=True)
class Row:
    """A converted network, the samples it is run on, for how many steps, and how many of them each backend gets."""

    data: str
    steps: int
    samples: dict[str, int]


ROWS = {
    "mnist_cnn": Row("mnist_test", 16, {"torch": 10_000, "lava": 200, "brian2": 10}),
    "resnet20_binary": Row("cifar10_test", 16, {"torch": 1000, "lava": 20}),
    "resnet20_signed": Row("cifar10_test", 16, {"torch": 1000}),
}


def program_of(
    folder: Path, graph: Graph, preprocessing: Preprocessing, images: np.ndarray, steps: int
) -> IntegerProgram:
    """The integer network of a folder; from its float network where it has none."""
    if (folder / INTEGER).is_file():
        return IntegerProgram.load(folder / INTEGER)
    ends = [preprocessing.apply(np.full_like(images[:1], value)) for value in (0, 255)]
    low, high = min(float(x.min()) for x in ends), max(float(x.max()) for x in ends)
    return lower(graph, input_code(low, high, whole=bool((ends[1] == np.rint(ends[1])).all())), steps=max(steps, 32))


def measure(row: Row, folder: Path, data: Path, backends: Sequence[str], limit: int | None) -> dict[str, Any]:
    """One row: the accuracies of the float and the integer network, and each backend's agreement with the reference."""
    graph = load_graph(folder / "network.safetensors")
    preprocessing = Preprocessing.from_json(graph.information["preprocessing"])
    arrays = np.load(data / f"{row.data}.npz")
    n = {name: min(row.samples.get(name, 0), limit or len(arrays["x"]), len(arrays["x"])) for name in backends}
    most = max(n.values())
    x, y = preprocessing.apply(arrays["x"][:most]), arrays["y"][:most]
    program = program_of(folder, graph, preprocessing, arrays["x"], row.steps)
    real = outputs_over_time(graph, x, row.steps)[-1].argmax(1).numpy()
    sessions = {name: compiled(backend_named(name), program) for name in backends if n[name]}
    found = agreement(program, sessions, x, row.steps, n)
    labels = found.pop("labels")
    result = {
        "n": most, "steps": row.steps, "float_accuracy": float((real == y).mean()),
        "integer_accuracy": float((labels == y).mean()), "labels_that_differ": int((labels != real).sum()),
        "backends": {name: {**found[name], "engine": session.report()} for name, session in sessions.items()},
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
        row = measure(ROWS[name], options.keep / name, options.data, options.backends, options.limit)
        print(name, json.dumps(row), flush=True)
        if options.limit is None:
            kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
            row["backends"] = kept.get(name, {}).get("backends", {}) | row["backends"]
            RESULT.write_text(json.dumps(kept | {name: row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
