"""Accuracy against the rate of faults, with and without protection.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/fault_table.py --data DATA --keep DIR [--networks N ...] [--executors E ...] [--trials N] [--limit N]
python benchmarks/fault_table.py --write-only

Faults: every stored bit (weights, biases, thresholds, initial membranes, and the bounds of protection) flips with the
rate; on crossbars, the share of devices that are stuck, half of them at each end.  A trial is a seed of the faults;
each protection meets the same seeds, and protected networks have their bounds hit too.  Bounds, limits and the trial
of neurons see calibration samples only.  Trials that are done are kept in benchmarks/results/faults.json and not
repeated; docs/results.md gets what is there.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from conversion_table import RESULTS, ROWS
from integer_accuracy import samples
from scipy.stats import t as student
from tables import put_table

from spikeport.conversion.rewrite import without_lines
from spikeport.evaluation.chips import chip_outputs, network_on_chips
from spikeport.evaluation.engines import Network, engine_of, graph_of
from spikeport.evaluation.faults import decided_labels, with_stored_faults
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.integer import input_range
from spikeport.evaluation.protection import limited, spike_limits, without_hyperactive
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.lower import input_code, lower
from spikeport.networks.faults import STORED, Faults
from spikeport.networks.outputs import outputs_of
from spikeport.networks.protection import activation_maxima, maximum_bounds, with_bounds
from spikeport.training.bounds import BoundFit, fit_bounds
from spikeport.training.step import Samples

FILE = RESULTS / "faults.json"
SLACK = 0.1  # of limits, as samples that were not seen spike a little more; none is needed where neurons are tried
SHARE, TRIED = 0.1, 64  # of the samples: more than its limit in so many makes a neuron hyperactive; how many are tried
LIMITING = 500  # calibration samples that limits are taken from
TIME_S = 1.0  # after writing a crossbar


class Size(NamedTuple):
    """How much is measured of a network: test samples, trials, calibration samples, steps."""

    test: int
    trials: int
    calibration: int
    steps: int


NETWORKS = {"mnist_cnn": Size(500, 20, 4000, 16), "resnet20_binary": Size(200, 10, 500, 32)}


@dataclass
class Case:
    """One network in its forms, and its samples."""

    name: str
    size: Size
    data: Path
    keep: Path

    @cached_property
    def held(self) -> Any:
        """What the conversion left."""
        return read_folder(self.keep / self.name)

    @cached_property
    def calibration(self) -> Any:
        """Samples of the calibration, of which nothing is measured."""
        return samples(ROWS[self.name], "calibration", self.data, self.held, self.size.calibration)

    @cached_property
    def test(self) -> Any:
        """Samples that are measured."""
        return samples(ROWS[self.name], "data", self.data, self.held, self.size.test)

    @cached_property
    def analog(self) -> Network:
        """The network that was converted."""
        return without_lines(self.held.analog)

    @cached_property
    def integer(self) -> Network:
        """The network in whole numbers."""
        code = input_code(**input_range(self.calibration.x))
        return lower(self.held.spiking, code, steps=self.size.steps)

    @cached_property
    def bounds(self) -> dict[str, np.ndarray]:
        """At the largest values of the calibration samples."""
        return maximum_bounds(self.analog, activation_maxima(self.analog, self.calibration.x))

    @cached_property
    def learned(self) -> dict[str, np.ndarray]:
        """Bounds that were lowered; kept beside the folder, as that takes minutes."""
        path = self.keep / f"bounds-{self.name}.npz"
        if not path.exists():
            shown = Samples(torch.from_numpy(self.calibration.x), torch.from_numpy(self.calibration.y))
            found, report = fit_bounds(
                self.analog, self.bounds, shown, BoundFit(allowed=0.005, pressures=(1.0, 0.1), steps=6, looks=2)
            )
            print(f"{self.name}: learned bounds {report}", flush=True)
            np.savez(path, **found)
        return dict(np.load(path))

    def limits(self, network: Network, slack: float = SLACK) -> dict[str, np.ndarray]:
        """The most spikes of each unit."""
        return spike_limits(network, self.calibration.x[:LIMITING], self.size.steps, slack=slack)

    def without_hyperactive(self, network: Network, limits: dict[str, np.ndarray]) -> Network:
        """The network after a trial of its neurons."""
        return without_hyperactive(network, self.calibration.x[:TRIED], self.size.steps, limits, share=SHARE)[0]


@dataclass(frozen=True)
class Executor:
    """Where a network runs: rates of faults, and by protection a function (case) -> (rate, seed) -> labels."""

    title: str
    rates: tuple[float, ...]
    protections: dict[str, Callable[[Case], Callable[[float, int], np.ndarray]]]


def digital(network: Callable[[Case], Network], *, steps: bool, mended: bool = False) -> Any:
    """Flip bits of what ``network`` gives, then try neurons if ``mended``, and decide on the test samples."""

    def made(case: Case) -> Callable[[float, int], np.ndarray]:
        plain, length = network(case), case.size.steps if steps else 1
        limits = case.limits(plain, 0.0) if mended else {}

        def labels(rate: float, seed: int) -> np.ndarray:
            hurt = with_stored_faults(plain, every_bit(plain, rate), seed=seed)[0] if rate else plain
            hurt = case.without_hyperactive(hurt, limits) if mended else hurt
            classes = graph_of(hurt).shapes[graph_of(hurt).output.name]
            output = outputs_of(engine_of(hurt, max_steps=length), classes, case.test.x, length)[-1]
            return decided_labels(output).numpy()

        return labels

    return made


def crossbar(network: Callable[[Case], Network]) -> Any:
    """Write what ``network`` gives into arrays of which some devices are stuck, and decide on the test samples."""

    def made(case: Case) -> Callable[[float, int], np.ndarray]:
        plain = network(case)

        def labels(rate: float, seed: int) -> np.ndarray:
            device = replace(load_device("pcm"), stuck_on=rate / 2, stuck_off=rate / 2)
            chips = network_on_chips(plain, Crossbar(device), time_s=TIME_S, instances=1, seed=seed)
            return decided_labels(chip_outputs(plain, chips, case.test.x, case.size.steps)[-1, 0]).numpy()

        return labels

    return made


def every_bit(network: Network, rate: float) -> Faults:
    """All that is stored, at one rate."""
    arrays = {key for node in graph_of(network).nodes for key in node.arrays}
    return Faults(**{target: rate for target, keys in STORED.items() if keys & arrays})


EXECUTORS = {
    "float": Executor(
        "analog-valued network, float32",
        (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
        {
            "none": digital(lambda case: case.analog, steps=False),
            "bounds": digital(lambda case: with_bounds(case.analog, case.bounds), steps=False),
            "learned bounds": digital(lambda case: with_bounds(case.analog, case.learned), steps=False),
        },
    ),
    "spiking": Executor(
        "spiking network, float32",
        (0.0, 1e-7, 1e-6, 1e-5, 1e-4),
        {
            "none": digital(lambda case: case.held.spiking, steps=True),
            "limits": digital(lambda case: limited(case.held.spiking, case.limits(case.held.spiking)), steps=True),
        },
    ),
    "integer": Executor(
        "integer network, 8-bit weights",
        (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        {
            "none": digital(lambda case: case.integer, steps=True),
            "limits": digital(lambda case: limited(case.integer, case.limits(case.integer)), steps=True),
            "no hyperactive": digital(lambda case: case.integer, steps=True, mended=True),
        },
    ),
    "crossbar": Executor(
        "spiking network on PCM, stuck devices",
        (0.0, 1e-3, 1e-2, 3e-2, 1e-1),
        {
            "none": crossbar(lambda case: case.held.spiking),
            "limits": crossbar(lambda case: limited(case.held.spiking, case.limits(case.held.spiking))),
        },
    ),
}


def measure(case: Case, kind: str, trials: int, kept: dict[str, Any]) -> None:
    """Fill in the trials that are missing; each is written as it is done."""
    executor = EXECUTORS[kind]
    for protection, made in executor.protections.items():
        cells = kept.setdefault(case.name, {}).setdefault(kind, {}).setdefault(protection, {})
        n = str(len(case.test.y))
        wanted = {rate: trials if rate or kind == "crossbar" else 1 for rate in executor.rates}
        missing = [rate for rate in executor.rates if len(cells.get(f"{rate:g}", {}).get(n, [])) < wanted[rate]]
        labels = made(case) if missing else None
        for rate in missing:
            found = cells.setdefault(f"{rate:g}", {}).setdefault(n, [])
            for seed in range(len(found), wanted[rate]):
                found.append(float((labels(rate, seed) == case.test.y).mean()))  # type: ignore[misc]
                FILE.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{case.name}, {kind}, {protection}, {rate:g}: {cell(cells[f'{rate:g}'])}", flush=True)


def cell(found: dict[str, list[float]] | None) -> str:
    """Mean accuracy of the largest sample size in percent, and its 95 % interval over trials (Student's t)."""
    if not found:
        return "–"
    values = 100 * np.array(found[max(found, key=int)])
    if len(values) < 2:
        return f"{values.mean():.1f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / sqrt(len(values))
    return f"{values.mean():.1f} ± {half:.1f}"


def tables(kept: dict[str, Any]) -> Iterator[str]:
    """One table for each executor."""
    for kind, executor in EXECUTORS.items():
        rows = [(name, row) for name, held in kept.items() for row in held.get(kind, {}).items()]
        if not rows:
            continue
        yield ""
        yield f"| {executor.title}: % right at | n | trials | {' | '.join(f'{rate:g}' for rate in executor.rates)} |"
        yield "|---|---|---|" + "---|" * len(executor.rates)
        for name, (protection, cells) in rows:
            n = max((int(key) for found in cells.values() for key in found), default=0)
            trials = max((len(found.get(str(n), [])) for found in cells.values()), default=0)
            shown = " | ".join(cell(cells.get(f"{rate:g}")) for rate in executor.rates)
            yield f"| {ROWS[name].title}, {protection} | {n} | {trials} | {shown} |"


def write(kept: dict[str, Any]) -> None:
    """Put the tables between their marks."""
    put_table("faults", "\n".join(tables(kept)).strip())


def main() -> None:
    """Measure what was asked for, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--executors", nargs="*", default=list(EXECUTORS), choices=list(EXECUTORS))
    parser.add_argument("--trials", type=int, help="seeds of faults; by the network if not given")
    parser.add_argument("--limit", type=int, help="test samples; by the network if not given")
    parser.add_argument("--write-only", action="store_true", help="only write the tables")
    given = parser.parse_args()
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    if not given.write_only and (given.data is None or given.keep is None):
        parser.error("--data and --keep are needed to measure")
    for name in [] if given.write_only else given.networks:
        size = NETWORKS[name]
        size = size._replace(test=given.limit or size.test)
        case = Case(name, size, given.data, given.keep)
        for kind in given.executors:
            measure(case, kind, given.trials or size.trials, kept)
    if given.limit is None:
        write(kept)


if __name__ == "__main__":
    main()
