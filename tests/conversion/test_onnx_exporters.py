"""Law: what PyTorch's exporters write computes the same as a Graph, batch norm, option-A shortcut, head and all."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeport.conversion.onnx_import import import_onnx
from spikeport.conversion.source import check_source

pytestmark = pytest.mark.needs("onnxruntime")


class Shortcut(nn.Module):
    """A residual block whose shortcut drops every second pixel and adds channels of zeros (option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return functional.relu(y + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


class Network(nn.Module):
    """Many ways to write a layer, on 16 x 16 pixels."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(1, 4, 3, padding=1), block
        self.depthwise, self.pool = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.MaxPool2d(2)
        self.average, self.small, self.large = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10), nn.Linear(8 * 4 * 4, 5)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(functional.relu6(self.stem(x)))
        x = self.pool(functional.relu(self.depthwise(x)))
        small = self.small(torch.flatten(self.average(x), 1))
        large = self.large(x.view(x.size(0), -1))
        mean = x.mean((2, 3))
        joined = torch.cat([self.dropout(small), large, mean.reshape(mean.shape[0], -1)], 1)
        return torch.softmax(joined, -1)


def network(block: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = Network(block).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


PLAIN = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
OPEN = {"x": {0: "n"}}
OPTIONS: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "old, opset 7": (PLAIN, {"dynamo": False, "opset_version": 7, "dynamic_axes": OPEN}),
    "old, opset 9": (PLAIN, {"dynamo": False, "opset_version": 9}),
    "old, opset 10": (Shortcut(), {"dynamo": False, "opset_version": 10}),
    "old, opset 17": (Shortcut(), {"dynamo": False, "opset_version": 17, "dynamic_axes": OPEN}),
    "old, nothing folded": (
        Shortcut(),
        {"dynamo": False, "opset_version": 13, "do_constant_folding": False, "keep_initializers_as_inputs": True},
    ),
    "new": (Shortcut(), {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},)}),
    "new, fixed batch": (Shortcut(), {"dynamo": True, "opset_version": 22}),
    "new, as it comes": (
        Shortcut(),
        {"dynamo": True, "optimize": False, "dynamic_shapes": ({0: torch.export.Dim("n")},)},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_exported_networks_compute_the_same(name: str, tmp_path: Path) -> None:
    block, options = OPTIONS[name]
    model, x, path = network(block), torch.randn(2, 1, 16, 16), tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about themselves
        torch.onnx.export(model, (x,), path, input_names=["x"], verbose=False, external_data=False, **options)
    source = import_onnx(path)
    samples = torch.randn(3, 1, 16, 16).numpy()
    assert check_source(source, samples) < 2e-5
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(source.run(samples)), model(torch.from_numpy(samples)), atol=1e-5)
    assert [note.split()[1] for note in source.notes] == ["Softmax"]
