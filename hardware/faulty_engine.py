"""The integer engine with faults during the run: ``IntegerEngine`` with a key for each sample in its state."""

import numpy as np
import torch
from torch import Tensor

from ..networks.engine import NetworkState, Observer
from ..networks.faulty_engine import SAMPLES, advanced_keys, fresh_keys, with_keys
from ..networks.graph import Node
from ..networks.transient import Transient, flip_whole, memory_order
from .program import STATE_BITS, IntegerProgram
from .scans import Extra
from .torch_engine import IntegerEngine

__all__ = ["FaultyIntegerEngine"]

State = tuple[Tensor, ...]


class FaultyIntegerEngine(IntegerEngine):
    """``IntegerEngine`` that loses spikes and flips bits of the states' 24 after each step, as the reference does."""

    def __init__(
        self,
        program: IntegerProgram,
        transient: Transient,
        *,
        max_steps: int | None = None,
        chunk: int = 4,
        constant_input: bool = True,
        largest_byte: int | None = None,
    ) -> None:
        super().__init__(
            program, max_steps=max_steps, chunk=chunk, constant_input=constant_input, largest_byte=largest_byte
        )
        self.be_hit_by(transient)

    def be_hit_by(self, transient: Transient) -> None:
        """Let these faults happen from now on; for subclasses whose base is another engine."""
        self.transient, self._hit = transient, frozenset(node.name for node in transient.hit)
        self._order = {node.name: memory_order(self.program.graph.shapes[node.name]) for node in transient.hit}

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return fresh_keys(super().initial_state(batch), batch, None)

    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant analog input x (batch, *features)."""
        return fresh_keys(super().start(x, observe), len(x), x)

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        keys, after = advanced_keys(state, None if self.constant_input else x, steps)
        output, state = super()._advance_chunk(x, with_keys(state, self._hit, keys), steps, observe)
        return output, state._replace(nodes={**state.nodes, SAMPLES: after})

    def _fire_scan(self, node: Node, x: Tensor, state: State, out: Tensor, extra: Extra | None) -> State:
        if node.name not in self._hit:
            return super()._fire_scan(node, x, state, out, extra)
        *own, keys = state
        size = 1 if self.transient.faults.state else len(out)
        for t in range(0, len(out), size):
            part = None if extra is None else extra._replace(values=_rows(extra.values, t, size))
            own = list(super()._fire_scan(node, _rows(x, t, size), tuple(own), out[t : t + size], part))
            if self.transient.faults.state:
                own[0] = self._flipped(node, own[0], keys[:, t])
        rows, units = self.transient.dropped(node, keys.T.contiguous().numpy().view(np.uint64).reshape(-1))
        flat = out.view(-1, out.shape[-1])
        places = torch.from_numpy(rows), torch.from_numpy(self._order[node.name][units])
        flat[places] = self._forms[node.name].offset
        return tuple(own)

    def _filter_scan(self, node: Node, x: Tensor, state: State, out: Tensor) -> State:
        if node.name not in self._hit:
            return super()._filter_scan(node, x, state, out)
        *own, keys = state
        for t in range(len(out)):
            (current,) = super()._filter_scan(node, x[t : t + 1], tuple(own), out[t : t + 1])
            own = [self._flipped(node, current, keys[:, t])]
        return tuple(own)

    def _flipped(self, node: Node, state: Tensor, keys: Tensor) -> Tensor:
        """Membranes or currents (batch, units in the order of memory) after the step."""
        rows, units, bits = self.transient.flipped(node, keys.contiguous().numpy().view(np.uint64), STATE_BITS)
        held = state.clone(memory_format=torch.contiguous_format)
        flip_whole(held.numpy(), rows, self._order[node.name][units], bits)
        return held


def _rows(x: Tensor, first: int, size: int) -> Tensor:
    return x if len(x) == 1 else x[first : first + size]
