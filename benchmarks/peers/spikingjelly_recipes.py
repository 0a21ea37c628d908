"""Convert a model of `benchmarks/models.py` with every rate recipe of SpikingJelly and measure it step by step.

    PYTHON=$(python benchmarks/peers/environment.py)
    $PYTHON benchmarks/peers/spikingjelly_recipes.py --model resnet20 --calibration train.npz --data test.npz \
        --timesteps 64 --limit 200 --json

Runs in the environment that `environment.py` makes.  ``--model`` also takes the path of an .onnx file.
The data are .npz files of ``x`` and ``y`` (or ``file.npz:xname,yname``).  With ``--json`` one object goes to stdout:
peer, version, model, seed, n, n_calibration, timesteps, ann_accuracy, recipes {name: outcome}.  An outcome is

    {"refused": message}, or
    {"accuracy_by_step": [...], "accuracy_with_delay_by_step": [...], "delay_by_step": [...], "spiking_layers": k,
     "calibration_batches": b, "convert_seconds": s, "evaluate_seconds": s}, and beside these
    {"silent_failure": what stayed analog} where the peer gave no error and yet left activations unconverted.

The accuracy at step t is that of the outputs added up from step 1 to t.  With the delay d that the peer's own helper
estimates for a run of t steps, it is that of the outputs added up from step d + 1 to t.
"""

import argparse
import copy
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("LOGURU_LEVEL", "WARNING")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from models import MODELS, Model, data_folder
from numpy.typing import NDArray
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import (
    Converter,
    LocalThresholdBalancingRecipe,
    RateCodingRecipe,
    estimate_delay_start,
)
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, fx, nn

CALIBRATION_BATCH = 100
RELU_FUNCTIONS = {torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, "relu", "relu_"}
# What the peer and torch.fx raise for a network that they do not take.
REFUSALS = (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError)

Outcome: TypeAlias = dict[str, Any]
Recipe: TypeAlias = RateCodingRecipe | LocalThresholdBalancingRecipe


