"""What each ATen operator becomes in the Graph: one small handler an operator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import UnsupportedError
from ..networks.graph import Node, make_node
from .source import unchanged

REMEDIES = {
    "leaky_relu": "LeakyReLU: retrain with ReLU",
    "elu": "ELU: retrain with ReLU",
    "group_norm": "GroupNorm: retrain with BatchNorm",
    "native_dropout": "dropout that eval mode does not turn off: give it training=self.training",
    "_native_batch_norm_legit": "batch norm without trained statistics: train it with track_running_stats=True",
}
SLICE_END = 1 << 62


class Importer:
    """Collects Graph nodes, constants, notes and problems while the exported graph is walked."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        self.constants: dict[str, Any] = dict(constants)
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.finish: Callable[[np.ndarray], np.ndarray] = unchanged
        self.parts: dict[str, Callable[[Any, int], None]] = {}  # how to take one of several results
        self.batch_axis: dict[str, int] = {}  # of values whose batch is not in front
        self._value: dict[str, str] = {}
        self._names: set[str] = {"output"}

    def add_input(self, fx_node: Any) -> None:
        """The one input of the network."""
        self._value[fx_node.name] = self.add(make_node("input", "input", shape=tuple(fx_node.meta["val"].shape[1:])))

    def add(self, node: Node) -> str:
        """Keep a node and return its name."""
        self.nodes.append(node)
        self._names.add(node.name)
        return node.name

    def emit(self, fx_node: Any, operator: str, inputs: Sequence[str], *, arrays: Any = None, **attributes: Any) -> str:
        """Add a node for ``fx_node`` and let it stand for its value."""
        node = make_node(self.name_of(fx_node), operator, inputs, arrays=arrays, **attributes)
        self._value[fx_node.name] = self.add(node)
        return node.name

    def alias(self, fx_node: Any, name: str, batch_axis: int = 0) -> None:
        """``fx_node`` changes nothing: its value is that of the node ``name``, with the batch at another axis."""
        self._value[fx_node.name] = name
        self.batch_axis[fx_node.name] = batch_axis

    def name_of(self, fx_node: Any) -> str:
        """The module's path for a leaf module, else path and operator; unique."""
        base = place(fx_node)
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name

    def value(self, fx_node: Any) -> str:
        """The node that stands for the value of ``fx_node``."""
        if self.batch_axis.get(fx_node.name, 0):
            raise UnsupportedError(
                "the batch axis was moved before it: keep it in front (nn.MultiheadAttention: batch_first=True)"
            )
        return self.moved_value(fx_node)

    def moved_value(self, fx_node: Any) -> str:
        """As ``value``, wherever the batch axis is (see ``batch_axis``)."""
        if fx_node.name in self.constants:
            raise UnsupportedError("a constant stands where a value that depends on the input was expected")
        return self._value[fx_node.name]

    def learned(self, fx_node: Any, like: str) -> str:
        """A node for a constant that stands beside values: the same for every sample of the node ``like``."""
        array = self.weight(fx_node)
        if not (array == array[:1]).all():
            raise UnsupportedError("a constant that differs between samples")
        return self.add(make_node(self.name_of(fx_node), "constant", [like], arrays={"value": array[0]}))

    def take(self, fx_node: Any, x: Any, dim: int, start: int, length: int, *, drop: bool = False) -> None:
        """Let ``fx_node`` stand for ``length`` places of an axis of x; one place may drop the axis."""
        shape, batch = list(x.meta["val"].shape), self.batch_axis.get(x.name, 0)
        dim %= len(shape)
        if dim == batch:
            raise UnsupportedError("single samples are taken out of the batch: samples must stay apart")
        name, axis = self.moved_value(x), dim - (dim > batch)
        if length < shape[dim]:
            name = self.emit(fx_node, "slice", [name], axis=axis, start=start, stop=start + length)
        if drop:
            features = [size for place, size in enumerate(shape) if place not in (batch, dim)]
            name = self.emit(fx_node, "reshape", [name], shape=tuple(features))
        self.alias(fx_node, name, batch - (drop and dim < batch))

    def constant(self, argument: Any) -> np.ndarray | None:
        """The array of a constant argument (a weight, a number), or None if it depends on the input."""
        if isinstance(argument, int | float):
            return np.float32(argument) + np.zeros((), np.float32)
        held = self.constants.get(getattr(argument, "name", ""))
        return None if held is None else held.to(torch.float32).numpy()

    def weight(self, argument: Any) -> np.ndarray:
        """A constant array that must be there."""
        array = self.constant(argument)
        if array is None:
            raise UnsupportedError("its weights depend on the input")
        return array

    def fold(self, fx_node: Any) -> bool:
        """Compute a call on constants alone; whether that could be done."""
        from torch.fx import Node as FxNode

        parents = fx_node.all_input_nodes
        if any(parent.name not in self.constants for parent in parents):
            return False
        arguments = torch.fx.node.map_arg((fx_node.args, fx_node.kwargs), lambda node: self.constants[node.name])
        result = fx_node.target(*arguments[0], **arguments[1])
        several = isinstance(result, list | tuple) and all(isinstance(part, Tensor) for part in result)
        if isinstance(fx_node, FxNode) and (several or isinstance(result, Tensor)):
            self.constants[fx_node.name] = result if several else result.detach()
            return True
        return False

    def arguments(self, fx_node: Any) -> list[Any]:
        """Positional arguments with the operator's defaults filled in."""
        schema = getattr(fx_node.target, "_schema", None)
        if schema is None:
            return list(fx_node.args)
        given = list(fx_node.args)
        given += [
            fx_node.kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None)
            for argument in schema.arguments[len(given) :]
        ]
        return given

    def refuse(self, fx_node: Any, reason: str) -> None:
        """Note a problem and go on, as if the operator were there, to find the others too."""
        operator = str(fx_node.target).removeprefix("aten.").split(".")[0]
        self.problems.append(f"{place(fx_node)} ({operator}): {reason}")
        self._value[fx_node.name] = place(fx_node)

    @staticmethod
    def remedy(target: str) -> str:
        """What to do about an operator that no handler knows."""
        short = target.removeprefix("aten.").rstrip("_")
        return REMEDIES.get(short, "not supported; replace it by convolution, linear, pooling, ReLU, add or concat")


