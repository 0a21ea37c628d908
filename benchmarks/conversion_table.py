"""Convert and evaluate the public models with the command, as a user would, and write the table that README carries.

python benchmarks/prepare_data.py --out DATA
python benchmarks/conversion_table.py --data DATA [--rows NAME ...] [--keep DIR]
python benchmarks/exit_timing.py --data DATA --keep DIR   (on an idle machine, when --keep was given)

Each row runs ``spikeport convert`` on training samples and ``spikeport evaluate`` on all test samples, and keeps both
JSON objects in benchmarks/results/NAME.json; README's table, and that of the peers in docs/results.md, are written from
what lies there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import put_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PEER_TITLE = """SpikingJelly 2.0.0 on the same networks and the first n of the same test samples (binary spikes;
threshold balancing by its number of calibration batches; in brackets with the peer's own readout delay, which must
know T first):"""
PIXELS = ["--layout", "NHWC", "--scale", "1/255", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
RESNET_OPTIONS = (*PIXELS, "--method", "mse")  # auto tries six methods; it takes six times as long
KEYWORDS = ["--scale", "0.5847029", "--mean", "48.53"]
DIGITS = "digits.safetensors"
RESNET = "models/cifar10_resnet20_akamaster.onnx"


@dataclass(frozen=True)
class Row:
    """One line of the table: what is converted, with which options, and what must be reached (points below the ANN)."""

    title: str
    model: str
    calibration: str
    data: str
    samples: int
    timesteps: int
    wanted: dict[int, float]
    options: tuple[str, ...] = ()
    spikes: str = "binary"
    weights: str = ""
    max_loss: float = 0.001
    policy: str = "auto"


ROWS = {
    "digits": Row(
        "digits CNN (batch norm, max-pool)",
        "models:digits_cnn",
        "digits",
        "digits",
        1437,
        8,
        {8: 1.0},
        ("--allow-code",),
        weights=DIGITS,
    ),
    "mnist_cnn": Row(
        "MNIST CNN (sinabs weights)",
        "models:mnist_cnn",
        "mnist_train",
        "mnist_test",
        16000,
        32,
        {8: 1.0, 32: 0.2},
        ("--allow-code",),
        weights="models/mnist_cnn_ann_sinabs.safetensors",
    ),
    "mnist8": Row("mnist8 (CNTK, ONNX)", "models/mnist8_cntk.onnx", "mnist_train", "mnist_test", 4000, 32, {32: 0.3}),
    "resnet20_binary": Row(
        "ResNet-20 (ONNX)",
        RESNET,
        "cifar10_train",
        "cifar10_test",
        20000,
        64,
        {32: 4.0, 64: 1.5},
        RESNET_OPTIONS,
        max_loss=0.002,
    ),
    "resnet20_signed": Row(
        "ResNet-20 (ONNX)",
        RESNET,
        "cifar10_train",
        "cifar10_test",
        20000,
        64,
        {32: 1.5, 64: 0.7},
        RESNET_OPTIONS,
        "signed",
        max_loss=0.002,
    ),
    "resnet20_differential": Row(
        "ResNet-20 (ONNX)",
        RESNET,
        "cifar10_train",
        "cifar10_test",
        20000,
        8,
        {4: 0.5},
        RESNET_OPTIONS,
        "differential",
        max_loss=0.002,
    ),
    "kws": Row(
        "keyword DS-CNN (ONNX)",
        "models/mlperf_tiny_kws_dscnn_float.onnx",
        "kws_calibration",
        "kws_evaluation",
        150,
        32,
        {32: 2.0},
        tuple(KEYWORDS),
    ),
}


def command(*arguments: str) -> dict[str, Any]:
    """Run ``spikeport`` with --json in this folder, and return its object."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("spikeport")), *arguments, "--json"],
        cwd=HERE, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode:
        raise SystemExit(f"spikeport {' '.join(arguments)} ended with {done.returncode}: {found}")
    return found


def prepare_digits(data: Path) -> None:
    """Train the digits CNN on the calibration part; keep its weights, and the digits as the peer reads them."""
    from models import train_digits_cnn
    from safetensors.torch import save_file

    from spikeport import load_data

    parts = {part: load_data("digits", part=part) for part in ("calibration", "evaluation")}
    for part, held in parts.items():
        np.savez(data / f"digits_{part}.npz", x=(held.x[:, 0] * 16).round().astype(np.uint8), y=held.y)
    x, y = (torch.from_numpy(array) for array in (parts["calibration"].x, parts["calibration"].y))
    save_file(train_digits_cnn(x, y).state_dict(), data / DIGITS)


