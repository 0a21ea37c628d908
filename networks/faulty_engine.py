"""The engine of float networks with faults during the run: ``Engine`` with a key for each sample in its state."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import UnsupportedError
from .engine import Engine, Give, NetworkState, Observer
from .fault_draws import content_keys
from .graph import Node
from .reference import logical, physical
from .transient import Transient, flip_floats, memory_order, step_keys

__all__ = ["SAMPLES", "FaultyEngine", "advanced_keys", "fresh_keys", "with_keys"]

SAMPLES = ""  # no node has this name: each sample's key, and how many steps it has done
FLOAT_BITS = 32
State = tuple[Tensor, ...]


class FaultyEngine(Engine):
    """``Engine`` that loses spikes and flips bits of float32 membranes and synaptic currents after each step.

    Splitting time or the batch, and the order of samples, change nothing; equal samples meet equal faults.
    """

    def __init__(self, transient: Transient, *, max_steps: int, chunk: int = 4, constant_input: bool = True) -> None:
        super().__init__(transient.graph, max_steps=max_steps, chunk=chunk, constant_input=constant_input)
        self.be_hit_by(transient)

    def be_hit_by(self, transient: Transient) -> None:
        """Let these faults happen from now on; for subclasses whose base is another engine."""
        self.transient, self._hit = transient, frozenset(node.name for node in transient.hit)
        if transient.faults.state:
            self._replayed = frozenset()  # there a membrane is not stored, so that nothing could hit it
        self._order = {node.name: memory_order(transient.graph.shapes[node.name]) for node in transient.hit}

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return fresh_keys(super().initial_state(batch), batch, None)

    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant input x (batch, *features)."""
        return fresh_keys(super().start(x, observe), len(x), x)

    def walk(self, x: Tensor, steps: int, give: Give) -> Tensor:
        """Refused: a walk is for methods that tune a network."""
        raise UnsupportedError("a walk knows no faults", ["tune the network first, and then run it with faults"])

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        keys, after = advanced_keys(state, None if self.constant_input else x, steps)
        output, state = super()._advance_chunk(x, with_keys(state, self._hit, keys), steps, observe)
        return output, state._replace(nodes={**state.nodes, SAMPLES: after})

    def _scan(self, node: Node, x: Tensor, steps: int, state: State) -> tuple[Tensor, State]:
        if node.name not in self._hit:
            return super()._scan(node, x, steps, state)
        *own, keys = state
        if self.transient.faults.state:
            values, own = self._step_by_step(node, x, steps, own, keys)
        else:
            values, own = super()._scan(node, x, steps, tuple(own))  # type: ignore[assignment]
        if node.operator == "neuron":
            rows, units = self.transient.dropped(node, _of_rows(keys))
            batch, shape = values.shape[1], values.shape[2:]
            values[(torch.from_numpy(rows // batch), torch.from_numpy(rows % batch), *_unraveled(units, shape))] = 0
        return values, tuple(own)

    def _step_by_step(self, node: Node, x: Tensor, steps: int, own: Any, keys: Tensor) -> tuple[Tensor, Any]:
        parts = []
        for t in range(steps):
            value, own = super()._scan(node, x[t : t + 1] if len(x) > 1 else x, 1, tuple(own))
            own = self._flipped(node, own[0], keys[:, t]), *own[1:]
            parts.append(physical(value[0]))
        shape = self.graph.shapes[node.name]
        return logical(torch.cat(parts), shape).view(steps, -1, *shape), own

    def _flipped(self, node: Node, state: Tensor, keys: Tensor) -> Tensor:
        """A membrane (batch, units in the order of memory) or a current (batch, *features) after the step."""
        rows, units, bits = self.transient.flipped(node, keys.numpy().view(np.uint64), FLOAT_BITS)
        held = state.reshape(len(state), -1).clone(memory_format=torch.contiguous_format)
        flip_floats(held.numpy(), rows, self._order[node.name][units] if node.operator == "neuron" else units, bits)
        return held.reshape(state.shape)


def fresh_keys(state: NetworkState, batch: int, x: Tensor | None) -> NetworkState:
    """The state with a key for each of its samples, from the values x that they show, and the age 0."""
    keys = np.zeros(batch, np.uint64) if x is None else content_keys(x.numpy())
    known = torch.from_numpy(keys.view(np.int64)), torch.zeros(batch, dtype=torch.int64)
    return state._replace(nodes={**state.nodes, SAMPLES: known})


def advanced_keys(state: NetworkState, frames: Tensor | None, steps: int) -> tuple[Tensor, State]:
    """The keys of the next steps (batch, steps), and the samples' keys and ages after them.

    frames: what a sequence shows in these steps; a sample is then known by all that it has shown so far.
    """
    key, age = (part.numpy() for part in state.nodes[SAMPLES])
    key, found = key.view(np.uint64), []
    for t in range(steps):
        key = key if frames is None else content_keys(frames[t].numpy(), key)
        found.append(step_keys(key, age + t))
    after = torch.from_numpy(key.view(np.int64).copy()), torch.from_numpy(age + steps)
    return torch.from_numpy(np.stack(found, 1).view(np.int64)), after


def with_keys(state: NetworkState, hit: frozenset[str], keys: Tensor) -> NetworkState:
    """The state in which the nodes that are hit also hold the keys of the steps to come, as their last part."""
    nodes = {name: (*parts, keys) if name in hit else parts for name, parts in state.nodes.items()}
    return state._replace(nodes=nodes)


def _of_rows(keys: Tensor) -> np.ndarray:
    """Keys (batch, steps) as those of (steps, batch) flattened."""
    return keys.T.contiguous().numpy().view(np.uint64).reshape(-1)


def _unraveled(units: np.ndarray, shape: torch.Size) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.asarray(part)) for part in np.unravel_index(units, tuple(shape)))
