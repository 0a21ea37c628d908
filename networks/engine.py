"""The sequence engine: time in chunks, layer by layer inside a chunk, synapses folded over time.

What depends on a constant input alone (the first synapse, say) is computed once a sample.  State goes in and comes out;
splitting time or the batch anywhere changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._check import RangeError, ShapeError, SpikeportError, UnsupportedError
from ..neurons.kernels.memory import keep_freed_memory
from . import reference
from .graph import Graph, Node
from .operators import OPERATORS

REPLAY_STEPS = 64  # computing a step again costs about a tenth of fetching a membrane: beyond this it would add up
Observer = Callable[[str, Tensor], None]
Give = Callable[[Node, list[Tensor]], Tensor | None]
Scan = Callable[
    [Mapping[str, Any], Mapping[str, Tensor], Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]
]
_SCANS: Mapping[str, Scan] = {
    "synaptic_filter": reference.filter_scan,
    "delay": reference.delay_scan,
    "step_bias": reference.step_bias_scan,
    "output": reference.output_scan,
}


class NetworkState(NamedTuple):
    """What a network remembers, batch first: by node, by delayed edge, and what the constant input gave (``fixed``)."""

    nodes: Mapping[str, tuple[Tensor, ...]]
    edges: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor]


def select(state: NetworkState, index: Tensor) -> NetworkState:
    """The state of the samples that ``index`` names (a boolean mask or positions)."""
    positions = index.nonzero().squeeze(1) if index.dtype == torch.bool else index

    def pick(part: Tensor) -> Tensor:
        return _logical(_physical(part).index_select(0, positions))

    return NetworkState(
        {name: tuple(pick(part) for part in parts) for name, parts in state.nodes.items()},
        {name: pick(part) for name, part in state.edges.items()},
        {name: pick(part) for name, part in state.fixed.items()},
    )


def join(first: NetworkState, second: NetworkState) -> NetworkState:
    """The states of two groups of samples as one batch, ``first`` before ``second``."""

    def both(a: Tensor, b: Tensor) -> Tensor:
        return _logical(torch.cat([_physical(a), _physical(b)]))

    return NetworkState(
        {
            name: tuple(both(a, b) for a, b in zip(parts, second.nodes[name], strict=True))
            for name, parts in first.nodes.items()
        },
        {name: both(part, second.edges[name]) for name, part in first.edges.items()},
        {name: both(part, second.fixed[name]) for name, part in first.fixed.items()},
    )


@torch.inference_mode()
def put(state: NetworkState, places: Tensor, fresh: NetworkState) -> NetworkState:
    """Let fresh samples take the places (positions) of others; ``state`` is written over and given back.

    What ``join(select(state, others), fresh)`` does in another order, without copying the others.
    """

    def write(part: Tensor, new: Tensor) -> Tensor:
        part = part.contiguous() if part.stride(0) == 0 else part  # samples that never ran share one membrane
        _physical(part).index_copy_(0, places, _physical(new))
        return part

    return NetworkState(
        {
            name: tuple(write(part, new) for part, new in zip(parts, fresh.nodes[name], strict=True))
            for name, parts in state.nodes.items()
        },
        {name: write(part, fresh.edges[name]) for name, part in state.edges.items()},
        {name: write(part, fresh.fixed[name]) for name, part in state.fixed.items()},
    )


def _physical(part: Tensor) -> Tensor:
    """The view in which each sample lies in one piece of memory."""
    return part.permute(0, 2, 3, 1) if part.ndim == 4 else part


def _logical(part: Tensor) -> Tensor:
    return part.permute(0, 3, 1, 2) if part.ndim == 4 else part


def _layout(x: Tensor) -> Tensor:
    if x.ndim == 4 and x.shape[1] == 1:  # both layouts at once: say which, or what follows is computed in the other
        return x.contiguous().as_strided(x.shape, (x.shape[2] * x.shape[3], 1, x.shape[3], 1))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()


class Engine:
    """Runs a Graph on PyTorch.  Implements the step-engine protocol of ``spikeport.inference``.

    ``constant_input``: the same x (batch, *features) at every step (direct coding); otherwise ``advance`` takes a
    sequence (steps, batch, *features).  ``advance`` folds its steps into one call of each synapse; ``chunk`` is how
    many steps a caller should ask it for (1 in a recurrent network, where nothing can be folded).  ``varying``: nodes
    that give another value at each step even where their input is constant (noise, say).
    """

    can_refill = True

    def __init__(
        self,
        graph: Graph,
        *,
        max_steps: int,
        chunk: int = 4,
        constant_input: bool = True,
        dtype: torch.dtype = torch.float32,
        varying: frozenset[str] = frozenset(),
    ) -> None:
        if max_steps < 1 or chunk < 1:
            raise RangeError(f"max_steps is {max_steps} and chunk {chunk}; both must be at least 1")
        keep_freed_memory()
        self.graph, self.max_steps, self.constant_input, self.dtype = graph, max_steps, constant_input, dtype
        self.chunk = 1 if graph.recurrent else min(chunk, max_steps)
        self._tensors = {
            node.name: {key: _layout(torch.tensor(array, dtype=dtype)) for key, array in node.arrays.items()}
            for node in graph.nodes
        }
        self._neurons: dict[str, Any] = {
            node.name: reference.neuron_arrays(node.attributes, self._tensors[node.name], graph.shapes[node.name])
            for node in graph.of_operator("neuron")
        }
        self._initials = {
            node.name: _initial_membrane(node, self._tensors[node.name], graph.shapes[node.name])
            for node in graph.of_operator("neuron")
        }
        self._fixed = constant_nodes(graph, varying) if constant_input else frozenset()
        replays = max_steps <= REPLAY_STEPS and dtype == torch.float32
        self._replayed = _replayed(graph, self._fixed) if replays else frozenset()
        self._kept = boundary(graph, self._fixed)
        self._dead_after = _dead_after(graph, self._kept)
        self._delayed = [
            (f"{node.name}.{position}", node, edge)
            for node in graph.nodes
            for position, edge in enumerate(node.inputs)
            if edge.delay
        ]

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        nodes = {node.name: self._initial(node, batch) for node in self.graph.nodes if OPERATORS[node.operator].memory}
        for name in (node.name for node in self.graph.nodes if "limit" in node.arrays):
            nodes[name] = (*nodes[name], torch.zeros(batch, *self.graph.shapes[name], dtype=self.dtype))
        edges = {
            key: torch.zeros(batch, edge.delay, *self.graph.shapes[edge.source], dtype=self.dtype)
            for key, _, edge in self._delayed
        }
        return NetworkState(nodes, edges, {})

    def _initial(self, node: Node, batch: int, tensors: Mapping[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        shape = self.graph.shapes[node.name]
        if node.operator == "neuron":
            if node.name in self._replayed and tensors is None:
                return (torch.zeros(batch, dtype=torch.int64),)
            start = self._initials[node.name] if tensors is None else _initial_membrane(node, tensors, shape)
            if node.attributes["code"] == "differential":  # the decoded value, and the steps that were done
                return torch.zeros_like(start).expand(batch, -1), torch.zeros(batch, dtype=torch.int64)
            # no copy yet, as fresh samples are often written into other places; but one row would be the engine's own
            membrane = start[None].clone() if batch == 1 else start.expand(batch, -1)
            signed = node.attributes["code"] == "signed"
            return (membrane, torch.zeros(membrane.shape, dtype=self.dtype)) if signed else (membrane,)
        if node.operator == "delay":
            return (torch.zeros(batch, node.attributes["steps"], *shape, dtype=self.dtype),)
        if node.operator == "step_bias":
            return (torch.zeros(batch, dtype=torch.int64),)
        if node.operator == "output":
            return torch.zeros(batch, *shape, dtype=self.dtype), torch.zeros(batch, dtype=self.dtype)
        return (torch.zeros(batch, *shape, dtype=self.dtype),)

    @torch.inference_mode()
    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant input x (batch, *features)."""
        self._check_input(x, x.shape[1:])
        state = self.initial_state(x.shape[0])
        values: dict[str, Tensor] = {}
        for index, node in enumerate(self.graph.nodes):
            if node.name not in self._fixed:
                continue
            inputs = [values[source] for source in node.sources]
            values[node.name] = self._call(node, inputs) if inputs else _layout(x.to(self.dtype))
            if observe is not None:
                observe(node.name, values[node.name].unsqueeze(0))
            self._forget(index, values)
        return state._replace(fixed={k: _owned(_layout(values[k]), x) for k in self._kept})

    @torch.inference_mode()
    def advance(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Run ``steps`` more steps; returns the cumulative output (steps, batch, classes) and the new state.

        x is what ``start`` got (it is in the state already and not read again), or a sequence (steps, batch,
        *features) for an engine made with ``constant_input=False``.  ``observe(name, values)`` sees the sequence that
        each node gives: (steps or 1, batch, *features).
        """
        if steps < 1:
            raise RangeError(f"{steps} steps were asked for; ask for at least 1")
        if not self.constant_input:
            self._check_input(x, x.shape[2:])
            if len(x) != steps:
                raise ShapeError(
                    f"the sequence has {len(x)} steps, but {steps} were asked for; hand over exactly those"
                )
        outputs, done = [], 0
        while done < steps:
            size = min(1 if self.graph.recurrent else steps, steps - done)
            block = x if self.constant_input else x[done : done + size]
            output, state = self._advance_chunk(block, state, size, observe)
            outputs.append(output)
            done += size
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0], state

    def select(self, state: NetworkState, index: Tensor) -> NetworkState:
        """The state of the samples at ``index``, in that order; see ``select``."""
        return select(state, index)

    def join(self, a: NetworkState, b: NetworkState) -> NetworkState:
        """The state of the samples of ``a`` followed by those of ``b``; see ``join``."""
        return join(a, b)

    def put(self, state: NetworkState, places: Tensor, fresh: NetworkState) -> NetworkState:
        """Let fresh samples take the places of others, in place; see ``put``."""
        return put(state, places, fresh)

    @torch.inference_mode()
    def walk(self, x: Tensor, steps: int, give: Give) -> Tensor:
        """Run a whole window from fresh states, node by node, for methods that tune a network while they run it.

        ``give(node, inputs)`` sees the inputs (steps or 1, batch, *features) and may return the value that shall stand
        in the node's place; None leaves the node to itself.  Returns the cumulative output (steps, batch, classes).
        """
        if self.graph.recurrent or self._delayed or not self.constant_input:
            raise UnsupportedError("a walk needs a feed-forward network with a constant input and no late edges")
        self._check_input(x, x.shape[1:])
        state, values = (
            self.initial_state(x.shape[0]).nodes,
            {self.graph.input.name: _layout(x.to(self.dtype)).unsqueeze(0)},
        )
        for index, node in enumerate(self.graph.nodes):
            inputs = [values[source] for source in node.sources]
            if inputs:
                given = give(node, inputs)
                if given is None and OPERATORS[node.operator].memory:
                    given = self._scan(node, inputs[0], steps, state[node.name])[0]
                values[node.name] = self._fold(node, inputs) if given is None else given
            self._forget(index, values)
        return values[self.graph.output.name]

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        values: dict[str, Tensor] = {name: value.unsqueeze(0) for name, value in state.fixed.items()}
        nodes, edges = dict(state.nodes), dict(state.edges)
        for index, node in enumerate(self.graph.nodes):
            if node.name in self._fixed:
                continue
            inputs = self._read(node, values, edges, steps)
            if node.operator == "input":
                values[node.name] = x.to(self.dtype)
            elif OPERATORS[node.operator].memory:
                values[node.name], nodes[node.name] = self._scan(node, inputs[0], steps, nodes[node.name])
            else:
                values[node.name] = self._fold(node, inputs)
            if observe is not None:
                observe(node.name, values[node.name])
            self._forget(index, values)
        for key, _, edge in self._delayed:
            late = torch.cat([edges[key], _spread(values[edge.source], steps).transpose(0, 1)], 1)
            edges[key] = late[:, steps:]
        return values[self.graph.output.name], NetworkState(nodes, edges, state.fixed)

    def _read(self, node: Node, values: Mapping[str, Tensor], edges: Mapping[str, Tensor], steps: int) -> list[Tensor]:
        """The inputs of a node over the chunk; a late edge gives what is in its buffer first."""
        found = []
        for position, edge in enumerate(node.inputs):
            if not edge.delay:
                found.append(values[edge.source])
                continue
            late = edges[f"{node.name}.{position}"].transpose(0, 1)
            if edge.delay < steps:
                late = torch.cat([late, _spread(values[edge.source], steps)])
            found.append(late[:steps])
        return found

    def _fold(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """A node without memory: time folded into the batch."""
        rows, batch = max(x.shape[0] for x in inputs), inputs[0].shape[1]
        if node.operator in ("add", "multiply"):  # elementwise: rows of 1 broadcast
            return self._call(node, inputs)
        folded = [_spread(x, rows).flatten(0, 1) for x in inputs]
        y = self._call(node, folded)
        return y.view(rows, batch, *y.shape[1:])

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        function = OPERATORS[node.operator].function
        if function is None:
            raise SpikeportError(f"{node.name} ({node.operator}) has no function without memory")
        return function(node.attributes, self._tensors[node.name], inputs)

    def _scan(self, node: Node, x: Tensor, steps: int, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if node.operator == "neuron":
            again = partial(reference.replay_scan, initial=self._initials[node.name])
            scan = again if node.name in self._replayed else reference.neuron_scan
            return reference.limited(self._tensors[node.name], partial(scan, self._neurons[node.name], x, steps), state)
        return _SCANS[node.operator](node.attributes, self._tensors[node.name], _spread(x, steps), state)

    def neuron_sequence(self, node: Node, x: Tensor, steps: int) -> Tensor:
        """Spikes (steps, batch, *features) of a fresh neuron node, which may have other arrays than the graph's own."""
        shape = self.graph.shapes[node.name]
        tensors = {key: torch.tensor(array, dtype=self.dtype) for key, array in node.arrays.items()}
        return reference.neuron_scan(
            reference.neuron_arrays(node.attributes, tensors, shape), x, steps, self._initial(node, x.shape[1], tensors)
        )[0]

    def _check_input(self, x: Tensor, shape: torch.Size) -> None:
        wanted = self.graph.shapes[self.graph.input.name]
        if tuple(shape) != wanted:
            raise ShapeError(
                f"the input has the feature shape {tuple(shape)}, but this network takes {wanted} "
                f"(batch first; over time: time, batch first)"
            )

    def _forget(self, index: int, values: dict[str, Tensor]) -> None:
        for name in self._dead_after[index]:
            values.pop(name, None)


def _initial_membrane(node: Node, tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    return reference.neuron_arrays(node.attributes, {**tensors, "bias": tensors["initial"]}, shape).bias


def _owned(value: Tensor, x: Tensor) -> Tensor:
    """The value in memory of its own: the state must not change when the caller uses that of x again."""
    return value.clone() if value.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() else value


def _spread(x: Tensor, rows: int) -> Tensor:
    return x if x.shape[0] == rows else x.expand(rows, *x.shape[1:])


def constant_nodes(graph: Graph, varying: frozenset[str] = frozenset()) -> frozenset[str]:
    """The nodes whose value follows from a constant input alone: the engine computes them once a sample.

    varying: nodes that do not, though they have no memory.
    """
    fixed: set[str] = set()
    for node in graph.nodes:
        plain = not OPERATORS[node.operator].memory and node.name not in varying
        if plain and all(edge.source in fixed and not edge.delay for edge in node.inputs):
            fixed.add(node.name)
    return frozenset(fixed)


def _replayed(graph: Graph, fixed: frozenset[str]) -> frozenset[str]:
    """Binary neurons with a constant current: their past is computed again, in the cache, and not remembered."""
    return frozenset(
        node.name
        for node in graph.of_operator("neuron")
        if node.attributes["code"] == "binary"
        and not node.attributes["late"]
        and all(edge.source in fixed and not edge.delay for edge in node.inputs)
    )


def boundary(graph: Graph, fixed: frozenset[str]) -> frozenset[str]:
    """Fixed nodes that some other node reads at every step."""
    return frozenset(s for node in graph.nodes if node.name not in fixed for s in node.sources if s in fixed)


def _dead_after(graph: Graph, keep: frozenset[str]) -> list[list[str]]:
    """For each position in the order, the values that nothing reads later."""
    last = {node.name: index for index, node in enumerate(graph.nodes)}
    for index, node in enumerate(graph.nodes):
        for edge in node.inputs:
            last[edge.source] = len(graph.nodes) if edge.delay else max(last[edge.source], index)
    dead: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        if name not in keep and index < len(graph.nodes) and name != graph.output.name:
            dead[index].append(name)
    return dead
