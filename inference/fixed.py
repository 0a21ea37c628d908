"""Run a network for a fixed number of steps: the baseline of early exit, and the outputs to calibrate rules on."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from .._check import RangeError
from .checks import require_engine, require_finite, require_output_block, require_samples, require_window
from .engine import StepEngine

__all__ = ["cumulative_outputs", "run_fixed"]

State = TypeVar("State")
Progress = Callable[[int, int], None]


def run_fixed(
    engine: StepEngine[State],
    x: Tensor,
    steps: int,
    *,
    batch_size: int = 64,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return the labels int64 (N,) of x (N, *features) after ``steps`` steps.

    chunk: steps to a call of the engine; None takes the engine's own.
    progress: called with (samples done, N) after each batch.
    Raises ShapeError for an empty x or a misshapen output, RangeError for steps outside 1 to
    max_steps, for batch_size or chunk below 1, and for NaN in the output.
    """
    label = torch.empty(len(x) if x.ndim else 0, dtype=torch.int64)
    for first, start, output in _blocks(engine, x, steps, batch_size, chunk):
        if start + len(output) == steps:
            require_finite(output[-1])
            label[first : first + output.shape[1]] = output[-1].argmax(-1).cpu()
            _report(progress, first + output.shape[1], len(x))
    return label


def cumulative_outputs(
    engine: StepEngine[State],
    x: Tensor,
    steps: int | None = None,
    *,
    batch_size: int = 64,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return the cumulative output of every step: float32 (steps, N, classes), on the CPU.

    steps: None takes ``engine.max_steps``.  The rest, and the errors, as for ``run_fixed``.
    """
    steps = engine.max_steps if steps is None else steps
    outputs = torch.empty(0)
    for first, start, output in _blocks(engine, x, steps, batch_size, chunk):
        require_finite(output)
        if first == start == 0:
            outputs = torch.empty(steps, len(x), output.shape[2])
        outputs[start : start + len(output), first : first + output.shape[1]] = output.cpu()
        if start + len(output) == steps:
            _report(progress, first + output.shape[1], len(x))
    return outputs


def _blocks(
    engine: StepEngine[State], x: Tensor, steps: int, batch_size: int, chunk: int | None
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (first sample, first step, output block), batch by batch."""
    require_engine(engine)
    require_samples(x, batch_size)
    require_window("the fixed run", steps, engine.max_steps)
    chunk = engine.chunk if chunk is None else chunk
    if chunk < 1:
        raise RangeError(f"chunk is {chunk}, but at least one step is computed at a time.")
    for first in range(0, len(x), batch_size):
        block = x[first : first + batch_size]
        with torch.no_grad():
            state = engine.start(block)
        for start in range(0, steps, chunk):
            size = min(chunk, steps - start)
            with torch.no_grad():
                output, state = engine.advance(block, state, size)
            require_output_block(output, size, len(block))
            yield first, start, output


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
