"""A VGG-like and a ResNet-18-like network for 32×32 images, narrow enough to be trained on two cores in minutes."""

import torch
from torch import Tensor, nn

__all__ = ["NETWORKS", "ResNet18Like", "vgg_like"]


def _stage(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def vgg_like(width: int = 16) -> nn.Sequential:
    """Six convolutions in three stages with average pooling, as QCFS wants it, and two linear layers."""
    layers, inputs = [], 3
    for outputs in (width, 2 * width, 4 * width):
        layers += [*_stage(inputs, outputs), *_stage(outputs, outputs), nn.AvgPool2d(2)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * inputs, 128), nn.ReLU(), nn.Linear(128, 10))


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm beside a shortcut; a ReLU after each."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_stage(inputs, outputs, stride))
        self.second = nn.Sequential(*_stage(outputs, outputs)[:2])
        changes = inputs != outputs
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet18Like(nn.Module):
    """ResNet-18's four stages of two blocks (He et al. 2016, arXiv:1512.03385), ``width`` channels in the first.

    The first convolution has a stride of 2, as that of the original has, which keeps the cost of four stages low.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers, inputs = [*_stage(3, width, 2)], width
        for stage in range(4):
            outputs = width << stage
            layers += [Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        return self.layers(x)


NETWORKS = {"vgg_like": vgg_like, "resnet18_like": ResNet18Like}
