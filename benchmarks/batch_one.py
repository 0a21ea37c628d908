"""One sample at a time: how much sooner early exit answers than a fixed window, in wall time.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/batch_one.py --data DATA --keep DIR [--rows NAME ...] [--samples N]

For each network that conversion_table.py kept, and each number of steps in one call of the engine (chunk): the fixed
run of the smallest T of equal accuracy and the run that may stop, both with this chunk and a batch of one, in turns;
medians of 5.  ``wanted`` is 1 + 0.9 (mean steps' ratio - 1), in the same steps: T over the mean steps at which these
samples stopped.  The last column compares each side's best chunk.  Wants an idle machine.  The numbers go into
benchmarks/results/batch_one.json; the table is printed.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conversion_table import RESULTS, ROWS, Row
from integer_accuracy import samples

from spikeport.evaluation.engines import engine_of
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.policies import Policy
from spikeport.inference import interleaved_medians, run_fixed, run_with_exit

FILE = RESULTS / "batch_one.json"
CHUNKS = (1, 2, 4, 8)
REPEATS = 5
SHARE = 0.9


def measured(row: Row, folder: Path, data: Path, count: int, fixed_steps: int) -> dict[str, Any]:
    """Seconds a sample of both runs for each chunk."""
    held = read_folder(folder)
    test = samples(row, "data", data, held, None)
    drawn = np.random.default_rng(0).permutation(len(test))[:count]
    x = torch.from_numpy(test.x[drawn])
    rule = Policy(row.policy).rule(held.exit, max_loss=row.max_loss)
    found: dict[str, Any] = {"title": row.title, "spikes": row.spikes, "n": len(x), "fixed_steps": fixed_steps}
    found |= {"threads": torch.get_num_threads(), "chunks": {}}
    for chunk in (size for size in CHUNKS if size <= fixed_steps):
        exit_engine = engine_of(held.spiking, max_steps=row.timesteps, chunk=chunk)
        fixed_engine = engine_of(held.spiking, max_steps=fixed_steps, chunk=chunk)
        stopped = run_with_exit(exit_engine, x, rule, batch_size=1).steps.double().mean().item()
        fixed, early = interleaved_medians(
            [
                partial(run_fixed, fixed_engine, x, fixed_steps, batch_size=1),
                partial(run_with_exit, exit_engine, x, rule, batch_size=1),
            ],
            REPEATS,
        )
        found["mean_steps"] = stopped
        found["chunks"][chunk] = {"fixed_ms": 1000 * fixed / len(x), "exit_ms": 1000 * early / len(x)}
    return found


def line(found: dict[str, Any]) -> str:
    """One line of the table."""
    ratio = found["fixed_steps"] / found["mean_steps"]
    wanted = 1 + SHARE * (ratio - 1)
    cells = [found["title"], found["spikes"], str(found["n"]), f"{found['mean_steps']:.2f} of {found['fixed_steps']}"]
    cells += [f"{ratio:.2f}×", f"{wanted:.2f}×"]
    for chunk in map(str, CHUNKS):
        pair = found["chunks"].get(chunk)
        cells.append(f"{pair['fixed_ms'] / pair['exit_ms']:.2f}× ({pair['exit_ms']:.1f} ms)" if pair else "–")
    best = [min(pair[key] for pair in found["chunks"].values()) for key in ("fixed_ms", "exit_ms")]
    return f"| {' | '.join([*cells, f'{best[0] / best[1]:.2f}×'])} |"


def main() -> None:
    """Time the rows that were asked for, keeping each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in options.rows:
        if (options.keep / name).is_dir():
            early = json.loads((RESULTS / f"{name}.json").read_text())["evaluate"]["early_exit"]
            fixed_steps = early["smallest_fixed_steps_of_equal_accuracy"]
            kept[name] = measured(ROWS[name], options.keep / name, options.data, options.samples, fixed_steps)
            kept[name]["chunks"] = {str(size): pair for size, pair in kept[name]["chunks"].items()}
            FILE.write_text(json.dumps(kept, indent=1) + "\n")
    heads = ["network", "spikes", "n", "mean steps", "in steps", "wanted", *(f"chunk {size}" for size in CHUNKS)]
    print(f"| {' | '.join([*heads, 'best against best'])} |\n|{'---|' * (len(heads) + 1)}")
    for found in kept.values():
        print(line(found))


if __name__ == "__main__":
    main()
