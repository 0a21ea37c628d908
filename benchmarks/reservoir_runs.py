"""What reservoir_table.py measures of one seed: probes, wear, costs and retrieval."""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spikeport.data import Sequence, folds, load_events, load_recordings, mel_events, mel_levels
from spikeport.networks.chain import Chain
from spikeport.networks.reservoir import Reservoir, fit_rate, spike_counts
from spikeport.networks.resistive import ResistiveDevice
from spikeport.neurons import LeakyIntegrator, RecurrentLeaky
from spikeport.training.contrastive import ContrastiveSettings, fit_projections, retrieval
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.probe import LinearProbe, fit_probe
from spikeport.training.processes import measure, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task

STEPS, UNITS, MANY, CLASSES, FOLDS = 50, 200, 1000, 10, 5
GRID = list(itertools.product((0.8, 0.9), (0.5, 1.0)))  # leak of the membrane, recurrent gain
DECAYS = (1e-3, 1e-2, 1e-1)
CONTRASTIVE = [ContrastiveSettings(decay=d, temperature=t, steps=500) for d in (0.01, 1.0) for t in (0.2, 1.0)]
WEAR = {f"read noise {share:g}": {"read_noise": share} for share in (0.02, 0.05, 0.1, 0.2)}
WEAR |= {f"stuck {2 * each:g}": {"stuck_on": each, "stuck_off": each} for each in (0.005, 0.025, 0.05, 0.1)}
SEEN, UNSEEN = [1, 2, 3, 4, 5, 6, 7], [8, 9]


class Events(NamedTuple):
    """x: (time, samples, inputs), events 0 or 1; y: labels; fit, choose, test: indices."""

    x: Tensor
    y: Tensor
    fit: Tensor
    choose: Tensor
    test: Tensor


class Choice(NamedTuple):
    """A reservoir that was chosen on validation samples, and its probe."""

    reservoir: Reservoir
    counts: Tensor
    probe: LinearProbe
    settings: tuple[float, float]
    rate: float


def pictures(folder: Path, seed: int) -> Events:
    """N-MNIST, pixels in squares of 2 × 2; each seed tests another fifth, the next fifth chooses."""
    found = load_events(folder / "nmnist_events_train800.npz")
    x = torch.from_numpy(found.frames(STEPS, pool=2)).flatten(2).transpose(0, 1).clamp(max=1)
    fold = torch.from_numpy(folds(found.labels, FOLDS, 0))
    test, choose = fold == seed % FOLDS, fold == (seed + 1) % FOLDS
    return Events(x, torch.from_numpy(found.labels), *map(_where, (~test & ~choose, choose, test)))


def sounds(folder: Path, seed: int) -> Events:
    """Spoken digits as mel events; takes 40 to 49 of each speaker test, 5 to 9 choose."""
    found = load_recordings(folder / "fsdd_8khz_takes5_49.npz")
    x = torch.from_numpy(mel_events(mel_levels(found, steps=STEPS))).transpose(0, 1)
    takes = torch.from_numpy(found.takes.astype(np.int64))
    masks = ((takes >= 10) & (takes < 40), takes < 10, takes >= 40)
    return Events(x, torch.from_numpy(found.labels), *map(_where, masks))


def _where(mask: Tensor) -> Tensor:
    return torch.where(mask)[0]


DATA = {"nmnist": pictures, "fsdd": sounds}


def best_probe(features: Tensor, events: Events) -> LinearProbe:
    """The probe whose weight decay is best on the validation samples."""
    fit = (features[events.fit], events.y[events.fit])
    probes = [fit_probe(*fit, decay=decay) for decay in DECAYS]
    return max(probes, key=lambda probe: probe.accuracy(features[events.choose], events.y[events.choose]))


def tested(probe: LinearProbe, features: Tensor, events: Events) -> float:
    """Test accuracy."""
    return probe.accuracy(features[events.test], events.y[events.test])


