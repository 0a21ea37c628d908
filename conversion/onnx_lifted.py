"""ONNX operators on values whose batch axis is somewhere else (see ``onnx_batch``): each acts on a sample alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .._check import CorruptFileError, UnsupportedError
from . import onnx_layout as layout
from .onnx_batch import BATCH, LOSES_BATCH, Groups, Moved, normal, settled
from .onnx_builder import Value
from .onnx_call import Call, Item

Result = Item | list[Item]
Handler = Callable[[Call], Any]

SAME = ("Cast", "CastLike", "Dropout", "Identity")
ELEMENTWISE = (
    *("Add", "Clip", "Div", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Max", "Min", "Mul", "Neg", "Relu"),
    *("Sigmoid", "Sub", "Sum", "Swish", "Tanh"),
)
LAST_AXIS = ("Gemm", "LayerNormalization", "MatMul", "RMSNormalization")
ONE_AXIS = ("Gather", "Slice", "Softmax", "Split")


def lifted(call: Call, handler: Handler) -> Result:
    """What a call gives of which at least one input is ``Moved``; handler: what ordinary values take."""
    if call.operator in layout.STRUCTURE:
        return layout.STRUCTURE[call.operator](call)
    if call.operator in SAME:
        return call.moved()
    if call.operator not in (*ELEMENTWISE, *LAST_AXIS, *ONE_AXIS):
        raise UnsupportedError(LOSES_BATCH)
    inputs, groups = _opened(call)
    plain = replace(call, inputs=inputs)
    if call.operator in ONE_AXIS:
        plain, groups = _along(call, plain, groups)
    if call.operator in LAST_AXIS and BATCH in groups[-1]:
        raise UnsupportedError(LOSES_BATCH)
    found = layout.dense(plain) if call.operator == "Gemm" else handler(plain)
    if isinstance(found, list):
        return [_closed(call, value, groups) for value in found]
    return _closed(call, found, groups)


def _opened(call: Call) -> tuple[list[Item | None], Groups]:
    """Inputs with the batch in front, and what ONNX's axes are made of: the same for every value."""
    opened: list[Item | None] = []
    groups: Groups | None = None
    for item in call.inputs:
        if isinstance(item, Value):
            raise UnsupportedError(f"only one of its inputs has the batch as the first axis: {LOSES_BATCH}")
        if isinstance(item, Moved):
            item = normal(call.builder, item, call.name)
            if groups not in (None, item.groups):
                raise UnsupportedError(f"the samples lie along different axes of its inputs: {LOSES_BATCH}")
            opened, groups = [*opened, item.value], item.groups
        else:
            opened.append(item)
    if call.operator in ELEMENTWISE and groups is not None:
        opened = [_constant(item, groups) if isinstance(item, np.ndarray) else item for item in opened]
    return opened, groups or ()


def _constant(array: np.ndarray, groups: Groups) -> np.ndarray:
    """A constant in the axes of ``_opened``: the same for every sample."""
    if array.ndim > len(groups):
        raise UnsupportedError(f"a constant of {array.ndim} axes for a value of {len(groups)}")
    array = array.reshape((1,) * (len(groups) - array.ndim) + array.shape)
    shape = [1]
    for group, size in zip(groups, array.shape, strict=True):
        if BATCH in group and size != 1:
            raise UnsupportedError(f"its constant differs between samples: {LOSES_BATCH}")
        shape += [size if BATCH not in group else 1 for part in group if part != BATCH]
    return array.reshape(shape)


def _along(call: Call, plain: Call, groups: Groups) -> tuple[Call, Groups]:
    """The call with its axes counted as ``_opened`` has them, and the axes of what it gives."""
    attributes, inputs = dict(plain.attributes), list(plain.inputs)

    def feature(axis: int) -> int:
        if not -len(groups) <= axis < len(groups):
            raise CorruptFileError(f"axis {axis} does not exist in a tensor of {len(groups)} axes")
        if BATCH in groups[axis]:
            raise UnsupportedError(LOSES_BATCH)
        return groups[axis][0] + 1

    if call.operator != "Slice":
        default = 0 if call.operator != "Softmax" else 1 if call.opset < 13 else -1
        axis = call.integer("axis", default)
        attributes["axis"] = feature(axis)
        drops = call.operator == "Gather" and getattr(call.constant(1, "index"), "ndim", 1) == 0
        if drops:
            kept = [group for place, group in enumerate(groups) if place != axis % len(groups)]
            numbers = iter(range(sum(len(group) for group in kept)))
            groups = tuple(tuple(part if part == BATCH else next(numbers) for part in group) for group in kept)
        return replace(plain, attributes=attributes), groups
    if call.opset < 10:
        starts = call.optional_integers("starts") or ()
        attributes["axes"] = [feature(axis) for axis in call.optional_integers("axes") or range(len(starts))]
    else:
        starts = call.constant_integers(1, "starts") or ()
        axes = call.constant_integers(3, "axes") or range(len(starts))
        inputs += [None] * (4 - len(inputs))
        inputs[3] = np.array([feature(axis) for axis in axes], np.int64)
    return replace(plain, attributes=attributes, inputs=inputs), groups


def _closed(call: Call, value: Value, groups: Groups) -> Item:
    return settled(call.builder, Moved(value, groups), call.name)
