"""ATen handlers: synapses, normalisation, activation and pooling."""

from typing import Any

import numpy as np

from .._check import UnsupportedError
from .aten import HANDLERS, Importer, handles


def _pair(value: Any, rank: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in (value if isinstance(value, list | tuple) else [value]))
    return values * rank if len(values) == 1 else values


def _with_bias(weight: np.ndarray, bias: np.ndarray | None) -> dict[str, np.ndarray]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


@handles("linear")
def linear(importer: Importer, fx_node: Any, x: Any, weight: Any, bias: Any = None) -> None:
    """A linear layer with constant weights."""
    arrays = _with_bias(importer.weight(weight), None if bias is None else importer.weight(bias))
    importer.emit(fx_node, "linear", [importer.value(x)], arrays=arrays)


@handles("addmm")
def addmm(importer: Importer, fx_node: Any, bias: Any, x: Any, weight: Any, *scales: Any) -> None:
    """Bias + x W, as some exports write a linear layer."""
    arrays = _with_bias(importer.weight(weight).T, importer.weight(bias))
    importer.emit(fx_node, "linear", [importer.value(x)], arrays=arrays)


@handles("matmul", "mm")
def matmul(importer: Importer, fx_node: Any, x: Any, weight: Any) -> None:
    """A product with a constant matrix is a linear layer; one of two values stays a product."""
    array = importer.constant(weight)
    if array is None:
        importer.emit(fx_node, "matmul", [importer.value(x), importer.value(weight)])
        return
    if array.ndim != 2:
        raise UnsupportedError("a product with a constant of more than two axes: use a linear layer")
    importer.emit(fx_node, "linear", [importer.value(x)], arrays={"weight": array.T})