def measure(row: Row, data: Path, models: Path, keep: Path | None) -> dict[str, Any]:
    """Convert and evaluate; returns both JSON objects (without the data of the figures)."""
    model = row.model if ":" in row.model else str(models / row.model)
    weights = ["--weights", str((data if row.weights == DIGITS else models) / row.weights)] if row.weights else []
    calibration, test = (
        name if name == "digits" else str(data / f"{name}.npz") for name in (row.calibration, row.data)
    )
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "converted")
        converted = command(
            "convert", model, *weights, "-o", out, "--calibration", calibration, "--num-samples", str(row.samples),
            "--timesteps", str(row.timesteps), "--spikes", row.spikes, *row.options,
        )  # fmt: skip
        exits = ["--policy", row.policy, "--max-loss", str(row.max_loss)]
        evaluated = command("evaluate", out, "--data", test, *exits, *(["--no-timing"] if keep else []))
        if keep:
            shutil.copytree(out, keep, dirs_exist_ok=True)
    evaluated.pop("figures", None)
    return {"convert": converted, "evaluate": evaluated}


def percent(value: float) -> str:
    """A share as the table shows it."""
    return f"{100 * value:.2f}"


def line(name: str, row: Row, result: dict[str, Any]) -> str:
    """One line of the table."""
    converted, evaluated = result["convert"], result["evaluate"]
    early = evaluated["early_exit"]
    steps = []
    for step, points in row.wanted.items():
        value, low, high = evaluated["ann_difference_by_step"][str(step)]
        mark = "" if value >= -points / 100 - 1e-9 else " **missed**"
        steps.append(
            f"T = {step}: {percent(evaluated['accuracy_by_step'][step - 1])} "
            f"({100 * value:+.2f}, {100 * low:+.2f} to {100 * high:+.2f}; at most −{points:g} asked{mark})"
        )
    low, high = early["speedup_steps_ci95"]
    exit_cell = (
        f"{percent(early['accuracy'])} in {early['mean_steps']:.1f} steps instead of "
        f"{early['smallest_fixed_steps_of_equal_accuracy']}: {early['speedup_steps']:.2f}× ({low:.2f} to {high:.2f}), "
        + (f"{early['speedup_wall']:.2f}× in time" if "speedup_wall" in early else "time not measured")
    )
    cells = [
        row.title,
        row.spikes,
        f"{evaluated['n']:,}",
        percent(evaluated["ann_accuracy"]),
        "; ".join(steps),
        exit_cell,
        converted["method"],
    ]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The table of everything that was measured."""
    spiking = "spiking, % (difference in points, paired 95 % interval)"
    lines = [
        f"| network | spikes | n | ANN, % | {spiking} | early exit (95 % interval) | method chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            lines.append(line(name, row, json.loads(path.read_text())))
    return "\n".join(lines)


def peer_table(peers: dict[str, Any]) -> str:
    """What SpikingJelly's recipes reach on the same networks, the first n of the same test images."""
    lines = [
        PEER_TITLE,
        "",
        "| network | n | ANN, % | recipe | T = 8, % | T = 32, % | T = 64, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in peers.items():
        head = f"| {name} | {found['n']:,} | {percent(found['ann_accuracy'])} |"
        refusals = [outcome["refused"] for outcome in found["recipes"].values() if "refused" in outcome]
        if len(refusals) == len(found["recipes"]):
            reason = refusals[0].splitlines()[0].replace("|", "/").split(" at 0x")[0]
            lines.append(f"{head} all recipes: refused ({reason[:100]}) | | | |")
            continue
        for recipe, outcome in found["recipes"].items():
            lines.append(f"{head} {recipe_name(recipe, outcome)} | {' | '.join(peer_cells(outcome))} |")
    return "\n".join(lines)


def recipe_name(recipe: str, outcome: dict[str, Any]) -> str:
    """The recipe, with the number of batches where it matters."""
    batches = f", {outcome['calibration_batches']} batches" if recipe.startswith("local") else ""
    return recipe.removesuffix("_once").replace("_", " ") + batches


def peer_cells(outcome: dict[str, Any]) -> list[str]:
    """Accuracy at 8, 32 and 64 steps, as far as it was run."""
    plain, delayed = outcome["accuracy_by_step"], outcome["accuracy_with_delay_by_step"]
    cells = []
    for step in (8, 32, 64):
        late = delayed[step - 1] if step <= len(delayed) else None
        cell = percent(plain[step - 1]) if step <= len(plain) else ""
        cells.append(cell if late is None else f"{cell} ({percent(late)})")
    return cells


def write_tables() -> None:
    """Put the tables of all results that lie there between the marks."""
    put_table("results", table())
    peers = RESULTS / "peers.json"  # of peers/collect.py
    if peers.exists():
        put_table("peers", peer_table(json.loads(peers.read_text())))


def main() -> None:
    """Measure the rows that are asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare_data.py wrote")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument(
        "--keep",
        type=Path,
        help="keep the converted networks in this folder and time nothing: exit_timing.py does later",
    )
    options = parser.parse_args()
    models = Path(os.environ.get("SPIKEPORT_DATA", "")).expanduser().resolve()
    RESULTS.mkdir(exist_ok=True)
    if "digits" in options.rows:
        prepare_digits(options.data)
    for name in options.rows:
        result = measure(ROWS[name], options.data.resolve(), models, options.keep and options.keep.resolve() / name)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(line(name, ROWS[name], result), flush=True)
    write_tables()


if __name__ == "__main__":
    main()
