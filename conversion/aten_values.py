"""ATen handlers: functions, norms, attention, and what takes values apart; most need differential spikes."""

import math
from typing import Any

import numpy as np

from .._check import UnsupportedError
from ..networks.graph import make_node
from .aten import HANDLERS, HEADS, Importer, handles

MASKED = -1e30  # for what attention must not see: a graph holds no infinity


def _named(name: str) -> Any:
    def handler(importer: Importer, fx_node: Any, x: Any, *rest: Any) -> None:
        importer.emit(fx_node, "function", [importer.value(x)], function=name)

    return handler


for _target, _name in {
    "silu": "silu", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid", "tanh": "tanh",
}.items():  # fmt: skip
    HANDLERS[f"aten.{_target}"] = _named(_name)


@handles("sigmoid")
def sigmoid(importer: Importer, fx_node: Any, x: Any) -> None:
    """A head is left out; inside the network it is an operator."""
    try:
        HEADS["aten.sigmoid"](importer, fx_node, x, 1)
    except UnsupportedError:
        importer.emit(fx_node, "function", [importer.value(x)], function="sigmoid")


@handles("gelu")
def gelu(importer: Importer, fx_node: Any, x: Any, approximate: str = "none") -> None:
    """GELU, exact or with tanh."""
    function = "gelu" if approximate == "none" else "gelu_tanh"
    importer.emit(fx_node, "function", [importer.value(x)], function=function)


def _softmax(importer: Importer, fx_node: Any, x: Any, dim: int, *rest: Any) -> None:
    """A head is left out; inside the network it is an operator."""
    head = HEADS["aten.softmax"]
    try:
        head(importer, fx_node, x, dim, *rest)
    except UnsupportedError:
        axis = dim % len(fx_node.meta["val"].shape)
        if axis == 0:
            raise UnsupportedError("a softmax over the batch: samples must stay apart") from None
        importer.emit(fx_node, "softmax", [importer.value(x)], axis=axis - 1)


HANDLERS["aten.softmax"] = HANDLERS["aten._softmax"] = _softmax


@handles("layer_norm")
def layer_norm(
    importer: Importer,
    fx_node: Any,
    x: Any,
    shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *rest: Any,
) -> None:
    """LayerNorm over the last axes."""
    held = {"weight": weight, "bias": bias}
    arrays = {name: importer.weight(array) for name, array in held.items() if array is not None}
    importer.emit(fx_node, "layer_norm", [importer.value(x)], arrays=arrays, axes=_axes(x, shape), epsilon=float(eps))


@handles("rms_norm")
def rms_norm(importer: Importer, fx_node: Any, x: Any, shape: Any, weight: Any = None, eps: Any = None) -> None:
    """RMSNorm over the last axes; without an epsilon that of float32."""
    arrays = {} if weight is None else {"weight": importer.weight(weight)}
    epsilon = float(np.finfo(np.float32).eps if eps is None else eps)
    importer.emit(fx_node, "rms_norm", [importer.value(x)], arrays=arrays, axes=_axes(x, shape), epsilon=epsilon)


def _axes(x: Any, shape: Any) -> int:
    if len(shape) >= len(x.meta["val"].shape):
        raise UnsupportedError("a norm over the batch: samples must stay apart")
    return len(shape)


@handles("scaled_dot_product_attention")
def attention(  # noqa: PLR0913 - the operator's own arguments
    importer: Importer,
    fx_node: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    *rest: Any,
) -> None:
    """softmax(scale Q K^T + mask) V, in its parts."""
    shape, width = tuple(query.meta["val"].shape), tuple(key.meta["val"].shape)[-2]
    if len(shape) < 3 or tuple(key.meta["val"].shape)[:-2] != shape[:-2]:
        raise UnsupportedError("attention whose heads are shared or broadcast: repeat keys and values before it")
    base = importer.name_of(fx_node)
    turned = (*range(len(shape) - 3), len(shape) - 2, len(shape) - 3)

    def part(name: str, operator: str, inputs: list[str], **more: Any) -> str:
        return importer.add(make_node(f"{base}.{name}", operator, inputs, **more))

    keys = part("keys", "transpose", [importer.value(key)], permutation=turned)
    products = part("products", "matmul", [importer.value(query), keys])
    arrays = {"factor": np.float32(1 / math.sqrt(shape[-1]) if scale is None else scale)}
    shift = _mask(importer, mask, is_causal, (*shape[1:-1], width))
    scores = part("scores", "scale", [products], arrays=arrays | ({} if shift is None else {"shift": shift}))
    weights = part("weights", "softmax", [scores], axis=len(shape) - 2)
    importer.alias(fx_node, part("values", "matmul", [weights, importer.value(value)]))


def _mask(importer: Importer, mask: Any, is_causal: bool, shape: tuple[int, ...]) -> np.ndarray | None:
    """What is added to the scores, the same for every sample."""
    if mask is None and not is_causal:
        return None
    if mask is None:
        seen = np.tril(np.ones(shape[-2:], bool))
        return np.broadcast_to(np.where(seen, np.float32(0), np.float32(MASKED)), shape)
    held = importer.constants.get(getattr(mask, "name", ""))
    if held is None:
        raise UnsupportedError("an attention mask that depends on the input")
    array = held.numpy()
    array = np.where(array, 0.0, MASKED) if array.dtype == bool else np.maximum(array, MASKED)
    if array.ndim > len(shape):
        if array.shape[0] > 1 and not (array == array[:1]).all():
            raise UnsupportedError("an attention mask that differs between samples")
        array = array[0]
    return np.broadcast_to(array.astype(np.float32), shape)


@handles("select")
def select(importer: Importer, fx_node: Any, x: Any, dim: int, index: int) -> None:
    """One place of an axis, which goes away."""
    importer.take(fx_node, x, dim, range(x.meta["val"].shape[dim])[index], 1, drop=True)


@handles("unbind")
def unbind(importer: Importer, fx_node: Any, x: Any, dim: int = 0) -> None:
    """Every place of an axis; those that are used are taken."""
    importer.parts[fx_node.name] = lambda item, index: importer.take(item, x, dim, index, 1, drop=True)


@handles("split", "split_with_sizes", "chunk")
def split(importer: Importer, fx_node: Any, x: Any, sizes: Any, dim: int = 0) -> None:
    """Pieces of an axis; those that are used are taken."""
    lengths = [part.shape[dim] for part in fx_node.meta["val"]]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    importer.parts[fx_node.name] = lambda item, index: importer.take(item, x, dim, starts[index], lengths[index])


def item(importer: Importer, fx_node: Any, parts: Any, index: int) -> None:
    """One of several results."""
    if parts.name in importer.parts:
        importer.parts[parts.name](fx_node, index)
    elif index == 0:  # batch norm gives its statistics too
        importer.alias(fx_node, importer.value(parts))
    else:
        raise UnsupportedError("only the first result of this operator")


HANDLERS["<built-in function getitem>"] = item
