"""ONNX operators that treat every element or channel alone: activations, sums, products, scales, batch norm."""

import numpy as np

from .._check import RangeError, UnsupportedError
from .onnx_builder import Value
from .onnx_call import Call

UNBOUNDED = 3.4e38  # older exporters write the largest float for "no bound"
FLOAT_TYPES = (1, 10, 11, 16)


def relu(call: Call) -> Value:
    """max(0, x)."""
    return _activation(call, None)


def _activation(call: Call, maximum: float | None) -> Value:
    """min(max(0, x), maximum); a bound on an activation joins it."""
    builder, value = call.builder, call.value()
    source = builder.nodes[value.node]
    if source.operator == "activation":
        bounds = [bound for bound in (source.attributes["maximum"], maximum) if bound is not None]
        if min(bounds, default=None) == source.attributes["maximum"]:
            return value
        made = builder.emit(call.name, "activation", source.sources, maximum=min(bounds, default=None))
    else:
        made = builder.emit(call.name, "activation", [value.node], maximum=maximum)
    return builder.view(made, value.order)


def clip(call: Call) -> Value:
    """Clip(0, maximum); the bounds are attributes before opset 11, inputs since."""
    if call.opset < 11:
        return _bounded(call, call.number("min", -np.inf), call.number("max", np.inf))
    return _bounded(call, call.scalar(1, "lower bound"), call.scalar(2, "upper bound"))


def minimum(call: Call) -> Value:
    """Min of a non-negative value and a constant."""
    return _bounded(call, None, _only_bound(call))


def maximum(call: Call) -> Value:
    """Max of a value and the constant 0."""
    return _bounded(call, _only_bound(call), None)


def _only_bound(call: Call) -> float | None:
    if len(call.inputs) != 2 or all(isinstance(item, Value) for item in call.inputs):
        raise UnsupportedError("only one value and one constant are covered; retrain with ReLU")
    return call.scalar(1, "bound") if isinstance(call.item(0), Value) else call.scalar(0, "bound")


def _bounded(call: Call, low: float | None, high: float | None) -> Value:
    (value,) = [item for item in call.inputs if isinstance(item, Value)][:1]
    call = Call(**{**call.__dict__, "inputs": [value]})
    low = None if low is None or low <= -UNBOUNDED else low
    high = None if high is None or high >= UNBOUNDED else high
    positive = call.builder.non_negative(value)
    if high is not None and high < 0:
        raise UnsupportedError(f"its upper bound is {high}; retrain with ReLU")
    if low == 0 or (positive and high is not None and (low is None or low < 0)):
        return _activation(call, high)
    if high is None and (low is None or (positive and low < 0)):
        return value
    raise UnsupportedError(f"it cuts to [{low}, {high}], and a firing rate starts at 0; retrain with ReLU or ReLU6")


def leaky_relu(call: Call) -> Value:
    """Covered where its slope is 0."""
    if call.number("alpha", 0.01) != 0:
        raise UnsupportedError("a firing rate has no negative part; retrain with ReLU")
    return _activation(call, None)


def constant_for(call: Call, index: int, value: Value, *, masks: bool = False) -> np.ndarray:
    """A constant input as the Graph holds it: (), (channels,), or one number for each element of ``value``.

    masks: minus infinity is allowed in it, as the scores of attention take it, and becomes a finite number.
    """
    constant = call.weights(index, "constant") if not masks else call.mask(index)
    full = (call.builder.batch, *value.shape)
    while constant.ndim > len(full) and constant.shape[0] == 1:
        constant = constant[0]
    constant = constant.reshape((1,) * (len(full) - constant.ndim) + constant.shape)
    fits = constant.ndim == len(full) and all(
        size in (1, whole) for size, whole in zip(constant.shape, full, strict=True)
    )
    if not fits:
        raise UnsupportedError(
            f"a constant of shape {constant.shape} does not fit {('batch', *value.shape)} elementwise"
        )
    if not (constant == constant[:1]).all():
        raise UnsupportedError(
            "its constant differs between the samples of a batch; export with a batch of 1 or a dynamic one"
        )
    inner = constant[0].transpose(np.argsort(value.order)) if value.shape else constant[0]
    if inner.size == 1:
        return np.asarray(inner.reshape(()))
    if inner.size == inner.shape[0]:
        return np.asarray(inner.reshape(-1))
    return np.broadcast_to(inner, value.inner)


def scaled(call: Call, value: Value, factor: np.ndarray | float, shift: np.ndarray | None) -> Value:
    """factor * value + shift."""
    arrays = {"factor": np.asarray(factor)} if shift is None else {"factor": np.asarray(factor), "shift": shift}
    made = call.builder.emit(call.name, "scale", [value.node], arrays=arrays)
    return call.builder.view(made, value.order)


