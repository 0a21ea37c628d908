"""Train the networks of ``examples/`` on real data with three seeds, and write their table.

python benchmarks/training_table.py --data FOLDER [--tasks NAME ...] [--seeds 0 1 2] [--again]

Each run is an example as anyone would start it; what it prints is kept in benchmarks/results/training/NAME-SEED.json,
and the table in docs/results.md is written anew after each from what lies there.  A run whose result lies
there is not repeated, unless ``--again``.  A mean over seeds has the 95 % interval of Student's t for so many seeds,
one seed alone that of its samples; each seed trains, splits and draws anew.  Nothing was chosen by test samples.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import put_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "training"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % of the t distribution, by the number of seeds


@dataclass(frozen=True)
class Row:
    """One line of the table: the value's place in what an example prints, and what it must reach.

    percent: the value is a share, shown in per cent, with an interval over seeds; else a count, added up over seeds.
    """

    title: str
    key: tuple[str, ...]
    wanted: str = ""
    percent: bool = True


@dataclass(frozen=True)
class Task:
    """An example, the file that it takes, if any, and its rows."""

    file: str
    rows: tuple[Row, ...]


TASKS = {
    "fashion_mnist": Task(
        "fashion_mnist.npz",
        (Row("Fashion-MNIST, two convolutions, T = 4", ("test_accuracy",), "at least 90.5"),),
    ),
    "mnist": Task(
        "mnist.npz",
        (Row("MNIST, fully connected 784-256-10, T = 8", ("test_accuracy",), "at least 97.5"),),
    ),
    "nmnist": Task(
        "nmnist_events_train800.npz",
        (Row("N-MNIST events, 800 recordings, 5-fold cross-validated", ("accuracy",), "at least 93"),),
    ),
    "spoken_digits": Task(
        "fsdd_8khz_takes5_49.npz",
        (
            Row("spoken digits, learned delays − none", ("learned - none",), "above 0"),
            Row("spoken digits, learned delays − fixed random delays", ("learned - fixed",)),
            Row("spoken digits, learned delays", ("learned", "test_accuracy")),
            Row("spoken digits, fixed random delays", ("fixed", "test_accuracy")),
            Row("spoken digits, no delays", ("none", "test_accuracy")),
        ),
    ),
    "coincidence": Task(
        "",
        (
            Row("coincidence of five lines, found delays that are the task's", ("delays_right",), "100"),
            Row("coincidence of five lines, learned delays", ("learned",)),
            Row("coincidence of five lines, fixed random delays", ("fixed",)),
        ),
    ),
    "snntorch_import": Task(
        "mnist.npz",
        (
            Row(
                "MNIST, trained in snnTorch, imported: predictions that differ",
                ("different_predictions", "graph"),
                "0",
                percent=False,
            ),
        ),
    ),
}


def run(name: str, folder: Path, seed: int) -> None:
    """Start the example and keep what it prints, with the time that its process computed."""
    file = TASKS[name].file
    command = [sys.executable, str(HERE.parent / "examples" / f"{name}.py"), "--seed", str(seed)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    data = ["--data", str(folder / file)] if file else []
    done = subprocess.run([*command, *data], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout) | {"cpu_seconds": round(computed, 1), "cores": len(os.sched_getaffinity(0))}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path_of(name, seed).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(name, seed, found, flush=True)


def path_of(name: str, seed: int) -> Path:
    """Where the result of a run lies."""
    return RESULTS / f"{name}-{seed}.json"


def value_of(found: dict[str, Any], key: tuple[str, ...]) -> float:
    """The number at a place; of a value with its interval the value."""
    value: Any = found
    for part in key:
        value = value[part]
    return float(value[0] if isinstance(value, list) else value)


def interval(found: list[dict[str, Any]], key: tuple[str, ...]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean over seeds; of one seed the example's own, over its samples, if any."""
    values = [value_of(each, key) for each in found]
    if len(values) in STUDENT:
        half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
        return statistics.mean(values) - half, statistics.mean(values) + half
    *place, last = key
    within: Any = found[0]
    for part in place:
        within = within[part]
    if isinstance(within[last], list):
        return within[last][1], within[last][2]
    return tuple(within["ci95"]) if last in ("accuracy", "test_accuracy") else None


def line(row: Row, found: list[dict[str, Any]]) -> str:
    """A row of the table."""
    values = [value_of(each, row.key) for each in found]
    if row.percent:
        ends = interval(found, row.key)
        shown = f"{100 * statistics.mean(values):.2f}"
        shown += f" ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})" if ends else ""
    else:
        shown = f"{sum(values):.0f} of {sum(each['n'] for each in found):,}"
    minutes = statistics.median(each["cpu_seconds"] for each in found) / 60
    return f"| {row.title} | {shown} | {row.wanted} | {len(values)} | {found[0]['n']:,} | {minutes:.1f} |"


def table() -> str:
    """All rows; where no result is there, those that want something say so."""
    rows = [
        "| task | test accuracy, % (mean over seeds, 95 %) | wanted | seeds | n | CPU minutes a seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in TASKS.items():
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{name}-*.json"))]
        if found:
            rows += [line(row, found) for row in task.rows]
        else:
            rows += [f"| {row.title} | not measured | {row.wanted} | 0 | | |" for row in task.rows if row.wanted]
    return "\n".join(rows)


def write_readme() -> None:
    """Put the table between the marks; raises SystemExit where they are missing."""
    put_table("training", table())


def main() -> None:
    """Run what is asked for and is not there yet, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="repeat runs whose results are there")
    given = parser.parse_args()
    for name in given.tasks:
        for seed in given.seeds:
            if given.again or not path_of(name, seed).exists():
                run(name, given.data, seed)
            write_readme()


if __name__ == "__main__":
    main()
