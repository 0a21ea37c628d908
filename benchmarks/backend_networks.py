"""The networks of backend_table.py that no other benchmark makes: the demo's, one trained with spikes, lava-dl's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from spikeport import load_data
from spikeport.conversion.chain_import import import_chain
from spikeport.evaluation.folder import read_folder
from spikeport.hardware.lava_dl import import_lava_dl
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import IntegerProgram
from spikeport.networks.chain import Chain
from spikeport.networks.file import load_graph, save_graph
from spikeport.networks.graph import Graph
from spikeport.neurons import Leaky
from spikeport.neurons.delays import Delay, DelayedLinear
from spikeport.neurons.filters import Exponential

__all__ = ["Network", "digits_demo", "lava_dl", "trained"]

Network = tuple[Graph | None, IntegerProgram, np.ndarray, np.ndarray]


def digits_demo(keep: Path, steps: int) -> Network:
    """The network of ``spikeport demo`` and the 360 digits that nothing was fitted on."""
    folder = keep / "demo"
    if not folder.is_dir():
        command = [str(Path(sys.executable).with_name("spikeport")), "demo", "--out", str(folder), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    held, data = read_folder(folder), load_data("digits", part="evaluation")
    if held.integer is None:
        raise SystemExit(f"{folder} has no integer network; remove it and run again")
    return held.spiking, held.integer, data.x, data.y


def trained(keep: Path, steps: int) -> Network:
    """A leaky network with a synaptic filter and delays, trained on digits with surrogate gradients; seed 0."""
    path, evaluation = keep / "trained.safetensors", load_data("digits", part="evaluation")
    if not path.is_file():
        save_graph(import_chain(_train(steps), evaluation.features), path)
    graph = load_graph(path)
    program = lower(graph, input_code(0.0, 1.0), steps=steps)
    return graph, program, evaluation.x, evaluation.y


def _train(steps: int) -> nn.Module:
    data = load_data("digits", part="calibration")
    torch.manual_seed(0)
    delays = torch.randint(0, 4, (32, 64), generator=torch.Generator().manual_seed(0))
    delayed = DelayedLinear(torch.randn(32, 64) / 8, delays, bias=torch.zeros(32))
    network = Chain(
        nn.Flatten(), nn.Linear(64, 64), Leaky(beta=0.9), delayed, Exponential(0.6),
        Leaky(beta=0.8, reset="zero"), Delay(2), nn.Linear(32, 10),
    )  # fmt: skip
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(15):
        for index in torch.randperm(len(x)).split(64):
            output, _ = network(x[index].expand(steps, *x[index].shape))
            loss = functional.cross_entropy(output.sum(0), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def lava_dl(file: Path, mnist: Path, steps: int) -> Network:
    """Intel's lava-dl network as it is, and the first test images as pixels from 0 to 255."""
    arrays = np.load(mnist)
    return None, import_lava_dl(file, steps=steps), arrays["x"].reshape(len(arrays["x"]), -1), arrays["y"]
