"""aihwkit's torch tiles as executor: they compute our networks, and lose as much as our arrays do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from spikeport import RangeError, UnsupportedError
from spikeport.hardware.analog.aihwkit_tiles import AihwkitEngine, aihwkit_layers
from spikeport.hardware.analog.crossbar import Crossbar, program
from spikeport.hardware.analog.device_file import load_device
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, Node, make_node

IDEAL, PCM, RERAM = (load_device(name) for name in ("ideal", "pcm", "reram"))
DAY = 86400.0


def neuron(name: str, source: str, channels: int) -> Node:
    arrays = {
        "threshold": np.full(channels, 0.7),
        "initial": np.full(channels, 0.35),
        "bias": np.zeros(channels),
    }
    return make_node(name, "neuron", [source], arrays=arrays, code="binary", test=">=", reset="subtract")


def small(groups: int = 1) -> Graph:
    rng = np.random.default_rng(0)
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    first = {"weight": rng.normal(0, 0.3, (8, 2, 3, 3)), "bias": rng.normal(0, 0.1, 8)}
    second = {"weight": rng.normal(0, 0.2, (8, 8 // groups, 3, 3))}
    last = {"weight": rng.normal(0, 0.1, (4, 288)), "bias": rng.normal(0, 0.1, 4)}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 6, 6)),
            make_node("a", "conv2d", ["x"], arrays=first, **window),
            neuron("n", "a", 8),
            make_node("b", "conv2d", ["n"], arrays=second, groups=groups, **window),
            neuron("m", "b", 8),
            make_node("f", "flatten", ["m"]),
            make_node("c", "linear", ["f"], arrays=last),
            make_node("y", "output", ["c"]),
        ]
    )


def images(n: int = 32) -> torch.Tensor:
    return torch.rand(n, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def outputs(engine: Engine, x: torch.Tensor, steps: int = 8) -> torch.Tensor:
    return engine.advance(x, engine.start(x), steps)[0]


@pytest.mark.needs("aihwkit")
def test_ideal_tiles_compute_the_network() -> None:
    ideal = AihwkitEngine(small(), Crossbar(IDEAL, tile_rows=64), time_s=0, seed=0, max_steps=8)
    assert_close(outputs(ideal, images()), outputs(Engine(small(), max_steps=8), images()), rtol=1e-4, atol=1e-3)


@pytest.mark.needs("aihwkit")
@pytest.mark.parametrize(
    ("device", "time_s"), [(PCM, 1.0), (PCM, DAY), (RERAM, DAY)], ids=lambda v: str(getattr(v, "name", v))
)
def test_their_tiles_err_as_much_as_our_arrays(device, time_s: float) -> None:
    """Currents of the last layer for the same spikes, over ten chips each."""
    graph = small()
    weight = torch.tensor(graph.by_name["c"].arrays["weight"])
    x = (torch.rand(200, 288, generator=torch.Generator().manual_seed(2)) < 0.3).float()
    exact = x @ weight.T + torch.tensor(graph.by_name["c"].arrays["bias"])
    quiet = replace(device, read_window_s=0.0, read_noise_us=0.0)
    ours = program(weight, Crossbar(quiet), instances=10, seed=0).at(time_s, seed=0).weight
    our_error = float((x @ (ours - weight).transpose(1, 2)).pow(2).mean().sqrt())
    crossbar = Crossbar(device)
    with torch.no_grad():
        theirs = [aihwkit_layers(graph, crossbar, time_s=time_s, seed=seed)["c"](x) for seed in range(10)]
    their_error = float(torch.stack([(y - exact).pow(2).mean() for y in theirs]).mean().sqrt())
    assert our_error == pytest.approx(their_error, rel=0.25)


@pytest.mark.needs("aihwkit")
def test_a_seed_is_a_chip_and_leaves_the_users_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    engines = [AihwkitEngine(small(), Crossbar(PCM), time_s=DAY, seed=seed, max_steps=8) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, again, other = (outputs(engine, images()) for engine in engines)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.needs("aihwkit")
def test_converters_round() -> None:
    coarse, fine, exact = (
        outputs(
            AihwkitEngine(small(), Crossbar(IDEAL, adc_bits=bits, dac_bits=8), time_s=0, seed=0, max_steps=8), images()
        )
        if bits
        else outputs(Engine(small(), max_steps=8), images())
        for bits in (4, 12, None)
    )
    assert (fine - exact).abs().mean() < 0.5 * (coarse - exact).abs().mean()


@pytest.mark.needs("aihwkit")
def test_what_their_tiles_lack_is_named() -> None:
    crossbar = Crossbar(replace(PCM, stuck_on=0.01), slices=2, wires=True, scale="power_of_two")
    with pytest.raises(UnsupportedError, match=r"device 'pcm'.*slices.*wires.*power_of_two.*b \(a grouped"):
        aihwkit_layers(small(groups=2), crossbar, time_s=DAY, seed=0)
    with pytest.raises(RangeError, match="after writing only"):
        aihwkit_layers(small(), Crossbar(RERAM), time_s=60.0, seed=0)
    with pytest.raises(RangeError, match="cannot hold a kernel"):
        aihwkit_layers(small(), Crossbar(PCM, tile_rows=8), time_s=DAY, seed=0)
