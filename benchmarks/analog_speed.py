"""Our arrays against the torch tiles of IBM's aihwkit: the same network, samples, steps and device, on the CPU.

python benchmarks/conversion_table.py --data DATA --keep DIR --rows mnist_cnn
python benchmarks/analog_speed.py --data DATA --keep DIR [--steps 16] [--batches 8 64] [--chips 25] [--repeats 7]

Phase-change memory one day after writing.  "weights": the devices' weights alone.  "all": with noise and a converter
of 8 bits (aihwkit: its own of 9, and its default noise) at every read.  aihwkit runs twice: step by step, every layer
at every step, as its layers are meant to be called, and inside spikeport's engine, which folds time into the batch and
reads a constant input once.  The neurons are spikeport's in all rows.  Runs take turns; medians; one thread.
``chips``: writing so many chips and running one batch on each; aihwkit has one chip at a time, so 3 are timed.
Wants an idle machine.  Numbers go into benchmarks/results/analog_speed.json, the table is printed.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from conversion_table import RESULTS, ROWS
from integer_accuracy import samples
from torch import Tensor

from spikeport.evaluation.folder import read_folder
from spikeport.hardware.analog.aihwkit_tiles import AihwkitEngine
from spikeport.hardware.analog.chips import Chips, program_network
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.engine import AnalogEngine, on_all
from spikeport.hardware.analog.ranges import fit_converters
from spikeport.inference import interleaved_medians
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph

FILE = RESULTS / "analog_speed.json"
DAY = 86400.0
CHUNK = 4
WORKS = ("weights", "all")


def design(work: str) -> Crossbar:
    """The crossbar of our side."""
    return Crossbar(load_device("pcm"), adc_bits=8 if work == "all" else None)


def ours(graph: Graph, x: Tensor, work: str, steps: int, chips: int = 1) -> AnalogEngine:
    """Chips written, drifted, their converters fitted to x."""
    found = program_network(graph, design(work), instances=chips, seed=0).at(DAY)
    found = quiet(found) if work == "weights" else fit_converters(found, x[:8], steps=steps)
    return AnalogEngine(found, max_steps=steps, chunk=CHUNK)


def quiet(chips: Chips) -> Chips:
    """The same devices, read without noise."""
    still = {
        name: replace(array, tiles=tuple(replace(tile, variance=None) for tile in array.tiles))
        for name, array in chips.arrays.items()
    }
    return chips.with_arrays(still)


def theirs(graph: Graph, work: str, steps: int, *, folded: bool, seed: int = 0) -> AihwkitEngine:
    """aihwkit's layers, with its default converters and noise for "all"."""
    crossbar = Crossbar(load_device("pcm"))
    engine = AihwkitEngine(
        graph, crossbar, time_s=DAY, seed=seed, max_steps=steps, chunk=CHUNK if folded else 1, constant_input=folded
    )
    if work == "all":
        from aihwkit.simulator.configs import TorchInferenceRPUConfig

        for layer in engine.layers.values():
            for tile in layer.analog_tiles():
                tile.rpu_config.forward = TorchInferenceRPUConfig().forward
    return engine


def run(engine: Engine, x: Tensor, steps: int) -> Tensor:
    """The output at the last step, ``CHUNK`` steps a call."""
    state = engine.start(x)
    for _ in range(steps // CHUNK):
        output, state = engine.advance(x, state, CHUNK)
    return output[-1]


@torch.inference_mode()
def run_steps(engine: Engine, x: Tensor, steps: int) -> Tensor:
    """The same, one step a call, every layer at every step."""
    state, sequence = engine.initial_state(len(x)), x[None]
    for _ in range(steps):
        output, state = engine.advance(sequence, state, 1)
    return output[-1]


def contestants(graph: Graph, x: Tensor, steps: int) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Name and run of each."""
    yield "digital", partial(run, Engine(graph, max_steps=steps, chunk=CHUNK), x, steps)
    for work in WORKS:
        yield f"ours, {work}", partial(run, ours(graph, x, work, steps), x, steps)
        folded, stepped = (theirs(graph, work, steps, folded=each) for each in (True, False))
        yield f"aihwkit in our engine, {work}", partial(run, folded, x, steps)
        yield f"aihwkit step by step, {work}", partial(run_steps, stepped, x, steps)


def timed(graph: Graph, x: Tensor, steps: int, repeats: int) -> dict[str, Any]:
    """Milliseconds a step of each, and the ratios to ours."""
    names, runs = zip(*contestants(graph, x, steps), strict=True)
    digital = runs[0]().argmax(1)
    agreement = {name: float((go().argmax(1) == digital).double().mean()) for name, go in zip(names, runs, strict=True)}
    seconds = dict(zip(names, interleaved_medians(list(runs), repeats), strict=True))
    ratios = {
        f"{side}, {work}": seconds[f"{side}, {work}"] / seconds[f"ours, {work}"]
        for work in WORKS
        for side in ("aihwkit step by step", "aihwkit in our engine")
    }
    step = {name: 1000 * each / steps for name, each in seconds.items()}
    return {"batch": len(x), "ms_a_step": step, "times_ours": ratios, "decides_as_digital": agreement}


def chips_timed(graph: Graph, x: Tensor, steps: int, chips: int) -> dict[str, Any]:
    """Seconds a chip, from its writing to the outputs of one batch; kernels are compiled before."""
    run(ours(graph, x, "all", steps, 2), on_all(x, 2), steps)
    began = time.perf_counter()
    run(ours(graph, x, "all", steps, chips), on_all(x, chips), steps)
    mine = (time.perf_counter() - began) / chips
    began = time.perf_counter()
    for seed in range(3):
        run_steps(theirs(graph, "all", steps, folded=False, seed=seed), x, steps)
    other = (time.perf_counter() - began) / 3
    return {"batch": len(x), "chips": chips, "ours_s": mine, "aihwkit_s": other, "ratio": other / mine}


def table(found: dict[str, Any]) -> str:
    """Rows of milliseconds a step, and how many times ours."""
    lines = ["| batch | run | ms a step | times ours |", "|---|---|---|---|"]
    for each in found["batches"]:
        for name, step in each["ms_a_step"].items():
            ratio = each["times_ours"].get(name)
            lines.append(f"| {each['batch']} | {name} | {step:.2f} | {'' if ratio is None else f'{ratio:.1f}×'} |")
    chips = found["chips"]
    lines.append(
        f"\n{chips['chips']} chips, written and run on a batch of {chips['batch']}: "
        f"{chips['ours_s']:.2f} s a chip; aihwkit {chips['aihwkit_s']:.2f} s, {chips['ratio']:.1f}×"
    )
    return "\n".join(lines)


def main() -> None:
    """Time all batches, then the chips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--chips", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    held = read_folder(options.keep / "mnist_cnn")
    test = samples(ROWS["mnist_cnn"], "data", options.data, held, None)
    x, graph = torch.from_numpy(test.x[: max(options.batches)]), held.spiking
    found = {
        "network": ROWS["mnist_cnn"].title,
        "steps": options.steps,
        "batches": [timed(graph, x[:size], options.steps, options.repeats) for size in options.batches],
        "chips": chips_timed(graph, x[: options.batches[0]], options.steps, options.chips),
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
