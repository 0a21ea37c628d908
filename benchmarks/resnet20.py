"""ResNet-20 for 32×32 images with zero-padded shortcuts, in the author's form and in two that peers can read.

Source: He et al. 2016, arXiv:1512.03385, section 4.2 (option A).  The weights are those of
github.com/akamaster/pytorch_resnet_cifar10.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet20", "ResNet20Modules", "with_convolution_shortcuts"]


class Shortcut(nn.Module):
    """Every second pixel in both directions, with as many zero channels before as after to fill ``outputs``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.added = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))

    def as_convolution(self) -> nn.Conv2d:
        """The same map as a 1×1 convolution of stride 2 with the weights 0 and 1."""
        convolution = nn.Conv2d(self.inputs, self.outputs, 1, stride=2, bias=False)
        channels = torch.arange(self.inputs)
        with torch.no_grad():
            convolution.weight.zero_()
            convolution.weight[channels + self.added, channels] = 1.0
        return convolution.eval()


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm, beside a shortcut; ``F.relu`` after each."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Sequential() if inputs == outputs else Shortcut(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ModuleBlock(Block):
    """The same block with a module for every ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, stride)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet20(nn.Module):
    """The network in its author's form: functional ReLU and pooling."""

    block: type[Block] = Block

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16)
        self.layer2 = self._stage(16, 32)
        self.layer3 = self._stage(32, 64)
        self.linear = nn.Linear(64, 10)

    def _stage(self, inputs: int, outputs: int) -> nn.Sequential:
        first = self.block(inputs, outputs, 1 if inputs == outputs else 2)
        return nn.Sequential(first, self.block(outputs, outputs, 1), self.block(outputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class ResNet20Modules(ResNet20):
    """The same network with a module for every ReLU, pool and flatten."""

    block = ModuleBlock

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(8)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, 10)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(self.flatten(self.pool(out)))


def with_convolution_shortcuts(network: ResNet20) -> ResNet20:
    """Replace, in place, every shortcut that slices and pads by its convolution, and return the network."""
    for block in network.modules():
        if isinstance(block, Block) and isinstance(block.shortcut, Shortcut):
            block.shortcut = block.shortcut.as_convolution()
    return network
