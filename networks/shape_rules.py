"""Shape rules of the operators: feature shapes in, feature shape out, or a ShapeError.

A feature shape leaves out time and batch: an image is ``(channels, height, width)``.
Every rule has the signature ``rule(attributes, arrays, shapes) -> shape``.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .._check import ShapeError

MOST_HALVINGS = 24

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]


def _refuse(what: str) -> ShapeError:
    return ShapeError(f"{what}; check the layers around it in the source network")


def _channels_or_units(name: str, array: np.ndarray, shape: Shape) -> None:
    """A per-channel array is (), (channels,) or the whole feature shape."""
    if array.shape not in ((), shape[:1], shape):
        raise _refuse(f"{name} has shape {array.shape}, but (), {shape[:1]} or {shape} was wanted")


def input_shape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The declared shape."""
    return tuple(attributes["shape"])


def same(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of the only input; arrays are per layer, per channel or per unit."""
    for name, array in arrays.items():
        _channels_or_units(name, array, shapes[0])
    return shapes[0]


def activation(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """As ``same``; levels and their ceiling come together, and instead of a maximum."""
    quantised = attributes["levels"] is not None
    if quantised != ("ceiling" in arrays) or (quantised and attributes["maximum"] is not None):
        raise _refuse("an activation in levels needs both levels and a ceiling, and no maximum")
    return same(attributes, arrays, shapes)


def neuron(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """As ``same``; only what a binary spike subtracts can leave the membrane late, and changes need no leak."""
    differential = attributes["code"] == "differential"
    if differential and ((attributes["test"], attributes["reset"]) != (">=", "subtract") or "beta" in arrays):
        raise _refuse("differential coding has the test >=, resets by subtraction and has no leak")
    if differential and attributes["levels"] > MOST_HALVINGS:
        raise _refuse(f"{attributes['levels']} levels, each half the one before, end below what float32 can hold")
    if not differential and (attributes["line"] or attributes["maximum"] is not None):
        raise _refuse("only a neuron with the differential code can be a line or have a maximum")
    if differential and "limit" in arrays:
        raise _refuse("a limit of spikes counts spikes, and differential ones are changes of a value")
    if attributes["late"] and (attributes["code"], attributes["reset"]) != ("binary", "subtract"):
        raise _refuse(
            f"a late reset needs binary spikes that subtract, not {attributes['code']}, {attributes['reset']}"
        )
    return same(attributes, arrays, shapes)


def step_bias(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of the only input; the values are (steps, channels)."""
    values = arrays["values"].shape
    if len(values) != 2 or not shapes[0] or values[0] < 1 or values[1] not in (1, shapes[0][0]):
        raise _refuse(f"step biases of shape {values} do not fit the channels of the input {shapes[0]}")
    return shapes[0]


def batch_norm(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The shape of the only input; every array is (channels,)."""
    wrong = [name for name, array in arrays.items() if array.shape != shapes[0][:1] or not shapes[0]]
    if wrong:
        raise _refuse(f"{wrong} of a batch norm do not fit the channels of the input {shapes[0]}")
    return shapes[0]


def elementwise(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """Equal shapes; an axis of length 1 is broadcast."""
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise _refuse(f"inputs of shapes {list(shapes)} cannot be combined elementwise") from None
    if any(len(other) != len(shape) for other in shapes):
        raise _refuse(f"inputs of shapes {list(shapes)} differ in rank")
    return tuple(shape)


def linear(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """(..., in) -> (..., out) with weight (out, in)."""
    weight, shape = arrays["weight"], shapes[0]
    if weight.ndim != 2 or not shape or shape[-1] != weight.shape[1]:
        raise _refuse(f"linear weight {weight.shape} does not fit the input {shape}")
    if "bias" in arrays and arrays["bias"].shape != weight.shape[:1]:
        raise _refuse(f"linear bias {arrays['bias'].shape} does not fit the weight {weight.shape}")
    return (*shape[:-1], weight.shape[0])


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Number of window positions along one axis, as PyTorch counts them."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:  # the last window would start in the padding
        count -= 1
    if count < 1:
        raise _refuse(f"a window of {kernel} (dilation {dilation}) is larger than the padded axis {size + 2 * padding}")
    return count


def convolution(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """(in, *spatial) -> (out, *spatial') with weight (out, in / groups, *kernel)."""
    weight, shape, groups = arrays["weight"], shapes[0], attributes["groups"]
    spatial = len(attributes["stride"])
    wrong_rank = weight.ndim != spatial + 2 or len(shape) != spatial + 1
    if wrong_rank or shape[0] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise _refuse(f"convolution weight {weight.shape} with {groups} groups does not fit the input {shape}")
    if "bias" in arrays and arrays["bias"].shape != weight.shape[:1]:
        raise _refuse(f"convolution bias {arrays['bias'].shape} does not fit the weight {weight.shape}")
    windows = zip(
        shape[1:], weight.shape[2:], attributes["stride"], attributes["padding"], attributes["dilation"], strict=True
    )
    return (weight.shape[0], *(_window(*window) for window in windows))


def pool(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """(channels, *spatial) -> (channels, *spatial')."""
    shape, kernel = shapes[0], attributes["kernel"]
    if not len(shape) - 1 == len(kernel) == len(attributes["stride"]) == len(attributes["padding"]):
        raise _refuse(f"a pooling window {kernel} does not fit the input {shape}")
    if any(2 * padding > size for padding, size in zip(attributes["padding"], kernel, strict=True)):
        raise _refuse(f"pooling padding {attributes['padding']} is more than half of the window {kernel}")
    ceil_mode = bool(attributes["ceil_mode"])
    windows = zip(shape[1:], kernel, attributes["stride"], attributes["padding"], strict=True)
    return (shape[0], *(_window(*window, ceil_mode=ceil_mode) for window in windows))


def global_pool(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """(channels, *spatial) -> (channels,)."""
    if len(shapes[0]) < 2:
        raise _refuse(f"global pooling needs (channels, *spatial), not {shapes[0]}")
    return shapes[0][:1]


def flatten(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """Everything in one axis, row-major."""
    return (prod(shapes[0]),)


def reshape(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """The declared shape, with as many elements as the input."""
    shape = tuple(attributes["shape"])
    if prod(shape) != prod(shapes[0]):
        raise _refuse(f"{shapes[0]} cannot be reshaped to {shape}")
    return shape


def transpose(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """Axis ``i`` of the output is axis ``permutation[i]`` of the input."""
    permutation, shape = attributes["permutation"], shapes[0]
    if sorted(permutation) != list(range(len(shape))):
        raise _refuse(f"{permutation} is no permutation of the axes of {shape}")
    return tuple(shape[axis] for axis in permutation)


def pad(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """Each axis grows by ``before`` and ``after``."""
    before, after, shape = attributes["before"], attributes["after"], shapes[0]
    if not len(before) == len(after) == len(shape):
        raise _refuse(f"padding {before}, {after} does not fit the input {shape}")
    return tuple(first + size + last for first, size, last in zip(before, shape, after, strict=True))


def concat(attributes: Attributes, arrays: Arrays, shapes: Sequence[Shape]) -> Shape:
    """Equal shapes but along ``axis``."""
    axis = attributes["axis"]
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rests) != 1 or any(len(shape) <= axis for shape in shapes):
        raise _refuse(f"inputs of shapes {list(shapes)} cannot be joined along axis {axis}")
    joined = sum(shape[axis] for shape in shapes)
    return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])
