"""The integer network of a conversion: what input it is made for, what it costs in accuracy, and its file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import CorruptFileError, SpikeportError, UnsupportedError
from ..conversion.rewrite import folded
from ..hardware.lower import input_code, lower
from ..hardware.program import InputCode, IntegerProgram
from ..hardware.rounding import input_moments
from ..inference import accuracy_interval, paired_difference_interval
from ..networks.graph import Graph
from ..networks.outputs import outputs_of
from .engines import engine_of

__all__ = [
    "FIT_SAMPLES",
    "INTEGER",
    "MEAN_SAMPLES",
    "ROUNDINGS",
    "code_of",
    "input_range",
    "integer_outputs",
    "integer_part",
    "lowered",
]

INTEGER = "network.int8.safetensors"
BITS = 8
FIT_SAMPLES, MEAN_SAMPLES = 256, 64
ROUNDINGS = ("nearest", "fitted")
_RANGE = "input_range"
_MANY = 4096  # different values; what has more is not counted in steps
_OFF = 0.01  # of a step: a mean that was subtracted is seldom a whole number of steps


def input_range(x: np.ndarray) -> dict[str, Any]:
    """What lowering has to know of the calibration samples; kept in the network's information.

    step: all values are whole multiples of it (pixels, events, what was eight bits before), or None.
    """
    return {"low": float(x.min()), "high": float(x.max()), "step": _common_step(x)}


def _common_step(x: np.ndarray) -> float | None:
    """The number of which all values are whole multiples, to a hundredth of it; None where there is none."""
    values = np.unique(x.astype(np.float64))
    gaps = np.diff(values)
    gaps = gaps[gaps > 4 * np.finfo(np.float32).eps * np.abs(values).max()]
    if not len(gaps) or len(values) > _MANY:
        return None
    spread = values[-1] - values[0]
    step = float(spread / round(spread / gaps.min()))
    for whole in (step, step / 2):  # bytes mapped to -1 to 1 are odd multiples of 1 / 255
        if np.abs(values / whole - np.rint(values / whole)).max() <= _OFF:
            return whole
    return None


def code_of(graph: Graph) -> InputCode:
    """How inputs become whole numbers, from the calibration statistics that the network carries."""
    said = graph.information.get(_RANGE)
    if said is None:
        raise SpikeportError("this network does not say what inputs it was calibrated on; convert or train it again")
    try:
        step = said.get("step")
        return input_code(float(said["low"]), float(said["high"]), step=None if step is None else float(step))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"the calibration statistics of this network make no sense ({error})") from None


def lowered(graph: Graph, samples: np.ndarray | None = None, rounding: str = "nearest") -> IntegerProgram:
    """The integer program of a spiking network for its own number of steps; raises what ``lower`` raises.

    Batch norms, which a network that was trained with spikes still has, go into the weights before them.
    samples: (n, *features), on the first 64 of which biases take over what rounding changes of the mean current of a
    channel; None leaves biases alone.
    rounding: of weights, to the "nearest", or "fitted" to the first 256 samples; kept only if that brings the output
    nearer than no samples do, on the next 256 (the same ones where there are no more).
    """
    conversion = graph.information.get("conversion", {})
    said = conversion.get("timesteps") if isinstance(conversion, Mapping) else None
    steps, plain = int(said) if isinstance(said, int) else 64, folded(graph)
    bare = lower(plain, code_of(graph), steps=steps)  # refuses, if it must, before any sample is run
    if samples is None:
        return bare
    fit = rounding == "fitted"
    count = FIT_SAMPLES if fit else MEAN_SAMPLES
    moments = input_moments(plain, samples[:count], steps, covariance=fit)
    if fit:
        fitted = lower(plain, code_of(graph), steps=steps, moments=moments)
        seen = samples[count : 2 * count] if len(samples) >= 2 * count else samples[:count]
        wanted = outputs_of(engine_of(plain, max_steps=steps), (bare.classes,), seen, steps)[-1]
        errors = [(integer_outputs(each, seen, steps)[-1] - wanted).square().mean() for each in (fitted, bare)]
        if errors[0] < errors[1]:
            return fitted
    means = {name: each._replace(covariance=None) for name, each in moments.items()}
    return lower(plain, code_of(graph), steps=steps, moments=means)


def integer_outputs(program: IntegerProgram, x: np.ndarray, steps: int) -> Tensor:
    """The cumulative output in real units (steps, n, classes) for inputs x (n, *features), or recordings."""
    return outputs_of(engine_of(program, max_steps=steps), (program.classes,), x, steps)


def integer_part(
    graph: Graph,
    x: np.ndarray,
    labels: np.ndarray,
    outputs: np.ndarray,
    program: IntegerProgram | None = None,
    *,
    fit: np.ndarray | None = None,
    rounding: str = "nearest",
) -> tuple[IntegerProgram | None, dict[str, Any], np.ndarray | None]:
    """The integer program, what the report says of it, and its outputs (T, n, classes) in real units.

    (None, the reason, None) for a network without integer form.

    program: where there is one already.  fit, rounding: for ``lowered``.  x, labels: (n, *features) and (n,), of
    samples that chose nothing.  outputs: (T, n, classes) of the float network.
    ``accuracy_change`` is integer - float at T, with its paired interval.
    """
    try:
        program = lowered(graph, fit, rounding) if program is None else program
    except UnsupportedError as error:
        return None, {"refused": str(error)}, None
    made = integer_outputs(program, x, len(outputs)).numpy()
    found = torch.from_numpy(made[-1].argmax(1))
    accuracy = float((found.numpy() == labels).mean())
    change = paired_difference_interval(found, torch.from_numpy(outputs[-1].argmax(1)), torch.from_numpy(labels))
    said = program.graph.information["integer"]
    about = {
        "bits": BITS,
        "rounding": said.get("rounding", "nearest"),
        "means_kept": said.get("means_kept", False),
        "n": len(x),
        "accuracy": accuracy,
        "accuracy_ci95": list(accuracy_interval(accuracy, len(x))),
        "accuracy_change": change.value,
        "accuracy_change_ci95": [change.low, change.high],
        "input": said["input"],
        "decay_error": max(said.get("decay_error", {}).values(), default=0.0),
        "channels_with_coarser_weights": sum(said.get("channels_with_coarser_weights", {}).values()),
        "largest_state": max(said.get("largest_state", {}).values(), default=0.0),
    }
    return program, about, made
