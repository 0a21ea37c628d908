"""Front end for spiking networks in Python: a Chain, with its branches and loops, becomes a Graph.

Torch's modules go through the same import as an artificial network; each neuron and synapse that the Graph knows has
one entry in ``LAYERS``.  What it does not know is listed, all of it, in one UnsupportedError.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._check import ShapeError, UnsupportedError
from ..networks.chain import Chain, Feedback, Residual, has_state
from ..networks.graph import Edge, Graph, Node, make_node
from ..neurons.delays import Delay, DelayedLinear
from ..neurons.filters import DoubleExponential, Exponential
from ..neurons.integrator import LeakyIntegrator
from ..neurons.leaky import Leaky
from ..neurons.learnable_delays import LearnableDelays
from ..neurons.recurrent import RecurrentLeaky, RecurrentSynaptic
from ..neurons.synaptic import Synaptic
from .module_import import import_module

__all__ = ["import_chain"]

Shape = tuple[int, ...]
Value = tuple[str, Shape]  # the name of a node, and its feature shape


def import_chain(network: nn.Module, input_shape: Sequence[int]) -> Graph:
    """Return the Graph of a spiking network that maps (time, batch, *input_shape) to (time, batch, classes).

    It gives the same spikes: every operation is done in the same order, except that the two inputs of a recurrent
    neuron are added before its decaying membrane instead of after it, and the synapses of several delays in the order
    of their delays.  The network is read as in evaluation.  The Graph's output adds up the last layer's over time.
    Raises UnsupportedError that lists every layer that is not covered, with the remedy; ShapeError for an input shape
    that does not fit.

    >>> graph = import_chain(Chain(nn.Linear(3, 2), Leaky(beta=0.9)), (3,))
    >>> [node.operator for node in graph.nodes]
    ['input', 'linear', 'neuron', 'output']
    """
    builder = _Builder()
    shape = tuple(int(size) for size in input_shape)
    builder.nodes.append(make_node("input", "input", shape=shape))
    value = builder.layer(network, "network" if not isinstance(network, Chain) else "", ("input", shape))
    if builder.problems:
        raise UnsupportedError("this network cannot become a Graph", builder.problems)
    builder.nodes.append(make_node("output", "output", [value[0]]))
    return Graph.of(builder.nodes)


class _Builder:
    """The nodes so far, and what cannot be covered."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.problems: list[str] = []

    def layer(self, module: nn.Module, name: str, value: Value) -> Value:
        """Add the nodes of a module that reads ``value``; returns what it gives."""
        if isinstance(module, Chain):
            for index, layer in enumerate(module.layers):
                value = self.layer(layer, f"{name}.{index}" if name else str(index), value)
            return value
        if not has_state(module):
            return self.plain(module, name, value)
        for kind, add in LAYERS:
            if isinstance(module, kind):
                return add(self, module, name, value)
        self.problems.append(
            f"{name} ({type(module).__name__}: no backend has its dynamics; run it with networks.run, or train with "
            "Leaky, Synaptic or their recurrent forms)"
        )
        return self.skip(module, value)

    def skip(self, module: Any, value: Value) -> Value:
        """Go on behind a layer that is not covered, so that the others are looked at too."""
        with torch.no_grad():
            parts = [*module.parameters(), *module.buffers()]
            dtype = next((part.dtype for part in parts if part.is_floating_point()), torch.float32)
            return value[0], tuple(module(torch.zeros(1, 1, *value[1], dtype=dtype))[0].shape[2:])

    def add(self, name: str, operator: str, inputs: Sequence[str | Edge], shape: Shape, **fields: Any) -> Value:
        """Append a node."""
        self.nodes.append(make_node(name, operator, inputs, **fields))
        return name, shape

    def plain(self, module: nn.Module, name: str, value: Value) -> Value:
        """Torch's own layers, by the import of artificial networks."""
        try:
            graph = import_module(module, value[1], name=name).graph
        except UnsupportedError as error:
            self.problems.extend(f"{name}: {problem}" for problem in error.problems or [str(error)])
            with torch.no_grad():
                return value[0], tuple(module.eval()(torch.zeros(1, *value[1])).shape[1:])
        names = {graph.input.name: value[0], graph.output.name: ""}
        inner = [node for node in graph.nodes if node.operator not in ("input", "output")]
        names |= {node.name: name if len(inner) == 1 else f"{name}.{node.name}" for node in inner}
        for node in inner:
            edges = [Edge(names[edge.source], edge.delay) for edge in node.inputs]
            self.nodes.append(make_node(names[node.name], node.operator, edges, arrays=node.arrays, **node.attributes))
        source = graph.output.sources[0]
        return names[source], graph.shapes[source]

    def neuron(self, layer: Any, name: str, value: Value, *, takes_input_too: bool) -> Value:
        """A neuron that fires at a threshold; ``takes_input_too``: a late reset to zero takes the input as well."""
        late = layer.late_reset and layer.reset == "subtract"
        if layer.late_reset and layer.reset == "zero" and takes_input_too:
            self.problems.append(
                f"{name} ({type(layer).__name__}: a late reset to zero that takes the input of the next step too; "
                "use late_reset=False, or reset 'subtract')"
            )
        arrays = {
            "threshold": _spread(layer.threshold, value[1]),
            "beta": _spread(layer.beta.clamp(0, 1), value[1]),
            "initial": np.float32(0),
            "bias": np.float32(0),
        }
        return self.add(
            name, "neuron", [value[0]], value[1],
            arrays=arrays, code="binary", test=layer.test, reset=layer.reset, late=int(late),
        )  # fmt: skip

    def filter(self, name: str, value: Value, alpha: Tensor) -> Value:
        """An exponential synapse."""
        return self.add(
            name, "synaptic_filter", [value[0]], value[1], arrays={"alpha": _spread(alpha.clamp(0, 1), value[1])}
        )

    def gain(self, name: str, value: Value, gain: float) -> Value:
        """A factor of the input."""
        if gain == 1:
            return value
        return self.add(name, "scale", [value[0]], value[1], arrays={"factor": np.float32(gain)})


