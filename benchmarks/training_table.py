"""Train the networks of ``examples/`` on real data with three seeds, and write the table that README carries.

python benchmarks/training_table.py --data FOLDER [--tasks NAME ...] [--seeds 0 1 2]

Each run is an example as anyone would start it; what it prints is kept in benchmarks/results/training/NAME-SEED.json,
and the table between the marks in README is written from what lies there.  A mean over seeds has the 95 % interval of
Student's t for so many seeds; each seed trains, splits and draws anew.  Nothing was chosen by test samples.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "training"
README = HERE.parent / "README.md"
MARKS = ("<!-- training -->", "<!-- /training -->")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % of the t distribution, by the number of seeds


@dataclass(frozen=True)
class Task:
    """One line of the table: its example and file, the value in what it prints, and what must be reached."""

    title: str
    file: str
    key: tuple[str, ...]
    wanted: float


TASKS = {
    "fashion_mnist": Task("Fashion-MNIST, two convolutions, T = 4", "fashion_mnist.npz", ("test_accuracy",), 0.905),
    "mnist": Task("MNIST, fully connected 784-256-10, T = 8", "mnist.npz", ("test_accuracy",), 0.975),
    "nmnist": Task("N-MNIST events, 5-fold cross-validated", "nmnist_events_train800.npz", ("accuracy",), 0.93),
    "spoken_digits": Task("spoken digits, learned delays − none", "fsdd_8khz_takes5_49.npz", ("learned - none",), 0.0),
}
EXTRA = {  # further values of a task, without a bar of their own
    "spoken_digits": {
        "spoken digits, learned delays − fixed": ("learned - fixed",),
        "spoken digits, learned delays": ("learned", "test_accuracy"),
        "spoken digits, fixed delays": ("fixed", "test_accuracy"),
        "spoken digits, no delays": ("none", "test_accuracy"),
    }
}


def run(name: str, folder: Path, seed: int) -> None:
    """Start the example and keep what it prints."""
    command = [sys.executable, str(HERE.parent / "examples" / f"{name}.py"), "--data", str(folder / TASKS[name].file)]
    done = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout) | {"cores": len(os.sched_getaffinity(0))}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}-{seed}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(name, seed, found)


def value_of(found: dict[str, Any], key: tuple[str, ...]) -> float:
    """The number at a place; of a value with its interval the value."""
    value: Any = found
    for part in key:
        value = value[part]
    return float(value[0] if isinstance(value, list) else value)


def interval(values: list[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean, or None for one value."""
    if len(values) not in STUDENT:
        return None
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half


def line(title: str, found: list[dict[str, Any]], key: tuple[str, ...], wanted: float | None) -> str:
    """A row of the table."""
    values = [value_of(each, key) for each in found]
    ends = interval(values)
    inside = f" ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})" if ends else ""
    bar = "" if wanted is None else f"{100 * wanted:.1f}" if wanted else "above 0"
    seconds = statistics.median(each["seconds"] for each in found)
    minutes = f"{seconds / 60:.1f} on {found[0]['cores']} cores"
    mean = statistics.mean(values)
    return f"| {title} | {100 * mean:.2f}{inside} | {bar} | {len(values)} | {found[0]['n']} | {minutes} |"


def table() -> str:
    """All rows whose results are there."""
    rows = [
        "| task | test accuracy, % (mean over seeds, 95 %) | at least | seeds | n | minutes a seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, task in TASKS.items():
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(f"{name}-*.json"))]
        if found:
            rows.append(line(task.title, found, task.key, task.wanted))
            rows += [line(title, found, key, None) for title, key in EXTRA.get(name, {}).items()]
    return "\n".join(rows)


def write_readme() -> None:
    """Put the table between the marks; raises SystemExit where they are missing."""
    text = README.read_text(encoding="utf-8")
    if not all(mark in text for mark in MARKS):
        sys.exit(f"README needs the marks {' and '.join(MARKS)}")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    README.write_text(f"{before}{MARKS[0]}\n{table()}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Run what is asked for, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    for name in given.tasks:
        for seed in given.seeds:
            run(name, given.data, seed)
    write_readme()


if __name__ == "__main__":
    main()
