"""Wall time of early exit beside the fixed window of equal accuracy, in turns."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from ..inference import ExitRule, interleaved_medians, run_fixed, run_with_exit
from ..networks.graph import Graph
from ..networks.run import Engine

__all__ = ["timed"]

TIMED_SAMPLES = 512
REPEATS = 5
BATCH = 64
CHUNKS = (1, 2, 4, 8, 16)


def timed(
    graph: Graph,
    x: np.ndarray,
    rule: ExitRule,
    steps: int,
    fixed_steps: int,
    tell: Callable[[str, float], None],
    seed: int,
    *,
    samples: int = TIMED_SAMPLES,
) -> dict[str, Any]:
    """Medians of 5 interleaved runs over the same samples (at most 512, drawn by the seed).

    speedup_wall = seconds of the fixed run of ``fixed_steps`` steps, with the chunk that is best for it, / seconds of
    the exit run, with its own best chunk; both chunks are found first, on other samples where there are enough.
    """
    order = np.random.default_rng(seed).permutation(len(x))
    drawn = torch.from_numpy(x[order[:samples]])
    trial = torch.from_numpy(x[order[-min(len(x), 2 * BATCH) :]])
    tell("time early exit", 0.0)
    fixed_chunks = [chunk for chunk in CHUNKS if chunk <= fixed_steps]
    fixed_chunk = _fastest(fixed_chunks, lambda chunk: _fixed(graph, trial, fixed_steps, chunk))
    exit_chunk = _fastest([1, 2, 4, 8], lambda chunk: _exit(graph, trial, rule, steps, chunk))
    tell("time early exit", 0.3)
    fixed_seconds, exit_seconds = interleaved_medians(
        [_fixed(graph, drawn, fixed_steps, fixed_chunk), _exit(graph, drawn, rule, steps, exit_chunk)], REPEATS
    )
    return {
        "speedup_wall": fixed_seconds / exit_seconds,
        "wall_seconds": exit_seconds,
        "fixed_wall_seconds": fixed_seconds,
        "timing_n": len(drawn),
        "timing_chunk": exit_chunk,
        "timing_fixed_chunk": fixed_chunk,
        "timing_threads": torch.get_num_threads(),
    }


def _fixed(graph: Graph, x: torch.Tensor, steps: int, chunk: int) -> Callable[[], object]:
    return partial(run_fixed, Engine(graph, max_steps=steps, chunk=chunk), x, steps, batch_size=BATCH)


def _exit(graph: Graph, x: torch.Tensor, rule: ExitRule, steps: int, chunk: int) -> Callable[[], object]:
    return partial(run_with_exit, Engine(graph, max_steps=steps, chunk=chunk), x, rule, batch_size=BATCH)


def _fastest(chunks: list[int], run: Callable[[int], Callable[[], object]]) -> int:
    seconds = interleaved_medians([run(chunk) for chunk in chunks], 1)
    return chunks[int(np.argmin(seconds))]
