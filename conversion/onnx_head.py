"""The end of a classifier: softmax, sigmoid and argmax are cut off, and applied again only for comparisons."""

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
from onnx import GraphProto, NodeProto, helper

from .onnx_file import STANDARD_DOMAINS

Finish = Callable[[np.ndarray], np.ndarray]


def cut_head(graph: GraphProto, output: str, opset: int) -> tuple[str, Finish, tuple[str, ...]]:
    """Where the network ends without its head, what the head did, and a note for each operator removed."""
    producers = {name: node for node in graph.node for name in node.output}
    steps: list[Finish] = []
    notes: list[str] = []
    while (node := producers.get(output)) is not None and node.domain in STANDARD_DOMAINS and node.output[0] == output:
        step = _head_step(node, opset)
        if step is None and not _passes(node, producers):
            break
        if step is not None:
            steps.insert(0, step)
            notes.append(f"removed {node.op_type} at the output ({node.name or output}): the network returns logits")
        output = node.input[0]
    return output, partial(_apply, tuple(steps)), tuple(notes)


def _passes(node: NodeProto, producers: dict[str, NodeProto]) -> bool:
    """Whether the node leaves labels as they are."""
    before = producers.get(node.input[0]) if node.input else None
    return node.op_type == "Identity" or (node.op_type == "Cast" and before is not None and before.op_type == "ArgMax")


def _apply(steps: tuple[Finish, ...], output: np.ndarray) -> np.ndarray:
    for step in steps:
        output = step(output)
    return output


def _head_step(node: NodeProto, opset: int) -> Finish | None:
    """The head's function of (batch, *features), or None if it is no head or works along the batch."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = values.get("axis", 1 if opset < 13 else -1)
        function = softmax if node.op_type == "Softmax" else log_softmax
        return None if axis == 0 else partial(_softmax_of_opset, function=function, axis=axis, coerce=opset < 13)
    if node.op_type == "Sigmoid":
        return sigmoid
    if node.op_type == "ArgMax":
        axis, last = values.get("axis", 0), bool(values.get("select_last_index", 0))
        return None if axis == 0 else partial(_argmax, axis=axis, keep=bool(values.get("keepdims", 1)), last=last)
    return None


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x) / sum(exp(x)) along an axis."""
    grown = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(grown / grown.sum(axis, keepdims=True))


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """x - log(sum(exp(x))) along an axis."""
    shifted = x - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which leaves the order as it is."""
    return np.asarray((1 + np.tanh(x / 2)) / 2)


def _softmax_of_opset(
    x: np.ndarray, *, function: Callable[[np.ndarray, int], np.ndarray], axis: int, coerce: bool
) -> np.ndarray:
    if not coerce:
        return function(x, axis)
    axis = axis + x.ndim if axis < 0 else axis  # before opset 13: over everything from this axis on
    return function(x.reshape(prod(x.shape[:axis]), -1), 1).reshape(x.shape)


def _argmax(x: np.ndarray, *, axis: int, keep: bool, last: bool) -> np.ndarray:
    found = x.shape[axis] - 1 - np.flip(x, axis).argmax(axis) if last else x.argmax(axis)
    return np.expand_dims(found, axis) if keep else found
