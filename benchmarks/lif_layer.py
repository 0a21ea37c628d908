"""Time a leaky integrate-and-fire layer alone, forward and backward, beside the other frameworks.

python benchmarks/lif_layer.py [--threads 1 2] [--rounds 15] [--device cpu|cuda]

All contestants run in one process, in turn, with the same numbers of steps and neurons and inputs scaled so that each
fires at a quarter of the steps.  The interpreter is that of the environment that peers/environment.py makes.  "streams"
reads and writes once what an ideal kernel must (forward: input in, spikes and saved values out; backward: two in, one
out).
Prints a table and writes results/lif_layer.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHAPES = {"T=16": (16, 16, 16384), "T=500": (500, 16, 512), "T=4": (4, 16, 65536)}
FIRST = """
import time, torch
from spikeport.neurons import Leaky
torch.set_num_threads(1)
layer, x = Leaky(0.9), torch.randn(16, 4, 100, requires_grad=True)
start = time.process_time()
layer(x)[0].sum().backward()
print(time.process_time() - start)
"""


def main() -> None:
    """Measure in the peers' environment, or start that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "lif_layer.json")
    parser.add_argument("--inside", action="store_true", help="this is the environment of the peers")
    options = parser.parse_args()
    if not options.inside:
        return run_inside(__file__)
    found: dict[str, Any] = {"first_call_cpu_s": first_call(), "layers": []}
    for threads in options.threads:
        for shape in options.shapes:
            found["layers"].append(measure(shape, threads, options.rounds, options.device))
            print(table(found["layers"][-1]), flush=True)
    print(f"first call, CPU seconds: {found['first_call_cpu_s']}")
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return None


def run_inside(script: str) -> None:
    """Run the script again with the interpreter in which all peers are, and find spikeport in this clone."""
    sys.path.insert(0, str(HERE / "peers"))
    from environment import default_folder, ensure

    python = ensure(default_folder("layers"), "layers")
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent / ".types")}
    raise SystemExit(subprocess.call([str(python), script, "--inside", *sys.argv[1:]], env=variables))


def measure(shape: str, threads: int, rounds: int, device: str) -> dict[str, Any]:
    """Median times of all contestants on one shape, and what each saves."""
    import contestants as field
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.randn(SHAPES[shape], device=device)
    layers, missing = field.contestants(device)
    tasks, rows = {"streams": streams(x)}, {}
    for layer in layers:
        own = layer.laid_out(x)
        own = (own * field.gain_for_rate(layer.run, own)).requires_grad_()
        with torch.no_grad():
            rate = float((layer.run(own) > 0).float().mean())
        rows[layer.name] = {"rate": rate, "saved_bytes": field.saved_bytes(layer.run, own)}
        tasks[layer.name] = both_ways(layer.run, own)
    for name, times in field.interleaved(tasks, rounds, device).items():
        rows.setdefault(name, {}).update(times)
    return {
        "shape": shape,
        "size": SHAPES[shape],
        "threads": threads,
        "rounds": rounds,
        "missing": missing,
        "rows": rows,
    }


def both_ways(run: Callable[[Any], Any], x: Any) -> Callable[[], None]:
    """Forward and backward, with a gradient that has a value for each spike."""
    import torch

    to_spikes = torch.rand_like(run(x))

    def task() -> None:
        x.grad = None
        run(x).backward(to_spikes)

    return task


def streams(x: Any) -> Callable[[], None]:
    """What must be read and written once, by torch's own loops, into memory as fresh as a kernel's."""
    import torch

    gradient = torch.rand_like(x)

    def task() -> None:
        spikes = torch.empty_like(x).copy_(x)
        saved = torch.empty_like(x).fill_(1.0)
        torch.add(gradient, saved, out=torch.empty_like(x))
        del spikes

    return task


def first_call() -> dict[str, float]:
    """CPU seconds of the first forward and backward pass in a process, with an empty cache and with a filled one.

    Python's own bytecode is there, as an installation leaves it: a run before, in another folder, writes it.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as bytecode, tempfile.TemporaryDirectory() as before:
        variables = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        with tempfile.TemporaryDirectory() as folder:
            for cache in (before, folder, folder):
                command = [sys.executable, "-c", FIRST]
                own = {**variables, "NUMBA_CACHE_DIR": cache}
                seconds.append(float(subprocess.run(command, env=own, capture_output=True, check=True).stdout))
    return {"cold": seconds[1], "cached": seconds[2]}


def table(found: dict[str, Any]) -> str:
    """A table in Markdown: times, and how many times longer than ours."""
    ours = found["rows"]["spikeport"]["wall_ms"]
    lines = [
        f"\n{found['shape']}, {found['size']}, {found['threads']} threads",
        "| | wall ms | CPU ms | × ours | saved bytes | rate |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        more = f"{row['saved_bytes']:.1f} | {row['rate']:.2f}" if "rate" in row else " | "
        lines.append(f"| {name} | {row['wall_ms']:.1f} | {row['cpu_ms']:.1f} | {row['wall_ms'] / ours:.2f} | {more} |")
    return "\n".join([*lines, *(f"left out: {reason}" for reason in found["missing"])])


if __name__ == "__main__":
    main()
