"""The ONNX front end: an ``.onnx`` file in, a Graph that computes the same out, or one error that says why not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, helper

from .._check import CorruptFileError, SpikeportError, UnsupportedError
from ..networks.graph import Graph, Node
from .onnx_batch import LOSES_BATCH, Moved
from .onnx_builder import Builder, Value
from .onnx_call import Call, Item
from .onnx_constants import FOLDABLE, Folder, read_tensor
from .onnx_file import STANDARD_DOMAINS, OnnxModel, read_model
from .onnx_head import cut_head
from .onnx_lifted import lifted
from .onnx_nodes import HANDLERS, remedy
from .onnx_patterns import Patterns
from .onnx_run import OnnxRunner
from .source import Source

STAND_INS = (2, 3)  # batch sizes that a network with a dynamic batch is read with; both must give the same Graph


def import_onnx(path: str | Path) -> Source:
    """Read a network from an ONNX file of opset 7 or later, with a fixed or dynamic batch.

    Softmax and argmax at the output are removed with a note.  Nothing in the file is run while reading, and no other
    file is opened.

    Raises UnsupportedError, which lists every operator that is not covered with its place and remedy;
    CorruptFileError for a damaged or hostile file; RangeError for NaN or infinity in the weights; ShapeError where
    shapes do not fit.  All are SpikeportErrors, and nothing else is raised.
    """
    path = Path(path)
    try:
        return _import(path)
    except UnsupportedError as error:
        if error.problems:  # it names the file already
            raise
        raise UnsupportedError(f"cannot convert {path.name}: {error}") from None
    except SpikeportError as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a file from anywhere can make any part of the readers fail in any way
        raise CorruptFileError(f"{path} is no valid ONNX model: {type(error).__name__}: {error}") from None


def _import(path: Path) -> Source:
    model = read_model(path)
    end, finish, notes = cut_head(model.proto.graph, model.output, model.opset)
    stand_ins = STAND_INS if model.batch is None else (model.batch,)
    nodes, *others = [_Reader(model, batch, path.name).read(end) for batch in stand_ins]
    if any(not _same(nodes, other) for other in others):
        raise UnsupportedError("the network treats batches of different size differently; export it with a batch of 1")
    source = {"format": "onnx", "name": path.name, "sha256": model.sha256, "opset": model.opset}
    graph = Graph.of(nodes, {"source": source})
    return Source(path.name, graph, OnnxRunner(model), model.sha256, notes, finish)


def _same(first: Sequence[Node], second: Sequence[Node]) -> bool:
    def described(node: Node) -> tuple[object, ...]:
        return (node.name, node.operator, node.inputs, dict(node.attributes), sorted(node.arrays))

    return [described(node) for node in first] == [described(node) for node in second] and all(
        np.array_equal(one.arrays[key], two.arrays[key])
        for one, two in zip(first, second, strict=True)
        for key in one.arrays
    )


class _Reader:
    """One pass over the nodes that the output needs, for one number of samples."""

    def __init__(self, model: OnnxModel, batch: int, file: str) -> None:
        self._graph, self._opset, self._file = model.proto.graph, model.opset, file
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._builder, self._folder = Builder(batch), Folder(model.opset)
        self._items: dict[str, Item] = {model.input: self._builder.emit(model.input, "input", shape=model.shape)}
        self._missing: dict[str, str] = {}  # tensors that could not be made, and why if nobody has been told yet

    def read(self, end: str) -> list[Node]:
        """The nodes of the Graph whose output is the tensor ``end``."""
        nodes = Patterns(self._graph.node, self._tensors).rewritten(self._graph.node)
        needed = _needed(nodes, end)
        problems = []
        for index, node in enumerate(nodes):
            if node.domain not in STANDARD_DOMAINS:
                problems.append(f"{_place(node)} ({node.domain}.{node.op_type}: {remedy(node.op_type, node.domain)})")
            elif index in needed:
                problems += self._read_node(node)
        if problems:
            number = f"{len(problems)} operator{'s' if len(problems) > 1 else ''}"
            raise UnsupportedError(f"cannot convert {number} of {self._file}", problems)
        value = self._item(end)
        if isinstance(value, Moved):
            raise UnsupportedError(f"the output {end}: {LOSES_BATCH}")
        if not isinstance(value, Value):
            raise UnsupportedError("the output does not depend on the input; export the network itself")
        return self._builder.finished(value)

    def _read_node(self, node: NodeProto) -> list[str]:
        """Take one node over; returns what is wrong with it."""
        lost = [self._missing[name] for name in node.input if name in self._missing]
        problem = "; ".join(filter(None, lost)) if node.op_type in (*HANDLERS, *FOLDABLE) else remedy(node.op_type, "")
        extra = ""
        if not lost:
            try:
                self._items.update(self._results(node))
                problem, extra = "", f"it reads a second result of {_place(node)} ({node.op_type}); use the first only"
            except UnsupportedError as error:
                problem = str(error)
            except SpikeportError as error:
                raise type(error)(f"{_place(node)} ({node.op_type}): {error}") from None
        self._missing.update({name: extra for name in node.output if name and name not in self._items})
        return [f"{_place(node)} ({node.op_type}: {problem})"] if problem else []

    def _results(self, node: NodeProto) -> Iterator[tuple[str, Item]]:
        inputs = [self._item(name) if name else None for name in node.input]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        constants = [item for item in inputs if not isinstance(item, Value | Moved)]
        if node.op_type in FOLDABLE and len(constants) == len(inputs):
            return zip(node.output, self._folder.fold(node, constants, attributes), strict=True)
        if node.op_type not in HANDLERS:
            raise UnsupportedError(remedy(node.op_type, ""))
        call = Call(
            _place(node),
            node.op_type,
            self._opset,
            inputs,
            list(node.input),
            len(node.output),
            attributes,
            self._builder,
        )
        handler = HANDLERS[node.op_type]
        away = any(isinstance(item, Moved) for item in inputs)
        found = lifted(call, handler) if away else handler(call)
        return zip(node.output, found if isinstance(found, list) else [found], strict=False)

    def _item(self, name: str) -> Item:
        if name not in self._items:
            if name in self._missing:
                raise UnsupportedError(f"the output {name} is no result of the network; {self._missing[name]}")
            if name not in self._tensors:
                raise CorruptFileError(f"nothing computes {name}")
            self._items[name] = read_tensor(self._tensors[name])
        return self._items[name]


def _place(node: NodeProto) -> str:
    return node.name or next((name for name in node.output if name), node.op_type)


def _needed(nodes: Sequence[NodeProto], end: str) -> set[int]:
    """Positions of the nodes that the tensor ``end`` depends on."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    found: set[int] = set()
    waiting: list[str] = [end]
    while waiting:
        index = producers.get(waiting.pop())
        if index is not None and index not in found:
            found.add(index)
            waiting += [name for name in nodes[index].input if name]
    return found
