"""Do learned delays help to hear digits? ``python examples/spoken_digits.py --data fsdd.npz``.

Spoken digits become events where a band of the mel spectrum rises or falls.  Three networks with as many trained
numbers each hear them: delays that are learned, delays that are drawn and stay, and none.  Takes 5 to 9 of each speaker
choose the epoch, takes 45 to 49 are the test.  Prints one JSON object, with paired differences of the accuracies.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spikeport.data import Sequence, load_recordings, mel_events, mel_levels
from spikeport.inference import accuracy_interval, paired_difference_interval
from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky, LeakyIntegrator, LearnableDelays
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.processes import train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

LONGEST, UNITS = 15, {"learned": 64, "fixed": 101, "none": 101}  # 19,074 and 19,292 trained numbers


def network(kind: str) -> Chain:
    """Return 80 bands → units → units → 10 classes, with delays of the kind before each layer of neurons."""
    units, layers = UNITS[kind], list[nn.Module]()
    for inputs in (80, units):
        delayed = LearnableDelays(inputs, units, LONGEST)
        synapses = {"learned": delayed, "fixed": delayed.freeze(), "none": nn.Linear(inputs, units, bias=False)}[kind]
        layers += [synapses, nn.BatchNorm1d(units), Leaky(beta=0.6, detach_reset=True), nn.Dropout(0.3)]
    return Chain(*layers, nn.Linear(units, 10), LeakyIntegrator(beta=1.0, gain=0.1))


@torch.no_grad()
def decide(trained: Chain, x: Tensor) -> Tensor:
    """The classes that the network hears, its delays being whole steps."""
    whole = [layer.freeze() if isinstance(layer, LearnableDelays) else layer for layer in trained.layers]
    return Chain(*whole).eval()(Sequence()(x))[0].mean(0).argmax(1)


def main() -> None:
    """Train the three networks and compare them on the test takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with pcm, offsets, y, speaker and index")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--limit", type=int, help="train on the first so many recordings")
    parser.add_argument("--seed", type=int, default=0)
    given, began = parser.parse_args(), time.perf_counter()
    sounds = load_recordings(given.data)
    events, labels = torch.from_numpy(mel_events(mel_levels(sounds))), torch.from_numpy(sounds.labels)
    parts = [np.flatnonzero(part) for part in (sounds.takes < 10, sounds.takes >= 45)]
    chosen = [np.setdiff1d(np.arange(len(labels)), np.concatenate(parts))[: given.limit], *parts]
    fit, validation, test = (Samples(events[index], labels[index]) for index in chosen)
    heard: dict[str, Tensor] = {}
    for kind in UNITS:
        torch.manual_seed(given.seed)
        task = Task(network(kind), fit, validation, Sequence(), RateCrossEntropy())
        options = {"epochs": given.epochs, "first_best": given.epochs // 2 + 1, "seed": given.seed}
        settings = TrainingSettings(**options, batch_size=64, tensorboard=False)
        train(task, settings, OptimizerSettings(learning_rate=2e-3, weight_decay=1e-2, delay_factor=50.0))
        heard[kind] = decide(task.network, test.x)
    found: dict[str, object] = {"n": len(test), "seed": given.seed}
    for kind, classes in heard.items():
        accuracy = float((classes == test.y).float().mean())
        found[kind] = {"test_accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(test)))}
    for other in ("fixed", "none"):
        difference = paired_difference_interval(heard["learned"], heard[other], test.y)
        found[f"learned - {other}"] = [difference.value, difference.low, difference.high]
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