def make(kind: str, events: Events, settings: tuple[float, float], seed: int, units: int = UNITS) -> Choice:
    """Draw a reservoir, fit its rate on a hundred samples, count and read."""
    beta, recurrent = settings
    options = {"beta": beta, "recurrent": recurrent, "seed": seed}
    inputs = events.x.shape[2]
    drawn = (
        Reservoir.resistive(inputs, units, ResistiveDevice(), **options)
        if kind == "resistive"
        else Reservoir.gaussian(inputs, units, **options)
    )
    fitted, activity = fit_rate(drawn, events.x[:, events.fit[:100]])
    counts = spike_counts(fitted, events.x)
    return Choice(fitted, counts, best_probe(counts, events), settings, activity.rate)


def chosen(kind: str, events: Events, seed: int) -> Choice:
    """The best of the grid on the validation samples."""
    made = [make(kind, events, settings, seed) for settings in GRID]
    labels = events.y[events.choose]
    return max(made, key=lambda each: each.probe.accuracy(each.counts[events.choose], labels))


def probes(events: Events, seed: int) -> tuple[dict[str, Any], Choice]:
    """Accuracies of the linear readouts, of reservoirs and of the events themselves."""
    resistive, gaussian = (chosen(kind, events, seed) for kind in ("resistive", "gaussian"))
    summed = events.x.float().sum(0)
    many = make("resistive", events, resistive.settings, seed, MANY)
    accuracy = {
        "resistive": tested(resistive.probe, resistive.counts, events),
        "gaussian": tested(gaussian.probe, gaussian.counts, events),
        "many": tested(many.probe, many.counts, events),
        "summed": tested(best_probe(summed, events), summed, events),
    }
    settings = {"resistive": list(resistive.settings), "gaussian": list(gaussian.settings)}
    return {"accuracy": accuracy, "settings": settings, "rate": resistive.rate}, resistive


def wear(events: Events, choice: Choice, seed: int) -> dict[str, list[float]]:
    """Test accuracy of worn arrays: of the readout as it was learned, and of one that is learned anew."""
    found = {}
    for name, fields in WEAR.items():
        torch.manual_seed(seed)
        counts = spike_counts(choice.reservoir.worn(ResistiveDevice(**fields), seed), events.x)
        again = best_probe(counts, events)
        found[name] = [tested(choice.probe, counts, events), tested(again, counts, events)]
    return found


def recurrent_network(inputs: int) -> Chain:
    """As many units as the reservoir, trained: inputs → 200 recurrent units → 10 classes."""
    hidden = RecurrentLeaky(nn.Linear(UNITS, UNITS, bias=False), beta=0.9, learn_beta=True, detach_reset=True)
    nn.init.normal_(hidden.recurrent.weight, std=0.2 / UNITS**0.5)
    inward = (nn.Linear(inputs, UNITS, bias=False), nn.BatchNorm1d(UNITS))
    return Chain(*inward, hidden, nn.Dropout(0.3), nn.Linear(UNITS, CLASSES), LeakyIntegrator(beta=1.0, gain=0.1))


def costs(events: Events, settings: tuple[float, float], seed: int, epochs: int) -> dict[str, Any]:
    """What learning takes: CPU seconds here, and products of numbers; of a recurrent network its accuracy too.

    Choosing settings is left out on both sides.  "analog" are the products that the array itself does.
    """
    inputs, n = events.x.shape[2], len(events.fit)
    synapses = inputs * UNITS + UNITS * UNITS
    beta, recurrent = settings
    drawn = Reservoir.resistive(inputs, UNITS, ResistiveDevice(), beta=beta, recurrent=recurrent, seed=seed)
    began = time.process_time()
    made, _ = fit_rate(drawn, events.x[:, events.fit[:100]])
    counts = spike_counts(made, events.x[:, events.fit])
    probe = fit_probe(counts, events.y[events.fit], decay=1e-2)
    reservoir = {"cpu_seconds": time.process_time() - began, "analog": float((n + 16 * 100) * STEPS * synapses)}
    reservoir["digital"] = float(probe.evaluations * n * 2 * UNITS * CLASSES)
    fit, choose, test = (
        Samples(events.x[:, index].transpose(0, 1).contiguous(), events.y[index])
        for index in (events.fit, events.choose, events.test)
    )
    torch.manual_seed(seed)
    task = Task(recurrent_network(inputs), fit, choose, Sequence(), RateCrossEntropy())
    options = TrainingSettings(epochs=epochs, seed=seed, batch_size=32, tensorboard=False)
    began = time.process_time()
    train(task, options, OptimizerSettings(learning_rate=2e-3, weight_decay=1e-2))
    trained = {"cpu_seconds": time.process_time() - began, "analog": 0.0}
    trained["digital"] = float(epochs * n * STEPS * 3 * (synapses + UNITS * CLASSES))
    return {"reservoir": reservoir, "trained": trained, "trained_accuracy": measure(task, test, options)["accuracy"]}