class Batches:
    """Calibration batches in an order that the seed decides, shuffled anew each time round, ``count`` of them."""

    def __init__(self, x: Tensor, seed: int, count: int | None = None) -> None:
        self.x, self.seed = x, seed
        self.once = -(-len(x) // CALIBRATION_BATCH)
        self.count = self.once if count is None else count

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        for number in range(self.count):
            if number % self.once == 0:
                order = torch.randperm(len(self.x), generator=generator).split(CALIBRATION_BATCH)
            yield self.x[order[number % self.once]]


class Task(NamedTuple):
    """What a recipe is fitted to, the samples x (N, C, H, W) and labels y that it is measured on, and for how long."""

    calibration: Tensor
    x: Tensor
    y: Tensor
    timesteps: int
    batch: int
    seed: int


def channel_recipe(batches: Batches) -> Recipe:
    """Channel-wise percentile with half a threshold in the membrane and pooling first, as in the peer's example."""
    return RateCodingRecipe(batches, mode="99.9%", channel_wise=True, pre_spike_maxpool=True, half_threshold=True)


def recipes(ltb_batches: int) -> dict[str, tuple[Callable[[Batches], Recipe], int | None]]:
    """Return every rate recipe and how many batches it is calibrated on (None: each sample once).

    Local threshold balancing starts from 0 and rises with every batch, so it stands here with few and with many.
    """
    return {
        "max": (lambda batches: RateCodingRecipe(batches, mode="max"), None),
        "percentile_99.9": (lambda batches: RateCodingRecipe(batches, mode="99.9%"), None),
        "channel_99.9_half_threshold": (channel_recipe, None),
        "local_threshold_balancing_once": (LocalThresholdBalancingRecipe, None),
        "local_threshold_balancing": (LocalThresholdBalancingRecipe, ltb_batches),
    }


def attempt(network: nn.Module | None, make: Callable[[Batches], Recipe], count: int | None, task: Task) -> Outcome:
    """Convert by one recipe and measure the result, or say why the peer would not."""
    if network is None:
        return {
            "refused": "no ONNX input: the package reads no .onnx file, and Converter.convert takes a torch.nn.Module"
        }
    batches = Batches(task.calibration, task.seed, count)
    started = time.perf_counter()
    try:
        # The peer calibrates before it refuses, so one small batch shows a refusal sooner.
        Converter(make(Batches(task.calibration[:8], task.seed))).convert(copy.deepcopy(network))
        spiking = Converter(make(batches)).convert(copy.deepcopy(network)).eval()
    except REFUSALS as error:
        return {"refused": f"{type(error).__name__}: {re.sub(' at 0x[0-9a-f]+', '', str(error))}"}
    converted = time.perf_counter()
    delays = delay_by_step(spiking, batches, task.timesteps)
    whole, late = accuracy_by_step(spiking, task, delays)
    modules, calls, layers = census(spiking)
    outcome: Outcome = {
        "accuracy_by_step": whole,
        "accuracy_with_delay_by_step": late,
        "delay_by_step": delays,
        "spiking_layers": layers,
        "calibration_batches": batches.count,
        "convert_seconds": converted - started,
        "evaluate_seconds": time.perf_counter() - converted,
    }
    if modules or calls or not layers:
        left = f"{modules} ReLU modules and {calls} ReLU calls stayed analog; {layers} layers spike"
        outcome["silent_failure"] = left
    return outcome


def census(network: fx.GraphModule) -> tuple[int, int, int]:
    """Count in a converted graph the ReLU modules, the calls of functional ReLU and the spiking layers."""
    modules = dict(network.named_modules())
    used = [modules[node.target] for node in network.graph.nodes if node.op == "call_module"]
    calls = [node.target for node in network.graph.nodes if node.op in {"call_function", "call_method"}]
    return (
        sum(isinstance(layer, nn.ReLU) for layer in used),
        sum(target in RELU_FUNCTIONS for target in calls),
        sum(isinstance(layer, BaseNode) for layer in used),
    )


def ann_accuracy(network: nn.Module, task: Task) -> float:
    """Return the share of samples that the network labels rightly before its conversion."""
    predicted = torch.cat([network(x).argmax(1) for x in task.x.split(task.batch)])
    return float((predicted == task.y).double().mean())


def delay_by_step(network: nn.Module, batches: Batches, timesteps: int) -> list[int]:
    """Return the steps whose output the peer's helper would leave out of a run of 1 to ``timesteps`` steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it shortens the delay where few steps are left, and says so
        return [estimate_delay_start(network, batches, "cpu", steps) for steps in range(1, timesteps + 1)]


def accuracy_by_step(network: nn.Module, task: Task, delays: list[int]) -> tuple[list[float], list[float]]:
    """Return the accuracy after 1 to T steps, of all outputs so far and of those that follow each run's delay."""
    right = torch.zeros(2, task.timesteps, dtype=torch.float64)
    for x, y in zip(task.x.split(task.batch), task.y.split(task.batch), strict=True):
        functional.reset_net(network)
        outputs = torch.stack([network(x) for _ in range(task.timesteps)])
        total = outputs.double().cumsum(0)
        skipped = torch.cat([torch.zeros_like(total[:1]), total])[delays]
        right[0] += (total.argmax(2) == y).sum(1)
        right[1] += ((total - skipped).argmax(2) == y).sum(1)
    whole, late = (right / len(task.y)).tolist()
    return whole, late


def read(spec: str, limit: int | None, seed: int | None = None) -> tuple[NDArray[Any], Tensor]:
    """Read ``file.npz[:xname,yname]``: the first ``limit`` samples, or as many drawn with the seed."""
    file, _, names = spec.rpartition(".npz")
    x_name, y_name = names.removeprefix(":").split(",") if names else ("x", "y")
    with np.load(f"{file}.npz", allow_pickle=False) as stored:
        x, y = stored[x_name], stored[y_name]
    order = np.arange(len(x)) if seed is None else np.random.default_rng(seed).permutation(len(x))
    return x[order[:limit]], torch.from_numpy(y[order[:limit]].astype(np.int64))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help=f"an .onnx file, or one of {', '.join(MODELS)}")
    parser.add_argument("--weights", type=Path, help="a file of weights (default: the published one)")
    parser.add_argument("--calibration", required=True, help="file.npz[:xname,yname]")
    parser.add_argument("--data", required=True, help="file.npz[:xname,yname]")
    parser.add_argument("--num-samples", type=int, help="calibrate with so many, drawn with the seed (default: all)")
    parser.add_argument("--limit", type=int, help="measure on the first so many (default: all)")
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--recipe", action="append", help="one of the recipes (default: all); may be repeated")
    parser.add_argument("--ltb-batches", type=int, default=1000, help="of 100 samples (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=100, help="samples measured together (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    if not options.model.endswith(".onnx") and options.model not in MODELS:
        parser.error(f"no model is called {options.model}; there are {', '.join(MODELS)}, and .onnx files.")
    if unknown := set(options.recipe or ()) - set(recipes(0)):
        parser.error(f"no recipe is called {', '.join(sorted(unknown))}; there are {', '.join(recipes(0))}.")
    return options


def load(options: argparse.Namespace) -> tuple[nn.Module | None, Model]:
    """Return the network (None for an .onnx file, which the peer cannot read) and how its samples are prepared."""
    if options.model.endswith(".onnx"):
        return None, Model(lambda _: nn.Identity(), "")
    model = MODELS[options.model]
    if options.weights is None and not model.file:
        raise SystemExit(f"{options.model} has no published weights; pass a file of them with --weights.")
    return model.load(options.weights or data_folder() / model.file), model


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Try the recipes on the model and return the one object that ``--json`` prints."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    network, model = load(options)
    calibration, _ = read(options.calibration, options.num_samples, options.seed)
    x, y = read(options.data, options.limit)
    task = Task(model.prepare(calibration), model.prepare(x), y, options.timesteps, options.batch, options.seed)
    chosen = {
        name: entry for name, entry in recipes(options.ltb_batches).items() if name in (options.recipe or recipes(0))
    }
    return {
        "peer": "spikingjelly",
        "version": version("spikingjelly"),
        "model": options.model,
        "seed": options.seed,
        "n": len(y),
        "n_calibration": len(calibration),
        "timesteps": options.timesteps,
        "ann_accuracy": None if network is None else ann_accuracy(network, task),
        "recipes": {name: attempt(network, make, count, task) for name, (make, count) in chosen.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Print the result as a table: accuracy in percent after 1, 2, 4 … steps."""
    steps = [2**power for power in range(result["timesteps"].bit_length())]
    analog = result["ann_accuracy"]
    print(
        f"{result['model']}: n = {result['n']}, ANN {'-' if analog is None else f'{100 * analog:.2f}'}; steps {steps}"
    )
    for name, outcome in result["recipes"].items():
        if "refused" in outcome:
            print(f"  {name:32} refused: {outcome['refused']}")
            continue
        values = " ".join(f"{100 * outcome['accuracy_by_step'][step - 1]:6.2f}" for step in steps)
        print(f"  {name:32} {values}  {outcome.get('silent_failure', '')}".rstrip())


@torch.no_grad()
def main() -> None:
    """Run the command."""
    options = parse()
    result = run(options)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
