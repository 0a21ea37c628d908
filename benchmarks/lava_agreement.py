"""Run a converted network in Lava and count the spikes that differ from the NumPy reference.

    python benchmarks/lava_agreement.py NETWORK [--data DATA] [--samples 200] [--steps 16] [--batch 50]

NETWORK is a folder or file that ``spikeport convert`` wrote, or an integer network.  Prints one JSON object: agreement
with the reference (every spike of every neuron, and the readout), and seconds in Lava and in the reference.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikeport.data import Preprocessing, load_data
from spikeport.hardware.backend import compare, compiled, reference_recording
from spikeport.hardware.lava import LavaBackend
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.file import load_graph


def row(program: IntegerProgram, x: np.ndarray, steps: int, *, batch: int) -> dict[str, Any]:
    """Agreement and seconds for the samples x (n, *features), a batch at a time; starting and compiling count too."""
    record = [node.name for node in program.neurons]
    compared = mismatches = 0
    lava_seconds = reference_seconds = 0.0
    first = None
    began = time.perf_counter()
    with compiled(LavaBackend(batch=batch), program) as session:
        lava_seconds += time.perf_counter() - began
        for start in range(0, len(x), batch):
            part, began = x[start : start + batch], time.perf_counter()
            session.start(part)
            found = session.advance(steps, record=record)
            between = time.perf_counter()
            wanted = reference_recording(program, part, steps, record=record)
            lava_seconds += between - began
            reference_seconds += time.perf_counter() - between
            agreement = compare(found, wanted)
            compared, mismatches = compared + agreement.spikes_compared, mismatches + agreement.mismatches
            first = first or agreement.first_divergence
        report = session.report()
    return {
        "n": len(x),
        "steps": steps,
        "spikes_compared": compared,
        "mismatches": mismatches,
        "first_divergence": first,
        "lava_seconds": round(lava_seconds, 1),
        "reference_seconds": round(reference_seconds, 1),
        **report,
    }


def integer_program(path: Path, x: np.ndarray, steps: int) -> IntegerProgram:
    """The integer network of a file, lowered here if it is a float one."""
    graph = load_graph(path / "network.safetensors" if path.is_dir() else path)
    if "integer" in graph.information:
        return IntegerProgram.of(graph)
    return lower(graph, input_code(float(x.min()), float(x.max())), steps=steps)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", help="as for `spikeport evaluate`; noise in the range of the input without it")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    graph = load_graph(options.network / "network.safetensors" if options.network.is_dir() else options.network)
    if options.data:
        preprocessing = Preprocessing.from_json(graph.information["preprocessing"])
        x = np.asarray(load_data(options.data, preprocessing, part="evaluation", limit=options.samples).x)
    else:
        x = np.random.default_rng(0).uniform(0, 1, (options.samples, *graph.shapes[graph.input.name]))
    program = integer_program(options.network, x, options.steps)
    print(json.dumps(row(program, x.astype(np.float32), options.steps, batch=options.batch), indent=1))


if __name__ == "__main__":
    main()
