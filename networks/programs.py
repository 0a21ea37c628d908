"""A Graph as two plain PyTorch programs, with all state as inputs and outputs: what an exporter or autograd can follow.

``StartProgram`` computes what depends on a constant input alone, and the state before the first step; ``StepsProgram``
advances it by a fixed number of steps.  They compute what ``Engine`` does with the reference kernels, operation by
operation, in tensors that a compiler sees.

    values = start(x)                       # what is constant, then the state
    output, *state = steps(*values)         # output (steps, batch, classes), cumulative
    values = (*values[:start.constants], *state)
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._check import RangeError, UnsupportedError
from ..neurons.kernels import DifferentialArrays, NeuronArrays, fire_reference, follow_reference
from ..neurons.kernels.reference import Spike, spike_of
from . import reference
from .engine import boundary, constant_nodes
from .graph import Graph, Node
from .operators import OPERATORS

__all__ = ["Follow", "StartProgram", "StepsProgram"]

Follow = Callable[[Tensor, Tensor, Tensor, DifferentialArrays], Tensor]


_SCANS = {
    "delay": reference.delay_scan,
    "step_bias": reference.step_bias_scan,
    "synaptic_filter": reference.filter_scan,
}


class _Program(nn.Module):
    """The arrays of some nodes, and how a node without memory is computed on them."""

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        super().__init__()
        _require_plain(graph)
        self.graph, self.dtype = graph, dtype
        self.fixed = constant_nodes(graph)
        self.kept = [node.name for node in graph.nodes if node.name in boundary(graph, self.fixed)]
        self._number = {node.name: index for index, node in enumerate(graph.nodes)}

    def _keep(self, node: Node, arrays: Mapping[str, Any]) -> None:
        for key, array in arrays.items():
            self.register_buffer(f"{key}_{self._number[node.name]}", torch.tensor(np.asarray(array), dtype=self.dtype))

    def _arrays(self, node: Node) -> dict[str, Tensor]:
        return {key: getattr(self, f"{key}_{self._number[node.name]}") for key in node.arrays}

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        function = OPERATORS[node.operator].function
        if function is None:
            raise UnsupportedError("no function without memory", [f"{node.name} ({node.operator})"])
        return function(node.attributes, self._arrays(node), inputs)


class StartProgram(_Program):
    """``(*constants, *state) = start(x)`` for x (batch, *features), the same at every step.

    constants: how many of the values never change.
    Raises UnsupportedError for networks with late edges (their buffers have no form here).
    """

    def __init__(self, graph: Graph, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(graph, dtype)
        self.constants = len(self.kept)
        for node in graph.nodes:
            if node.name in self.fixed:
                self._keep(node, node.arrays)
            elif node.operator == "neuron":
                self._keep(node, {"start": _population(graph, node, dtype)[1]})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """What is constant, then the state before the first step."""
        x = x.to(self.dtype)
        values: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if node.name in self.fixed:
                values[node.name] = self._call(node, [values[s] for s in node.sources]) if node.inputs else x
        state = [part for node in self.graph.nodes for part in self._fresh(node, x)]
        return (*(values[name] for name in self.kept), *state)

    def _fresh(self, node: Node, x: Tensor) -> list[Tensor]:
        if not OPERATORS[node.operator].memory:
            return []
        n, shape = x.shape[0], self.graph.shapes[node.name]
        if node.operator == "neuron":
            start = getattr(self, f"start_{self._number[node.name]}").expand(n, -1).clone()
            if node.attributes["code"] == "differential":
                return [torch.zeros_like(start), x.new_zeros(n)]
            return [start, torch.zeros_like(start)] if node.attributes["code"] == "signed" else [start]
        if node.operator == "output":
            return [x.new_zeros(n, *shape), x.new_zeros(n)]
        if node.operator == "step_bias":
            return [x.new_zeros(n)]
        return [x.new_zeros(n, *((node.attributes["steps"],) if node.operator == "delay" else ()), *shape)]


class StepsProgram(_Program):
    """``output, *state = step(*constants, *state)``: the next ``steps`` steps of every sample.

    spike, follow: how membranes become spikes, and values decoded values; others than the default let gradients
    through.  Raises RangeError for steps below 1, and above 1 in a recurrent network; UnsupportedError as StartProgram.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        steps: int = 1,
        dtype: torch.dtype = torch.float32,
        spike: Spike = spike_of,
        follow: Follow = follow_reference,
    ) -> None:
        super().__init__(graph, dtype)
        if steps < 1 or (graph.recurrent and steps > 1):
            raise RangeError(f"the program has {steps} steps; at least 1, and 1 in a recurrent network, was wanted")
        self.steps, self.spike, self.follow = steps, spike, follow
        self._codes: dict[str, NeuronArrays | DifferentialArrays] = {}
        for node in graph.nodes:
            if node.operator == "neuron":
                arrays, _ = _population(graph, node, dtype)
                self._codes[node.name] = arrays
                self._keep(node, {key: part for key, part in arrays._asdict().items() if isinstance(part, Tensor)})
            elif node.name not in self.fixed:
                self._keep(node, node.arrays)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The cumulative output (steps, batch, classes), and the new state."""
        found = {name: value.unsqueeze(0) for name, value in zip(self.kept, values[: len(self.kept)], strict=True)}
        state = list(values[len(self.kept) :])
        after: list[Tensor] = []
        for node in self.graph.nodes:
            if node.name in self.fixed:
                continue
            inputs = [found[source] for source in node.sources]
            if OPERATORS[node.operator].memory:
                held, state = state[: _parts(node)], state[_parts(node) :]
                found[node.name], changed = self._scan(node, self._spread(inputs[0]), tuple(held))
                after.extend(changed)
            else:
                found[node.name] = self._fold(node, inputs)
        return (found[self.graph.output.name], *after)

    def _spread(self, x: Tensor) -> Tensor:
        return x if x.shape[0] == self.steps else x.expand(self.steps, *x.shape[1:])

    def _fold(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.operator in ("add", "multiply"):
            return self._call(node, inputs)
        rows, batch = max(x.shape[0] for x in inputs), inputs[0].shape[1]
        spread = [x if x.shape[0] == rows else x.expand(rows, *x.shape[1:]) for x in inputs]
        y = self._call(node, [x.flatten(0, 1) for x in spread])
        return y.reshape(rows, batch, *y.shape[1:])

    def _scan(self, node: Node, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if node.operator == "neuron":
            return self._fire(node, x, state)
        if node.operator == "output":
            return reference.output_scan(node.attributes, {}, x, state)
        return _SCANS[node.operator](node.attributes, self._arrays(node), x, state)

    def _fire(self, node: Node, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        arrays, shape = self._codes[node.name], self.graph.shapes[node.name]
        number = self._number[node.name]
        held = {
            key: getattr(self, f"{key}_{number}") for key, part in arrays._asdict().items() if torch.is_tensor(part)
        }
        current = reference.physical(x.flatten(0, 1)).reshape(self.steps, -1, _units(shape))
        if isinstance(arrays, DifferentialArrays):
            spikes = self.follow(current, state[1], state[0], arrays._replace(**held))
            after: tuple[Tensor, ...] = (spikes[-1], state[1] + self.steps)
        else:
            count = state[1] if len(state) > 1 else None
            spikes, membrane, count = fire_reference(
                current, state[0], count, arrays._replace(**held), spike=self.spike
            )
            after = (membrane,) if count is None else (membrane, count)
        y = reference.logical(spikes.flatten(0, 1), shape)
        return y.reshape(self.steps, -1, *shape), after


def _require_plain(graph: Graph) -> None:
    edges = [(node, edge) for node in graph.nodes for edge in node.inputs if edge.delay]
    if edges:
        late = [f"{edge.source} -> {node.name}: late by {edge.delay}" for node, edge in edges]
        raise UnsupportedError("a network with late edges has no plain program", late)
    limited = [node.name for node in graph.nodes if "limit" in node.arrays]
    if limited:
        raise UnsupportedError("a network with limits of spikes has no plain program; export it without", limited)


def _population(graph: Graph, node: Node, dtype: torch.dtype) -> tuple[NeuronArrays | DifferentialArrays, Tensor]:
    """What the neurons are, and their membranes before the first step."""
    tensors = {key: torch.tensor(array, dtype=dtype) for key, array in node.arrays.items()}
    shape = graph.shapes[node.name]
    start = reference.neuron_arrays(node.attributes, {**tensors, "bias": tensors["initial"]}, shape).bias
    return reference.neuron_arrays(node.attributes, tensors, shape), start


def _parts(node: Node) -> int:
    """How many tensors a node remembers."""
    two = node.operator == "output" or node.attributes.get("code") in ("signed", "differential")
    return 2 if two else 1


def _units(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
