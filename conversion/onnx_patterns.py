"""What exporters write out in parts, put together again: GELU, SiLU, LayerNorm and RMSNorm of older operator sets.

The operator sets before 17 have no LayerNormalization, those before 20 no Gelu and those before 23 no RMSNormalization.
A pattern is a nested tuple ``(operator, input, ...)``; a text is a tensor that must be the same wherever it stands, a
number is a constant of that value, and ``Number(name)`` is any constant of one element.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose, pi, sqrt
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

COMMUTATIVE = ("Add", "Mul")
TOLERANCE = 1e-3  # of a constant, relative: half precision


@dataclass(frozen=True)
class Number:
    """Any constant of one element; what it is goes by this name."""

    name: str


@dataclass
class _Found:
    tensors: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    axes: tuple[int, ...] | None = None

    def copy(self) -> "_Found":
        return _Found(dict(self.tensors), dict(self.numbers), self.axes)


def _product(*factors: Any) -> list[Any]:
    """A product of three in every order of multiplying."""
    a, b, c = factors
    return [("Mul", ("Mul", a, b), c), ("Mul", ("Mul", a, c), b), ("Mul", ("Mul", b, c), a)]


_ERF = [("Add", ("Erf", half), 1.0) for half in (("Div", "x", sqrt(2)), ("Mul", "x", 1 / sqrt(2)))]
_CUBE = [("Pow", "x", 3.0), ("Mul", ("Mul", "x", "x"), "x")]
_INNER = [("Mul", ("Add", "x", ("Mul", cube, 0.044715)), sqrt(2 / pi)) for cube in _CUBE]
_TANH = [("Add", ("Tanh", inner), 1.0) for inner in _INNER]
_CENTRED = ("Sub", "x", ("ReduceMean", "x"))


def _root(of: Any) -> list[Any]:
    squares = [("Pow", of, 2.0), ("Mul", of, of)]
    return [("Sqrt", ("Add", ("ReduceMean", square), Number("epsilon"))) for square in squares]


def _over(value: Any, root: Any) -> list[Any]:
    return [("Div", value, root), ("Mul", value, ("Reciprocal", root)), ("Mul", value, ("Div", 1.0, root))]


_PATTERNS: Sequence[tuple[str, str, Any]] = [
    *(("Gelu", "none", form) for factor in _ERF for form in _product("x", 0.5, factor)),
    *(("Gelu", "tanh", form) for factor in _TANH for form in _product("x", 0.5, factor)),
    ("Identity", "", ("Where", ("IsNaN", "x"), 0.0, "x")),  # a softmax that shall give 0 where all is hidden
    ("Swish", "", ("Mul", "x", ("Sigmoid", "x"))),
    *(("LayerNormalization", "", form) for root in _root(_CENTRED) for form in _over(_CENTRED, root)),
    *(("RMSNormalization", "", form) for root in _root("x") for form in _over("x", root)),
]
_ENDS = {pattern[0] for _, _, pattern in _PATTERNS}


class Patterns:
    """Looks for the patterns in the nodes of one ONNX graph."""

    def __init__(self, nodes: Sequence[NodeProto], tensors: Mapping[str, TensorProto]) -> None:
        self._producers = {name: node for node in nodes for name in node.output if name}
        self._tensors = tensors
        self._readers: dict[str, int] = {}
        for name in (name for node in nodes for name in node.input):
            self._readers[name] = self._readers.get(name, 0) + 1

    def rewritten(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """The nodes with the last one of every pattern replaced by what the pattern computes."""
        found = []
        for node in nodes:
            together = self._together(node) if node.op_type in _ENDS and node.output else None
            self._producers.update({name: together for name in node.output if together is not None})
            found.append(together or node)
        return [self._weighted(node) if node.op_type in ("Add", "Mul") else node for node in found]

    def _together(self, node: NodeProto) -> NodeProto | None:
        for operator, approximate, pattern in _PATTERNS:
            match = self._match(pattern, node.output[0], _Found())
            if match is None:
                continue
            made = helper.make_node(operator, [match.tensors["x"]], node.output[:1], name=node.name)
            if operator == "Gelu":
                made.attribute.append(helper.make_attribute("approximate", approximate))
            if match.axes is not None:
                made.attribute.append(helper.make_attribute("axes", match.axes))
                made.attribute.append(helper.make_attribute("epsilon", match.numbers["epsilon"]))
            return made
        return None

    def _weighted(self, node: NodeProto) -> NodeProto:
        """The norm before a Mul or Add of one number for each unit, with this as its weight or bias."""
        for value, array in (tuple(node.input), tuple(node.input)[::-1]) if len(node.input) == 2 else ():
            norm = self._producers.get(value)
            held = self._array(array)
            if norm is None or "axes" not in {each.name for each in norm.attribute}:
                continue
            slot = 1 if node.op_type == "Mul" else 2
            free = len(norm.input) == slot if slot == 1 else len(norm.input) in (1, 2)
            fits = norm.op_type == "LayerNormalization" or slot == 1
            if held is None or held.ndim != 1 or not (free and fits) or self._readers.get(value) != 1:
                continue
            together = NodeProto()
            together.CopyFrom(norm)
            together.input.extend([""] * (slot - len(norm.input)) + [array])
            together.output[:] = node.output
            self._producers[node.output[0]] = together
            return together
        return node

    def _match(self, pattern: Any, tensor: str, found: _Found) -> _Found | None:
        if isinstance(pattern, str):
            found = found.copy()
            return found if found.tensors.setdefault(pattern, tensor) == tensor else None
        if isinstance(pattern, float | Number):
            return self._number(pattern, tensor, found)
        node = self._producers.get(tensor)
        operator, *wanted = pattern
        if node is None or node.domain or node.op_type != operator:
            return None
        given = list(node.input)
        if operator == "ReduceMean":
            return self._mean(node, wanted[0], found)
        if len(given) != len(wanted):
            return None
        for order in (given, given[::-1]) if operator in COMMUTATIVE else (given,):
            match: _Found | None = found
            for part, name in sorted(zip(wanted, order, strict=True), key=lambda pair: isinstance(pair[0], tuple)):
                match = None if match is None else self._match(part, name, match)
            if match is not None:
                return match
        return None

    def _mean(self, node: NodeProto, wanted: Any, found: _Found) -> _Found | None:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        axes = attributes.get("axes")
        if axes is None and len(node.input) == 2:
            held = self._array(node.input[1])
            axes = None if held is None else held.ravel().tolist()
        if not axes or not attributes.get("keepdims", 1):
            return None
        match = self._match(wanted, node.input[0], found)
        if match is None or match.axes not in (None, tuple(axes)):
            return None
        match = match.copy()
        match.axes = tuple(int(axis) for axis in axes)
        return match

    def _number(self, pattern: float | Number, tensor: str, found: _Found) -> _Found | None:
        held = self._array(tensor)
        if held is None or held.size != 1 or held.dtype.kind not in "fiu":
            return None
        number = float(held.ravel()[0])
        if isinstance(pattern, float):
            return found if isclose(number, pattern, rel_tol=TOLERANCE) else None
        found = found.copy()
        return found if found.numbers.setdefault(pattern.name, number) == number else None

    def _array(self, tensor: str) -> np.ndarray | None:
        """A small constant of the graph."""
        node = self._producers.get(tensor)
        if node is not None and node.op_type == "Identity":
            return self._array(node.input[0])
        proto = self._tensors.get(tensor)
        if node is not None and node.op_type == "Constant":
            values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            if "value_float" in values:
                return np.asarray(values["value_float"])
            proto = values.get("value")
        if not isinstance(proto, TensorProto) or len(proto.dims) > 1 or proto.data_type == TensorProto.STRING:
            return None
        try:
            return np.asarray(numpy_helper.to_array(proto))
        except (ValueError, TypeError, KeyError):
            return None
