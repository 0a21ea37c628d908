"""Networks of any operator with differential spikes: they tend to their analog network, and obey the engine's laws."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport import UnsupportedError
from spikeport.conversion.differential import with_lines
from spikeport.conversion.methods import Recipe
from spikeport.conversion.module_import import import_module
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.source import analog_output, check_graph, check_source
from spikeport.conversion.spiking import prepared, require_convertible
from spikeport.conversion.thresholds import LocalThresholdBalancing, MeanSquare, Percentile
from spikeport.hardware.lower import input_code, lower
from spikeport.networks.activity import ActivityMeter, analog_functions, carriers, fan_out
from spikeport.networks.engine import Engine, join, select
from spikeport.networks.file import load_graph, save_graph
from spikeport.networks.graph import Graph
from spikeport.networks.operators import OPERATORS

STEPS = 8


class Attention(nn.Module):
    """As timm writes it: one matrix for queries, keys and values, taken apart behind a moved batch axis."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads, self.fused = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, fused

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, width))


class ViT(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.first, self.second, self.last = nn.LayerNorm(8), nn.RMSNorm(8), nn.LayerNorm(8)
        self.attention, self.head, self.read = Attention(8, 2, fused), nn.Linear(8, 3), -1 if fused else 0
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        x = x + self.attention(self.first(x))
        x = x + self.down(F.silu(self.gate(self.second(x))) * self.up(self.second(x)))
        return self.head(self.last(x)[:, self.read])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, activation="gelu", batch_first=True)
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)).mean(1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool, self.a, self.b = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.b(F.relu(self.a(self.pool(x)))))


