"""Write README's summary, a line for each part, from what the other scripts kept: python benchmarks/summary_table.py.

A line says what was measured, on how many samples, and by which script; docs/results.md has the whole tables.  What a
script has not measured has no line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import chosen, put_table
from training_table import TASKS, interval, value_of

RESULTS = Path(__file__).resolve().parent / "results"
DAY = 86400.0


def read(name: str) -> Any:
    """What a script kept; an empty object where it has not run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def points(change: list[float]) -> str:
    """A difference of two shares, in points, with its interval."""
    value, low, high = (100 * each for each in change)
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


def conversion() -> Iterator[tuple[str, str, str]]:
    """ResNet-20 at the shortest windows that were aimed at."""
    for name, step, title in (("resnet20_differential", 4, "differential"), ("resnet20_signed", 16, "signed")):
        held = read(name).get("evaluate", {})
        if held and str(step) in held["ann_difference_by_step"]:
            change = points(held["ann_difference_by_step"][str(step)])
            said = f"ResNet-20 as published, {title} spikes, T = {step}: {change} to the ANN, n = {held['n']:,}"
            yield "Conversion", said, "conversion_table"


def exits() -> Iterator[tuple[str, str, str]]:
    """What dynamic confidence saves, and how often a promise was broken."""
    held = [chosen(row["rules"]) for row in read("exit_rules").values()]
    if held:
        saved = sum(row["steps_saved"][0] for row in held) / len(held)
        changes = [100 * row["change"][0] for row in held]
        said = f"{100 * saved:.0f} % of the steps saved on average over {len(held)} networks; accuracy changes by "
        yield "Early exit", f"{said}{min(changes):+.2f} to {max(changes):+.2f} points", "exit_rules"
    found = read("guarantees")
    if found:
        sure, plain = (100 * found[key]["broken"] for key in ("guaranteed", "uncorrected"))
        promise = f"loss:{found['epsilon']}@{1 - found['delta']:.2f}"
        said = (
            f"`{promise}` broken in {sure:.1f} % of {found['splits']:,} splits (5 % allowed; without it {plain:.1f} %)"
        )
        yield "Guarantees", said, "guarantees"


def training() -> Iterator[tuple[str, str, str]]:
    """Accuracy of networks trained with spikes."""
    for name in ("fashion_mnist", "nmnist", "spoken_digits"):
        found = [json.loads(path.read_text()) for path in sorted((RESULTS / "training").glob(f"{name}-*.json"))]
        if not found:
            continue
        row = next(each for each in TASKS[name].rows if each.percent)
        ends = interval(found, row.key)
        mean = 100 * sum(value_of(each, row.key) for each in found) / len(found)
        around = f" ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})" if ends else ""
        yield "Training", f"{row.title}: {mean:.2f}{around}, {len(found)} seeds", "training_table"


def hardware() -> Iterator[tuple[str, str, str]]:
    """Agreement of backends, crossbars and faults."""
    places = [place for row in read("backends").values() for place in row["backends"].values() if place]
    if places:
        compared, wrong = (sum(place[key] for place in places) for key in ("compared", "mismatches"))
        said = f"{wrong} of {compared:,} spikes and currents differ from the reference in PyTorch, Lava and Brian2"
        yield "Backends", said, "backend_table"
    most = sorted(read("analog").get("rows", {}).values(), key=lambda row: row["n"])  # the larger n counts
    rows = {(r["device"], r["fitted"]): r for r in most
            if (r["network"], r["time_s"], r["compensation"]) == ("mnist_cnn", DAY, True)}  # fmt: skip
    if ("pcm", True) in rows:
        plain, fitted = (100 * rows["pcm", kind]["all_steps"]["mean"] for kind in (False, True))
        about = rows["pcm", True]
        said = f"MNIST CNN on {about['instances']} phase-change chips after a day: {plain:.2f} % as written, "
        yield "Crossbars", f"{said}{fitted:.2f} % fitted, n = {about['n']}", "analog_table"


def reservoirs() -> Iterator[tuple[str, str, str]]:
    """The large reservoir beside a linear readout of the events, and a trained network."""
    for part, title in (("nmnist", "N-MNIST"), ("fsdd", "spoken digits")):
        seeds = list(read("reservoir").get(part, {}).values())
        if seeds and all("trained_accuracy" in seed["costs"] for seed in seeds):
            many, summed = (
                100 * sum(seed["accuracy"][key] for seed in seeds) / len(seeds) for key in ("many", "summed")
            )
            trained = 100 * sum(seed["costs"]["trained_accuracy"] for seed in seeds) / len(seeds)
            said = (
                f"{title}, linear readout of 1,000 resistive units {many:.1f} %, of the summed events {summed:.1f} %, "
            )
            yield "Reservoirs", f"{said}trained recurrent SNN of 200 units {trained:.1f} %", "reservoir_table"


def faults() -> Iterator[tuple[str, str, str]]:
    """Flipped bits, without and with bounds."""
    found, rate = read("faults").get("mnist_cnn", {}).get("float", {}), "1e-05"
    means = {}
    for kind in ("none", "bounds"):
        trials = max((values for values in found.get(kind, {}).get(rate, {}).values()), key=len, default=[])
        means[kind] = 100 * sum(trials) / len(trials) if trials else None
    if None not in means.values():
        said = f"MNIST CNN, 1 in 100,000 bits flipped: {means['none']:.1f} % right, with bounds {means['bounds']:.1f} %"
        yield "Faults", said, "fault_table"


def speed() -> Iterator[tuple[str, str, str]]:
    """The leaky layer beside the frameworks that users come from, and the integer engine beside loops over time."""
    for held in read("lif_layer").get("layers", []):
        if held["shape"] == "T=16" and held["threads"] == 1:
            rows = {name.split()[0]: row["wall_ms"] for name, row in held["rows"].items() if "bfloat16" not in name}
            others = {name: ms / rows["spikeport"] for name, ms in rows.items() if name not in ("spikeport", "streams")}
            said = ", ".join(f"{name} {ratio:.1f}×" for name, ratio in others.items())
            yield "Speed", f"a leaky layer alone, both ways, T = 16, one thread, in our time: {said}", "lif_layer"
    for network in read("integer_engine").get("networks", []):
        times = {name.split(",")[0]: row["wall_ms"] for name, row in network["rows"].items()}
        ours = times.pop("integer engine")
        said = ", ".join(f"{name} {ms / ours:.1f}×" for name, ms in times.items() if not name.startswith("bare"))
        title = f"{network['network']}, T = {network['steps']}, integer engine, {network['threads']} threads"
        yield "Speed", f"{title}, in our time: {said}", "integer_engine"


def main() -> None:
    """Put the summary between its marks."""
    lines = ["| part | measured | script |", "|---|---|---|"]
    for section in (conversion, exits, training, hardware, reservoirs, faults, speed):
        lines += [f"| {part} | {said} | `{script}.py` |" for part, said, script in section()]
    put_table("summary", "\n".join(lines))


if __name__ == "__main__":
    main()
