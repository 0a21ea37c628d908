"""Convert the small vision transformer with SpikingJelly's spatio-temporal approximation (STA) and measure it by step.

    PYTHON=$(python benchmarks/peers/environment.py)
    $PYTHON benchmarks/peers/spikingjelly_sta.py --weights vit.safetensors --data fashion_mnist.npz [--limit N]

Runs in the environment that `environment.py` makes; `vit_peer.py` calls it.  The recipe's only mode with spikes
is "spiking_encoder": sums of whole multiples of a threshold follow layer norms, GELUs and attention, whose own insides
stay analog; its default, "equivalent", has none.  It is calibrated for each number of steps on ``--calibration``
samples before the last ones of the training images, the image comes at the first step and nothing after it, as in its
example.  One JSON object goes to stdout: {"2": {"accuracy_by_step", "events", "bits", "values"}, ...}: events are the
values other than 0 that encoders send, a sample and window; bits, those of the largest multiple and its sign.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("LOGURU_LEVEL", "WARNING")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from safetensors.torch import load_file
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter
from spikingjelly.activation_based.ann2snn.recipes.sta_transformer import STATransformerRecipe, _STASpikeEncoder
from torch import Tensor, nn
from vit import VisionTransformer

HELD_OUT = 4000  # of the training images: the network has not seen them
BATCH = 100


class Block(nn.Module):
    """``nn.TransformerEncoderLayer`` with the norms first, in a form that torch.fx traces; weights keep their names."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.self_attn, self.linear1, self.linear2 = layer.self_attn, layer.linear1, layer.linear2
        self.norm1, self.norm2, self.gelu = layer.norm1, layer.norm2, nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then the two layers, each added to what came in."""
        y = self.norm1(x)
        y, _ = self.self_attn(y, y, y, need_weights=False)
        x = x + y
        return x + self.linear2(self.gelu(self.linear1(self.norm2(x))))


class Traceable(nn.Module):
    """The vision transformer of `vit.py`, block by block."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.patches, self.token, self.positions = network.patches, network.token, network.positions
        self.blocks = nn.Sequential(*(Block(layer) for layer in network.blocks.layers))
        self.norm, self.head = network.norm, network.head

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        n = x.shape[0]
        x = self.patches(x).reshape(n, 48, 49).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Events:
    """What all encoders of a converted network send: values other than 0, values, and the largest multiple."""

    def __init__(self, network: nn.Module) -> None:
        self.events, self.values, self.largest = 0, 0, 0.0
        for module in network.modules():
            if isinstance(module, _STASpikeEncoder):
                module.register_forward_hook(self.count)

    def count(self, module: Any, _: Any, output: Tensor) -> None:
        """Add what one encoder sent at its steps."""
        self.events += int((output != 0).sum())
        self.values += output.numel()
        self.largest = max(self.largest, float((output / module.v_threshold).abs().max()))


def measured(network: nn.Module, calibration: Tensor, x: Tensor, y: Tensor, steps: int) -> dict[str, Any]:
    """Accuracy by step, and what is sent."""
    recipe = STATransformerRecipe(
        dataloader=list(calibration.split(BATCH)), time_steps=steps, mode="spiking_encoder", threshold_mode="mse"
    )
    spiking = Converter(recipe=recipe, device="cpu").convert(network).eval()
    functional.set_step_mode(spiking, "m")
    events, right = Events(spiking), torch.zeros(steps, dtype=torch.float64)
    for images, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        functional.reset_net(spiking)
        sequence = torch.zeros(steps, *images.shape)
        sequence[0] = images
        right += (spiking(sequence).cumsum(0).argmax(2) == labels).double().sum(1)
    return {
        "accuracy_by_step": (right / len(y)).tolist(),
        "events": events.events / len(y),
        "values": events.values / len(y),
        "bits": math.ceil(math.log2(events.largest + 1)) + 1,
    }


@torch.no_grad()
def main() -> None:
    """Convert for each number of steps, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=1000)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = VisionTransformer()
    network.load_state_dict(load_file(options.weights))
    with np.load(options.data, allow_pickle=False) as stored:
        first = len(stored["x_train"]) - HELD_OUT
        held, x, y = stored["x_train"][first:][: options.calibration], stored["x_test"], stored["y_test"]
    prepared = [(torch.from_numpy(part).float().reshape(-1, 1, 28, 28) / 255 - 0.286) / 0.353 for part in (held, x)]
    labels = torch.from_numpy(y.astype(np.int64))[: options.limit]
    images, plain = prepared[1][: options.limit], Traceable(network).eval()
    found: dict[str, Any] = {"ann": float((plain(images).argmax(1) == labels).double().mean()), "n": len(labels)}
    for steps in options.steps:
        found[str(steps)] = measured(plain, prepared[0], images, labels, steps)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
