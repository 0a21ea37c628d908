"""The engine of a spiking network on crossbars: many chips in one batch, neurons and state as ever.

A batch of instances * n rows holds every sample once for each chip, chip by chip; ``on_all`` makes it.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..._check import ShapeError, SpikeportError
from ...networks.engine import Engine, NetworkState, Observer
from ...networks.graph import Graph, Node
from .array import Array
from .chips import Chips
from .counting import coverage
from .noise import base_keys, next_keys, read_keys
from .synapse import Synapse, require_ranges

__all__ = ["AnalogEngine", "Listener", "Reader", "on_all", "with_ranges"]

Listener = Callable[[Node, Tensor, Tensor], Tensor]  # node, its current before any correction, when -> the current
KEY = "\0read"  # no node has such a name


def on_all(x: Tensor, instances: int) -> Tensor:
    """(n, *features) -> (instances * n, *features): the samples once for each chip."""
    return x.repeat(instances, *([1] * (x.ndim - 1)))


class Reader:
    """What both engines share: the arrays, the keys of their noise, and the corrections of what they give."""

    def __init__(
        self, chips: Chips, *, whole: bool = False, watch: bool = False, listen: Listener | None = None
    ) -> None:
        self.chips, self.synapses, self.listen = chips, chips.synapses(whole=whole), listen
        if watch:
            for synapse in self.synapses.values():
                synapse.watch()
        else:
            require_ranges(list(self.synapses.values()))
        self.active: dict[str, list[Tensor]] | None = (
            None  # with ``count``: inputs other than 0 by read, (steps, batch)
        )
        self._cover: dict[str, Tensor] = {}
        self._keys: tuple[Tensor, Tensor] | None = None  # of the steps that are being run, and when they are

    def varying(self, graph: Graph) -> frozenset[str]:
        """The nodes that give another value at each step though their input is constant."""
        noisy = {name for name, each in self.synapses.items() if each.noisy and name not in self.chips.held}
        return frozenset(noisy.union(*(graph.by_name[name].sources for name in self.chips.corrections)))

    def _base(self, batch: int) -> Tensor:
        if batch % self.chips.instances:
            raise ShapeError(
                f"the batch has {batch} rows for {self.chips.instances} chips; hand over on_all(x, instances)"
            )
        return base_keys(self.chips.seed, self.chips.instances, batch)

    def fresh(self, state: NetworkState, batch: int, x: Tensor | None = None) -> NetworkState:
        """The state with the keys of the noise of its samples."""
        keys = self._base(batch)
        return state._replace(fixed={**state.fixed, KEY: keys if x is None else next_keys(keys, x)})

    def enter(self, x: Tensor, state: NetworkState, age: Tensor, steps: int, *, constant: bool) -> NetworkState:
        """Make the keys of the next steps, and the state after them."""
        keys, state_keys = state.fixed[KEY].expand(steps, -1), state.fixed[KEY]
        if not constant:  # what is shown changes: so do the keys
            rows = []
            for step in x:
                state_keys = next_keys(state_keys, step)
                rows.append(state_keys)
            keys = torch.stack(rows)
        self._keys = keys, age.to(torch.int64) + torch.arange(steps)[:, None]
        return state._replace(fixed={**state.fixed, KEY: state_keys})

    def begin(self, x: Tensor) -> None:
        """Get ready for what is read once a sample, from a constant input x."""
        keys = next_keys(self._base(len(x)), x)
        self._keys = keys[None], torch.zeros(1, len(x), dtype=torch.int64)

    def read(self, name: str, x: Tensor) -> Tensor:
        """What a node on arrays gives over the steps that are being run: (steps, batch, *features)."""
        synapse = self.synapses[name]
        words = None if self._keys is None or not synapse.noisy else read_keys(*self._keys, name)
        if self.active is not None:
            counted = self._counted(name, x)
            self.active[name].append(counted if words is None else counted.expand(len(words), -1))
        return synapse.read(x, words)

    def count(self) -> None:
        """From now on count the active inputs of every layer, from none."""
        self.active = {name: [] for name in self.synapses}

    def _counted(self, name: str, x: Tensor) -> Tensor:
        """Inputs other than 0, once for each read that they take part in: (rows, batch)."""
        last = x.movedim(2, -1) if self.synapses[name].node.operator != "linear" else x
        if name not in self._cover:
            cover = coverage(self.synapses[name].node, tuple(x.shape[2:]))
            self._cover[name] = (cover.movedim(0, -1) if last is not x else cover).flatten().to(torch.float32)
        active = last if self.synapses[name].spikes else (last != 0)
        return active.flatten(2).to(torch.float32) @ self._cover[name]

    def corrects(self, node: Node) -> bool:
        """Whether a node's current is seen by ``corrected``."""
        return node.name in self.chips.corrections or (
            self.listen is not None and node.operator in ("neuron", "output")
        )

    def corrected(self, node: Node, x: Tensor) -> Tensor:
        """The current of a neuron (or the output) as its chip corrects it, or as a listener says."""
        correction = self.chips.corrections.get(node.name)
        if self._keys is None:
            raise SpikeportError("no step is being run; call advance")
        if self.listen is not None and node.operator in ("neuron", "output"):
            return self.listen(node, x, self._keys[1])
        return x if correction is None else correction(x, self._keys[1])


class AnalogEngine(Engine):
    """Runs a Graph whose weights are on crossbars.  Implements the protocol of ``spikeport.inference``.

    A batch has instances * n rows; its outputs, too.  Samples can come and go (``can_refill``) with one instance only.
    The same sample on the same chip gives the same noise, whatever the batch and however time is split.
    ``listen`` is shown the current of every neuron and of the output, and gives the one that counts.
    Raises RangeError for converters without range, and what ``Engine`` raises.
    """

    def __init__(
        self,
        chips: Chips,
        *,
        max_steps: int,
        chunk: int = 4,
        constant_input: bool = True,
        watch: bool = False,
        listen: Listener | None = None,
    ) -> None:
        self.reader = Reader(chips, watch=watch, listen=listen)
        super().__init__(
            chips.graph,
            max_steps=max_steps,
            chunk=chunk,
            constant_input=constant_input,
            varying=self.reader.varying(chips.graph),
        )
        self.can_refill = chips.instances == 1

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return self.reader.fresh(super().initial_state(batch), batch)

    @torch.inference_mode()
    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant input x (instances * n, *features)."""
        self.reader.begin(x)
        return self.reader.fresh(super().start(x, observe), len(x), x)

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        age = state.nodes[self.graph.output.name][1]
        state = self.reader.enter(x, state, age, steps, constant=self.constant_input)
        return super()._advance_chunk(x, state, steps, observe)

    def _read(self, node: Node, values: Mapping[str, Tensor], edges: Mapping[str, Tensor], steps: int) -> list[Tensor]:
        found = super()._read(node, values, edges, steps)
        return [self.reader.corrected(node, found[0])] if self.reader.corrects(node) else found

    def _fold(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self.reader.synapses:
            return self.reader.read(node.name, inputs[0])
        return super()._fold(node, inputs)

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self.reader.synapses:
            return self.reader.read(node.name, inputs[0][None])[0]
        return super()._call(node, inputs)


def with_ranges(chips: Chips, synapses: Mapping[str, Synapse]) -> Chips:
    """The chips with converters that end at what their watched ``synapses`` have seen."""
    arrays: dict[str, Array] = dict(chips.arrays)
    for name, synapse in synapses.items():
        if synapse.largest is not None:
            arrays[name] = synapse.array.with_reach(synapse.largest)
    return chips.with_arrays(arrays)
