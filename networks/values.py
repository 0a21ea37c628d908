"""Operators that need the value itself and not parts of a sum: what transformers and squeeze-excite blocks are made of.

Between neurons that decode their spikes (the differential code) they are computed at every step, and counted as
operations that stay analog.  Shapes without batch; functions map (batch, *features) tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .._check import ShapeError
from .shape_rules import Shape

__all__ = [
    "FUNCTIONS", "constant", "constant_shape", "function", "layer_norm", "matmul", "matmul_shape", "norm_shape",
    "rms_norm", "slice_axis", "slice_shape", "softmax", "softmax_shape",
]  # fmt: skip

Attributes = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
Tensors = Mapping[str, Tensor]

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "erf": torch.erf,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hard_swish": functional.hardswish,
    "hard_sigmoid": functional.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def function(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """An elementwise function by its name, as PyTorch computes it."""
    return FUNCTIONS[attributes["function"]](inputs[0])


def softmax(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """exp(x) / sum exp(x) along a feature axis."""
    return inputs[0].softmax(attributes["axis"] + 1)


def layer_norm(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last ``axes`` feature axes."""
    over = inputs[0].shape[-attributes["axes"] :]
    return functional.layer_norm(inputs[0], over, tensors.get("weight"), tensors.get("bias"), attributes["epsilon"])


def rms_norm(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """x / sqrt(mean x^2 + epsilon) * weight over the last ``axes`` feature axes."""
    over = inputs[0].shape[-attributes["axes"] :]
    return functional.rms_norm(inputs[0], over, tensors.get("weight"), attributes["epsilon"])


def matmul(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The matrix product of two inputs over their last two axes."""
    return inputs[0] @ inputs[1]


def constant(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """The same learned values for every sample (a class token, say); of the input only the batch size is used."""
    return tensors["value"].expand(len(inputs[0]), *tensors["value"].shape)


def slice_axis(attributes: Attributes, tensors: Tensors, inputs: Sequence[Tensor]) -> Tensor:
    """Places start, start + step, ... before stop of a feature axis."""
    places = slice(attributes["start"], attributes["stop"], attributes["step"])
    return inputs[0][(slice(None),) * (attributes["axis"] + 1) + (places,)]


def norm_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of the only input; arrays have that of the axes that are normalised."""
    shape, axes = shapes[0], attributes["axes"]
    wrong = [name for name, array in arrays.items() if array.shape != shape[len(shape) - axes :]]
    if axes > len(shape) or wrong:
        raise ShapeError(f"a norm over {axes} axes with {wrong or 'its arrays'} does not fit the input {shape}")
    return shape


def softmax_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of the only input."""
    if attributes["axis"] >= len(shapes[0]):
        raise ShapeError(f"the input {shapes[0]} has no axis {attributes['axis']}")
    return shapes[0]


def matmul_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """(..., rows, inner) and (..., inner, columns) -> (..., rows, columns)."""
    a, b = shapes
    if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
        raise ShapeError(f"inputs of shapes {a} and {b} have no matrix product")
    return (*a[:-1], b[-1])


def constant_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of its values."""
    return arrays["value"].shape


def slice_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The input's shape with fewer places along one axis."""
    shape, axis = shapes[0], attributes["axis"]
    if axis >= len(shape) or not attributes["start"] < attributes["stop"] <= shape[axis]:
        raise ShapeError(f"places {attributes['start']} to {attributes['stop']} of axis {axis} are not in {shape}")
    places = len(range(attributes["start"], attributes["stop"], attributes["step"]))
    return (*shape[:axis], places, *shape[axis + 1 :])
