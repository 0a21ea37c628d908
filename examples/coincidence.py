"""Are learned delays those of the task? ``python examples/coincidence.py``.

Five lines fire once each.  In half of the samples they do so with fixed offsets, else at random: only a neuron whose
delays undo the offsets hears the five spikes at once.  Delays are learned from the labels alone, and compared with the
offsets and with delays that are drawn and stay.  Prints one JSON object.
"""

import argparse
import json
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from spikeport.inference import accuracy_interval
from spikeport.neurons import Leaky, LearnableDelays

OFFSETS = torch.tensor([0, 7, 3, 10, 5])
LATEST, LONGEST, STEPS = 10, 15, 32


def samples(number: int) -> tuple[Tensor, Tensor]:
    """Return spikes (time, number, 5), and whether they have the offsets."""
    begin = torch.randint(0, 6, (number, 1))
    right = torch.rand(number) < 0.5
    offsets = torch.where(right[:, None], OFFSETS, torch.randint(0, LATEST + 1, (number, len(OFFSETS))))
    x = torch.zeros(STEPS, number, len(OFFSETS))
    x[begin + offsets, torch.arange(number)[:, None], torch.arange(len(OFFSETS))] = 1
    return x, right


def learn(layer: LearnableDelays, updates: int) -> None:
    """Move the delays so that the pattern, and nothing else, sums up to more than three spikes at one step."""
    optimizer = torch.optim.Adam([layer.delay], lr=0.2)
    for update in range(updates):
        layer.anneal(min(1.0, update / (0.75 * updates)))
        x, right = samples(64)
        peak = layer(x)[0][:, :, 0].amax(0)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(2 * (peak - 3), right.float()).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(layer: nn.Module, x: Tensor, right: Tensor) -> float:
    """Share of samples where a neuron that needs four spikes at once, with hardly any memory, fires as it should."""
    fires = Leaky(1e-6, threshold=3.5)(layer(x)[0])[0].amax((0, 2))
    return float(((fires > 0) == right).float().mean())


def main() -> None:
    """Learn the delays and measure both layers on new samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--samples", type=int, default=2000, help="new samples to measure with")
    parser.add_argument("--seed", type=int, default=0)
    given, began = parser.parse_args(), time.perf_counter()
    torch.manual_seed(given.seed)
    lines = len(OFFSETS)
    fixed, layer = (LearnableDelays(lines, 1, LONGEST, delay=first) for first in (None, torch.full((1, lines), 7.5)))
    for each in (fixed, layer):
        each.weight.data.fill_(1.0)
    learn(layer, given.updates)
    learned, (x, right) = layer.freeze(), samples(given.samples)
    arrival = (learned.delays[0] + OFFSETS).tolist()
    together = max(arrival.count(step) for step in arrival) / len(arrival)
    found = {"delays": learned.delays[0].tolist(), "arrival": arrival, "delays_right": together}
    found |= {"learned": accuracy(learned, x, right), "fixed": accuracy(fixed.freeze(), x, right), "n": given.samples}
    found |= {"ci95": list(accuracy_interval(found["learned"], given.samples)), "seed": given.seed}
    print(json.dumps(found | {"seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()
