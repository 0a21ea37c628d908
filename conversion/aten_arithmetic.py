"""ATen handlers: sums, products, reductions and everything that only moves values."""

from math import prod
from typing import Any

import numpy as np

from .._check import UnsupportedError
from .aten import SLICE_END, Importer, handles


@handles("add")
def add(importer: Importer, fx_node: Any, first: Any, second: Any, alpha: Any = 1) -> None:
    """A residual sum, or a constant shift."""
    if alpha != 1:
        raise UnsupportedError("a weighted sum: multiply before adding")
    constants = [importer.constant(first), importer.constant(second)]
    if all(held is None for held in constants):
        _same_shape("a sum", first, second)
        importer.emit(fx_node, "add", [importer.value(first), importer.value(second)])
        return
    value, held = (first, constants[1]) if constants[0] is None else (second, constants[0])
    _affine(importer, fx_node, value, 1.0, held)


@handles("sub")
def sub(importer: Importer, fx_node: Any, first: Any, second: Any, alpha: Any = 1) -> None:
    """x - c, c - x and x - y."""
    if alpha != 1:
        raise UnsupportedError("a weighted difference: multiply before subtracting")
    constants = [importer.constant(first), importer.constant(second)]
    if constants[1] is not None:
        _affine(importer, fx_node, first, 1.0, -constants[1])
    elif constants[0] is not None:
        _affine(importer, fx_node, second, -1.0, constants[0])
    else:
        _same_shape("a difference", first, second)
        taken = importer.emit(fx_node, "scale", [importer.value(second)], arrays={"factor": np.float32(-1.0)})
        importer.emit(fx_node, "add", [importer.value(first), taken])


@handles("rsub")
def rsub(importer: Importer, fx_node: Any, first: Any, second: Any, alpha: Any = 1) -> None:
    """The second minus the first, as ``1 - x`` is exported."""
    sub(importer, fx_node, second, first, alpha)


@handles("neg")
def negate(importer: Importer, fx_node: Any, x: Any) -> None:
    """Minus x."""
    _affine(importer, fx_node, x, -1.0, None)


def _same_shape(what: str, *values: Any) -> None:
    shapes = {tuple(x.meta["val"].shape) for x in values}
    if len({len(shape) for shape in shapes}) != 1:
        raise UnsupportedError(f"{what} that broadcasts {sorted(shapes)}: make the shapes equal")


@handles("mul")
def mul(importer: Importer, fx_node: Any, first: Any, second: Any) -> None:
    """A constant factor, or the product of two values."""
    constants = [importer.constant(first), importer.constant(second)]
    if all(held is None for held in constants):
        importer.emit(fx_node, "multiply", [importer.value(first), importer.value(second)])
        return
    value, held = (first, constants[1]) if constants[0] is None else (second, constants[0])
    _affine(importer, fx_node, value, held, None)


@handles("div")
def div(importer: Importer, fx_node: Any, first: Any, second: Any, *mode: Any) -> None:
    """A constant divisor."""
    held = importer.constant(second)
    if held is None or not np.all(held):
        raise UnsupportedError("a quotient of two values: not convertible to rate-coded spikes")
    _affine(importer, fx_node, first, 1.0 / held, None)


def _affine(importer: Importer, fx_node: Any, x: Any, factor: Any, shift: Any) -> None:
    shape = tuple(x.meta["val"].shape[1:])
    if tuple(fx_node.meta["val"].shape[1:]) != shape:
        raise UnsupportedError(f"a constant that makes {shape} larger: give the value its full shape before")
    arrays = {"factor": _per_channel(factor, shape)}
    if shift is not None:
        arrays["shift"] = _per_channel(shift, shape)
    importer.emit(fx_node, "scale", [importer.value(x)], arrays=arrays)


