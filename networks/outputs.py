"""Outputs of many samples over a whole window, batch by batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .engine import Engine, Observer
from .graph import Graph

BatchObserver = Callable[[int], Observer]


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
    outputs = torch.empty(steps, len(x), *graph.shapes[graph.output.name])  # once: kept pieces would break up the heap
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
