"""Constants of an ONNX graph: tensors read into arrays, and operators on constants computed while importing.

Exporters compute shapes, paddings and dequantised weights with ordinary nodes.  Each such node is run by the reference
implementation of ``onnx``, after its result is known to be small enough.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from .._check import CorruptFileError, UnsupportedError

MAX_FOLDED = 1 << 28  # elements that all folded nodes of one model may make together

GROWING = ("ConstantOfShape", "Expand", "Gather", "MatMul", "Pad", "Range", "Tile")
ELEMENTWISE = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max"),
    *("Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
)
NOT_GROWING = (
    *(
        "Abs",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Concat",
        "Constant",
        "DequantizeLinear",
        "Exp",
        "Flatten",
        "Floor",
        "Identity",
    ),
    *("Log", "Neg", "Not", "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *(
        "ReduceSum",
        "Relu",
        "Reshape",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ),
)
FOLDABLE = frozenset((*GROWING, *ELEMENTWISE, *NOT_GROWING))
REFERENCE_SINCE = {"DequantizeLinear": 19}  # the reference has no older version; what older ones do, it does too


def read_tensor(tensor: TensorProto) -> np.ndarray:
    """The array that a (checked) tensor holds.  Raises UnsupportedError for text."""
    if tensor.data_type in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128, TensorProto.UNDEFINED):
        raise UnsupportedError(f"tensor {tensor.name} holds no real numbers; remove it from the exported model")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptFileError(f"tensor {tensor.name} cannot be read: {error}") from None


class Folder:
    """Computes nodes whose inputs are constants, within a budget of elements."""

    def __init__(self, opset: int) -> None:
        self._opset, self._left = opset, MAX_FOLDED

    def fold(
        self, node: NodeProto, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]
    ) -> list[np.ndarray]:
        """The outputs of a node.  Raises CorruptFileError if it cannot be computed, or would be too large."""
        try:
            size = _result_size(node.op_type, [None if x is None else np.asarray(x) for x in inputs], attributes)
        except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
            raise CorruptFileError(f"it computes no valid constant: {error}") from None
        self._left -= size
        if self._left < 0:
            raise CorruptFileError(f"it computes constants of more than {MAX_FOLDED} elements; that is not read")
        results = _evaluate(node, inputs, self._opset)
        for result in results:
            if result.dtype.kind not in "biuf" and result.dtype.names is None and "float" not in result.dtype.name:
                raise CorruptFileError("it computes something that is no tensor")
        return results


def _result_size(operator: str, inputs: Sequence[np.ndarray | None], attributes: Mapping[str, Any]) -> int:
    """An upper bound of the elements that the node makes; a Python int, so that nothing overflows."""
    given = [x for x in inputs if x is not None]
    total = sum(x.size for x in given)
    if operator == "ConstantOfShape":
        return prod(int(axis) for axis in given[0].ravel())
    if operator == "Expand":
        return given[0].size * prod(max(int(axis), 1) for axis in given[1].ravel())
    if operator == "Tile":
        return given[0].size * prod(max(int(axis), 1) for axis in given[1].ravel())
    if operator == "Gather":
        return given[0].size * given[1].size
    if operator == "Range":
        start, limit, delta = (float(x.ravel()[0]) for x in given)
        return max(int((limit - start) / delta) + 1, 0)
    if operator == "Pad":
        pads = given[1].ravel() if len(given) > 1 else np.asarray(attributes.get("pads", ()))
        most = max((abs(int(width)) for width in pads), default=0)
        return prod(size + 2 * most for size in given[0].shape)
    if operator == "MatMul":
        return prod(given[0].shape[:-1]) * prod(given[1].shape[:-2]) * (given[1].shape[-1] if given[1].ndim > 1 else 1)
    if operator in ELEMENTWISE:
        return prod(np.broadcast_shapes(*(x.shape for x in given)))
    return total


def _evaluate(node: NodeProto, inputs: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    empty = onnx.TypeProto()
    feeds = {name: array for name, array in zip(node.input, inputs, strict=True) if name and array is not None}
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_value_info(name, empty) for name in feeds],
        [onnx.helper.make_value_info(name, empty) for name in node.output if name],
    )
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(graph, opsets={"": max(opset, REFERENCE_SINCE.get(node.op_type, 0))}).run(
                None, feeds
            )
    except MemoryError:
        raise CorruptFileError("it computes a constant that does not fit into memory") from None
    except Exception as error:  # noqa: BLE001 - whatever the reference implementation raises, the node is at fault
        raise CorruptFileError(f"it computes no valid constant: {type(error).__name__}: {error}") from None
    names = iter(found)
    return [np.asarray(next(names)) if name else np.empty(0) for name in node.output]
