"""How fast exported programs decide, beside the engine: one thread, batch of 1 and of 64, medians of turns.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/compiled_speed.py --data DATA --keep DIR [--rows NAME ...] [--samples 256]

Every contestant decides the same samples with the same rule; "differs" counts decisions (label or steps) that are not
the engine's: sums in another order may tip a spike whose membrane lies on its threshold.  The best of chunks 1, 2 and 4
is taken for each contestant and batch.  Kept in benchmarks/results/compiled_speed.json, from which the table in
docs/results.md is written; wants an idle machine.
"""

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from conversion_table import RESULTS, ROWS
from integer_accuracy import samples
from tables import put_table

from spikeport.evaluation.compiled import FORMATS, CompiledNetwork, export_programs
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.policies import Policy
from spikeport.inference import interleaved_medians, run_with_exit
from spikeport.networks.engine import Engine

FILE = RESULTS / "compiled_speed.json"
CHUNKS, BATCHES = (1, 2, 4), (1, 64)


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each contestant, and where its decisions differ."""
    held = read_folder(options.keep / name)
    test = samples(ROWS[name], "data", options.data, held, options.samples)
    x, steps = torch.from_numpy(test.x), len(held.exit.outputs)
    rule = Policy(options.policy).rule(held.exit, max_loss=options.max_loss)
    wanted = run_with_exit(Engine(held.spiking, max_steps=steps), x, rule)
    with tempfile.TemporaryDirectory() as folder:
        networks = {}
        for to in FORMATS:
            for chunk in CHUNKS:
                out = Path(folder) / f"{to}{chunk}"
                export_programs(held.spiking, rule, out, to=to, max_steps=steps, steps=chunk)
                networks[to, chunk] = CompiledNetwork(out)
        found: dict[str, Any] = {
            "title": ROWS[name].title, "samples": len(x), "timesteps": steps, "rule": str(rule), "threads": 1,
            "exits": wanted.steps.bincount(minlength=steps + 1)[1:].tolist(),
            "machine": platform.processor() or platform.machine(),
        }  # fmt: skip
        for to in FORMATS:
            decided = networks[to, 1].decide(x)
            found[f"{to}_differs"] = int(((decided.label != wanted.label) | (decided.steps != wanted.steps)).sum())
        for batch in BATCHES:
            found[f"seconds_batch_{batch}"] = timed(held.spiking, networks, x, rule, steps, batch)
    return found


def timed(graph: Any, networks: Any, x: torch.Tensor, rule: Any, steps: int, batch: int) -> dict[str, Any]:
    """Contestant -> seconds with its best chunk, and that chunk."""

    def eager(chunk: int) -> Any:
        engine = Engine(graph, max_steps=steps, chunk=chunk)
        return lambda: run_with_exit(engine, x, rule, batch_size=batch)

    def compiled(to: str, chunk: int) -> Any:
        return lambda: networks[to, chunk].decide(x, batch_size=batch)

    runs = {("engine", chunk): eager(chunk) for chunk in CHUNKS}
    runs |= {(to, chunk): compiled(to, chunk) for to in FORMATS for chunk in CHUNKS}
    medians = dict(zip(runs, interleaved_medians(list(runs.values()), 3), strict=True))
    best: dict[str, Any] = {}
    for (kind, chunk), seconds in medians.items():
        if kind not in best or seconds < best[kind]["seconds"]:
            best[kind] = {"seconds": seconds, "chunk": chunk}
    return best


def table(found: dict[str, Any]) -> str:
    """Milliseconds a sample of each, one row a network and batch."""
    names = ("engine", *FORMATS)
    lines = [
        f"| network | n | batch | {' | '.join(f'{name}, ms a sample' for name in names)} | decisions that differ |",
        f"|---|---|---|{'---|' * len(names)}---|",
    ]
    for row in found.values():
        differ = ", ".join(f"{name} {row[f'{name}_differs']}" for name in FORMATS)
        for batch in BATCHES:
            times = row[f"seconds_batch_{batch}"]
            shown = [f"{1000 * times[name]['seconds'] / row['samples']:.2f}" for name in names]
            lines.append(f"| {row['title']} | {row['samples']} | {batch} | {' | '.join(shown)} | {differ} |")
    return "\n".join(lines)


def main() -> None:
    """Time the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=["digits", "kws", "mnist8"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--policy", default="confidence")
    parser.add_argument("--max-loss", type=float, default=0.01)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in options.rows:
        found[name] = measured(name, options)
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(found[name], indent=1), flush=True)
    put_table("compiled", table(found))


if __name__ == "__main__":
    main()
