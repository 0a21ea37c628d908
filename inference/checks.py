"""Argument checks that the rules, the sweeps and the runs share."""

import math
from typing import Any

import torch
from torch import Tensor

from .._check import RangeError, ShapeError
from .engine import StepEngine

__all__ = [
    "require_engine",
    "require_finite",
    "require_output_block",
    "require_outputs",
    "require_samples",
    "require_window",
]


def require_outputs(outputs: Tensor) -> None:
    """Raise ShapeError unless the outputs are (T, N, classes) with at least one step and one sample."""
    if outputs.ndim != 3 or outputs.shape[0] < 1 or outputs.shape[1] < 1:
        raise ShapeError(
            f"the outputs have shape {tuple(outputs.shape)}, but (steps, samples, classes) was wanted, "
            "with at least one step and one sample."
        )


def require_output_block(output: Tensor, steps: int, samples: int) -> None:
    """Raise ShapeError unless an engine returned (steps, samples, classes)."""
    if output.ndim != 3 or tuple(output.shape[:2]) != (steps, samples):
        raise ShapeError(
            f"the engine returned an output of shape {tuple(output.shape)}, but ({steps}, {samples}, classes) "
            "was wanted; advance() returns the cumulative output of every step."
        )


def require_finite(output: Tensor) -> None:
    """Raise RangeError if the output holds NaN or infinity."""
    if torch.compiler.is_compiling():  # a program that is exported has no values yet; whoever runs it looks
        return
    # the sum tells at once in nearly all cases: numbers of single precision never add up to infinity in double
    if not math.isfinite(output.sum(dtype=torch.float64).item()) and not bool(torch.isfinite(output).all()):
        raise RangeError("the output holds NaN or infinity; look for such values in the weights or the input.")


def require_samples(x: Tensor, batch_size: int) -> None:
    """Raise ShapeError if there is no sample, RangeError if a batch would hold none or a value is NaN or infinite."""
    if x.ndim == 0 or x.shape[0] == 0:
        raise ShapeError(
            f"the input has shape {tuple(x.shape)}, but (samples, *features) with at least one sample was wanted."
        )
    if batch_size < 1:
        raise RangeError(f"batch_size is {batch_size}, but a batch needs at least one place.")
    if not math.isfinite(x.sum(dtype=torch.float64).item()) and not bool(torch.isfinite(x).all()):
        # a membrane that is NaN never fires, so such a sample would get an answer
        raise RangeError("the input holds NaN or infinity; repair the data, and check their scale.")


def require_engine(engine: StepEngine[Any]) -> None:
    """Raise RangeError unless the engine runs at least one step, in chunks of at least one."""
    if engine.max_steps < 1 or engine.chunk < 1:
        raise RangeError(
            f"the engine has max_steps {engine.max_steps} and chunk {engine.chunk}; both must be at least 1."
        )


def require_window(name: str, steps: int, max_steps: int) -> None:
    """Raise RangeError unless 1 <= steps <= max_steps."""
    if not 1 <= steps <= max_steps:
        raise RangeError(
            f"{name} asks for {steps} steps, but the run has steps 1 to {max_steps}; "
            "ask for fewer, or give the network more."
        )
