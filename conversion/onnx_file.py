"""Reading an ONNX file that nobody vouches for: bytes in, a checked model with one input and one output, or an error.

Nothing here follows a path that the file names, and nothing allocates what the file only claims to hold.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from .._check import CorruptFileError, ShapeError, SpikeportError, UnsupportedError
from ..networks.graph import MAX_ELEMENTS

MAX_BYTES = (1 << 31) - 1  # protobuf reads no larger message
OLDEST_OPSET = 7
STANDARD_DOMAINS = ("", "ai.onnx")
FLOATS: Mapping[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}


@dataclass(frozen=True)
class OnnxModel:
    """A model that passed the checks, and what its only input looks like.

    batch: the number of samples that the file fixes, or None where any number will do.
    shape: the features of the input, without the batch axis.
    """

    proto: ModelProto
    content: bytes
    sha256: str
    opset: int
    input: str
    output: str
    batch: int | None
    shape: tuple[int, ...]
    dtype: Any


def read_model(path: Path) -> OnnxModel:
    """Read and check a file.

    Raises CorruptFileError for what is no valid ONNX, UnsupportedError for what is valid and not covered (external
    data, functions, several inputs or outputs, an opset that is too old or new), SpikeportError if it cannot be read.
    """
    content = _read(path)
    try:
        proto = ModelProto.FromString(content)
    except Exception as error:  # noqa: BLE001 - the error type belongs to protobuf, which has no types for mypy
        raise CorruptFileError(f"it does not parse as protobuf ({error})") from None
    if not proto.HasField("graph"):
        raise CorruptFileError("it holds no network (it is empty, or was cut off)")
    for tensor in _all_tensors(proto):
        check_tensor(tensor)
    opset = _opset(proto)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise CorruptFileError(f"onnx.checker refuses it: {' '.join(str(error).split())[:300]}") from None
    _refuse_unread_parts(proto)
    entry = _only_input(proto.graph)
    if len(proto.graph.output) != 1:
        names = ", ".join(value.name for value in proto.graph.output)
        raise UnsupportedError(
            f"the model has {len(proto.graph.output)} outputs ({names}); export it with one: the logits"
        )
    batch, shape, dtype = _input_type(entry)
    digest = hashlib.sha256(content).hexdigest()
    return OnnxModel(proto, content, digest, opset, entry.name, proto.graph.output[0].name, batch, shape, dtype)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CorruptFileError(f"it has {size} bytes; an ONNX file has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise SpikeportError(f"it cannot be read: {error.strerror or error}") from None


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and every graph inside it."""
    waiting = [graph]
    while waiting:
        found = waiting.pop()
        yield found
        for attribute in _attributes(found.node):
            waiting += [attribute.g] if attribute.HasField("g") else []
            waiting += attribute.graphs


def _attributes(nodes: Iterable[NodeProto]) -> Iterator[AttributeProto]:
    for node in nodes:
        yield from node.attribute


def _all_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of the model: of its functions, of graphs inside graphs, and the parts of sparse ones too."""
    graphs = [proto.graph, *(part for info in proto.training_info for part in (info.initialization, info.algorithm))]
    attributes = [attribute for function in proto.functions for attribute in _attributes(function.node)]
    for attribute in attributes:
        graphs += [attribute.g, *attribute.graphs]
    for graph in (inner for outer in graphs for inner in _graphs(outer)):
        attributes += _attributes(graph.node)
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse_tensors = [
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ]
        for sparse in sparse_tensors:
            yield from (sparse.values, sparse.indices)


def check_tensor(tensor: TensorProto) -> None:
    """Refuse a tensor that lies outside the file, or whose declared size does not match what the file holds."""
    name = tensor.name or "(without a name)"
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedError(
            f"tensor {name} lies outside the file, and no other file is opened; save the model as one file "
            f"(onnx.save_model(model, path, save_as_external_data=False))"
        )
    count = prod(tensor.dims)
    if min(tensor.dims, default=1) < 0 or count > MAX_ELEMENTS:
        raise CorruptFileError(
            f"tensor {name} claims the shape {list(tensor.dims)}; at most {MAX_ELEMENTS} elements are read"
        )
    if tensor.HasField("raw_data"):
        try:
            bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
        except (KeyError, TypeError, ValueError):
            raise CorruptFileError(f"tensor {name} has the unknown type {tensor.data_type}") from None
        packed = tensor.data_type in _PACKED_BITS
        size = (count * _PACKED_BITS[tensor.data_type] + 7) // 8 if packed else count * bits // 8
        if len(tensor.raw_data) != size:
            raise CorruptFileError(f"tensor {name} claims {size} bytes, but the file holds {len(tensor.raw_data)}")


_PACKED_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.items()
    if hasattr(TensorProto, name)  # newer versions of onnx know more types
}


def _opset(proto: ModelProto) -> int:
    versions = {entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS}
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1:
        raise CorruptFileError(f"it names {len(versions)} versions of the standard operator set; one was wanted")
    opset = int(versions.pop())
    if not OLDEST_OPSET <= opset <= newest:
        raise UnsupportedError(
            f"the model uses opset {opset}, but {OLDEST_OPSET} to {newest} are read; export it with opset 17"
        )
    return opset


def _refuse_unread_parts(proto: ModelProto) -> None:
    if proto.functions:
        names = ", ".join(f"{function.domain}.{function.name}" for function in proto.functions)
        raise UnsupportedError(f"the model holds functions of its own ({names}); inline them with onnx.inliner")
    if proto.graph.sparse_initializer:
        names = ", ".join(sparse.values.name for sparse in proto.graph.sparse_initializer)
        raise UnsupportedError(f"the model holds sparse tensors ({names}); save them as dense ones")


def _only_input(graph: GraphProto) -> ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    inputs: list[ValueInfoProto] = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise UnsupportedError(f"the model has {len(inputs)} inputs ({names}); export it with exactly one")
    return inputs[0]


def _input_type(entry: ValueInfoProto) -> tuple[int | None, tuple[int, ...], Any]:
    """Batch, feature shape and element type of the input."""
    declared = entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or declared.elem_type not in FLOATS:
        raise UnsupportedError(
            f"the input {entry.name} holds no floating-point numbers; export the model with a float input"
        )
    sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in declared.shape.dim]
    if not declared.HasField("shape") or len(sizes) < 2:
        raise ShapeError(f"the input {entry.name} has the axes {sizes}; (batch, features...) was wanted")
    batch, *features = sizes
    open_axes = [
        axis.dim_param or str(index) for index, axis in enumerate(declared.shape.dim) if index and sizes[index] is None
    ]
    if open_axes:
        raise UnsupportedError(
            f"the input {entry.name} leaves the axes {open_axes} open; export it with only the batch dynamic"
        )
    shape = tuple(size for size in features if size is not None)
    batch = batch or None  # some exporters write 0 for "any"
    if min(shape) < 1 or (batch or 1) < 1 or prod(shape) * (batch or 1) > MAX_ELEMENTS:
        raise ShapeError(f"the input {entry.name} has the axes {sizes}, which no sample can have")
    return batch, shape, FLOATS[declared.elem_type]
