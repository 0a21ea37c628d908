"""Law: transformers and squeeze-excite networks that PyTorch exported come in and say the same."""

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeport import UnsupportedError, import_module, load_data
from spikeport.conversion.methods import parse_method
from spikeport.conversion.onnx_import import import_onnx
from spikeport.conversion.source import Source, analog_output, check_source
from spikeport.evaluation.convert import convert_network

pytestmark = pytest.mark.needs("onnxruntime")

TOLERANCE = 2e-5
WIDTH, HEADS = 16, 2


class Tokens(nn.Module):
    """Patches of an image with a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 17, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions


class Block(nn.Module):
    """Attention as the image models write it: one product for queries, keys and values, and a mask if asked."""

    def __init__(self, norm: Callable[[int], nn.Module], gelu: str, mask: str) -> None:
        super().__init__()
        self.first, self.second, self.mask = norm(WIDTH), norm(WIDTH), mask
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(approximate=gelu), nn.Linear(32, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, width = x.shape
        parts = self.qkv(self.first(x)).reshape(samples, tokens, 3, HEADS, width // HEADS)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        hidden = torch.tril(torch.ones(tokens, tokens, dtype=torch.bool), 3) if self.mask == "hidden" else None
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=hidden, is_causal=self.mask == "causal")
        x = x + self.out(y.transpose(1, 2).reshape(samples, tokens, width))
        return x + self.mlp(self.second(x))


class Windows(nn.Module):
    """Attention in shifted windows that are folded into the batch, with a learned shift of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.shift = nn.Linear(WIDTH, 3 * WIDTH), nn.Parameter(torch.randn(HEADS, 4, 4))

    def forward(self, x: Tensor) -> Tensor:  # (samples, 4, 4, width)
        samples, height, width, channels = x.shape
        y = torch.roll(x, (-1, -1), (1, 2)).view(samples, height // 2, 2, width // 2, 2, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(-2, -1) * 0.35 + self.shift).softmax(-1) @ v).transpose(1, 2)
        y = y.reshape(samples, height // 2, width // 2, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return x + torch.roll(y.reshape(x.shape), (1, 1), (1, 2))


class Last(nn.Module):
    """The class token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class Mean(nn.Module):
    """The mean over all axes but the first and the last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(tuple(range(1, x.dim() - 1)))


class ChannelsLast(nn.Module):
    """(samples, channels, height, width) -> (samples, height, width, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Excite(nn.Module):
    """Every channel times a gate that the mean of all of them sets."""

    def __init__(self, channels: int, inner: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.pool, self.down, self.up = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.inner, self.gate = inner, gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(self.inner(self.down(self.pool(x)))))


def vit(norm: Callable[[int], nn.Module] = nn.LayerNorm, gelu: str = "none", mask: str = "") -> nn.Module:
    blocks = [Block(norm, gelu, mask) for _ in range(2)]
    return nn.Sequential(Tokens(), *blocks, nn.LayerNorm(WIDTH), Last(), nn.Linear(WIDTH, 10))


def encoder() -> nn.Module:
    block = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, activation="gelu", batch_first=True, norm_first=True)
    return nn.Sequential(Tokens(), block, nn.LayerNorm(WIDTH), Last(), nn.Linear(WIDTH, 10))


def windows() -> nn.Module:
    patches = nn.Sequential(nn.Conv2d(1, WIDTH, 2, stride=2), ChannelsLast(), nn.LayerNorm(WIDTH))
    return nn.Sequential(patches, Windows(), Windows(), Mean(), nn.Linear(WIDTH, 10))


def mobile() -> nn.Module:
    def norm(channels: int) -> nn.Module:
        layer = nn.BatchNorm2d(channels)
        nn.init.uniform_(layer.running_var, 0.5, 2.0)
        return layer

    depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), norm(8), nn.Hardswish(), depthwise, norm(8), nn.ReLU()),
        *(Excite(8, nn.ReLU(), nn.Hardsigmoid()), nn.Conv2d(8, 16, 1), norm(16), nn.SiLU()),
        *(Excite(16, nn.SiLU(), nn.Sigmoid()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "vit with tanh": lambda: vit(gelu="tanh"),
    "vit, causal": lambda: vit(mask="causal"),
    "vit, hidden": lambda: vit(mask="hidden"),
    "vit with RMSNorm": lambda: vit(norm=nn.RMSNorm),
    "encoder": encoder,
    "windows": windows,
    "mobile": mobile,
}
OLD = (14, 17)  # written by the older exporter
OPSETS = {"vit": (14, 17, 18, 23), "vit with RMSNorm": (18, 23), "mobile": (14, 20)}
EXPORTS = [(name, opset) for name in NETWORKS for opset in OPSETS.get(name, (17, 20))]


def exported(name: str, opset: int, path: Path, *, fixed: bool = False) -> nn.Module:
    """Write the network with the exporter of its time, with an open batch unless it is fixed."""
    torch.manual_seed(0)
    model, x = NETWORKS[name]().eval(), torch.randn(2, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about themselves
        logging.disable(logging.WARNING)
        try:
            if opset in OLD:
                axes = None if fixed else {"x": {0: "n"}}
                torch.onnx.export(
                    model, (x,), path, input_names=["x"], dynamo=False, opset_version=opset, dynamic_axes=axes
                )
            else:
                shapes = None if fixed else ({0: torch.export.Dim("n")},)
                torch.onnx.export(
                    model, (x,), path, input_names=["x"], dynamo=True, opset_version=opset, verbose=False,
                    external_data=False, dynamic_shapes=shapes,
                )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
    return model


def same(source: Source, model: nn.Module) -> None:
    """The Graph, ONNX Runtime and the module give one output."""
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 1, 8, 8)).astype(np.float32))
    assert check_source(source, x.numpy()) < TOLERANCE
    with torch.no_grad():
        assert np.abs(analog_output(source.graph, x.numpy()) - model(x).numpy()).max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset"), EXPORTS)
def test_an_exported_network_comes_in_and_says_the_same(name: str, opset: int, tmp_path: Path) -> None:
    model = exported(name, opset, tmp_path / "model.onnx")
    same(import_onnx(tmp_path / "model.onnx"), model)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset"), [("vit", 17), ("encoder", 18)])
def test_a_fixed_batch_comes_in_too(name: str, opset: int, tmp_path: Path) -> None:
    model = exported(name, opset, tmp_path / "model.onnx", fixed=True)
    same(import_onnx(tmp_path / "model.onnx"), model)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset"), [("vit", 17), ("encoder", 20), ("mobile", 20)])
def test_the_graph_has_the_value_operators_of_the_module_front_end(name: str, opset: int, tmp_path: Path) -> None:
    """A GELU that the exporter took apart is one again, and what only moves values takes no weights."""
    model = exported(name, opset, tmp_path / "model.onnx")
    counts = [
        Counter(
            node.attributes.get("function", node.operator)
            for node in graph.nodes
            if node.operator in ("function", "layer_norm", "matmul", "multiply", "softmax", "linear", "conv2d")
        )
        for graph in (import_onnx(tmp_path / "model.onnx").graph, import_module(model, (1, 8, 8)).graph)
    ]
    assert counts[0]["linear"] <= counts[1]["linear"]  # the module's own attention has three where ONNX has one
    assert {**counts[0], "linear": 0} == {**counts[1], "linear": 0}


@pytest.mark.parametrize(("name", "opset"), [("vit", 18), ("mobile", 14)])
def test_only_differential_spikes_carry_it(name: str, opset: int, tmp_path: Path) -> None:
    exported(name, opset, tmp_path / "model.onnx")
    source, digits = import_onnx(tmp_path / "model.onnx"), load_data("digits", part="calibration", limit=200)
    method = parse_method("percentile")
    with pytest.raises(UnsupportedError) as caught:
        convert_network(source, digits, method=method, code="signed", timesteps=8)
    assert len(caught.value.problems) >= 7
    assert all("choose --spikes differential" in problem for problem in caught.value.problems)
    converted = convert_network(source, digits, method=method, code="differential", timesteps=8)
    assert (converted.exit.outputs[-1].argmax(1) == converted.exit.ann_labels).mean() > 0.9