def place(fx_node: Any) -> str:
    """Where a call stands in the module tree: the path of a leaf module, or path and call."""
    stack = list((fx_node.meta.get("nn_module_stack") or {}).values())
    path, kind = (str(stack[-1][0]), str(stack[-1][1])) if stack else ("", "")
    path = path.removeprefix("L['self'].").strip(".")
    leaf = kind.startswith("torch.nn.modules.") and "container" not in kind
    if path and leaf:
        return path
    return f"{path}.{fx_node.name}" if path else str(fx_node.name)


def head(name: str, finish: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    """A head that only rescales or picks: left out where nothing but the output reads it."""

    def handler(importer: Importer, fx_node: Any, x: Any, dim: Any = None, *rest: Any) -> None:
        axis_is_classes = dim in (1, -1) and len(fx_node.args[0].meta["val"].shape) == 2
        if not axis_is_classes or not all(_only_output(user) for user in fx_node.users):
            raise UnsupportedError(
                f"{name} inside the network: not convertible to rate-coded spikes; only a head is removed"
            )
        importer.notes.append(f"removed the {name} head {place(fx_node)}; the network returns logits")
        before = importer.finish
        importer.finish = lambda output: finish(before(output))
        importer.alias(fx_node, importer.value(x))

    return handler


def _only_output(fx_node: Any) -> bool:
    """Whether nothing but heads stands between this call and the output of the network."""
    is_head = str(fx_node.target).rsplit(".", 1)[0] in HEADS
    return fx_node.op == "output" or (is_head and all(_only_output(user) for user in fx_node.users))


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) / sum exp(x) over the classes."""
    shifted = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def log_softmax(x: np.ndarray) -> np.ndarray:
    """x - log sum exp(x) over the classes."""
    return np.asarray(x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)))


def argmax(x: np.ndarray) -> np.ndarray:
    """The label."""
    return np.asarray(x.argmax(1))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which leaves the order as it is."""
    return np.asarray((1 + np.tanh(x / 2)) / 2)


HEADS: dict[str, Callable[..., None]] = {
    "aten.sigmoid": head("Sigmoid", sigmoid),
    "aten.softmax": head("Softmax", softmax),
    "aten._softmax": head("Softmax", softmax),
    "aten.log_softmax": head("LogSoftmax", log_softmax),
    "aten._log_softmax": head("LogSoftmax", log_softmax),
    "aten.argmax": head("ArgMax", argmax),
}
HANDLERS: dict[str, Callable[..., None]] = dict(HEADS)


def handles(*targets: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a handler under ATen names."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        for target in targets:
            HANDLERS[f"aten.{target}"] = function
        return function

    return register


from . import aten_arithmetic, aten_layers, aten_values  # noqa: E402, F401 - they fill HANDLERS
