"""``IntegerProgram``: a Graph in whole numbers, the one arithmetic that every backend computes bit for bit.

It is a Graph (same file, same checks, same shapes) of which every array holds whole numbers, with what ties them to
the real network: the scale of the input, the scale of the output, and for how many steps the ranges are proven.

At each step, in this order, for whole x, w, b and spikes s:

    filter   i <- decay(i, k) + x
    neuron   v <- decay(v, k) + x + b;  s = test(v, theta);  v <- v - theta * s  (or 0 where s, or v);  s is sent
             unless the unit has a limit and its spikes in the window, this one included, are more
    decay(v, k) = sign(v) * ((|v| * k) >> 12),  k = 4096 - d,  d a whole number of 12 bits (0 = no leak)

Source: the arithmetic of Loihi (Davies et al. 2018, doi 10.1109/MM.2018.112130359) as Intel's Lava computes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._check import CorruptFileError, RangeError, ShapeError, UnsupportedError
from ..networks.file import load_graph, save_graph
from ..networks.graph import Graph, Node

__all__ = ["DECAY_BITS", "OPERATORS", "STATE_LIMIT", "InputCode", "IntegerProgram", "mantissa"]

FORMAT = 1
DECAY_BITS = 12
STATE_BITS = 24
STATE_LIMIT = (1 << (STATE_BITS - 1)) - 1
INPUT_LIMIT = 1 << 15
STRUCTURAL = frozenset({"sum_pool", "max_pool", "flatten", "reshape", "transpose", "pad", "add", "concat", "delay"})
OPERATORS = STRUCTURAL | {
    "input", "linear", "conv1d", "conv2d", "scale", "global_pool", "synaptic_filter", "neuron", "output",
}  # fmt: skip
_DECAYS = ("beta", "alpha")  # held as k / 4096, which float32 holds exactly


@dataclass(frozen=True)
class InputCode:
    """How an analog input becomes whole numbers: n = clip(round(x / scale), low, high), rounding half to even."""

    scale: float
    low: int
    high: int

    def __post_init__(self) -> None:
        if not (0 < self.scale < float("inf") and -INPUT_LIMIT <= self.low <= 0 < self.high <= INPUT_LIMIT):
            raise RangeError(
                f"the input has the scale {self.scale} and the range {self.low} to {self.high}; "
                f"a scale above 0 and whole limits around 0, at most {INPUT_LIMIT}, were wanted"
            )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return int32 numbers shaped like x; raises RangeError on NaN or infinity.

        >>> InputCode(0.5, -4, 3)(np.array([-9.0, 0.6, 1.0])).tolist()
        [-4, 1, 2]
        """
        if not np.isfinite(x).all():
            raise RangeError("the input holds NaN or infinity; repair the data")
        return np.clip(np.rint(np.asarray(x, np.float64) / self.scale), self.low, self.high).astype(np.int32)


