"""Hear digits with cells that nobody programmed: ``python examples/resistive_reservoir.py --data fsdd.npz``.

Spoken digits become events where a band of the mel spectrum rises or falls.  They drive a random population of spiking
neurons whose weights are the cells of a resistive array after forming; a linear readout of its spike counts is all that
learns.  Beside it: the same population with Gaussian weights, and a readout of the events themselves, summed over time.
Takes 5 to 9 of each speaker choose the readout's weight decay, takes 40 to 49 are the test.  Prints one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikeport.data import load_recordings, mel_events, mel_levels
from spikeport.inference import accuracy_interval
from spikeport.networks.reservoir import Reservoir, fit_rate, save_reservoir, spike_counts
from spikeport.networks.resistive import ResistiveDevice
from spikeport.training.probe import fit_probe


def measured(features: Tensor, labels: Tensor, parts: list[Tensor]) -> dict[str, object]:
    """Test accuracy of the readout that is best on the validation part."""
    fit, choose, test = parts
    probes = [fit_probe(features[fit], labels[fit], decay=decay) for decay in (1e-3, 1e-2, 1e-1)]
    best = max(probes, key=lambda probe: probe.accuracy(features[choose], labels[choose]))
    accuracy = best.accuracy(features[test], labels[test])
    return {"test_accuracy": accuracy, "ci95": list(accuracy_interval(accuracy, len(test)))}


def main() -> None:
    """Fit the firing rate, count spikes, read them, and see what noise and stuck cells do to the readout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the .npz with pcm, offsets, y, speaker and index")
    parser.add_argument("--limit", type=int, help="take the first so many recordings of each part")
    parser.add_argument("--save", type=Path, help="keep the frozen reservoir here")
    for option, default in (("units", 200), ("seed", 0), ("beta", 0.9), ("recurrent", 0.5)):
        parser.add_argument(f"--{option}", type=type(default), default=default, help="default: %(default)s")
    given = parser.parse_args()
    sounds = load_recordings(given.data)
    events = torch.from_numpy(mel_events(mel_levels(sounds))).transpose(0, 1)  # (time, recordings, bands)
    labels = torch.from_numpy(sounds.labels)
    masks = ((sounds.takes >= 10) & (sounds.takes < 40), sounds.takes < 10, sounds.takes >= 40)
    parts = [torch.from_numpy(np.flatnonzero(mask)[: given.limit]) for mask in masks]
    kept = torch.cat(parts)
    events, labels, parts = events[:, kept], labels[kept], list(torch.arange(len(kept)).split([len(p) for p in parts]))
    device, few = ResistiveDevice(), events[:, parts[0][:100]]
    options = {"beta": given.beta, "recurrent": given.recurrent, "seed": given.seed}
    resistive, activity = fit_rate(Reservoir.resistive(events.shape[2], given.units, device, **options), few)
    gaussian, _ = fit_rate(Reservoir.gaussian(events.shape[2], given.units, **options), few)
    found: dict[str, object] = {"n": len(parts[2]), "seed": given.seed, "rate": activity.rate}
    counts = spike_counts(resistive, events)
    found["resistive"] = measured(counts, labels, parts)
    found["gaussian"] = measured(spike_counts(gaussian, events), labels, parts)
    found["summed events"] = measured(events.float().sum(0), labels, parts)
    probe = fit_probe(counts[parts[0]], labels[parts[0]], decay=1e-2)  # learned while the cells were well
    torch.manual_seed(given.seed)
    worn = resistive.worn(ResistiveDevice(stuck_on=0.01, stuck_off=0.01, read_noise=0.05), given.seed)
    later = spike_counts(worn, events[:, parts[2]])
    found["2 % of the cells stuck, 5 % read noise"] = probe.accuracy(later, labels[parts[2]])
    if given.save is not None:
        save_reservoir(resistive, given.save, {"device": device.to_json(), "seed": given.seed})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
