"""Learn through crossbar tiles that cannot be differentiated, and write their table.

python benchmarks/forward_forward_table.py [--data FOLDER] [--tasks digits mnist] [--seeds 0 1 2 3 4] [--quick]

Two tiles of simulated ReRAM a network (`physical_layers.py`).  Every seed draws the tiles, the split and the first
weights anew.  What can be chosen is chosen once a task on the validation samples of seed 0, for each method; test
samples choose nothing.  Results are kept in results/forward_forward.json and not measured again.  --quick: a few
hundred samples and one epoch, which shows that all runs and keeps nothing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from physical_layers import Deep, Tile, aware, fit_backprop, readout_only
from sklearn.datasets import load_digits
from tables import put_table
from torch import Tensor
from training_table import STUDENT

from spikeport.data import load_data
from spikeport.data.preprocessing import Preprocessing
from spikeport.training.forward_forward import ForwardForwardSettings, Physical, fit_forward_forward

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "forward_forward.json"
CLASSES, WIDTH, OUTPUTS = 10, 256, 256
EPOCHS = {"digits": 30, "mnist": 10}
MISMATCHES, AWARE = (0.0, 0.1, 0.3, 0.5, 1.0), (0.3, 1.0)
GRID = {
    "ff": [(strength, contrast) for strength in (0.3, 0.5, 1.0) for contrast in (4.0, 16.0)],
    "backprop": [(1e-3,), (3e-3,)],
}
Part = tuple[Tensor, Tensor]


def parts_of(task: str, seed: int, data: Path | None, limit: int) -> list[Part]:
    """Samples to fit, to choose and to test, each (x (samples, inputs), y)."""
    generator = torch.Generator().manual_seed(seed)
    if task == "digits":
        bunch = load_digits()
        x, y = torch.tensor(bunch.data).float() / 16, torch.tensor(bunch.target)
        order = torch.randperm(len(x), generator=generator)
        return [(x[i][:limit], y[i][:limit]) for i in (order[:1257], order[1257:1437], order[1437:])]
    if data is None:
        sys.exit("MNIST needs --data, the folder of mnist.npz")
    scaled = Preprocessing(scale=1 / 255)
    train, test = (_read(data / "mnist.npz", part, scaled) for part in ("train", "test"))
    order = torch.randperm(len(train[0]), generator=generator)
    chosen = [order[:20000][:limit], order[20000:25000][:limit]]
    return [*((train[0][i], train[1][i]) for i in chosen), (test[0][:limit], test[1][:limit])]


def _read(path: Path, part: str, scaled: Preprocessing) -> Part:
    found = load_data(f"{path}:x_{part},y_{part}", scaled, part="evaluation")
    return torch.from_numpy(found.x).flatten(1), torch.from_numpy(found.y)


def tiles(inputs: int, seed: int) -> list[Tile]:
    """The two tiles of a network; a seed's are the same in all methods."""
    return [Tile(inputs + CLASSES, OUTPUTS, 2 * seed), Tile(WIDTH, OUTPUTS, 2 * seed + 1)]


def forward_forward(parts: list[Part], seed: int, options: tuple[float, ...], epochs: int, part: int) -> float:
    """Accuracy of a network trained layer by layer, without anything known of its tiles."""
    strength, contrast = options
    maps = [Physical(tile) for tile in tiles(parts[0][0].shape[1], seed)]
    settings = ForwardForwardSettings(epochs=epochs, contrast=contrast, label_strength=strength, seed=seed)
    made = fit_forward_forward(maps, *parts[0], CLASSES, WIDTH, settings)
    x, y = parts[part]
    return sum(float((made.predict(a) == b).sum()) for a, b in zip(x.split(1000), y.split(1000), strict=True)) / len(y)


def backprop(
    parts: list[Part], seed: int, options: tuple[float, ...], epochs: int, part: int, mismatch: float, real: bool
) -> float:
    """Accuracy on the tiles of a network trained through their twins; ``real``: with the tiles' own forward pass."""
    made = tiles(parts[0][0].shape[1], seed)
    twins = [tile.twin(mismatch, 2 * seed + index) for index, tile in enumerate(made)]
    maps = [aware(tile, twin) for tile, twin in zip(made, twins, strict=True)] if real else list(twins)
    torch.manual_seed(seed)
    network = fit_backprop(Deep(maps, OUTPUTS, WIDTH, CLASSES), *parts[0], epochs=epochs, rate=options[0], seed=seed)
    network.maps = list(made)
    return network.accuracy(*parts[part])


