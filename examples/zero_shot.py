"""Find the picture of a spoken digit: ``python examples/zero_shot.py --events nmnist.npz --sounds fsdd.npz``.

Events of a camera and of a mel spectrum go through a random reservoir of resistive cells each; two linear projections
bring both into one space, learned from pairs of the digits 1 to 7 with a contrastive loss.  A spoken digit then finds
the nearest picture of a gallery with as many of each class: of the digits seen, of those never seen (8 and 9, the usual
two), and of all ten.  Read the unseen with their chance: they have nothing to go by but likeness.  Prints JSON.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from spikeport.data import folds, load_events, load_recordings, mel_events, mel_levels
from spikeport.inference import accuracy_interval
from spikeport.networks.reservoir import Reservoir, fit_rate, spike_counts
from spikeport.networks.resistive import ResistiveDevice
from spikeport.training.contrastive import ContrastiveSettings, fit_projections, retrieval

SEEN, UNSEEN = [1, 2, 3, 4, 5, 6, 7], [8, 9]
Labelled = tuple[Tensor, Tensor]


def counted(events: Tensor, seed: int) -> Tensor:
    """Spike counts of a reservoir that is fitted to the first hundred samples: (time, samples, inputs) to vectors."""
    made = Reservoir.resistive(events.shape[2], 200, ResistiveDevice(), beta=0.9, recurrent=0.5, seed=seed)
    return spike_counts(fit_rate(made, events[:, :100])[0], events)


def of(classes: list[int], samples: Labelled, most: int | None = None) -> Labelled:
    """The samples of some classes; ``most`` of each."""
    chosen = [torch.where(samples[1] == each)[0][:most] for each in classes]
    index = torch.cat(chosen)
    return samples[0][index], samples[1][index]


def main() -> None:
    """Learn the projections from the seen classes, and ask for seen and unseen ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=Path, required=True, help="the .npz with x, y, p, t, offsets and label")
    parser.add_argument("--sounds", type=Path, required=True, help="the .npz with pcm, offsets, y, speaker and index")
    parser.add_argument("--steps", type=int, default=500, help="batches of one pair a class; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recorded, sounds = load_events(given.events), load_recordings(given.sounds)
    pictures = torch.from_numpy(recorded.frames(50, pool=2)).flatten(2).transpose(0, 1)
    seen_by, y = counted(pictures, given.seed), torch.from_numpy(recorded.labels)
    spoken = torch.from_numpy(mel_events(mel_levels(sounds))).transpose(0, 1)
    heard_by, z = counted(spoken, given.seed + 1), torch.from_numpy(sounds.labels)
    test = torch.from_numpy(folds(recorded.labels, 5, given.seed) == 0)
    late = torch.from_numpy(sounds.takes >= 40)
    settings = ContrastiveSettings(steps=given.steps, seed=given.seed)
    made = fit_projections(of(SEEN, (seen_by[~test], y[~test])), of(SEEN, (heard_by[~late], z[~late])), settings)
    first, second = (made.of_first(seen_by[test]), y[test]), (made.of_second(heard_by[late]), z[late])
    found: dict[str, object] = {"seed": given.seed}
    galleries = {"seen": (SEEN, SEEN), "unseen of two": (UNSEEN, UNSEEN), "unseen of ten": (UNSEEN, list(range(10)))}
    for name, (asked, offered) in galleries.items():
        right = retrieval(of(asked, second), of(offered, first, most=int(torch.bincount(y[test]).min())))
        accuracy = float(right.double().mean())
        interval = list(accuracy_interval(accuracy, len(right)))
        found[name] = {"accuracy": accuracy, "chance": 1 / len(offered), "ci95": interval, "n": len(right)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
