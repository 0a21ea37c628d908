"""The windows of convolutions and pools, in one or two dimensions."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..networks.graph import Node

__all__ = ["windows"]


def windows(node: Node, x: np.ndarray, outside: int) -> np.ndarray:
    """All windows of a convolution or pool over x (n, channels, *spatial): (n, channels, *places, *kernel).

    outside: what lies in the padding.
    """
    convolution = "weight" in node.arrays
    kernel = node.arrays["weight"].shape[2:] if convolution else node.attributes["kernel"]
    axes = len(kernel)
    dilation = node.attributes["dilation"] if convolution else (1,) * axes
    ceil = not convolution and bool(node.attributes["ceil_mode"])
    widths, spans = [], []
    for axis in range(axes):
        size, padding, stride = x.shape[2 + axis], node.attributes["padding"][axis], node.attributes["stride"][axis]
        spans.append((kernel[axis] - 1) * dilation[axis] + 1)
        widths.append((padding, padding + (_overhang(size, padding, kernel[axis], stride) if ceil else 0)))
    padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=outside)
    every: np.ndarray = sliding_window_view(padded, tuple(spans), tuple(range(2, 2 + axes)))  # type: ignore[call-overload]
    steps = [slice(None), slice(None)]
    steps += [slice(None, None, stride) for stride in node.attributes["stride"]]
    steps += [slice(None, None, step) for step in dilation]
    return every[tuple(steps)]


def _overhang(size: int, padding: int, kernel: int, stride: int) -> int:
    """What a last, partial window needs beyond the padding; it must begin inside (PyTorch's rule)."""
    free = size + 2 * padding - kernel
    last = -(-free // stride) * stride
    return last - free if last < size + padding else 0
