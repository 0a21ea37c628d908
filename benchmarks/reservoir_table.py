"""Measure reservoirs of resistive cells on events, and write their tables.

python benchmarks/reservoir_table.py --data FOLDER [--seeds 0 1 2 3 4] [--parts nmnist fsdd retrieval] [--epochs 30]

Every seed draws the cells anew, and of N-MNIST takes another fifth as the test.  Leak, recurrent gain, the probes'
weight decay and the contrastive settings are chosen on validation samples; test samples choose nothing.  The firing
rate is fitted to a tenth of the steps first, on a hundred training samples.  Results lie in results/reservoir.json;
what lies there is not measured again, and the table is written after each part.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from reservoir_runs import DATA, MANY, UNITS, WEAR, costs, make, probes, retrievals, wear
from tables import put_table
from training_table import STUDENT

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "reservoir.json"
TITLES = {"nmnist": "N-MNIST events", "fsdd": "spoken digits"}
CHANCES = {"seen of 7": 100 / 7, "unseen of 2": 50.0, "seen of 10": 10.0, "unseen of 10": 10.0}
KINDS = {"resistive": "resistive", "gaussian": "Gaussian", "summed": "summed events"}


def measure_events(name: str, folder: Path, seed: int, epochs: int, held: dict[str, Any]) -> dict[str, Any]:
    """Probes, wear and costs on one set of events; what is held is not measured again."""
    events = DATA[name](folder, seed)
    if "wear" not in held:
        found, choice = probes(events, seed)
        held = held | found | {"wear": wear(events, choice, seed), "n": len(events.test)}
    if "costs" not in held:
        beta, recurrent = held["settings"]["resistive"]
        held = held | {"costs": costs(events, (beta, recurrent), seed, epochs)}
    return held


def measure_retrieval(kept: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """Retrieval with the reservoirs that were chosen for the probes."""
    parts = tuple(DATA[name](folder, seed) for name in ("nmnist", "fsdd"))
    features: list[dict[str, torch.Tensor]] = []
    for name, events in zip(("nmnist", "fsdd"), parts, strict=True):
        settings = kept[name][str(seed)]["settings"]
        drawn = {kind: make(kind, events, tuple(settings[kind]), seed).counts for kind in ("resistive", "gaussian")}
        features.append(drawn | {"summed": events.x.float().sum(0)})
    return retrievals(features[0], features[1], (parts[0], parts[1]), seed)


def shown(values: list[float], unit: float = 100.0) -> str:
    """Mean and Student's 95 % interval over seeds."""
    mean = unit * statistics.mean(values)
    if len(values) not in STUDENT:
        return f"{mean:.1f} (one seed)"
    return f"{mean:.1f} ± {unit * STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5:.1f}"


def table(kept: dict[str, Any]) -> str:
    """All that has been measured."""
    blocks = [_accuracies(kept), _wear(kept), _costs(kept), _retrieval(kept)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _of(kept: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return list(kept.get(name, {}).values())


def _accuracies(kept: dict[str, Any]) -> list[str]:
    heads = ("summed events", f"Gaussian, {UNITS} units", f"resistive, {UNITS} units", f"resistive, {MANY:,} units")
    keys = ("summed", "gaussian", "resistive", "many")
    rows = [f"| linear readout of, test accuracy, % | seeds × n | {' | '.join(heads)} | trained recurrent SNN |"]
    rows.append("|---|---|" + "---|" * 5)
    for name, title in TITLES.items():
        if found := _of(kept, name):
            cells = [shown([each["accuracy"][key] for each in found]) for key in keys]
            cells.append(shown([each["costs"]["trained_accuracy"] for each in found]))
            rows.append(f"| {title} | {len(found)} × {found[0]['n']} | {' | '.join(cells)} |")
    return rows if len(rows) > 2 else []


def _wear(kept: dict[str, Any]) -> list[str]:
    names = [name for name in TITLES if _of(kept, name)]
    if not names:
        return []
    heads = [f"{TITLES[name]}: readout as learned | learned anew" for name in names]
    rows = [f"| resistive, worn, test accuracy, % | {' | '.join(heads)} |", "|---|" + "---|---|" * len(names)]
    for key in WEAR:
        kind, share = key.rsplit(" ", 1)
        cells = [shown([each["wear"][key][which] for each in _of(kept, name)]) for name in names for which in (0, 1)]
        what = kind if kind == "read noise" else "of the cells stuck, half of them on"
        rows.append(f"| {100 * float(share):g} % {what} | {' | '.join(cells)} |")
    return rows


def _costs(kept: dict[str, Any]) -> list[str]:
    rows = ["| to learn | | CPU seconds | digital products, millions | products in the array, millions |"]
    rows.append("|---|---|---|---|---|")
    for name, title in TITLES.items():
        for key, kind in (("reservoir", f"readout of {UNITS} resistive units"), ("trained", "recurrent SNN")):
            if found := [each["costs"][key] for each in _of(kept, name)]:
                cells = [shown([each["cpu_seconds"] for each in found], 1.0)]
                cells += [
                    f"{statistics.mean(each[part] for each in found) / 1e6:,.0f}" for part in ("digital", "analog")
                ]
                rows.append(f"| {title} | {kind} | {' | '.join(cells)} |")
    return rows if len(rows) > 2 else []


def _retrieval(kept: dict[str, Any]) -> list[str]:
    found = _of(kept, "retrieval")
    if not found:
        return []
    rows = [f"| a spoken digit finds its picture, % ({len(found)} seeds) | chance | {' | '.join(KINDS.values())} |"]
    rows.append("|---|---|" + "---|" * len(KINDS))
    for key, chance in CHANCES.items():
        which, _, classes = key.split()
        title = f"{'seen digits 1–7' if which == 'seen' else 'unseen digits 8 and 9'}, gallery of {classes} classes"
        cells = [shown([each[kind][key] for each in found]) for kind in KINDS]
        rows.append(f"| {title} | {chance:.1f} | {' | '.join(cells)} |")
    two = [statistics.mean(each["pairs"]["of 2"]) for each in found]
    ends = [value for each in found for value in each["pairs"]["of 2"]]
    span = f"(a pair alone: {100 * min(ends):.0f} to {100 * max(ends):.0f})"
    rows.append(f"| unseen, mean over all 45 pairs left out, gallery of 2 | 50.0 | {shown(two)} {span} | | |")
    ten = shown([each["pairs"]["of 10"] for each in found])
    rows.append(f"| unseen, mean over all 45 pairs left out, gallery of 10 | 10.0 | {ten} | | |")
    return rows


def write_readme(kept: dict[str, Any]) -> None:
    """Put the tables between the marks."""
    put_table("reservoir", table(kept))


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the event files")
    parser.add_argument("--parts", nargs="*", choices=[*TITLES, "retrieval"], default=[*TITLES, "retrieval"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=30, help="of the recurrent network")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for seed in given.seeds:
        for part in given.parts:
            held = kept.setdefault(part, {})
            if str(seed) not in held or (part != "retrieval" and "costs" not in held[str(seed)]):
                measured = (
                    measure_retrieval(kept, given.data, seed)
                    if part == "retrieval"
                    else measure_events(part, given.data, seed, given.epochs, held.get(str(seed), {}))
                )
                held[str(seed)] = measured
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                print(part, seed, json.dumps(measured)[:400], flush=True)
            write_readme(kept)


if __name__ == "__main__":
    main()
