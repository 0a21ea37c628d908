"""ONNX operators that need the value itself: functions, norms, softmax, attention; they take differential spikes."""

import math

import numpy as np

from .._check import CorruptFileError, UnsupportedError
from . import onnx_layout as layout
from .onnx_builder import Value
from .onnx_call import MASKED, Call
from .onnx_elementwise import scaled


def _function(call: Call, name: str, value: Value | None = None) -> Value:
    value = call.value() if value is None else value
    return call.builder.view(call.builder.emit(call.name, "function", [value.node], function=name), value.order)


def erf(call: Call) -> Value:
    """The error function."""
    return _function(call, "erf")


def sigmoid(call: Call) -> Value:
    """1 / (1 + exp(-x))."""
    return _function(call, "sigmoid")


def tanh(call: Call) -> Value:
    """The hyperbolic tangent."""
    return _function(call, "tanh")


def hard_swish(call: Call) -> Value:
    """x min(max(0, x + 3), 6) / 6."""
    return _function(call, "hard_swish")


def gelu(call: Call) -> Value:
    """GELU, exact or with tanh."""
    form = call.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise CorruptFileError(f"its approximate is {form!r}; none or tanh was wanted")
    return _function(call, "gelu" if form == "none" else "gelu_tanh")


def hard_sigmoid(call: Call) -> Value:
    """min(max(0, alpha x + beta), 1), as PyTorch's own form of 6 alpha x + 6 beta - 3."""
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    factor, shift = 6 * alpha, 6 * beta - 3
    value = call.value()
    if abs(factor - 1) > 1e-6 or abs(shift) > 1e-6:
        value = scaled(call, value, factor, np.asarray(shift))
    return _function(call, "hard_sigmoid", value)


def swish(call: Call) -> Value:
    """x / (1 + exp(-alpha x)), which is SiLU of alpha x, over alpha."""
    alpha = call.number("alpha", 1.0)
    if alpha == 0:
        return scaled(call, call.value(), 0.5, None)
    if alpha == 1:
        return _function(call, "silu")
    return scaled(call, _function(call, "silu", scaled(call, call.value(), alpha, None)), 1 / alpha, None)


def softmax(call: Call) -> Value:
    """exp(x) / sum exp(x) along a feature axis."""
    value = call.value()
    axis = call.axis(call.integer("axis", 1 if call.opset < 13 else -1), len(value.shape))
    if call.opset < 13 and math.prod(value.shape[axis + 1 :]) > 1:
        raise UnsupportedError("before opset 13 it runs over several axes at once; export with opset 13 or later")
    made = call.builder.emit(call.name, "softmax", [value.node], axis=value.order[axis])
    return call.builder.view(made, value.order)


