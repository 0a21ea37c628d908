"""Train a VGG-like and a ResNet-18-like network in levels on images, and write the table of what their spikes say.

python benchmarks/prepare_data.py --out DATA cifar10
python benchmarks/qcfs_table.py --data DATA [--networks NAME ...] [--width 16] [--samples N] [--test N] [--keep DIR]

For each network: a ReLU network is trained, then fine-tuned with activations in L levels (QCFS); the result becomes
spikes of each code, calibrated for 2, 4 and 8 steps on training images that trained nothing (the method is chosen on a
part of them that fitted nothing either), and runs on test images.  Then the spikes themselves are trained for 2 and for
4 steps on the training images (--spike-epochs; the images that chose the epochs before choose them here), and measured
again.  Differences to the network in levels are paired.
benchmarks/results/qcfs-NAME.json keeps all numbers, the device among them; the table is printed.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from qcfs_networks import NETWORKS

from spikeport.conversion.methods import Auto, Choice, Recipe
from spikeport.conversion.module_import import import_module
from spikeport.conversion.reconstruct import Reconstruction
from spikeport.conversion.rewrite import arranged
from spikeport.conversion.source import Source, analog_output
from spikeport.conversion.thresholds import MeanSquare, Trained
from spikeport.data import Dataset, Preprocessing, load_data
from spikeport.evaluation.convert import choice_of, convert_network, folds_of
from spikeport.evaluation.evaluate import evaluate_network
from spikeport.evaluation.finetune import Finetuning, analog_source, held_out, train_analog
from spikeport.evaluation.folder import write_folder
from spikeport.evaluation.spike_tuning import SpikeTuning, tuned
from spikeport.evaluation.train import parse_augmentation
from spikeport.inference import paired_difference_interval
from spikeport.networks.file import load_graph, save_graph
from spikeport.networks.graph import Graph
from spikeport.report import render_report
from spikeport.training.qcfs import with_quantised_activations
from spikeport.training.settings import OptimizerSettings, TrainingSettings

RESULTS = Path(__file__).resolve().parent / "results"
PIXELS = Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "NHWC")
CODES = ("binary", "signed", "burst:2")
WANTED = {4: 0.5, 2: 2.0}  # points below the network in levels, at most
SHOWN = (1, 2, 4, 8)
CHEAP = (Recipe(Trained(), False), Recipe(Trained(), True), Recipe(Trained(), True, step_biases=True))
RECONSTRUCTED = (
    Recipe(Trained(), True, reconstruction=Reconstruction()),
    Recipe(Trained(), True, reconstruction=Reconstruction(samples=4096, rate=1e-2, through=True)),
)


def trained(
    graph: Graph, fit: Dataset, validation: Dataset, how: Finetuning, again: Finetuning
) -> tuple[Graph, Graph, dict[str, Any]]:
    """The ReLU network, the one in levels, and how the training went."""
    begin = time.process_time()
    relu, first = train_analog(arranged(graph), fit, validation, how)
    ceilings = MeanSquare(how.levels).thresholds(relu, fit.x, how.levels)
    levels, second = train_analog(with_quantised_activations(relu, ceilings, how.levels), fit, validation, again)
    about = {
        "n_train": len(fit.x),
        "n_validation": len(validation.x),
        "epochs": [how.training.epochs, again.training.epochs],
        "validation_accuracy": [first["best"]["accuracy"], second["best"]["accuracy"]],
        "cpu_seconds": round(time.process_time() - begin, 1),
        "device": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
    }
    return relu, levels, about


class Made(NamedTuple):
    """The ReLU network and the one in levels; samples that train, choose epochs and calibrate; how training went."""

    relu: Source
    levels: Source
    fit: Dataset
    validation: Dataset
    calibration: Dataset
    how: Finetuning
    about: dict[str, Any]


def train_both(name: str, data: Dataset, options: argparse.Namespace) -> Made:
    """Train the ReLU network, then the one in levels; or take those that --trained holds."""
    torch.manual_seed(options.seed)
    source = import_module(NETWORKS[name](options.width), data.features, name=name)
    rows, held = held_out(data, options.seed)
    fit, validation = data.take(rows), held.take(np.arange(0, len(held.x), 2))
    training = TrainingSettings(epochs=options.epochs, batch_size=64, seed=options.seed, tensorboard=False)
    how = Finetuning(
        options.levels, training, OptimizerSettings(learning_rate=3e-3), augment=parse_augmentation(("flip", "shift 4"))
    )
    again = replace(
        how,
        training=replace(training, epochs=options.finetune_epochs),
        optimizer=OptimizerSettings(learning_rate=1e-3),
    )
    kept = options.trained and options.trained / f"{name}.json"
    if kept and kept.exists():
        graphs = [load_graph(kept.with_name(f"{name}_{kind}.safetensors")) for kind in ("relu", "levels")]
        about = json.loads(kept.read_text())
    else:
        *graphs, about = trained(source.graph, fit, validation, how, again)
        if kept:
            options.trained.mkdir(parents=True, exist_ok=True)
            for kind, graph in zip(("relu", "levels"), graphs, strict=True):
                save_graph(graph, kept.with_name(f"{name}_{kind}.safetensors"))
            kept.write_text(json.dumps(about))
    calibration = held.take(np.arange(1, len(held.x), 2))  # the other half chose the epoch
    sources = analog_source(graphs[0], name), analog_source(graphs[1], f"{name}_qcfs{options.levels}")
    return Made(*sources, fit, validation, calibration, again, about)


def tuned_choice(
    network: Made, method: Auto, code: str, timesteps: int, spikes: SpikeTuning, found: dict[str, Any]
) -> Choice:
    """The spiking network of a method with its spikes trained; how that went is added to ``found``."""
    choice = choice_of(method, folds_of(network.levels, network.calibration, code, 0), code, timesteps)
    how = network.how
    begin = time.process_time()
    choice, about = tuned(
        choice, network.fit, network.validation, spikes, how.training, timesteps=timesteps, augment=how.augment
    )
    found[f"spikes_{timesteps}"] = {**about, "cpu_seconds": round(time.process_time() - begin, 1)}
    return choice


def measure(
    network: Made, test: Dataset, code: str, keep: Path | None, spikes: SpikeTuning | None = None
) -> dict[str, Any]:
    """Accuracies of the conversions for 2 (at 1 and 2 steps), 4 and 8 steps, against the network in levels.

    spikes: train them on in the windows of 2 and 4 steps, from what the cheap methods give; there is no window of 8.
    """
    found: dict[str, Any] = {"code": code, "steps": {}, "spike_epochs": spikes.epochs if spikes else 0}
    levels, calibration = network.levels, network.calibration
    for timesteps in (2, 4) if spikes else (2, 4, 8):
        several = timesteps < 8 and not code.startswith("burst")  # else the cheap ones are near, and weights take long
        method: Auto | Choice = Auto(CHEAP + RECONSTRUCTED if several and not spikes else CHEAP)
        if spikes:
            method = tuned_choice(network, method, code, timesteps, spikes, found)
        made = convert_network(levels, calibration, method=method, code=code, timesteps=timesteps)
        got = evaluate_network(made.spiking, made.analog, made.exit, test, timing=False)
        for step in SHOWN:
            if step <= timesteps and str(step) not in found["steps"]:
                found["steps"][str(step)] = {
                    "accuracy": got["accuracy_by_step"][step - 1],
                    "difference": got["ann_difference_by_step"][str(step)],
                    "operations": got["synaptic_operations_by_step"][step - 1],
                    "method": made.report["method"],
                    "calibrated_for": timesteps,
                }
        found[f"candidates_{timesteps}"] = made.report["candidates"]
        found["early_exit"] = {k: v for k, v in got["early_exit"].items() if isinstance(v, int | float | str | list)}
        found["quantised_accuracy"] = got["ann_accuracy"]
        if keep is not None:
            place = keep / f"{levels.name}_{code.replace(':', '')}_{timesteps}{'_spikes' if spikes else ''}"
            write_folder(place, made, render_report, overwrite=True)
    return found


def line(name: str, result: dict[str, Any], row: dict[str, Any]) -> str:
    """One line of the table."""
    code = row["code"] + (", spikes trained" if row.get("spike_epochs") else "")
    cells = [name, code, f"{result['n']:,}", f"{100 * result['relu_accuracy']:.2f}"]
    cells.append(f"{100 * row['quantised_accuracy']:.2f}")
    for step in SHOWN:
        held = row["steps"].get(str(step))
        if held is None:
            cells.append("")
            continue
        value, low, high = (100 * number for number in held["difference"])
        missed = " **missed**" if step in WANTED and value < -WANTED[step] else ""
        cells.append(f"{100 * held['accuracy']:.2f} ({value:+.2f}, {low:+.2f} to {high:+.2f}){missed}")
    early = row["early_exit"]
    cells.append(f"{early['mean_steps']:.2f} steps, {100 * early['accuracy']:.2f}, {early['speedup_steps']:.2f}×")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train and measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare_data.py wrote")
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--codes", nargs="*", default=list(CODES))
    parser.add_argument("--levels", type=int, default=2, help="of an activation; in 4 steps neurons say more than 2")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8, help="of the ReLU network")
    parser.add_argument("--finetune-epochs", type=int, default=4, help="of the network in levels")
    parser.add_argument("--spike-epochs", type=int, default=6, help="of the spikes, after conversion; 0: none")
    parser.add_argument("--spike-rate", type=float, default=5e-4, help="the highest learning rate of these")
    parser.add_argument("--trained", type=Path, help="keep the trained networks in this folder, and take them from it")
    parser.add_argument("--samples", type=int, default=50000, help="training images, a fifth of which is held out")
    parser.add_argument("--test", type=int, default=10000, help="test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the converted networks into this folder")
    options = parser.parse_args()
    data = load_data(
        str(options.data / "cifar10_train.npz"), PIXELS, part="calibration", limit=options.samples, features=(3, 32, 32)
    )
    test = load_data(
        str(options.data / "cifar10_test.npz"), PIXELS, part="evaluation", limit=options.test, features=(3, 32, 32)
    )
    RESULTS.mkdir(exist_ok=True)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    print("| network | spikes | n | ReLU, % | levels, % | T = 1 | T = 2 | T = 4 | T = 8 | early exit of 8 |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.networks:
        network = train_both(name, data, options)
        labels = [analog_output(source.graph, test.x).argmax(1) for source in (network.relu, network.levels)]
        accuracies = [float((each == test.y).mean()) for each in labels]
        cost = paired_difference_interval(*(torch.from_numpy(each) for each in (*labels[::-1], test.y)))
        result = {"n": len(test.x), "levels": options.levels, "seed": options.seed, "width": options.width}
        result |= {**network.about, "relu_accuracy": accuracies[0], "rows": []}
        result["levels_difference"] = [cost.value, cost.low, cost.high]
        spikes = [SpikeTuning(options.spike_epochs, options.spike_rate)] if options.spike_epochs else []
        for code, tuning in product(options.codes, [None, *spikes]):
            result["rows"].append(measure(network, test, code, options.keep, tuning))
            print(line(name, result, result["rows"][-1]), flush=True)
            (RESULTS / f"qcfs-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
