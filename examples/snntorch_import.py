"""A network trained in snnTorch by its own loop, and the same network here: ``python examples/snntorch_import.py``.

784-128-10 on MNIST with ``--data mnist.npz``, 64-128-10 on digits without; eight steps of the same image.  What came
in, and its graph, predict the same on images that they have not seen, sample for sample.  Prints one JSON object.
"""

import argparse
import json
from pathlib import Path

import snntorch as snn
import torch
from snntorch import functional, surrogate, utils
from torch import Tensor, nn

from spikeport import Engine, from_snntorch
from spikeport.conversion.chain_import import import_chain
from spikeport.data import Preprocessing, load_data

STEPS = 8


class Net(nn.Module):
    """As snnTorch's tutorials write it: forward loops over time; decays and thresholds are learned."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        learned = {"learn_beta": True, "learn_threshold": True, "spike_grad": surrogate.fast_sigmoid(slope=10)}
        self.flat, self.fc1, self.fc2 = nn.Flatten(), nn.Linear(inputs, 128), nn.Linear(128, 10)
        self.lif1, self.lif2 = (snn.Leaky(torch.full((n,), 0.8), init_hidden=True, **learned) for n in (128, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes, (time, batch, 10)."""
        utils.reset(self)
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(self.flat(x))))) for _ in range(STEPS)])


def load(data: Path | None, part: str, limit: int | None) -> tuple[Tensor, Tensor]:
    """Return images and labels of a part, "train" or "test"."""
    spec, scale = ("digits", None) if data is None else (f"{data}:x_{part},y_{part}", Preprocessing(1 / 255))
    found = load_data(spec, scale, part="evaluation" if (data, part) == (None, "test") else "calibration", limit=limit)
    return torch.from_numpy(found.x), torch.from_numpy(found.y)


def train(net: Net, x: Tensor, y: Tensor, epochs: int) -> Net:
    """Train with snnTorch's loss of the firing rates."""
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for rows in (rows for _ in range(epochs) for rows in torch.randperm(len(x)).split(64)):
        optimizer.zero_grad()
        functional.ce_rate_loss()(net(x[rows]), y[rows]).backward()
        optimizer.step()
        for layer in (net.lif1, net.lif2):
            layer.threshold.data.clamp_(min=0.1)  # a neuron with a threshold below 0 fires for ever
    return net


def main() -> None:
    """Train there, run here, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="an .npz with x_train, y_train, x_test, y_test; without it digits")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="take the first so many images of each part")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    (x, y), (x_test, y_test) = (load(given.data, part, given.limit) for part in ("train", "test"))
    chain = from_snntorch(net := train(Net(x[0].numel()), x, y, given.epochs), example=x[:2])
    engine = Engine(import_chain(chain, tuple(x.shape[1:])), max_steps=STEPS)
    with torch.no_grad():
        there, here = net(x_test), chain(x_test.expand(STEPS, *x_test.shape))[0]
        counts, _ = engine.advance(x_test, engine.start(x_test), STEPS)
    label = there.sum(0).argmax(1)
    different = {name: int((c.argmax(1) != label).sum()) for name, c in (("chain", here.sum(0)), ("graph", counts[-1]))}
    found = {"n": len(label), "accuracy": (label == y_test).float().mean().item(), "different_predictions": different}
    print(json.dumps(found | {"different_spikes": int((here != there).sum())}))


if __name__ == "__main__":
    main()