def layer_norm(call: Call) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axes."""
    return _norm(call, "layer_norm", {"weight": 1, "bias": 2})


def rms_norm(call: Call) -> Value:
    """x / sqrt(mean x^2 + epsilon) * weight over the last axes."""
    return _norm(call, "rms_norm", {"weight": 1})


def _norm(call: Call, operator: str, inputs: dict[str, int]) -> Value:
    value = call.plain()
    rank = len(value.shape)
    over = [call.axis(axis, rank) for axis in call.optional_integers("axes") or ()]
    if not over:
        over = list(range(call.axis(call.integer("axis", -1), rank), rank))
    if sorted(over) != list(range(rank - len(over), rank)):
        raise UnsupportedError(
            f"it normalises the axes {sorted(axis + 1 for axis in over)} of {('batch', *value.shape)}; only the last "
            "ones are covered: transpose before and after it"
        )
    wanted = value.shape[rank - len(over) :]
    arrays = {}
    for name, index in inputs.items():
        if call.item(index) is not None:
            array = call.weights(index, name)
            if array.ndim > len(wanted) or any(
                a not in (1, b) for a, b in zip(array.shape[::-1], wanted[::-1], strict=False)
            ):
                raise UnsupportedError(f"its {name} of shape {array.shape} does not fit the normalised axes {wanted}")
            arrays[name] = np.broadcast_to(array, wanted)
    epsilon = call.number("epsilon", 1e-5)
    return call.builder.emit(call.name, operator, [value.node], arrays=arrays, axes=len(over), epsilon=epsilon)


def gather(call: Call) -> Value:
    """One place of an axis, which goes away with a scalar index, or places at equal distances."""
    if not isinstance(call.item(0), Value):
        raise UnsupportedError("it looks values up by an index that the network computes; compute the lookup outside")
    value = call.value()
    axis = call.axis(call.integer("axis", 0), len(value.shape))
    found = call.constant(1, "index")
    if found is None or found.dtype.kind not in "iu" or found.ndim > 1 or not found.size:
        raise UnsupportedError("its index is no whole number and no list of them; use a slice")
    length = value.shape[axis]
    places = [int(place) for place in found.ravel()]
    if any(not -length <= place < length for place in places):
        raise CorruptFileError(f"its index {places} is not in an axis of {length}")
    places = [place % length for place in places]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or places != list(range(places[0], places[0] + step * len(places), step)):
        raise UnsupportedError(f"it picks the places {places}, which are not at equal distances; use slices")
    picks = [(0, 1, size) for size in value.shape]
    picks[axis] = (places[0], step, len(places))
    taken = layout.pick(call, call.name, picks)
    if found.ndim:
        return taken
    rest = tuple(size for place, size in enumerate(value.shape) if place != axis)
    order = tuple(a - (a > value.order[axis]) for place, a in enumerate(value.order) if place != axis)
    inner = tuple(size for place, size in enumerate(taken.inner) if place != value.order[axis])
    if not rest:
        raise UnsupportedError("it leaves one number of each sample; keep the axis")
    shaped = call.builder.reshaped(Value(taken.node, taken.inner, tuple(range(len(inner) + 1))), inner, call.name)
    return call.builder.view(shaped, order)


def attention(call: Call) -> Value:
    """softmax(scale Q K^T + mask) V, in its parts; (batch, heads, tokens, width) or heads folded into the width."""
    objection = _attention_objection(call)
    if objection:
        raise UnsupportedError(objection)
    builder, flat = call.builder, len(call.value().shape) == 2
    counts = [call.integer(f"{part}_num_heads", 0) for part in ("q", "kv", "kv")]
    query, key, value = (_heads(call, index, counts[index]) if flat else call.plain(index) for index in range(3))
    if query.shape[0] != key.shape[0] or key.shape[0] != value.shape[0]:
        raise UnsupportedError("its heads share keys and values; repeat them before it")
    turned = builder.plain(key.permuted((0, 2, 1)), f"{call.name}.keys")
    products = builder.emit(f"{call.name}.products", "matmul", [query.node, turned.node])
    arrays = {"factor": np.asarray(call.number("scale", 1 / math.sqrt(query.shape[-1])))}
    scores = builder.emit(f"{call.name}.scores", "scale", [products.node], arrays=arrays | _mask(call, products.shape))
    weights = builder.emit(f"{call.name}.weights", "softmax", [scores.node], axis=2)
    mixed = builder.emit(f"{call.name}.values", "matmul", [weights.node, value.node])
    if not flat:
        return mixed
    heads, tokens, width = mixed.shape
    return builder.reshaped(mixed.permuted((1, 0, 2)), (tokens, heads * width), call.name)


def _attention_objection(call: Call) -> str:
    if any(call.item(index) is not None for index in range(4, 7)):
        return "it has past keys or values, or a length of padding; export one pass over whole samples"
    if call.number("softcap", 0.0) or call.integer("qk_matmul_output_mode", 0):
        return "it bounds its scores (softcap) or gives them out; export without"
    ranks = {len(call.value(index).shape) for index in range(3)}
    return "" if ranks in ({2}, {3}) else "its inputs are not all (batch, heads, tokens, width)"


def _heads(call: Call, index: int, heads: int) -> Value:
    """(tokens, heads * width) -> (heads, tokens, width)."""
    value = call.value(index)
    tokens, width = value.shape
    if heads < 1 or width % heads:
        raise CorruptFileError(f"{heads} heads do not fit a width of {width}")
    parts = call.builder.reshaped(value, (tokens, heads, width // heads), f"{call.name}.{index}")
    return call.builder.plain(parts.permuted((1, 0, 2)), f"{call.name}.{index}")


def _mask(call: Call, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What is added to the scores (heads, queries, keys), the same for every sample."""
    shift = np.zeros(shape, np.float32)
    if call.integer("is_causal", 0):
        shift += np.where(np.tril(np.ones(shape[1:], bool)), np.float32(0), np.float32(MASKED))
    mask = call.constant(3, "mask")
    if mask is not None:
        added = np.where(mask, 0.0, MASKED) if mask.dtype == bool else np.maximum(mask.astype(np.float32), MASKED)
        if added.ndim > 3 and not (added == added[:1]).all():
            raise UnsupportedError("its mask differs between samples; give all of them the same")
        added = added[0] if added.ndim > 3 else added
        if added.ndim > 3 or any(a not in (1, b) for a, b in zip(added.shape[::-1], shape[::-1], strict=False)):
            raise UnsupportedError(f"a mask of shape {mask.shape} does not fit scores {shape}")
        shift = shift + np.broadcast_to(added.astype(np.float32), shape)
    return {"shift": shift} if shift.any() else {}