class MobileNet(nn.Module):
    """A stem, one inverted residual block with squeeze-and-excite, and the head of MobileNetV3, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.Hardswish())
        self.block = nn.Sequential(
            nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12), nn.Hardswish(),
            nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12), nn.Hardswish(), SqueezeExcite(12),
            nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.top = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(10, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.top(x + self.block(x))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ViT": (lambda: ViT(False), (1, 8, 8)),
    "ViT, fused and causal": (lambda: ViT(True), (1, 8, 8)),
    "nn.TransformerEncoder": (Encoder, (6, 4)),
    "MobileNetV3": (MobileNet, (1, 8, 8)),
}


def samples(shape: tuple[int, ...], n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


@pytest.fixture(scope="module", params=NETWORKS)
def analog(request: pytest.FixtureRequest) -> Graph:
    make, shape = NETWORKS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = import_module(make(), shape)
    x = samples(shape)
    assert check_source(source, x) < 1e-5
    graph = simplified(source.graph)
    with pytest.raises(UnsupportedError, match="choose --spikes differential"):
        require_convertible(graph, "signed")
    require_convertible(graph, "differential")
    after = prepared(graph, "differential")
    assert check_graph(after, source, x) < 1e-5
    return after


@pytest.fixture(scope="module")
def spiking(analog: Graph) -> Graph:
    x = samples(analog.shapes[analog.input.name])
    return Recipe(Percentile(100.0), False).convert(analog, x, code="differential", timesteps=STEPS)


def test_every_synapse_but_the_first_reads_spikes(spiking: Graph) -> None:
    sending = set(carriers(spiking))
    reading = [n.name for n in spiking.nodes if OPERATORS[n.operator].synapse and n.operator != "scale"]
    analog = [name for name in reading if spiking.by_name[name].sources[0] not in sending]
    assert analog == reading[:1]
    assert len(reading) > 4
    assert all(node.attributes["code"] == "differential" for node in spiking.of_operator("neuron"))
    assert analog_functions(spiking)


def test_few_steps_tend_to_the_analog_output(analog: Graph, spiking: Graph) -> None:
    x = samples(analog.shapes[analog.input.name])
    wanted, engine = analog_output(analog, x), Engine(spiking, max_steps=16)
    block = torch.from_numpy(x)
    output, _ = engine.advance(block, engine.start(block), 16)
    spread = np.abs(wanted - wanted.mean(0)).mean()
    error = [float(np.abs(output[t - 1].numpy() / t - wanted).mean() / spread) for t in (1, 4, 16)]
    assert error[0] > 4 * error[1] > 8 * error[2]
    assert error[1] < 0.1
    assert error[2] < 0.02


def test_splitting_time_and_batch_and_exchanging_samples_change_nothing(spiking: Graph) -> None:
    """In float64, where the order of a sum cannot move a value across the border of a level."""
    x = torch.from_numpy(samples(spiking.shapes[spiking.input.name], 5)).double()
    engine = Engine(spiking, max_steps=STEPS, dtype=torch.float64)
    whole, _ = engine.advance(x, engine.start(x), STEPS)
    first, state = engine.advance(x, engine.start(x), 3)
    kept = torch.tensor([3, 0])
    mixed = join(select(state, kept), engine.start(x[1:2]))
    rest, _ = engine.advance(x[[3, 0, 1]], mixed, STEPS - 3)
    torch.testing.assert_close(first, whole[:3])
    torch.testing.assert_close(rest[:, :2], whole[3:, kept])
    torch.testing.assert_close(rest[:, 2], whole[: STEPS - 3, 1])
    put = engine.put(engine.advance(x, engine.start(x), 3)[1], torch.tensor([2]), engine.start(x[4:5]))
    again, _ = engine.advance(x[[0, 1, 4, 3, 4]], put, STEPS - 3)
    torch.testing.assert_close(again[:, 2], whole[: STEPS - 3, 4])
    torch.testing.assert_close(again[:, 3], whole[3:, 3])


def test_events_payload_and_operations_are_a_recount(spiking: Graph) -> None:
    x = torch.from_numpy(samples(spiking.shapes[spiking.input.name], 3))
    meter, engine, seen = ActivityMeter(spiking), Engine(spiking, max_steps=STEPS), {}

    def observe(name: str, values: Tensor) -> None:
        meter.observe(name, values)
        seen.setdefault(name, []).append(values.clone())

    state = engine.start(x)
    for steps in (3, 1, 4):
        _, state = engine.advance(x, state, steps, observe)
    fans = fan_out(spiking)
    for node in spiking.of_operator("neuron"):
        values = torch.cat(seen[node.name])
        changed = torch.cat([values[:1], values.diff(dim=0)]) != 0
        assert torch.equal(meter.spikes[node.name], changed.flatten(2).sum(2).float())
        assert torch.equal(meter.payload[node.name], 4 * meter.spikes[node.name])
        operations = (changed * fans[node.name]).flatten(2).sum(2)
        torch.testing.assert_close(meter.accumulates[node.name], operations)
    assert sum(float(spikes[-1].sum()) for spikes in meter.spikes.values()) < sum(
        float(spikes[0].sum()) for spikes in meter.spikes.values()
    ), "a network that has settled is silent"


def test_a_file_keeps_it_and_whole_numbers_refuse_it_by_name(spiking: Graph, tmp_path) -> None:
    save_graph(spiking, tmp_path / "g")
    assert [n.attributes for n in load_graph(tmp_path / "g").nodes] == [n.attributes for n in spiking.nodes]
    with pytest.raises(UnsupportedError, match="differential coding"):
        lower(spiking, input_code(-1.0, 1.0))


@pytest.mark.parametrize("method", [Percentile(99.9), MeanSquare(), LocalThresholdBalancing(iterations=300)], ids=str)
def test_every_method_finds_thresholds_for_lines(analog: Graph, method) -> None:
    x = samples(analog.shapes[analog.input.name])
    found = method.thresholds(analog, x, 128)
    assert found.keys() == {node.name for node in analog.of_operator("activation")}
    assert all((theta > 0).all() for theta in found.values())
    spiking = Recipe(method).convert(analog, x, code="differential:6", timesteps=4, thresholds=found)
    assert {node.attributes["levels"] for node in spiking.of_operator("neuron")} == {6}


def test_lines_are_put_only_where_no_neuron_sends() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    graph = simplified(import_module(body, (1, 3, 3)).graph)
    assert with_lines(graph) is graph
    two = simplified(import_module(nn.Sequential(*list(body)[:3], nn.Linear(8, 8), nn.Linear(8, 3)), (1, 3, 3)).graph)
    lines = [n for n in with_lines(two).of_operator("activation") if n.attributes["function"] == "identity"]
    assert [two.by_name[line.sources[0]].operator for line in lines] == ["linear"]