def some(
    classes: list[int], features: Tensor, labels: Tensor, index: Tensor, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """The samples of some classes among those at ``index``; ``most`` of each."""
    kept = torch.cat([index[labels[index] == each][:most] for each in classes])
    return features[kept], labels[kept]


class Pairs(NamedTuple):
    """Features of both senses."""

    seen: Tensor
    heard: Tensor
    pictures: Events
    sounds: Events

    def projections(self, classes: list[int], settings: ContrastiveSettings) -> Any:
        """Learn from the classes' training samples."""
        first = some(classes, self.seen, self.pictures.y, self.pictures.fit)
        return fit_projections(first, some(classes, self.heard, self.sounds.y, self.sounds.fit), settings)

    def ask(self, made: Any, asked: list[int], offered: list[int], part: str) -> float:
        """Share of spoken digits of the classes asked that find a picture of theirs among the classes offered."""
        index = getattr(self.pictures, part)
        most = int(torch.bincount(self.pictures.y[index], minlength=CLASSES).min())
        gallery = some(offered, self.seen, self.pictures.y, index, most)
        query = some(asked, self.heard, self.sounds.y, getattr(self.sounds, part))
        found = retrieval((made.of_second(query[0]), query[1]), (made.of_first(gallery[0]), gallery[1]))
        return float(found.double().mean())


def galleries(pairs: Pairs, seed: int) -> tuple[dict[str, float], ContrastiveSettings]:
    """Retrieval of the usual classes; retrieval of seen classes on validation samples chooses the settings."""
    made = [(each, pairs.projections(SEEN, each)) for each in (s._replace(seed=seed) for s in CONTRASTIVE)]
    settings, best = max(made, key=lambda each: pairs.ask(each[1], SEEN, SEEN, "choose"))
    everything = list(range(CLASSES))
    asked = {"seen of 7": (SEEN, SEEN), "unseen of 2": (UNSEEN, UNSEEN)}
    asked |= {"seen of 10": (SEEN, everything), "unseen of 10": (UNSEEN, everything)}
    return {name: pairs.ask(best, *classes, "test") for name, classes in asked.items()}, settings


def retrievals(
    seen_by: dict[str, Tensor], heard_by: dict[str, Tensor], parts: tuple[Events, Events], seed: int
) -> dict[str, Any]:
    """Retrieval through each kind of features; of the resistive ones over all 45 pairs of classes left out, too."""
    found: dict[str, Any] = {}
    for kind, seen in seen_by.items():
        pairs = Pairs(seen, heard_by[kind], *parts)
        found[kind], settings = galleries(pairs, seed)
        if kind != "resistive":
            continue
        two, ten = [], []
        for unseen in itertools.combinations(range(CLASSES), 2):
            made = pairs.projections([each for each in range(CLASSES) if each not in unseen], settings)
            two.append(pairs.ask(made, list(unseen), list(unseen), "test"))
            ten.append(pairs.ask(made, list(unseen), list(range(CLASSES)), "test"))
        found["pairs"] = {"of 2": two, "of 10": statistics.mean(ten)}
    return found
