"""The models of the benchmarks as plain ``torch.nn`` modules, with their trained weights.

A peer framework that reads torch modules only gets these; what reads ONNX gets the file itself.  They need torch,
safetensors and (for the two networks that were published as ONNX) onnx, so that they also run in a peer's environment.

    model = MODELS["resnet20"]
    network = model.load(data_folder() / model.file)
    output = network(model.prepare(pixels))
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from resnet20 import ResNet20, ResNet20Modules, with_convolution_shortcuts
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MODELS", "Model", "data_folder", "digits_cnn", "mnist_cnn", "train_digits_cnn"]

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Model:
    """How a trained network is read, and the input that it expects: (x · scale − mean) / std per channel, in NCHW.

    ``file`` lies in the data folder; it is empty for a network that is trained here and has no published weights.
    """

    load: Callable[[Path], nn.Module]
    file: str
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels_last: bool = False

    def prepare(self, x: NDArray[Any]) -> Tensor:
        """Turn raw samples (N, H, W), (N, H, W, C) or (N, C, H, W) into what the network sees, float32 (N, C, H, W)."""
        values = torch.from_numpy(np.ascontiguousarray(x)).float()
        if values.ndim == 3:
            values = values.unsqueeze(1)
        elif self.channels_last:
            values = values.permute(0, 3, 1, 2).contiguous()
        mean, std = (torch.tensor(value).reshape(1, -1, 1, 1) for value in (self.mean, self.std))
        return (values * self.scale - mean) / std


def data_folder() -> Path:
    """The folder of models and data that SPIKEPORT_DATA names."""
    given = os.environ.get("SPIKEPORT_DATA")
    if not given or not Path(given).expanduser().is_dir():
        raise SystemExit("Set SPIKEPORT_DATA to the folder that holds mnist.npz, models/ and the other data sets.")
    return Path(given).expanduser()


def digits_cnn() -> nn.Sequential:
    """Two convolutions with batch norm and max-pooling, two linear layers, for 8×8 digits; untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def train_digits_cnn(x: Tensor, y: Tensor, *, seed: int = 0, epochs: int = 30) -> nn.Module:
    """Train `digits_cnn` on prepared samples with Adam, in batches of 64; only the seed decides what comes out."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = digits_cnn()
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
    return network.eval()


def load_digits(path: Path) -> nn.Module:
    """`digits_cnn` with the weights of a safetensors file (its state dict as it is)."""
    return _filled(digits_cnn(), load_file(path))


def mnist_cnn() -> nn.Sequential:
    """Three bias-free convolutions with average pooling, then two bias-free linear layers; pixels 0 to 255."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(20, 32, 5, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(32, 128, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(128, 500, bias=False), nn.ReLU(), nn.Linear(500, 10, bias=False),
    )  # fmt: skip


def load_mnist_cnn(path: Path) -> nn.Module:
    """`mnist_cnn` with its trained weights."""
    return _filled(mnist_cnn(), load_file(path))


