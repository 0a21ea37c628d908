"""Train a small vision transformer on Fashion-MNIST, convert it with differential spikes, and compare it with itself.

python benchmarks/vit_table.py [--data DIR] [--epochs 6] [--steps 8] [--seed 0] [--keep FOLDER]

Trained on the training images but the last 4,000, which calibrate the conversion; measured once on all test images.
The result goes to benchmarks/results/vit.json.  --keep: the trained weights are kept there and used again.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vit import VisionTransformer, train

from spikeport import load_data
from spikeport.conversion.methods import parse_method
from spikeport.conversion.module_import import import_module
from spikeport.data import Dataset, Preprocessing
from spikeport.evaluation.convert import convert_network
from spikeport.evaluation.evaluate import evaluate_network

RESULT = Path(__file__).resolve().parent / "results" / "vit.json"
CALIBRATION = 4000
PIXELS = Preprocessing(scale=1 / 255, mean=(0.286,), std=(0.353,))


def network_for(fit: Dataset, epochs: int, seed: int, keep: Path | None) -> tuple[VisionTransformer, float | None]:
    """The trained network, and its seconds of training where they are known."""
    kept = keep / f"vit_{epochs}_{seed}.safetensors" if keep else None
    if kept and kept.exists():
        network = VisionTransformer()
        network.load_state_dict(load_file(kept))
        with safe_open(kept, "pt") as held:
            seconds = (held.metadata() or {}).get("seconds")
        return network.eval(), None if seconds is None else float(seconds)
    assert fit.y is not None
    network, seconds = train(torch.from_numpy(fit.x), torch.from_numpy(fit.y), epochs=epochs, seed=seed)
    if kept:
        save_file(network.state_dict(), kept, {"seconds": str(seconds)})
    return network, seconds


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train (or read), convert and evaluate; returns what the table needs."""
    file = str(folder / "fashion_mnist.npz")
    whole = load_data(f"{file}:x_train,y_train", PIXELS, part="calibration", features=(1, 28, 28))
    test = load_data(f"{file}:x_test,y_test", PIXELS, part="evaluation", features=(1, 28, 28), limit=arguments.limit)
    cut = len(whole) - CALIBRATION
    fit, held = whole.take(np.arange(cut)), whole.take(np.arange(cut, len(whole)))
    network, seconds = network_for(fit, arguments.epochs, arguments.seed, arguments.keep)
    source = import_module(network, (1, 28, 28), name="ViT")
    converted = convert_network(
        source, held, method=parse_method(arguments.method), code=arguments.spikes, timesteps=arguments.steps
    )
    found = evaluate_network(converted.spiking, converted.analog, converted.exit, test, timing=False)
    found.pop("figures")
    about = {
        "data": "Fashion-MNIST",
        "device": f"CPU, {torch.get_num_threads()} threads",
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "training_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    return {**about, "convert": converted.report, "evaluate": found}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPIKEPORT_DATA", ".")))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="measure on the first so many test images")
    parser.add_argument("--method", default="percentile")
    parser.add_argument("--spikes", default="differential")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.data, arguments)
    evaluated = result["evaluate"]
    if arguments.limit is None:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print("ANN", evaluated["ann_accuracy"], "SNN by step", evaluated["accuracy_by_step"])
    print("difference", evaluated["ann_difference_by_step"])


if __name__ == "__main__":
    main()