def _per_channel(constant: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A constant that broadcasts against (batch, *shape), as (), (channels,) or the whole shape."""
    array = np.asarray(constant, dtype=np.float32)
    if array.ndim > len(shape) and len(array) > 1:  # expanded over the batch that the network was traced with
        if not (array == array[:1]).all():
            raise UnsupportedError("a constant that differs between samples")
        array = array[:1]
    if array.size == 1:
        return array.reshape(())
    full = np.broadcast_to(array.reshape((1,) * (len(shape) + 1 - array.ndim) + array.shape), (1, *shape))[0]
    channel = full.reshape(shape[0], -1)
    return np.asarray(channel[:, 0] if (channel == channel[:, :1]).all() else full)


@handles("cat")
def concat(importer: Importer, fx_node: Any, values: Any, dim: int = 0) -> None:
    """Join along a feature axis."""
    axis = dim % len(fx_node.meta["val"].shape)
    if axis == 0:
        raise UnsupportedError("a concat along the batch: samples must stay apart")
    depends = [importer.value(value) for value in values if value.name not in importer.constants]
    names = [
        importer.learned(value, depends[0]) if value.name in importer.constants else importer.value(value)
        for value in values
    ]
    importer.emit(fx_node, "concat", names, axis=axis - 1)


@handles("stack")
def stack(importer: Importer, fx_node: Any, values: Any, dim: int = 0) -> None:
    """Join along a new feature axis."""
    shape = tuple(fx_node.meta["val"].shape)
    axis = dim % len(shape)
    if axis == 0:
        raise UnsupportedError("a stack along the batch: samples must stay apart")
    one = (*shape[1:axis], 1, *shape[axis + 1 :])
    names = [importer.emit(fx_node, "reshape", [importer.value(value)], shape=one) for value in values]
    importer.emit(fx_node, "concat", names, axis=axis - 1)


@handles("mean", "sum", "amax")
def reduce(importer: Importer, fx_node: Any, x: Any, dims: Any = None, keepdim: bool = False, *rest: Any) -> None:
    """Mean, sum or maximum over all spatial axes is global pooling; so is one over the tokens of a sequence."""
    rank = len(x.meta["val"].shape)
    axes = sorted(dim % rank for dim in (dims or []))
    source = importer.value(x)
    if rank == 3 and axes == [1] and not keepdim:
        source = importer.emit(fx_node, "transpose", [source], permutation=(1, 0))
        axes = [2]
    if axes != list(range(2, rank)) or rank < 3:
        raise UnsupportedError(f"a reduction over axes {dims}: only over all spatial axes")
    function = next(name for name in ("mean", "sum", "max") if name in str(fx_node.target))
    pooled = importer.emit(fx_node, "global_pool", [source], function=function)
    if keepdim:
        importer.emit(fx_node, "reshape", [pooled], shape=tuple(fx_node.meta["val"].shape[1:]))


@handles("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten")
def reshape(importer: Importer, fx_node: Any, x: Any, *arguments: Any) -> None:
    """A new shape with the batch left in front."""
    old, new = tuple(x.meta["val"].shape), tuple(fx_node.meta["val"].shape)
    if not new or new[0] != old[0] or prod(new[1:]) != prod(old[1:]):
        raise UnsupportedError(f"a reshape {old} -> {new} that mixes samples")
    if new == old:
        importer.alias(fx_node, importer.value(x))
    elif len(new) == 2:
        importer.emit(fx_node, "flatten", [importer.value(x)])
    else:
        importer.emit(fx_node, "reshape", [importer.value(x)], shape=new[1:])


@handles("permute")
def permute(importer: Importer, fx_node: Any, x: Any, dims: Any) -> None:
    """Axes in a new order; where the batch goes is kept in mind."""
    order, batch = [dim % len(dims) for dim in dims], importer.batch_axis.get(x.name, 0)
    permutation = tuple(dim - (dim > batch) for dim in order if dim != batch)
    name = importer.moved_value(x)
    if list(permutation) != sorted(permutation):
        name = importer.emit(fx_node, "transpose", [name], permutation=permutation)
    importer.alias(fx_node, name, order.index(batch))


@handles("transpose")
def transpose(importer: Importer, fx_node: Any, x: Any, first: int, second: int) -> None:
    """Two feature axes swapped."""
    order = list(range(len(x.meta["val"].shape)))
    order[first], order[second] = order[second], order[first]
    permute(importer, fx_node, x, order)


@handles("dropout", "clone", "alias", "detach", "contiguous", "_to_copy", "lift_fresh_copy", "to")
def unchanged(importer: Importer, fx_node: Any, x: Any, *arguments: Any) -> None:
    """Nothing happens to the value in eval mode; floating-point types are all computed in float32."""
    kind = fx_node.meta["val"].dtype
    if not kind.is_floating_point:
        raise UnsupportedError(f"a cast to {str(kind).removeprefix('torch.')}, which rounds: leave it out")
    importer.alias(fx_node, importer.moved_value(x), importer.batch_axis.get(x.name, 0))


@handles("_assert_tensor_metadata")
def asserted(importer: Importer, fx_node: Any, *arguments: Any) -> None:
    """What a cast expects of its input; nothing reads it."""


@handles("pad", "constant_pad_nd")
def pad(importer: Importer, fx_node: Any, x: Any, widths: Any, mode: Any = "constant", value: Any = 0.0) -> None:
    """Constant padding; after a strided slice it is part of one fixed 1x1 convolution."""
    if mode not in ("constant", 0, 0.0) and isinstance(mode, str):
        raise UnsupportedError(f"{mode} padding: use zeros")
    number = float(mode) if not isinstance(mode, str) and mode is not None else float(value or 0.0)
    rank = len(x.meta["val"].shape) - 1
    pairs = [(int(widths[i]), int(widths[i + 1])) for i in range(0, len(widths), 2)]
    pairs = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    if len(pairs) > rank or any(width < 0 for pair in pairs for width in pair):
        raise UnsupportedError("a pad that crops or that touches the batch axis")
    before, after = (tuple(pair[side] for pair in pairs) for side in (0, 1))
    importer.emit(fx_node, "pad", [importer.value(x)], before=before, after=after, value=number)


@handles("slice")
def slice_(
    importer: Importer, fx_node: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> None:
    """Every ``step``-th place of a spatial axis, or a range of channels, as a fixed 1x1 convolution."""
    shape = tuple(x.meta["val"].shape)
    dim %= len(shape)
    size = shape[dim]
    picked = range(size)[slice(start, None if end is None or end > SLICE_END else end, step)]
    if len(picked) == size:
        importer.alias(fx_node, importer.value(x))
        return
    rank = len(shape) - 2
    if rank not in (1, 2) and step == 1:
        importer.take(fx_node, x, dim, picked.start, len(picked))
        return
    if dim == 0 or rank not in (1, 2):
        raise UnsupportedError("a slice of the batch, or with steps through a flat value")
    channels = shape[1]
    stride = tuple(step if axis == dim else 1 for axis in range(2, rank + 2))
    whole_axis = start in (None, 0) and len(picked) == -(-size // step)
    if dim > 1 and not whole_axis:
        if step > 1:
            raise UnsupportedError("a crop of a spatial axis with steps: only every n-th place from the first")
        importer.take(fx_node, x, dim, picked.start, len(picked))
        return
    rows = picked if dim == 1 else range(channels)
    weight = np.zeros((len(rows), channels, *([1] * rank)), np.float32)
    weight[np.arange(len(rows)), list(rows)] = 1.0
    zeros, ones = (0,) * rank, (1,) * rank
    importer.emit(
        fx_node,
        f"conv{rank}d",
        [importer.value(x)],
        arrays={"weight": weight},
        stride=stride,
        padding=zeros,
        dilation=ones,
    )
