"""ONNX operators with windows: convolutions, pooling, and reductions over all of space.

ONNX pads each side by its own width; the Graph's convolutions and pools pad both sides alike.  Where the two differ a
``pad`` node comes first.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .._check import CorruptFileError, ShapeError, UnsupportedError
from .onnx_builder import Shape, Value
from .onnx_call import Call

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Windows:
    """Where windows lie along each spatial axis: ``count`` of them, the first ``begin`` before the data starts."""

    size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    begin: Shape
    end: Shape
    count: Shape

    @property
    def overrun(self) -> bool:
        """Whether the last window reaches beyond the padding (ceil_mode)."""
        axes = zip(self.size, self.kernel, self.stride, self.begin, self.end, self.count, strict=True)
        return any(
            (count - 1) * stride + kernel > size + begin + end for size, kernel, stride, begin, end, count in axes
        )

    def padded(self) -> tuple[Shape, Shape]:
        """Widths that let every window, counted by rounding down, lie inside."""
        axes = zip(self.size, self.kernel, self.stride, self.begin, self.count, strict=True)
        needed = [(count - 1) * stride + kernel - size - begin for size, kernel, stride, begin, count in axes]
        return self.begin, tuple(max(end, need) for end, need in zip(self.end, needed, strict=True))


def windows(call: Call, size: Shape, kernel: Shape) -> Windows:
    """Read strides, dilations, pads, auto_pad and ceil_mode."""
    rank = len(size)
    if len(kernel) != rank:
        raise ShapeError(f"a window {kernel} does not fit {rank} spatial axes")
    stride, dilation = call.integers("strides", rank, 1), call.integers("dilations", rank, 1)
    if min(*stride, *dilation, *kernel) < 1:
        raise CorruptFileError(
            f"it has kernel {kernel}, strides {stride} and dilations {dilation}; each must be at least 1"
        )
    span = tuple(step * (width - 1) + 1 for step, width in zip(dilation, kernel, strict=True))
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        count = tuple(-(-length // step) for length, step in zip(size, stride, strict=True))
        axes = zip(size, span, stride, count, strict=True)
        total = [max((number - 1) * step + width - length, 0) for length, width, step, number in axes]
        small, large = tuple(width // 2 for width in total), tuple(width - width // 2 for width in total)
        begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
        return Windows(size, span, stride, dilation, begin, end, count)
    if mode not in ("NOTSET", "VALID"):
        raise CorruptFileError(f"its auto_pad is {mode!r}")
    pads = call.integers("pads", 2 * rank, 0) if mode == "NOTSET" else (0,) * (2 * rank)
    if min(pads) < 0:
        raise UnsupportedError(f"its pads {pads} are negative; crop with Slice instead")
    begin, end = pads[:rank], pads[rank:]
    ceil_mode = bool(call.integer("ceil_mode", 0))
    found = zip(size, span, stride, begin, end, strict=True)
    return Windows(size, span, stride, dilation, begin, end, tuple(_count(*axis, ceil_mode) for axis in found))


def _count(size: int, span: int, stride: int, begin: int, end: int, ceil_mode: bool) -> int:
    """Windows along one axis; one that would start beyond the data and the first padding is dropped."""
    room = size + begin + end - span
    if room < 0:
        raise ShapeError(f"a window of {span} is larger than the padded axis {size + begin + end}")
    count = room // stride + 1
    if ceil_mode and room % stride and count * stride < size + begin:
        count += 1
    return count


def _padded(call: Call, value: Value, before: Shape, after: Shape, filling: float) -> Value:
    if not any(before) and not any(after):
        return value
    widths: dict[str, Any] = {"before": (0, *before), "after": (0, *after)}
    return call.builder.emit(f"{call.name}.pad", "pad", [value.node], value=filling, **widths)


def convolution(call: Call) -> Value:
    """Convolution over one or two axes, with groups and dilation."""
    value, weight = call.plain(), call.weights(1, "weight")
    if weight.ndim not in (3, 4) or len(value.shape) != weight.ndim - 1:
        raise UnsupportedError(
            f"a convolution over {weight.ndim - 2} axes of {value.shape}; one or two axes are covered"
        )
    kernel = call.optional_integers("kernel_shape")
    if kernel not in (None, weight.shape[2:]):
        raise CorruptFileError(f"its kernel_shape is {kernel}, but its weight has {weight.shape[2:]}")
    arrays = {"weight": weight}
    if call.item(2) is not None:
        arrays["bias"] = call.weights(2, "bias")
    where = windows(call, value.shape[1:], weight.shape[2:])
    padding = where.begin
    if where.begin != where.end:
        value, padding = _padded(call, value, where.begin, where.end, 0.0), (0,) * len(where.begin)
    return call.builder.emit(
        call.name,
        f"conv{weight.ndim - 2}d",
        [value.node],
        arrays=arrays,
        stride=where.stride,
        padding=padding,
        dilation=where.dilation,
        groups=call.integer("group", 1),
    )


def _pool_windows(call: Call, value: Value) -> Windows:
    kernel = call.optional_integers("kernel_shape")
    if kernel is None:
        raise CorruptFileError("its kernel_shape is missing")
    if len(value.shape) - 1 not in (1, 2):
        raise UnsupportedError(f"pooling over {len(value.shape) - 1} axes; one or two are covered")
    where = windows(call, value.shape[1:], kernel)
    if max(call.integers("dilations", len(kernel), 1)) > 1:
        raise UnsupportedError("pooling with gaps (dilations) is not covered; use a stride")
    axes = zip(where.size, where.kernel, where.stride, where.begin, where.count, strict=True)
    if any(begin >= kernel or (count - 1) * stride - begin >= size for size, kernel, stride, begin, count in axes):
        raise UnsupportedError("some of its windows hold padding only; make the padding smaller than the window")
    return where


def _native(where: Windows) -> dict[str, Any] | None:
    """Attributes of a pool that places the same windows with equal padding on both sides, if there is one."""
    if any(2 * begin > kernel for begin, kernel in zip(where.begin, where.kernel, strict=True)):
        return None
    for ceil_mode in (0, 1):
        axes = zip(where.size, where.kernel, where.stride, where.begin, strict=True)
        try:
            counts = [_count(*axis, axis[3], bool(ceil_mode)) for axis in axes]
        except ShapeError:
            continue
        if tuple(counts) == where.count:
            return {"kernel": where.kernel, "stride": where.stride, "padding": where.begin, "ceil_mode": ceil_mode}
    return None


def _bare(where: Windows) -> dict[str, Any]:
    return {"kernel": where.kernel, "stride": where.stride, "padding": (0,) * len(where.kernel)}


def max_pool(call: Call) -> Value:
    """Maximum of each window; padding never wins."""
    value = call.plain()
    where = _pool_windows(call, value)
    native = _native(where)
    if native is not None:
        return call.builder.emit(call.name, "max_pool", [value.node], **native)
    filling = (
        0.0 if call.builder.non_negative(value) else LOWEST
    )  # no window is padding only, so neither can win wrongly
    value = _padded(call, value, *where.padded(), filling)
    return call.builder.emit(call.name, "max_pool", [value.node], **_bare(where))


def average_pool(call: Call) -> Value:
    """Mean of each window, padding counted or not."""
    value = call.plain()
    where = _pool_windows(call, value)
    native = _native(where)
    include = bool(call.integer("count_include_pad", 0))
    if include and where.overrun:
        raise UnsupportedError(
            "count_include_pad with windows beyond the padding means several things; set ceil_mode to 0"
        )
    if native is not None and (not include or (where.begin == where.end and not native["ceil_mode"])):
        return call.builder.emit(call.name, "average_pool", [value.node], count_include_pad=int(include), **native)
    value = _padded(call, value, *where.padded(), 0.0)
    pooled = call.builder.emit(call.name, "average_pool", [value.node], **_bare(where))
    if include:
        return pooled
    factor = np.broadcast_to(prod(where.kernel) / _places(where), pooled.shape)
    return call.builder.emit(f"{call.name}.count", "scale", [pooled.node], arrays={"factor": factor})


def _places(where: Windows) -> np.ndarray:
    """How many places of each window hold data, not padding."""
    total = np.ones(())
    for size, kernel, stride, begin, count in zip(
        where.size, where.kernel, where.stride, where.begin, where.count, strict=True
    ):
        first = np.arange(count) * stride - begin
        total = np.multiply.outer(total, np.minimum(first + kernel, size) - np.maximum(first, 0))
    return total


def global_average_pool(call: Call) -> Value:
    """Mean of each channel."""
    return _globally(call, "mean", range(1, len(call.value().shape)), keep=True)


def global_max_pool(call: Call) -> Value:
    """Maximum of each channel."""
    return _globally(call, "max", range(1, len(call.value().shape)), keep=True)


def reduce_mean(call: Call) -> Value:
    """Mean over some axes."""
    return _reduced(call, "mean")


def reduce_sum(call: Call) -> Value:
    """Sum over some axes."""
    return _reduced(call, "sum")


def reduce_max(call: Call) -> Value:
    """Maximum over some axes."""
    return _reduced(call, "max")


def _reduced(call: Call, function: str) -> Value:
    value, axes = call.value(), call.axes(1)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return value
        raise UnsupportedError("it reduces the batch too; name the spatial axes")
    chosen = [call.axis(axis, len(value.shape)) for axis in axes]
    return _globally(call, function, chosen, keep=bool(call.integer("keepdims", 1)))


def _globally(call: Call, function: str, axes: "range | list[int]", *, keep: bool) -> Value:
    """Over all axes but the Graph's first as it is; over others with those that stay joined into the first."""
    value, builder = call.value(), call.builder
    inner = {value.order[axis] for axis in axes}
    if not inner:
        raise UnsupportedError(f"it reduces no axis of {('batch', *value.shape)}; leave it out")
    sizes = [1 if axis in set(axes) else size for axis, size in enumerate(value.shape)]
    shape = tuple(sizes) if keep else tuple(size for axis, size in enumerate(sizes) if axis not in set(axes))
    if 0 in inner or any(axis and axis not in inner and size > 1 for axis, size in enumerate(value.inner)):
        stays = [axis for axis in range(len(value.shape)) if axis not in set(axes)]
        if not shape:
            raise UnsupportedError("it leaves one number of each sample; keep the axes")
        turned = value.permuted([*stays, *axes])
        rows = (prod(sizes), prod(value.shape) // prod(sizes))
        value = builder.reshaped(turned, rows, f"{call.name}.rows") if rows != turned.shape else turned
        value = builder.plain(value, call.name)
    pooled = builder.emit(call.name, "global_pool", [value.node], function=function)
    return builder.reshaped(pooled, shape, f"{call.name}.shape")
