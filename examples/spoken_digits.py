"""Do learned delays help to hear digits? ``python examples/spoken_digits.py --data fsdd.npz``.

Spoken digits become events where a band of the mel spectrum rises or falls.  Three networks with as many trained
numbers each hear them: delays that are learned, delays that are drawn and stay, and none.  Their neurons forget within
a step of 16 ms (Hammouamri et al. 2024, arXiv 2306.17670), so delays are their memory.  Takes 5 to 9 of each speaker
choose the epoch, takes 40 to 49 are the test.  With --speakers 5 the test is one speaker after the other whom the
network never heard, and the first chooses the epoch.  Prints one JSON object.
"""

import argparse
import json
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


def network(kind: str, beta: float) -> Chain:
    """Return 80 bands → units → units → 10 classes, with delays of the kind before each layer of neurons."""
    units, layers = UNITS[kind], list[nn.Module]()
    for inputs in (80, units):
        delayed = LearnableDelays(inputs, units, LONGEST)
        synapses = {"learned": delayed, "fixed": delayed.freeze(), "none": nn.Linear(inputs, units, bias=False)}[kind]
        layers += [synapses, nn.BatchNorm1d(units), Leaky(beta=beta, detach_reset=True), nn.Dropout(0.3)]
    return Chain(*layers, nn.Linear(units, 10), LeakyIntegrator(beta=1.0, gain=0.1))


def main() -> None:
    """Train the three networks for each speaker that is held out, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with pcm, offsets, y, speaker and index")
    parser.add_argument("--limit", type=int, help="take the first so many recordings of each part")
    for option, default in (("epochs", 30), ("speakers", 0), ("seed", 0), ("beta", 0.1)):
        parser.add_argument(f"--{option}", type=type(default), default=default, help="default: %(default)s")
    given = parser.parse_args()
    sounds = load_recordings(given.data)
    events, labels = torch.from_numpy(mel_events(mel_levels(sounds))), torch.from_numpy(sounds.labels)
    first, *others = (sounds.speakers == speaker for speaker in np.unique(sounds.speakers))
    rounds = [(first, other) for other in others[: given.speakers]] or [(sounds.takes < 10, sounds.takes >= 40)]
    heard = {kind: list[Tensor]() for kind in (*UNITS, "truth")}
    for choice, tested in rounds:
        parts = (np.flatnonzero(part)[: given.limit] for part in (~tested & ~choice, choice, tested))
        fit, validation, test = (Samples(events[index], labels[index]) for index in parts)
        heard["truth"].append(test.y)
        for kind in UNITS:
            torch.manual_seed(given.seed)
            task = Task(trained := network(kind, given.beta), fit, validation, Sequence(), RateCrossEntropy())
            settings = TrainingSettings(epochs=given.epochs, seed=given.seed, batch_size=64, tensorboard=False)
            train(task, settings, OptimizerSettings(learning_rate=2e-3, weight_decay=1e-2, delay_factor=50.0))
            whole = [layer.freeze() if isinstance(layer, LearnableDelays) else layer for layer in trained.layers]
            with torch.no_grad():
                heard[kind].append(Chain(*whole).eval()(Sequence()(test.x))[0].mean(0).argmax(1))
    said = {kind: torch.cat(parts) for kind, parts in heard.items()}
    y = said.pop("truth")
    found: dict[str, object] = {"n": len(y), "seed": given.seed, "beta": given.beta}
    for kind, classes in said.items():
        accuracy = float((classes == y).double().mean())
        found[kind] = {"test_accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(y)))}
        found[f"learned - {kind}"] = list(paired_difference_interval(said["learned"], classes, y)[:3])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