def _joined(call: Call, operator: str, first: Value, second: Value) -> Value:
    """An elementwise operator of two values; in the Graph's own axes where both agree on them."""
    builder = call.builder
    if len(first.shape) != len(second.shape):
        raise UnsupportedError(f"its inputs have the shapes {first.shape} and {second.shape}; make their ranks equal")
    if first.order != second.order:
        first, second = builder.plain(first, call.name), builder.plain(second, call.name)
    return builder.view(builder.emit(call.name, operator, [first.node, second.node]), first.order)


def add(call: Call) -> Value:
    """Add and Sum: any number of values and constants."""
    values = [item for item in call.inputs if isinstance(item, Value)]
    total = values[0]
    for other in values[1:]:
        total = _joined(call, "add", total, other)
    for index, item in enumerate(call.inputs):
        if isinstance(item, np.ndarray):
            total = scaled(call, total, 1.0, constant_for(call, index, total, masks=True))
    return total


def subtract(call: Call) -> Value:
    """x - c, c - x and x - y."""
    first, second = call.item(0), call.item(1)
    if isinstance(first, Value) and isinstance(second, Value):
        return _joined(call, "add", first, scaled(call, second, -1.0, None))
    if isinstance(first, Value):
        return scaled(call, first, 1.0, -constant_for(call, 1, first))
    value = call.value(1)
    return scaled(call, value, -1.0, constant_for(call, 0, value))


def negate(call: Call) -> Value:
    """Minus x."""
    return scaled(call, call.value(), -1.0, None)


def multiply(call: Call) -> Value:
    """A value times a constant, or times another value."""
    first, second = call.item(0), call.item(1)
    if isinstance(first, Value) and isinstance(second, Value):
        return _joined(call, "multiply", first, second)
    value, index = (first, 1) if isinstance(first, Value) else (call.value(1), 0)
    return scaled(call, value, constant_for(call, index, value), None)


def divide(call: Call) -> Value:
    """A value by a constant."""
    if isinstance(call.item(1), Value):
        raise UnsupportedError("it divides by a value of the network; retrain without it")
    value = call.value()
    divisor = constant_for(call, 1, value).astype(np.float64)
    if not divisor.all():
        raise RangeError(f"tensor {call.input_names[1]} holds 0 and is divided by; repair the source network")
    return scaled(call, value, 1 / divisor, None)


def batch_norm(call: Call) -> Value:
    """Batch normalisation with the trained statistics."""
    if call.integer("training_mode", 0) or (call.opset < 9 and not call.integer("spatial", 1)):
        raise UnsupportedError("it normalises with the batch itself; export the model in evaluation mode")
    builder, value = call.builder, call.value()
    if value.order[0] != 0:  # ONNX's channel axis is another one than the Graph's
        value = builder.plain(value, call.name)
    names = ("weight", "bias", "mean", "variance")
    arrays = {name: call.weights(index, name).reshape(-1) for index, name in enumerate(names, start=1)}
    epsilon = call.number("epsilon", 1e-5)
    if any(array.shape != value.inner[:1] for array in arrays.values()):
        raise UnsupportedError(f"its arrays do not have one number for each of {value.inner[0]} channels")
    if not (arrays["variance"] + epsilon > 0).all():
        raise RangeError(
            f"tensor {call.input_names[4]} holds a variance that is not above 0; repair the source network"
        )
    return builder.view(
        builder.emit(call.name, "batch_norm", [value.node], arrays=arrays, epsilon=epsilon), value.order
    )


def identity(call: Call) -> Value:
    """The value itself."""
    return call.value()


def dropout(call: Call) -> Value:
    """Nothing, once training is over."""
    training = call.constant(2, "training mode")
    if training is not None and training.any():
        raise UnsupportedError("it is in training mode; export the model in evaluation mode")
    return call.value()


def cast_like(call: Call) -> Value | np.ndarray:
    """To the type of another input: every value of the network is a floating-point number."""
    first, like = call.item(0), call.item(1)
    if isinstance(first, Value):
        if isinstance(like, np.ndarray) and like.dtype.kind != "f":
            raise UnsupportedError("it rounds the values of the network to integers; export the float model")
        return first
    return call.weights(0, "constant")


def cast(call: Call) -> Value:
    """Between floating-point types: nothing."""
    if call.integer("to", 0) not in FLOAT_TYPES:
        raise UnsupportedError("it rounds the values of the network to integers; export the float model")
    return call.value()
