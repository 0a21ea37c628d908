"""Faults of a run as lists that are drawn before it, for engines that live in other programs than this one."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..networks.fault_draws import content_keys
from ..networks.graph import Node
from ..networks.transient import Transient, step_keys
from .program import STATE_BITS

__all__ = ["Hits", "at_step", "hits_of"]


class Hits(NamedTuple):
    """What is hit in one batch, by node, in the order of the steps.

    dropped: int32 (3, hits), the step, the sample and the unit (row-major) of each lost spike.  flipped: int32
    (4, hits), also the bit of the state that flips after that step.
    """

    dropped: Mapping[str, np.ndarray]
    flipped: Mapping[str, np.ndarray]


def hits_of(transient: Transient | None, x: np.ndarray, steps: int, *, constant: bool = True) -> Hits:
    """The faults of ``steps`` steps for x (n, *features), or (steps, n, *features) with ``constant=False``; analog.

    They are those that the reference draws on its way.
    """
    if transient is None:
        return Hits({}, {})
    keys = _keys(x, steps, constant)
    neurons = [node for node in transient.hit if node.operator == "neuron"]
    return Hits(
        {node.name: _dropped(transient, node, keys) for node in neurons if transient.faults.dropped_spikes},
        {node.name: _flipped(transient, node, keys) for node in transient.hit if transient.faults.state},
    )


def at_step(hits: np.ndarray | None, step: int) -> np.ndarray:
    """The rows below the first, sample, unit (and bit), of the faults of this step: (rows - 1, hits)."""
    if hits is None:
        return np.zeros((3, 0), np.int32)
    first, last = np.searchsorted(hits[0], (step, step + 1))
    return hits[1:, first:last]


def _keys(x: np.ndarray, steps: int, constant: bool) -> np.ndarray:
    """The key of each sample at each step: uint64 (steps, n)."""
    ages = np.arange(steps)[:, None]
    if constant:
        return step_keys(content_keys(x)[None], ages)
    samples, found = np.zeros(x.shape[1], np.uint64), []
    for frame in x[:steps]:
        samples = content_keys(frame, samples)
        found.append(samples)
    return step_keys(np.stack(found), ages)


def _dropped(transient: Transient, node: Node, keys: np.ndarray) -> np.ndarray:
    rows, units = transient.dropped(node, keys.reshape(-1))
    return np.stack([*np.divmod(rows, keys.shape[1]), units]).astype(np.int32)


def _flipped(transient: Transient, node: Node, keys: np.ndarray) -> np.ndarray:
    rows, units, bits = transient.flipped(node, keys.reshape(-1), STATE_BITS)
    return np.stack([*np.divmod(rows, keys.shape[1]), units, bits]).astype(np.int32)