def _spread(value: Tensor, shape: Shape) -> np.ndarray:
    """One value, one a channel, or one a unit, as the Graph holds them."""
    array = value.detach().cpu().to(torch.float32).numpy()
    if array.ndim == 0:
        return np.asarray(array)
    if array.ndim == len(shape) and array.shape[:1] == shape[:1] and array.size == shape[0]:
        return np.ascontiguousarray(array.reshape(shape[0]))
    return np.ascontiguousarray(np.broadcast_to(array, shape))


def _leaky(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    return builder.neuron(layer, name, builder.gain(f"{name}.gain", value, layer.gain), takes_input_too=False)


def _synaptic(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    return builder.neuron(layer, name, builder.filter(f"{name}.current", value, layer.alpha), takes_input_too=True)


def _looped(builder: _Builder, layer: RecurrentLeaky | RecurrentSynaptic, name: str, value: Value) -> Value:
    """x[t] + R(s[t - 1]), through the current where there is one, into the neuron."""
    heard = f"{name}.before"
    back = builder.layer(layer.recurrent, f"{name}.recurrent", (heard, value[1]))
    current = builder.add(f"{name}.sum", "add", [value[0], back[0]], value[1])
    if isinstance(layer, RecurrentSynaptic):
        current = builder.filter(f"{name}.current", current, torch.as_tensor(layer.alpha))
    spikes = builder.neuron(layer, name, current, takes_input_too=True)
    builder.nodes = [_reading(node, heard, Edge(spikes[0], 1)) for node in builder.nodes]
    return spikes


def _reading(node: Node, source: str, edge: Edge) -> Node:
    """The node with each edge from ``source`` led to another one."""
    if source not in node.sources:
        return node
    edges = [edge if old.source == source else old for old in node.inputs]
    return make_node(node.name, node.operator, edges, arrays=node.arrays, **node.attributes)


def _exponential(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    return builder.filter(name, value, layer.alpha)


def _double_exponential(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    return builder.filter(name, builder.filter(f"{name}.rising", value, layer.rise), layer.decay)


def _integrator(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    return builder.filter(name, builder.gain(f"{name}.gain", value, layer.gain), layer.beta)


def _delay(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    """One delay for all, or each channel through the delay that is its own."""
    delays = np.broadcast_to(layer.delays.cpu().numpy(), value[1] if layer.delays.ndim else ())
    different = np.unique(delays)
    if len(different) == 1:
        return _late(builder, name, value, int(different[0]))
    parts = []
    for steps in different.tolist():
        mask = (delays == steps).astype(np.float32)
        own = builder.add(f"{name}.channels{steps}", "scale", [value[0]], value[1], arrays={"factor": mask})
        parts.append(_late(builder, f"{name}.late{steps}", own, steps)[0])
    return builder.add(name, "add", parts, value[1])


def _late(builder: _Builder, name: str, value: Value, steps: int) -> Value:
    return builder.add(name, "delay", [value[0]], value[1], steps=steps) if steps else value


def _delayed_linear(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    """The synapses of each delay are a linear layer that reads the input so many steps late."""
    weight = layer.weight.detach().cpu().numpy()
    delays = np.broadcast_to(layer.delays.cpu().numpy(), weight.shape)
    bias = None if layer.bias is None else layer.bias.detach().cpu().numpy()
    parts: list[str] = []
    for steps in np.unique(delays).tolist():
        arrays = {"weight": np.where(delays == steps, weight, 0)}
        if bias is not None and not parts:
            arrays["bias"] = bias
        part, edge = f"{name}.late{steps}", Edge(value[0], steps)
        parts.append(builder.add(part, "linear", [edge], (weight.shape[0],), arrays=arrays)[0])
    return (parts[0], (len(weight),)) if len(parts) == 1 else builder.add(name, "add", parts, (len(weight),))


def _learnable_delays(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    builder.problems.append(
        f"{name} (LearnableDelays: its delays are still spread over several steps; put freeze() in its place)"
    )
    return builder.skip(layer, value)


def _residual(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    inner = builder.layer(layer.inner, name, value)
    around = builder.layer(layer.shortcut, f"{name}.shortcut", value)
    return builder.add(f"{name}.sum", "add", [inner[0], around[0]], inner[1])


def _feedback(builder: _Builder, layer: Any, name: str, value: Value) -> Value:
    """y[t - 1] goes through ``back`` and is added to the input; before the first step y is 0."""
    with torch.no_grad():
        held = next((part.dtype for part in layer.parameters() if part.is_floating_point()), torch.float32)
        out = tuple(layer.initial_state((1, *value[1]), dtype=held)["heard"].shape[1:])
    heard = f"{name}.before"
    back = builder.layer(layer.back, f"{name}.back", (heard, out))
    if prod(back[1]) != prod(value[1]):
        raise ShapeError(f"{name}.back gives {back[1]}, but it is added to {value[1]}")
    total = builder.add(f"{name}.sum", "add", [value[0], back[0]], value[1])
    last = builder.layer(layer.inner, f"{name}.inner", total)
    builder.nodes = [_reading(node, heard, Edge(last[0], 1)) for node in builder.nodes]
    return last


LAYERS: tuple[tuple[type[nn.Module], Callable[[_Builder, Any, str, Value], Value]], ...] = (
    (Leaky, _leaky),
    (Synaptic, _synaptic),
    (RecurrentLeaky, _looped),
    (RecurrentSynaptic, _looped),
    (Exponential, _exponential),
    (DoubleExponential, _double_exponential),
    (LeakyIntegrator, _integrator),
    (Delay, _delay),
    (DelayedLinear, _delayed_linear),
    (LearnableDelays, _learnable_delays),
    (Residual, _residual),
    (Feedback, _feedback),
)
