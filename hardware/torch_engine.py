"""The integer network on PyTorch: exact, in chunks of time, as fast as the CPU's int8 kernels allow.

Every value is carried in a type that cannot round it (``forms``), so the results are those of ``run_reference`` bit for
bit, whatever the chunk, the batch and the number of threads.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, ShapeError, SpikeportError
from ..networks.engine import NetworkState, constant_nodes, join, put, select
from ..networks.graph import Node
from ..networks.operators import OPERATORS
from ..networks.reference import logical, physical
from ..neurons.kernels.memory import keep_freed_memory
from .forms import Form, forms
from .int8 import Int8Synapse, largest_exact_input
from .program import IntegerProgram
from .scans import Extra, Neuron, filter_scan, fire_scan, sum_bytes
from .torch_plan import absorbed, boundary, dead_after, fusions

__all__ = ["MOST_IMAGES", "IntegerEngine"]

MOST_IMAGES = 256  # that one call of a synapse folds: more leave the caches, fewer are slow calls
Observer = Callable[[str, Tensor], None]
Values = dict[str, Tensor]


class IntegerEngine:
    """Runs an IntegerProgram.  Implements the step-engine protocol of ``spikeport.inference``.

    max_steps: at most those of the program, for which its ranges are proven; all of them by default.  chunk: how many
    steps a caller should ask for (1 in a recurrent network).  constant_input: x (batch, *features) is the same at every
    step; otherwise ``advance`` takes a sequence (steps, batch, *features).  largest_byte: up to which int8 kernels are
    trusted; a self-test decides by default, and 0 leaves them out.  varying: nodes that give another value at each step
    even where their input is constant.  fuse: let neurons read the parts of a sum themselves.
    Raises RangeError for steps beyond the program's, UnsupportedError where no type holds a value.
    """

    can_refill = True

    def __init__(
        self,
        program: IntegerProgram,
        *,
        max_steps: int | None = None,
        chunk: int = 4,
        constant_input: bool = True,
        largest_byte: int | None = None,
        varying: frozenset[str] = frozenset(),
        fuse: bool = True,
    ) -> None:
        self.max_steps = program.steps if max_steps is None else max_steps
        if not 1 <= self.max_steps <= program.steps or chunk < 1:
            raise RangeError(
                f"max_steps is {self.max_steps} and chunk {chunk}; chunk >= 1 and 1 <= max_steps <= {program.steps}, "
                "for which the ranges of this integer network are proven, were wanted"
            )
        keep_freed_memory()
        self.program, self.graph, self.constant_input = program, program.graph, constant_input
        self.chunk = 1 if self.graph.recurrent else min(chunk, self.max_steps)
        limit = largest_exact_input() if largest_byte is None else largest_byte
        self._forms, self.int8 = forms(program, limit)
        self._synapses = {
            name: Int8Synapse(self.graph.by_name[name], self._forms[self.graph.by_name[name].sources[0]].offset)
            for name in self.int8
        }
        self._tensors = {
            node.name: {key: _layout(torch.tensor(a, dtype=self._dtype(node.name))) for key, a in node.arrays.items()}
            for node in self.graph.nodes
            if not OPERATORS[node.operator].memory and node.name not in self.int8
        }
        self._units = {
            node.name: Neuron(node, self.graph.shapes[node.name])
            for node in self.graph.nodes
            if node.operator in ("neuron", "synaptic_filter")
        }
        self._fixed = constant_nodes(self.graph, varying) if constant_input else frozenset()
        self._fused = fusions(self.graph, self._forms, self._fixed) if fuse else {}
        self._factors = {name: self._units[name].of_a_row(found.factor) for name, found in self._fused.items()}
        self._absorbed = absorbed(self._fused)
        self._kept = boundary(self.graph, self._fixed, self._fused)
        self._dead_after = dead_after(self.graph, self._fused)
        self._delayed = [
            (f"{node.name}.{position}", edge.source, edge.delay)
            for node in self.graph.nodes
            for position, edge in enumerate(node.inputs)
            if edge.delay
        ]

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        nodes = {node.name: self._initial(node, batch) for node in self.graph.nodes if OPERATORS[node.operator].memory}
        edges = {}
        for key, source, delay in self._delayed:
            form = self._forms[source]
            edges[key] = torch.full((batch, delay, *self.graph.shapes[source]), form.offset, dtype=form.dtype)
        return NetworkState(nodes, edges, {})

    def _initial(self, node: Node, batch: int) -> tuple[Tensor, ...]:
        shape = self.graph.shapes[node.name]
        if node.operator == "neuron":
            unit = self._units[node.name]
            membrane = unit.initial.expand(batch, -1)  # no copy yet: fresh samples are often written elsewhere
            membrane = membrane.clone() if batch == 1 else membrane
            counts = int(unit.signed) + int(unit.limit is not None)
            return (membrane, *(torch.zeros(membrane.shape, dtype=torch.int32) for _ in range(counts)))
        if node.operator == "delay":
            return (torch.zeros(batch, node.attributes["steps"], *shape, dtype=self._dtype(node.name)),)
        if node.operator == "output":
            return torch.zeros(batch, *shape, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
        return (torch.zeros(batch, int(np.prod(shape)), dtype=torch.int32),)

    @torch.inference_mode()
    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant analog input x (batch, *features).

        Raises ShapeError, and RangeError for NaN and infinity.
        """
        values: Values = {self.graph.input.name: self._coded(x[None])}
        if observe is not None:
            self._show(self.graph.input.name, values, observe)
        for node in self.graph.nodes:
            if node.name in self._fixed and node.inputs:
                values[node.name] = self._folded(node, self._read(node, values, {}, 1))
        # the state must not change when the caller uses the memory of x again
        return self.initial_state(len(x))._replace(fixed={name: values[name][0].clone() for name in self._kept})

    @torch.inference_mode()
    def advance(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Run ``steps`` more steps; returns the cumulative output in real units (steps, batch, classes) and the state.

        x is what ``start`` got (it is in the state already and not read again), or a sequence (steps, batch,
        *features) for an engine made with ``constant_input=False``.  ``observe(name, values)`` sees the input, each
        neuron's spikes and the readout's current, (steps, batch, *features), whole numbers.
        """
        if steps < 1:
            raise RangeError(f"{steps} steps were asked for; ask for at least 1")
        if not self.constant_input and len(x) != steps:
            raise ShapeError(f"the sequence has {len(x)} steps, but {steps} were asked for; hand over exactly those")
        batch = len(x) if self.constant_input else x.shape[1]
        most = 1 if self.graph.recurrent else max(1, MOST_IMAGES // max(batch, 1))
        outputs = []
        with _exactly():
            for done in range(0, steps, most):
                size = min(most, steps - done)
                block = x if self.constant_input else x[done : done + size]
                output, state = self._advance_chunk(block, state, size, observe)
                outputs.append(output)
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0], state

    def select(self, state: NetworkState, index: Tensor) -> NetworkState:
        """The state of the samples at ``index``, in that order."""
        return select(state, index)

    def join(self, a: NetworkState, b: NetworkState) -> NetworkState:
        """The state of the samples of ``a`` followed by those of ``b``."""
        return join(a, b)

    def put(self, state: NetworkState, places: Tensor, fresh: NetworkState) -> NetworkState:
        """Let fresh samples take the places of others, in place."""
        return put(state, places, fresh)

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        values: Values = {name: value.unsqueeze(0) for name, value in state.fixed.items()}
        nodes, edges = dict(state.nodes), dict(state.edges)
        for index, node in enumerate(self.graph.nodes):
            name = node.name
            if name in self._fixed or name in self._absorbed:
                continue
            if node.operator == "input":
                values[name] = self._coded(x)
            elif node.operator == "neuron":
                values[name], nodes[name] = self._fire(node, values, edges, steps, nodes[name])
            elif node.operator == "output":
                values[name] = _spread(self._read(node, values, edges, steps)[0], steps).to(torch.float64)
                output, nodes[name] = self._real(values[name], nodes[name])
            elif OPERATORS[node.operator].memory:
                inputs = self._read(node, values, edges, steps)
                values[name], nodes[name] = self._remember(node, _spread(inputs[0], steps), nodes[name])
            else:
                values[name] = self._folded(node, self._read(node, values, edges, steps))
            if observe is not None and node.operator in ("input", "neuron", "output"):
                self._show(name, values, observe)
            for dead in self._dead_after[index]:
                values.pop(dead, None)
        for key, source, _ in self._delayed:
            edges[key] = torch.cat([edges[key], _spread(values[source], steps).transpose(0, 1)], 1)[:, steps:]
        return output, NetworkState(nodes, edges, state.fixed)

    def _coded(self, x: Tensor) -> Tensor:
        """The whole numbers of an analog input (rows, batch, *features)."""
        wanted = self.graph.shapes[self.graph.input.name]
        if tuple(x.shape[2:]) != wanted:
            raise ShapeError(f"the input has the feature shape {tuple(x.shape[2:])}, but this network takes {wanted}")
        form = self._forms[self.graph.input.name]
        code = torch.from_numpy(self.program.input(x.numpy()))
        return _over_time(_layout((code + form.offset).to(form.dtype).flatten(0, 1)), len(x))

    def _read(self, node: Node, values: Mapping[str, Tensor], edges: Mapping[str, Tensor], steps: int) -> list[Tensor]:
        """The inputs of a node over the chunk; a late edge gives what is in its buffer first.

        Whoever reads bytes gets them; a neuron gets any float; the others get their own type.
        """
        found, own = [], self._dtype(node.name)
        for position, edge in enumerate(node.inputs):
            form = self._forms[edge.source]
            if not edge.delay:
                value = values[edge.source]
            else:
                late = edges[f"{node.name}.{position}"].transpose(0, 1)
                if edge.delay < steps:
                    late = torch.cat([late, _spread(values[edge.source], steps)])
                value = late[:steps]
            if node.operator == "neuron":
                value = _converted(value, form, torch.float32 if form.dtype == torch.uint8 else form.dtype)
            elif node.name not in self.int8 and own != torch.uint8:
                value = _converted(value, form, own)
            found.append(value)
        return found

    def _folded(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """A node without memory: time folded into the batch."""
        rows = max(len(x) for x in inputs)
        if node.operator == "add":  # elementwise: rows of 1 broadcast
            return self._call(node, inputs)
        return _over_time(self._call(node, [_spread(x, rows).flatten(0, 1) for x in inputs]), rows)

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self._synapses:
            return self._synapses[node.name](_layout(inputs[0]))
        if node.operator == "sum_pool" and self._dtype(node.name) == torch.uint8:
            window = (node.attributes["kernel"], node.attributes["stride"])
            return sum_bytes(inputs[0], *window, self.graph.shapes[node.name])
        function = OPERATORS[node.operator].function
        if function is None:
            raise SpikeportError(f"{node.name} ({node.operator}) has no function without memory")
        return function(node.attributes, self._tensors[node.name], inputs)

    def _fire(
        self, node: Node, values: Values, edges: Mapping[str, Tensor], steps: int, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        form, extra = self._forms[node.name], None
        if node.name in self._fused:
            fused = self._fused[node.name]
            x, second = values[fused.first], values[fused.second]
            extra = Extra(_flat(second), self._factors[node.name], self._forms[fused.second].offset)
        else:
            x = self._read(node, values, edges, steps)[0]
        out = torch.empty(steps, *_flat(x).shape[1:], dtype=form.dtype)
        state = self._fire_scan(node, _flat(x), state, out, extra)
        return _over_time(logical(out.flatten(0, 1), self.graph.shapes[node.name]), steps), state

    def _fire_scan(
        self, node: Node, x: Tensor, state: tuple[Tensor, ...], out: Tensor, extra: Extra | None
    ) -> tuple[Tensor, ...]:
        return fire_scan(self._units[node.name], x, state, out, self._forms[node.name].offset, extra)

    def _filter_scan(self, node: Node, x: Tensor, state: tuple[Tensor, ...], out: Tensor) -> tuple[Tensor, ...]:
        return (filter_scan(self._units[node.name], x, state[0], out),)

    def _remember(self, node: Node, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A delay or a filter."""
        if node.operator == "delay":
            joined = torch.cat([state[0].transpose(0, 1), x])
            return joined[: len(x)], (joined[len(x) :].transpose(0, 1),)
        out = torch.empty(_flat(x).shape, dtype=x.dtype)
        after = self._filter_scan(node, _flat(x), state, out)
        return _over_time(logical(out.flatten(0, 1), self.graph.shapes[node.name]), len(x)), after

    def _real(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """``IntegerProgram.real_output`` of samples that may differ in age."""
        ramp = self.graph.output.attributes["ramp"]
        total, age = state
        step = age + torch.arange(1, len(current) + 1)[:, None]
        step = step.reshape(*step.shape, *([1] * (total.ndim - 1)))
        totals = total + (current.to(torch.int64) * step**ramp).cumsum(0)
        share = step.double() / _power_sum(step, ramp).double()
        return (self.program.output_scale * totals.double() * share).float(), (totals[-1], age + len(current))

    def _show(self, name: str, values: Values, observe: Observer) -> None:
        form = self._forms[name]
        observe(
            name, _converted(values[name], form, torch.float32 if form.dtype == torch.uint8 else form.dtype).clone()
        )

    def _dtype(self, name: str) -> torch.dtype:
        return self._forms[name].dtype


@contextmanager
def _exactly() -> Iterator[None]:
    """Keep PyTorch from every way to multiply that is not exact: NNPACK's transforms, and fewer bits than float32's."""
    precision = torch.get_float32_matmul_precision()
    with torch.backends.nnpack.flags(enabled=False):
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            if precision != "highest":
                torch.set_float32_matmul_precision(precision)


def _converted(x: Tensor, form: Form, dtype: torch.dtype) -> Tensor:
    """The value itself, as whole numbers in ``dtype``."""
    if form.dtype == dtype:
        return x
    return x.to(dtype).sub_(form.offset) if form.offset else x.to(dtype)


def _flat(x: Tensor) -> Tensor:
    """(rows, batch, *features) as contiguous (rows, batch, units), in the order of memory."""
    return physical(x.flatten(0, 1)).reshape(*x.shape[:2], -1).contiguous()


def _over_time(x: Tensor, rows: int) -> Tensor:
    """(rows * batch, *features) as (rows, batch, *features), without a copy."""
    return x.reshape(rows, x.shape[0] // rows, *x.shape[1:])


def _layout(x: Tensor) -> Tensor:
    """Channels last in memory; a tensor of one channel says so in its strides."""
    if x.ndim == 4 and x.shape[1] == 1:
        height, width = x.shape[2:]
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()


def _spread(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else x.expand(rows, *x.shape[1:])


def _power_sum(t: Tensor, ramp: int) -> Tensor:
    """1^r + 2^r + ... + t^r (Faulhaber), whole numbers, for r of 0 to 3."""
    sums: tuple[Tensor, ...] = (t, t * (t + 1) // 2, t * (t + 1) * (2 * t + 1) // 6, (t * (t + 1) // 2) ** 2)
    found: Tensor = sums[ramp]
    return found
