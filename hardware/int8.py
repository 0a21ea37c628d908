"""Convolutions and linear layers of spikes through oneDNN's int8 kernels, where a self-test finds them exact.

They take unsigned bytes: a spike s is handed over as s + zero point.  They add in int32 and give float32, which holds
every result below 2^24.  The operators are private to PyTorch and may be absent.  A CPU without VNNI adds pairs of
products in 16 bits, which saturate from inputs of 128 on: there only smaller inputs are exact, which spikes are.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..networks.graph import Node, make_node

__all__ = ["EXACT", "Int8Synapse", "fits", "largest_exact_input"]

EXACT = 1 << 24  # float32 holds every whole number up to here
_LIMITS = (255, 127)
_SHAPES: tuple[tuple[tuple[int, ...], int, int, int, int], ...] = (  # kernel, input places, stride, padding, groups
    ((32, 16, 3, 3), 9, 1, 1, 1),
    ((20, 9, 5, 5), 11, 1, 0, 1),
    ((64, 32, 3, 3), 8, 2, 1, 1),
    ((16, 32, 1, 1), 6, 2, 0, 1),
    ((8, 3, 3, 3), 7, 2, 1, 1),
    ((32, 4, 3, 3), 7, 1, 1, 8),
    ((24, 1, 3, 3), 7, 2, 1, 24),
)


@cache
def largest_exact_input() -> int:
    """The largest byte for which the int8 kernels are exact in this process: 255, 127, or 0 for not at all."""
    for limit in _LIMITS:
        try:
            if all(_exact(shape, limit) for shape in _SHAPES) and _exact(((40, 70), 0, 0, 0, 1), limit):
                return limit
        except (AttributeError, RuntimeError):  # no such operator, or no kernel for this CPU
            return 0
    return 0


def fits(node: Node, low: float, high: float, limit: int) -> bool:
    """Whether a convolution or linear node is exact here for inputs between low <= 0 and high, whole numbers.

    Its weights must be q * 2^e with q in int8 (e for each output), no sum of products may reach 2^24 in units of 2^e,
    and with the bias none in units that divide both.  Where a window may lie in the padding alone, the kernels take
    what a zero point adds there from memory that nobody wrote, if channels have kernels of their own.
    """
    if node.operator not in ("conv2d", "linear") or high - low > limit or (low < 0 and _beside(node)):
        return False
    q, unit = _rows(node.arrays["weight"])
    if np.abs(q).max(initial=0) > 127:
        return False
    sums = np.abs(q).sum(1) * (high - low)
    bias = np.asarray(node.arrays.get("bias", np.zeros(len(q))), np.int64)
    common = unit | np.abs(bias)
    common &= -common
    return bool(sums.max() < EXACT and ((sums * unit + np.abs(bias)) / common).max() < EXACT)


def _beside(node: Node) -> bool:
    """Whether a window of a convolution may see nothing but padding."""
    if node.operator != "conv2d":
        return False
    sizes = zip(node.arrays["weight"].shape[2:], node.attributes["padding"], node.attributes["dilation"], strict=True)
    return any(padding >= dilation * (kernel - 1) + 1 for kernel, padding, dilation in sizes)


class Int8Synapse:
    """A convolution or linear node whose input is bytes with a zero point: (n, *features) to float32 of whole numbers.

    offset: the zero point, which is what stands for 0 in the input.
    """

    def __init__(self, node: Node, offset: int) -> None:
        weight = node.arrays["weight"]
        q, unit = _rows(weight)
        packed = torch.from_numpy(q.astype(np.int8).reshape(weight.shape))
        scales = torch.from_numpy(unit.astype(np.float32))
        zeros = torch.zeros(len(q), dtype=torch.int64)
        bias = torch.tensor(node.arrays["bias"], dtype=torch.float32) if "bias" in node.arrays else None
        last: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        self._before = (1.0, offset)
        if node.operator == "linear":
            self._function = torch.ops.onednn.qlinear_pointwise
            prepacked = torch.ops.onednn.qlinear_prepack(packed, None)
            self._after: Sequence[Any] = (prepacked, scales, zeros, bias, *last)
        else:
            window = [list(node.attributes[key]) for key in ("stride", "padding", "dilation")]
            groups = node.attributes["groups"]
            self._function = torch.ops.onednn.qconv_pointwise
            prepacked = torch.ops.onednn.qconv_prepack(packed, scales, 1.0, offset, *window, groups, None)
            self._after = (prepacked, scales, zeros, bias, *window, groups, *last)

    def __call__(self, x: Tensor) -> Tensor:
        """Map bytes (n, *features) to float32 (n, *features)."""
        y: Tensor = self._function(x, *self._before, *self._after)
        return y


def _rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q and 2^e of each output, int64: the weights are q * 2^e with the largest e."""
    rows = np.asarray(weight, np.int64).reshape(len(weight), -1)
    common = np.bitwise_or.reduce(np.abs(rows), axis=1)
    unit = np.where(common == 0, 1, common & -common)
    return rows // unit[:, None], unit


def _exact(shape: tuple[tuple[int, ...], int, int, int, int], limit: int) -> bool:
    """Compare with float64 at the extreme values, for several zero points; a bias, and a scale for each output."""
    kernel, places, stride, padding, groups = shape
    rng = np.random.default_rng(0)
    unit = (1 << rng.integers(0, 3, kernel[0])).reshape(-1, *([1] * (len(kernel) - 1)))
    weight = np.where(rng.random(kernel) < 0.6, 127, -127) * unit
    weight[rng.random(kernel) < 0.05] = 0
    bias = rng.integers(-(1 << 20), 1 << 20, kernel[0]) * 4
    attributes: dict[str, Any] = {}
    if places:
        attributes = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": groups}
    node = make_node(
        "x", "conv2d" if places else "linear", ["i"], arrays={"weight": weight, "bias": bias}, **attributes
    )
    function: Callable[..., Tensor] = functional.conv2d if places else functional.linear
    arrays = [torch.tensor(array, dtype=torch.float64) for array in (weight, bias)]
    for batch, offset in ((1, 0), (5, 1), (2, limit // 2)):
        features = (kernel[1] * groups, places, places) if places else kernel[1:]
        x = torch.from_numpy(np.where(rng.random((batch, *features)) < 0.7, limit, 0).astype(np.uint8))
        x = x.contiguous(memory_format=torch.channels_last) if places else x
        wanted = function(x.double() - offset, *arrays, **attributes)
        if not torch.equal(Int8Synapse(node, offset)(x).double(), wanted):
            return False
    return True