def choose(task: str, method: str, parts: list[Part], epochs: int) -> list[float]:
    """The options that are best on the validation samples, learned from at most 4,000 samples."""
    small = [(x[:4000], y[:4000]) for x, y in parts]
    run: Callable[[tuple[float, ...]], float]
    if method == "ff":
        run = lambda options: forward_forward(small, 0, options, epochs, 1)  # noqa: E731
    else:
        run = lambda options: backprop(small, 0, options, epochs, 1, 0.0, False)  # noqa: E731
    return list(max(GRID[method], key=run))


def methods() -> dict[str, str]:
    """Every row's key, and how it is called."""
    rows = {"readout": "readout only, on the first tile", "ff": "forward-forward, tiles unknown"}
    rows |= {f"twin {e}": f"backprop through a twin, mismatch {e:g} σ" for e in MISMATCHES}
    return rows | {f"aware {e}": f"tile forwards, twin backwards, mismatch {e:g} σ" for e in AWARE}


def measure(method: str, parts: list[Part], seed: int, chosen: dict[str, list[float]], epochs: int) -> float:
    """Test accuracy of one method."""
    if method == "readout":
        return readout_only(tiles(parts[0][0].shape[1], seed)[0], parts, CLASSES)
    if method == "ff":
        return forward_forward(parts, seed, tuple(chosen["ff"]), epochs, 2)
    kind, mismatch = method.split()
    return backprop(parts, seed, tuple(chosen["backprop"]), epochs, 2, float(mismatch), kind == "aware")


def reads(method: str, epochs: int) -> str:
    """How often a sample goes through each tile: to learn from it, to decide on it."""
    learned = {"readout": 1, "ff": 2 * epochs, "twin": 0, "aware": epochs}[method.split(maxsplit=1)[0]]
    return f"{learned} / {CLASSES if method == 'ff' else 1}"


def table(kept: dict[str, Any]) -> str:
    """All rows that have been measured."""
    names = [task for task in EPOCHS if kept.get(task, {}).get("seeds")]
    lines = [
        f"| learned by | {' | '.join(f'{t}, test accuracy, % | reads of a tile to learn / decide' for t in names)} |"
    ]
    lines.append("|---|" + "---|---|" * len(names))
    for method, title in methods().items():
        cells = []
        for task in names:
            values = [seed[method] for seed in kept[task]["seeds"].values() if method in seed]
            cells.append(_shown(values) if values else "not measured")
            cells.append(reads(method, EPOCHS[task]))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(values: list[float]) -> str:
    mean = 100 * statistics.mean(values)
    if len(values) not in STUDENT:
        return f"{mean:.2f} (one seed)"
    half = 100 * STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.2f} ± {half:.2f} ({len(values)} seeds)"


def write_readme(kept: dict[str, Any]) -> None:
    """Put the table between the marks."""
    put_table("forward-forward", table(kept))


def main() -> None:
    """Measure what is not there yet; the table is written after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder of mnist.npz")
    parser.add_argument("--tasks", nargs="*", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() and not given.quick else {}
    for task in given.tasks:
        epochs, limit = (1, 200) if given.quick else (EPOCHS[task], 10**9)
        held = kept.setdefault(task, {"chosen": {}, "seeds": {}})
        for method in [method for method in GRID if method not in held["chosen"]]:
            held["chosen"][method] = choose(task, method, parts_of(task, 0, given.data, limit), epochs)
        for seed in given.seeds:
            found, parts = held["seeds"].setdefault(str(seed), {}), parts_of(task, seed, given.data, limit)
            for method in [method for method in methods() if method not in found]:
                began = time.process_time()
                found[method] = measure(method, parts, seed, held["chosen"], epochs)
                print(task, seed, method, f"{found[method]:.4f}, {time.process_time() - began:.0f} CPU s", flush=True)
                if not given.quick:
                    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                    write_readme(kept)
    if given.quick:
        print(table(kept))
    else:
        write_readme(kept)


if __name__ == "__main__":
    main()
