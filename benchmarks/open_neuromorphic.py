"""The Open Neuromorphic benchmark of frameworks: a linear layer and leaky integrate-and-fire neurons.

python benchmarks/open_neuromorphic.py [--threads 1 2] [--rounds 11]

512 inputs, 512 neurons, batch 16, 500 steps; forward and backward of the sum of all spikes.  Source:
open-neuromorphic/snn-library-benchmarks.  Two things differ from the published runs.  The input is scaled so that every
framework really fires, at a quarter of the steps: with default weights some give no spike at all.  norse runs as a loop
over time: as published, its cell takes the whole sequence as one step.  "linear" is the linear layer alone.
Prints a table and writes results/open_neuromorphic.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lif_layer import run_inside

HERE = Path(__file__).resolve().parent
STEPS, BATCH, WIDTH = 500, 16, 512


def main() -> None:
    """Measure in the peers' environment, or start that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=11, help="default: %(default)s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "open_neuromorphic.json")
    parser.add_argument("--inside", action="store_true", help="this is the environment of the peers")
    options = parser.parse_args()
    if not options.inside:
        return run_inside(__file__)
    found = [measure(threads, options.rounds, options.device) for threads in options.threads]
    for each in found:
        print(table(each))
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return None


def measure(threads: int, rounds: int, device: str) -> dict[str, Any]:
    """Median times of the network in every framework, and of its linear layer alone."""
    import contestants as field
    import torch
    from torch import Tensor, nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    linear = nn.Linear(WIDTH, WIDTH, bias=False).to(device)
    x = torch.randn(STEPS, BATCH, WIDTH, device=device)
    layers, missing = field.contestants(device)
    tasks, rates = {"linear": _both_ways(linear, linear, x)}, {}
    for layer in layers:
        own = layer.laid_out(x)

        def network(part: Tensor, run: Callable[[Tensor], Tensor] = layer.run) -> Tensor:
            return run(linear(part))

        own = own * field.gain_for_rate(network, own)
        with torch.no_grad():
            rates[layer.name] = float((network(own) > 0).float().mean())
        tasks[layer.name] = _both_ways(network, linear, own)
    times = field.interleaved(tasks, rounds, device)
    rows = {name: {**row, "rate": rates.get(name)} for name, row in times.items()}
    return {"threads": threads, "rounds": rounds, "missing": missing, "rows": rows}


def _both_ways(run: Callable[[Any], Any], linear: Any, x: Any) -> Callable[[], None]:
    x = x.detach().requires_grad_()  # as in a deeper network, the gradient goes on to the layer before

    def task() -> None:
        x.grad = linear.weight.grad = None
        run(x).sum().backward()

    return task


def table(found: dict[str, Any]) -> str:
    """A table in Markdown: times, and how many times longer than ours."""
    ours = found["rows"]["spikeport"]["wall_ms"]
    lines = [f"\n{found['threads']} threads", "| | wall ms | CPU ms | × ours | rate |", "|---|---|---|---|---|"]
    for name, row in found["rows"].items():
        rate = f"{row['rate']:.2f}" if row["rate"] is not None else ""
        lines.append(f"| {name} | {row['wall_ms']:.1f} | {row['cpu_ms']:.1f} | {row['wall_ms'] / ours:.2f} | {rate} |")
    return "\n".join([*lines, *(f"left out: {reason}" for reason in found["missing"])])


if __name__ == "__main__":
    main()