def load_mnist8(path: Path) -> nn.Module:
    """Two convolutions with max-pooling and a linear layer; pixels 0 to 255.  SAME with a 5×5 kernel pads by 2."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip
    arrays = _onnx_arrays(path)
    linear = arrays["Parameter193"].reshape(256, 10).T
    weights = {"0.weight": arrays["Parameter5"], "3.weight": arrays["Parameter87"], "7.weight": linear}
    biases = {"0.bias": arrays["Parameter6"], "3.bias": arrays["Parameter88"], "7.bias": arrays["Parameter194"]}
    return _filled(network, weights | {name: bias.flatten() for name, bias in biases.items()})


def load_dscnn(path: Path) -> nn.Sequential:
    """A convolution, four depthwise-separable blocks, average pooling and a linear layer, whose logits come out.

    The first convolution pads 4 rows above and 5 below, which torch can say only with a layer of its own.
    """
    layers: list[nn.Module] = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), stride=2), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(64, 12))
    return _filled(network, _dscnn_weights(_onnx_arrays(path)))


def load_dscnn_rewritten(path: Path) -> nn.Module:
    """`load_dscnn` without the layer that pads: a row of zeros above the first kernel lets 5 rows pad both sides."""
    first, *rest = list(load_dscnn(path))[1:]
    taller = nn.Conv2d(1, 64, (11, 4), stride=2, padding=(5, 1))
    weights = {"weight": F.pad(first.state_dict()["weight"], (0, 0, 1, 0)), "bias": first.state_dict()["bias"]}
    return nn.Sequential(_filled(taller, weights), *rest)


def load_resnet20(path: Path) -> nn.Module:
    """ResNet-20 as its author wrote it: ``F.relu``, and shortcuts that slice and pad."""
    return _filled(ResNet20(), load_file(path))


def load_resnet20_relu_modules(path: Path) -> nn.Module:
    """ResNet-20 with a module for every ReLU and pool; the shortcuts still slice and pad."""
    return _filled(ResNet20Modules(), load_file(path))


def load_resnet20_rewritten(path: Path) -> nn.Module:
    """ResNet-20 of modules only: each shortcut that changes the shape is a fixed 1×1 convolution."""
    return with_convolution_shortcuts(_filled(ResNet20Modules(), load_file(path)))


def _dscnn_weights(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    # The exporter named an array after every operator that it fused into it; only the beginning tells them apart.
    biases = [
        next(value for name, value in arrays.items() if name.startswith(f"functional_1/{activation}/Relu;"))
        for activation in ("activation", *(f"activation_{block}" for block in range(1, 9)))
    ]
    kernels = [_dequantized(arrays, "functional_1/conv2d/Conv2D", "scale__43")]
    for block, depthwise in enumerate(("122", "116", "121", "118"), start=1):
        pointwise = _dequantized(arrays, f"functional_1/conv2d_{block}/Conv2D", f"scale__{43 - 2 * block}")
        kernels += [arrays[f"const_fold_opt__{depthwise}"], pointwise]
    weights = {
        "21.weight": arrays["const_fold_opt__111"].T,
        "21.bias": arrays["functional_1/dense/BiasAdd/ReadVariableOp/resource"],
    }
    for place, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        weights |= {f"{1 + 2 * place}.weight": kernel, f"{1 + 2 * place}.bias": bias}
    return weights


def _dequantized(arrays: dict[str, Tensor], name: str, scale: str) -> Tensor:
    return (arrays[name].float() - arrays["zero_point__36"].float()) * arrays[scale]


def _onnx_arrays(path: Path) -> dict[str, Tensor]:
    import onnx
    from onnx import numpy_helper

    initializers = onnx.load(path).graph.initializer
    return {array.name: torch.from_numpy(numpy_helper.to_array(array).copy()) for array in initializers}


def _filled(network: Network, weights: Mapping[str, Tensor]) -> Network:
    network.load_state_dict(weights)
    return network.eval()


_DSCNN = Model(
    load_dscnn, "models/mlperf_tiny_kws_dscnn_float.onnx", scale=0.5847029, mean=(48.5303407,), channels_last=True
)
_RESNET20 = Model(
    load_resnet20,
    "models/cifar10_resnet20_akamaster.safetensors",
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    channels_last=True,
)
MODELS = {
    "digits": Model(load_digits, "", scale=1 / 16),
    "mnist_cnn": Model(load_mnist_cnn, "models/mnist_cnn_ann_sinabs.safetensors"),
    "mnist8": Model(load_mnist8, "models/mnist8_cntk.onnx"),
    "resnet20": _RESNET20,
    "resnet20_relu_modules": replace(_RESNET20, load=load_resnet20_relu_modules),
    "resnet20_rewritten": replace(_RESNET20, load=load_resnet20_rewritten),
    "dscnn": _DSCNN,
    "dscnn_rewritten": replace(_DSCNN, load=load_dscnn_rewritten),
}
