"""Outputs of many samples over a whole window, batch by batch."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .engine import Engine, Observer
from .graph import Graph

BatchObserver = Callable[[int], Observer]


class Observed(Protocol):
    """A step engine that can be watched."""

    chunk: int

    def start(self, x: Tensor, observe: Observer | None = None) -> Any:
        """The state of fresh samples."""

    def advance(self, x: Tensor, state: Any, steps: int, observe: Observer | None = None) -> tuple[Tensor, Any]:
        """The cumulative output of the next steps, and the state."""


def outputs_over_time(
    graph: Graph,
    x: np.ndarray,
    steps: int,
    *,
    batch_size: int = 64,
    chunk: int = 4,
    observe: BatchObserver | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """The cumulative output (steps, n, classes) for constant inputs x (n, *features).

    ``observe(first)`` gives the observer for the batch that begins at sample ``first``.
    """
    engine = Engine(graph, max_steps=steps, chunk=chunk)
    classes = graph.shapes[graph.output.name]
    return outputs_of(engine, classes, x, steps, batch_size=batch_size, observe=observe, progress=progress)


def outputs_of(
    engine: Observed,
    classes: tuple[int, ...],
    x: np.ndarray,
    steps: int,
    *,
    batch_size: int = 64,
    observe: BatchObserver | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """``outputs_over_time`` of any engine; classes: the shape of one output."""
    outputs = torch.empty(steps, len(x), *classes)  # once: kept pieces would break up the heap
    for first in range(0, len(x), batch_size):
        block = torch.from_numpy(np.ascontiguousarray(x[first : first + batch_size]))
        watcher = None if observe is None else observe(first)
        state = engine.start(block, watcher)
        for done in range(0, steps, engine.chunk):
            output, state = engine.advance(block, state, min(engine.chunk, steps - done), watcher)
            outputs[done : done + len(output), first : first + len(block)] = output
        if progress is not None:
            progress((first + len(block)) / len(x))
    return outputs