@handles("conv1d", "conv2d")
def convolution(  # noqa: PLR0913 - the operator's own arguments
    importer: Importer,
    fx_node: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> None:
    """A convolution; 'same' padding that is not symmetric becomes a pad before it."""
    array = importer.weight(weight)
    rank = array.ndim - 2
    strides, dilations, source = _pair(stride, rank), _pair(dilation, rank), importer.value(x)
    if isinstance(padding, str):
        spans = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilations, array.shape[2:], strict=True)]
        before, after = [span // 2 for span in spans], [span - span // 2 for span in spans]
        if before != after:
            source = importer.emit(fx_node, "pad", [source], before=(0, *before), after=(0, *after))
            before = [0] * rank
        padding = before
    importer.emit(
        fx_node,
        f"conv{rank}d",
        [source],
        arrays=_with_bias(array, None if bias is None else importer.weight(bias)),
        stride=strides,
        padding=_pair(padding, rank),
        dilation=dilations,
        groups=groups,
    )


@handles("_native_batch_norm_legit_no_training")
def batch_norm(  # noqa: PLR0913 - the operator's own arguments
    importer: Importer,
    fx_node: Any,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    momentum: float,
    eps: float,
) -> None:
    """Batch norm with its trained statistics."""
    statistics = {"mean": importer.weight(mean), "variance": importer.weight(variance)}
    ones = np.ones_like(statistics["mean"])
    arrays = {
        **statistics,
        "weight": ones if weight is None else importer.weight(weight),
        "bias": 0 * ones if bias is None else importer.weight(bias),
    }
    importer.emit(fx_node, "batch_norm", [importer.value(x)], arrays=arrays, epsilon=float(eps))


@handles("relu")
def relu(importer: Importer, fx_node: Any, x: Any) -> None:
    """max(0, x)."""
    importer.emit(fx_node, "activation", [importer.value(x)])


@handles("relu6")
def relu6(importer: Importer, fx_node: Any, x: Any) -> None:
    """min(6, max(0, x))."""
    importer.emit(fx_node, "activation", [importer.value(x)], maximum=6.0)


@handles("hardtanh", "clamp", "clamp_min")
def clamp(importer: Importer, fx_node: Any, x: Any, low: Any = None, high: Any = None) -> None:
    """A clamp from 0 upwards is a ReLU, cut or not."""
    if low is None or float(low) != 0.0:
        raise UnsupportedError(
            f"clamp({low}, {high}): only a lower bound of 0 is a spiking activation; retrain with ReLU"
        )
    importer.emit(fx_node, "activation", [importer.value(x)], maximum=None if high is None else float(high))


@handles("maximum", "max")
def maximum(importer: Importer, fx_node: Any, first: Any, second: Any = None, *rest: Any) -> None:
    """The larger of a value and the constant 0 is a ReLU."""
    of_two = str(fx_node.target) in ("aten.maximum.default", "aten.max.other")
    value, bound = (first, second) if importer.constant(first) is None else (second, first)
    held = importer.constant(bound)
    if not of_two or held is None or held.any() or value.meta["val"].shape != fx_node.meta["val"].shape:
        raise UnsupportedError("a maximum of other things than one value and the constant 0: retrain with ReLU")
    relu(importer, fx_node, value)


@handles("threshold")
def threshold(importer: Importer, fx_node: Any, x: Any, low: Any, value: Any) -> None:
    """x where it is above 0, else 0: a ReLU."""
    if float(low) != 0.0 or float(value) != 0.0:
        raise UnsupportedError(f"threshold({low}, {value}): only one of 0 with 0 below it is a spiking activation")
    relu(importer, fx_node, x)


def _window(rank: int, kernel: Any, stride: Any, padding: Any, ceil_mode: Any) -> dict[str, Any]:
    sizes = _pair(kernel, rank)
    return {
        "kernel": sizes,
        "stride": _pair(stride, rank) if stride else sizes,
        "padding": _pair(padding, rank),
        "ceil_mode": int(bool(ceil_mode)),
    }


def _rank(x: Any) -> int:
    return len(x.meta["val"].shape) - 2


@handles("max_pool1d", "max_pool2d")
def max_pool(
    importer: Importer, fx_node: Any, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> None:
    """Maximum over windows."""
    if any(step != 1 for step in _pair(dilation, _rank(x))):
        raise UnsupportedError("a dilated max-pool: use dilation 1")
    importer.emit(fx_node, "max_pool", [importer.value(x)], **_window(_rank(x), kernel, stride, padding, ceil_mode))


@handles("avg_pool1d", "avg_pool2d")
def average_pool(  # noqa: PLR0913 - the operator's own arguments
    importer: Importer,
    fx_node: Any,
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor: Any = None,
) -> None:
    """Mean over windows."""
    if divisor is not None:
        raise UnsupportedError("an average pool with a divisor of its own: use the plain one")
    window = _window(_rank(x), kernel, stride, padding, ceil_mode)
    importer.emit(
        fx_node, "average_pool", [importer.value(x)], count_include_pad=int(bool(count_include_pad)), **window
    )


def _adaptive(operator: str, function: str) -> Any:
    def handler(importer: Importer, fx_node: Any, x: Any, size: Any) -> None:
        spatial = [int(axis) for axis in x.meta["val"].shape[2:]]
        wanted = [
            axis if want is None else int(want) for want, axis in zip(_pair(size, len(spatial)), spatial, strict=True)
        ]
        if all(want == 1 for want in wanted):
            pooled = importer.emit(fx_node, "global_pool", [importer.value(x)], function=function)
            importer.emit(fx_node, "reshape", [pooled], shape=(int(x.meta["val"].shape[1]), *wanted))
            return
        if any(axis % want for axis, want in zip(spatial, wanted, strict=True)):
            raise UnsupportedError(f"adaptive pooling from {spatial} to {wanted}: choose a size that divides the input")
        kernel = [axis // want for axis, want in zip(spatial, wanted, strict=True)]
        importer.emit(fx_node, operator, [importer.value(x)], **_window(len(spatial), kernel, kernel, 0, False))

    return handler


for _rank_name in ("1d", "2d"):
    HANDLERS[f"aten.adaptive_avg_pool{_rank_name}"] = _adaptive("average_pool", "mean")
    HANDLERS[f"aten._adaptive_avg_pool{_rank_name}"] = _adaptive("average_pool", "mean")
    HANDLERS[f"aten.adaptive_max_pool{_rank_name}"] = _adaptive("max_pool", "max")
