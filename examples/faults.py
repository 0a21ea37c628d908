"""Bits flip in a CNN for handwritten digits; how often is it right, with and without protection?

python examples/faults.py [--trials N] [--rates R ...]

Trains a small network, converts it, and flips bits of all weights: float32 words of the network that was trained, and
eight-bit words of the spiking integer network that came of it.  The first is protected by bounds above which its
activations fall to zero (their bits flip too), the second by silencing neurons that spike more than they ever should.
Prints one JSON object: mean accuracy by network, protection and rate.
"""

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch

from spikeport import Graph, convert_network, parse_method
from spikeport.data import Dataset
from spikeport.evaluation.convert import Converted
from spikeport.evaluation.demo import train_demo
from spikeport.evaluation.faults import decided_labels, with_stored_faults
from spikeport.evaluation.integer import integer_outputs
from spikeport.evaluation.protection import spike_limits, without_hyperactive
from spikeport.networks.faults import Faults
from spikeport.networks.outputs import outputs_over_time
from spikeport.networks.protection import activation_maxima, maximum_bounds, with_bounds

STEPS, TRIED = 8, 100  # steps of time; calibration samples that neurons are tried on
Accuracy = Callable[[float, int], float]


def accuracies(calibration: Dataset, data: Dataset, converted: Converted) -> dict[str, Accuracy]:
    """For each network and protection, the accuracy at a rate of faults and a seed."""
    analog, program = converted.analog, converted.integer
    bounds = maximum_bounds(analog, activation_maxima(analog, calibration.x))
    limits, tried = spike_limits(program, calibration.x, STEPS), calibration.x[:TRIED]

    def right(output: torch.Tensor) -> float:
        return float((decided_labels(output[-1]).numpy() == data.y).mean())

    def real(graph: Graph, faults: Faults, seed: int) -> float:
        return right(outputs_over_time(with_stored_faults(graph, faults, seed=seed)[0], data.x, 1))

    def whole(rate: float, seed: int, *, tries: bool) -> float:
        hurt = with_stored_faults(program, Faults(weights=rate), seed=seed)[0]
        hurt = without_hyperactive(hurt, tried, STEPS, limits, share=0.1)[0] if tries else hurt
        return right(integer_outputs(hurt, data.x, STEPS))

    return {
        "float32": lambda rate, seed: real(analog, Faults(weights=rate), seed),
        "float32, bounded": lambda rate, seed: real(with_bounds(analog, bounds), Faults(rate, bounds=rate), seed),
        "spiking, 8 bits": lambda rate, seed: whole(rate, seed, tries=False),
        "spiking, 8 bits, hyperactive neurons silenced": lambda rate, seed: whole(rate, seed, tries=True),
    }


def main() -> None:
    """Train, convert, and measure at each rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.0, 1e-5, 1e-4, 1e-3, 1e-2])
    given = parser.parse_args()
    demo = train_demo()
    converted = convert_network(demo.source, demo.calibration, method=parse_method("mse"), timesteps=STEPS)
    found = {
        name: {f"{rate:g}": float(np.mean([at(rate, seed) for seed in range(given.trials)])) for rate in given.rates}
        for name, at in accuracies(demo.calibration, demo.evaluation, converted).items()
    }
    print(json.dumps({"n": len(demo.evaluation), "trials": given.trials, "accuracy": found}))


if __name__ == "__main__":
    main()
