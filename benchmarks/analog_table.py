"""Networks on many simulated chips: what devices and their age cost, and what fitting to the chips brings back.

python benchmarks/prepare_data.py --out DATA; python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/analog_table.py --data DATA --keep DIR [--networks NAME ...] [--instances 25] [--limit N]
    [--only "1 day" "compensated, fitted"]

Each configuration (network, device, age, drift compensation, fitted or not) runs test samples on so many chips and is
one row of benchmarks/results/analog.json; rows that are there already are kept, so a killed run goes on where it was.
Fitting uses training samples.  Accuracy is the mean over chips with its bootstrap interval; a row also has accuracy by
step and the curve of dynamic confidence.  The table in docs/results.md is written from what lies there.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conversion_table import RESULTS, ROWS
from tables import put_table

from spikeport.data import Dataset, load_data
from spikeport.evaluation.analog import AnalogDesign, run_on_chips
from spikeport.evaluation.chips import network_on_chips
from spikeport.evaluation.evaluate import calibrated_rule
from spikeport.evaluation.folder import Conversion, read_folder
from spikeport.evaluation.recalibrate import recalibrate
from spikeport.networks.outputs import outputs_over_time

FILE = RESULTS / "analog.json"
DAY = 86400.0
DEVICES = {"pcm": (1.0, DAY, 30 * DAY), "reram": (1.0, DAY)}
AGES = {1.0: "1 s", DAY: "1 day", 30 * DAY: "30 days"}


class Setting(NamedTuple):
    """How a network is measured: steps, test samples and calibration samples by default."""

    steps: int
    limit: int
    calibration: int


SETTINGS = {"mnist_cnn": Setting(32, 500, 200), "resnet20_binary": Setting(32, 50, 40)}


class Configuration(NamedTuple):
    """One row."""

    network: str
    device: str
    time_s: float
    compensation: bool
    fitted: bool

    def key(self, instances: int, limit: int) -> str:
        """The row's name in the file."""
        words = ("compensated" if self.compensation else "drifting", "fitted" if self.fitted else "as written")
        return f"{self.network}, {self.device}, {AGES[self.time_s]}, {', '.join(words)}, {instances} chips, n {limit}"


def configurations(networks: list[str]) -> Iterator[Configuration]:
    """All rows, the fast network first, and of it what takes the least time."""
    for network in networks:
        for fitted, compensation in ((False, True), (False, False), (True, True), (True, False)):
            for device, times in DEVICES.items():
                for time_s in times:
                    yield Configuration(network, device, time_s, compensation, fitted)


def samples(name: str, data: Path, held: Conversion, part: str, limit: int) -> Dataset:
    """Test samples, or training samples for the calibration."""
    row = ROWS[name]
    spec = row.data if part == "evaluation" else row.calibration
    features, classes = held.shapes
    return load_data(
        str(data / f"{spec}.npz"), held.preprocessing, part=part, features=features, classes=classes, limit=limit
    )  # fmt: skip


def measured(
    asked: Configuration, held: Conversion, test: Dataset, fit: Dataset, instances: int, steps: int
) -> dict[str, Any]:
    """One row."""
    began = time.process_time()
    design = AnalogDesign.of(asked.device, time_s=asked.time_s, instances=instances, compensation=asked.compensation)
    chips = network_on_chips(held.spiking, design.crossbar, time_s=asked.time_s, instances=instances, seed=design.seed)
    rule, used, report = calibrated_rule(held.exit), held.exit.calibration_hashes, None
    if asked.fitted:
        found = recalibrate(held.spiking, chips, fit, steps=steps, refused=test.hashes)
        chips, rule, used, report = found.chips, found.rule, found.hashes, found.report
    result = run_on_chips(held.spiking, chips, test, steps=steps, rule=rule, shared=used, prices="hermes")
    kept = ("n", "timesteps", "instances", "seed", "rule", "accuracy_over_chips", "all_steps", "mean_steps")
    curves = ("accuracy_by_step", "lowest_by_step", "highest_by_step", "dynamic", "energy")
    return {
        **asked._asdict(),
        **{key: result[key] for key in (*kept, *curves)},
        "recalibrated": report,
        "cpu_seconds": time.process_time() - began,
    }


def digital(held: Conversion, test: Dataset, steps: int) -> list[float]:
    """The accuracy of the network itself at each step."""
    labels = torch.from_numpy(test.y)
    return (outputs_over_time(held.spiking, test.x, steps).argmax(-1) == labels).double().mean(1).tolist()


def table(found: dict[str, Any]) -> Iterator[str]:
    """The rows as Markdown: accuracy after all steps, and with early exit."""
    yield "| Network | Device, age | As written, no compensation | As written | Fitted, no compensation | Fitted |"
    yield "|---|---|---|---|---|---|"
    most = sorted(found["rows"].values(), key=lambda row: row["n"])  # of two sample sizes the larger counts
    rows = {(r["network"], r["device"], r["time_s"], r["compensation"], r["fitted"]): r for r in most}
    for network, sizes in found["digital"].items():
        for n, accuracy in sizes.items():
            yield f"| {ROWS[network].title}, n = {n}, no crossbar | – | {_percent(accuracy[-1])} | | | |"
        for device, times in DEVICES.items():
            for time_s in times:
                cells = [
                    _cell(rows.get((network, device, time_s, compensation, fitted)), tell=len(sizes) > 1)
                    for fitted in (False, True)
                    for compensation in (False, True)
                ]
                yield f"| {ROWS[network].title} | {device}, {AGES[time_s]} | {' | '.join(cells)} |"


def _cell(row: dict[str, Any] | None, *, tell: bool = False) -> str:
    """Accuracy after all steps and with early exit; with how many samples if ``tell``."""
    if row is None:
        return "–"
    whole, early = row["all_steps"], row["accuracy_over_chips"]
    half = (whole["ci95"][1] - whole["ci95"][0]) / 2 if whole["ci95"] else 0.0
    return (
        f"{_percent(whole['mean'])} ± {100 * half:.2f} ({row['timesteps']} steps); "
        f"{_percent(early['mean'])} ({row['mean_steps']:.1f})" + (f"; n = {row['n']}" if tell else "")
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def write(found: dict[str, Any]) -> None:
    """Keep the rows, and the table."""
    partial = FILE.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(FILE)
    put_table("analog", "\n".join(table(found)))


def main() -> None:
    """Measure what is missing, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--networks", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--instances", type=int, default=25)
    parser.add_argument("--limit", type=int, help="test samples")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="rows whose names have all these texts")
    options = parser.parse_args()
    found = json.loads(FILE.read_text()) if FILE.exists() else {"digital": {}, "rows": {}}
    loaded: dict[str, tuple[Conversion, Dataset, Dataset]] = {}
    for asked in configurations(options.networks):
        setting = SETTINGS[asked.network]
        limit, steps = options.limit or setting.limit, options.steps or setting.steps
        key = asked.key(options.instances, limit)
        if key in found["rows"] or not all(text in key for text in options.only):
            continue
        if asked.network not in loaded:
            held = read_folder(options.keep / asked.network)
            test = samples(asked.network, options.data, held, "evaluation", limit)
            fit = samples(asked.network, options.data, held, "calibration", setting.calibration)
            loaded[asked.network] = held, test, fit
            found["digital"].setdefault(asked.network, {})[str(len(test))] = digital(held, test, steps)
        row = found["rows"][key] = measured(asked, *loaded[asked.network], options.instances, steps)
        write(found)
        print(f"{key}: {_cell(row)}, {row['cpu_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