@dataclass(frozen=True)
class IntegerProgram:
    """A network in whole numbers.  Made by ``lower`` or loaded from a file; checked as a whole.

    graph: all arrays whole, the decays multiples of 1 / 4096.  output_scale: the real value of one unit of the output.
    steps: no state leaves 24 bits, and no output 53, within so many steps.
    """

    graph: Graph
    input: InputCode
    output_scale: float
    steps: int

    @classmethod
    def of(cls, graph: Graph) -> "IntegerProgram":
        """Check a graph whose ``information["integer"]`` says what ``lower`` wrote there.

        Raises UnsupportedError that names every operator without an integer form, RangeError for values that are not
        whole, CorruptFileError where the information is missing or senseless.
        """
        problems = [f"{node.name} ({node.operator})" for node in graph.nodes if not _supported(node)]
        if problems:
            raise UnsupportedError("no integer form of", problems)
        for node in graph.nodes:
            for key, array in node.arrays.items():
                _require_whole(node, key, array)
        said = graph.information.get("integer")
        try:
            if not isinstance(said, Mapping) or said["format"] != FORMAT:
                raise ValueError(said)
            code = InputCode(float(said["input"]["scale"]), int(said["input"]["low"]), int(said["input"]["high"]))
            scale, steps = float(said["output_scale"]), int(said["steps"])
            if not (0 < scale < float("inf") and 1 <= steps <= 4096):
                raise ValueError(said)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"this file holds no integer network of format {FORMAT} ({error}); make it anew from the network"
            ) from error
        return cls(graph, code, scale, steps)

    @cached_property
    def classes(self) -> int:
        """The number of outputs."""
        return self.graph.shapes[self.graph.output.name][0]

    @cached_property
    def neurons(self) -> tuple[Node, ...]:
        """The neuron nodes, in order."""
        return self.graph.of_operator("neuron")

    def require_input(self, x: np.ndarray, *, steps: int, constant: bool) -> None:
        """Raise ShapeError unless x is (n, *features), or (steps, n, *features); RangeError beyond the proven steps."""
        if not 1 <= steps <= self.steps:
            raise RangeError(
                f"{steps} steps were asked for, but the ranges of this integer network are proven for 1 to "
                f"{self.steps}; lower the network again for more steps"
            )
        wanted = self.graph.shapes[self.graph.input.name]
        features = x.shape[1:] if constant else x.shape[2:]
        if tuple(features) != wanted or (not constant and len(x) != steps):
            raise ShapeError(
                f"the input has the shape {x.shape}, but {'n' if constant else f'{steps}, n'}, {wanted} was wanted"
            )

    def real_output(self, currents: np.ndarray) -> np.ndarray:
        """The cumulative output in real units, from the readout's current at each step.

        currents: (steps, n, classes), whole.  y[t] = scale * t * sum_k k^r x[k] / sum_k k^r with the ramp r; float32.
        """
        ramp = self.graph.output.attributes["ramp"]
        step = np.arange(1, len(currents) + 1, dtype=np.int64)[:, None, None]
        total = (currents.astype(np.int64) * step**ramp).cumsum(0)
        share = step / (step**ramp).cumsum(0)
        return np.asarray(self.output_scale * total * share, np.float32)

    def save(self, path: str | Path) -> str:
        """Write one file (see ``networks.file``) and return its sha256."""
        return save_graph(self.graph, path)

    @classmethod
    def load(cls, path: str | Path) -> "IntegerProgram":
        """Read what ``save`` wrote; raises CorruptFileError for anything else."""
        return cls.of(load_graph(path))


def mantissa(weight: np.ndarray) -> tuple[np.ndarray, int]:
    """Whole weights as q * 2^e with the largest common e: (q as int32, e).

    >>> q, exponent = mantissa(np.array([-8.0, 0.0, 12.0]))
    >>> q.tolist(), exponent
    ([-2, 0, 3], 2)
    """
    whole = weight.astype(np.int64)
    common = int(np.bitwise_or.reduce(np.abs(whole), axis=None))
    exponent = (common & -common).bit_length() - 1 if common else 0
    return (whole >> exponent).astype(np.int32), exponent


def limit_problems(program: IntegerProgram) -> list[str]:
    """The limits of spikes, for backends that have none."""
    return [f"{node.name} (a limit of spikes: choose torch or reference)" for node in program.neurons
            if "limit" in node.arrays]  # fmt: skip


def _supported(node: Node) -> bool:
    if node.operator == "pad":
        return float(node.attributes["value"]).is_integer()
    if node.operator == "global_pool":
        return bool(node.attributes["function"] != "mean")
    return node.operator in OPERATORS


def _require_whole(node: Node, key: str, array: np.ndarray) -> None:
    values = array.astype(np.float64) * ((1 << DECAY_BITS) if key in _DECAYS else 1)
    if not (values == np.rint(values)).all() or np.abs(values).max(initial=0) > STATE_LIMIT:
        raise RangeError(
            f"{key} of {node.name} is not whole or leaves 24 bits, so this is no integer network; lower the network"
        )
    if key == "threshold" and values.min(initial=1) < 1:
        raise RangeError(f"a threshold of {node.name} is {values.min()}; a whole number of at least 1 was wanted")
    if key in _DECAYS and values.min(initial=1) < 1:
        raise RangeError(f"{key} of {node.name} is 0 in steps of 1 / 4096; decays of 12 bits end at 4095")


def information(code: InputCode, output_scale: float, steps: int, **more: Any) -> dict[str, Any]:
    """What ``IntegerProgram.of`` reads in ``information["integer"]``."""
    return {
        "format": FORMAT,
        "input": {"scale": code.scale, "low": code.low, "high": code.high},
        "output_scale": output_scale,
        "steps": steps,
        **more,
    }
