"""What a front end hands over: the Graph, and the source network itself to compare it with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .._check import RangeError, ShapeError, SpikeportError
from ..networks.engine import Engine
from ..networks.graph import Graph

TOLERANCE = 1e-3  # largest allowed difference, relative to the largest source output


def unchanged(output: np.ndarray) -> np.ndarray:
    """The finish of a source network whose output is the Graph's output."""
    return output


@dataclass(frozen=True)
class Source:
    """A network as a front end read it.

    run: x (batch, *features) float32 -> the source's own output, computed by the source's own framework.
    finish: what a removed head did, applied to the Graph's output before the two are compared (softmax, argmax).
    sha256: of the source file, or of the weights of a module.  notes: what a person should know about the import.
    """

    name: str
    graph: Graph
    run: Callable[[np.ndarray], np.ndarray]
    sha256: str
    notes: tuple[str, ...] = ()
    finish: Callable[[np.ndarray], np.ndarray] = unchanged


def analog_output(graph: Graph, x: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """The Graph's output (n, classes) for x (n, *features), with its activations as they are (no spikes).

    Raises ShapeError for an empty or misshapen x, RangeError where the output is NaN or infinite.
    """
    if len(x) == 0:
        raise ShapeError("there is no sample to run the network on; give at least one")
    engine = Engine(graph, max_steps=1)
    outputs = []
    for first in range(0, len(x), batch_size):
        block = torch.from_numpy(np.ascontiguousarray(x[first : first + batch_size], dtype=np.float32))
        outputs.append(engine.advance(block, engine.start(block), 1)[0][0])
    found = torch.cat(outputs).numpy()
    finite = np.isfinite(found).reshape(len(found), -1).all(1)
    if not finite.all():
        raise RangeError(
            f"the network gives NaN or infinity for {int((~finite).sum())} of {len(x)} samples (first at "
            f"{int(np.argmin(finite))}); repair the network or the data, and check the data's scale"
        )
    return found


def check_source(source: Source, x: np.ndarray) -> float:
    """Largest difference between the Graph's and the source's output on x, relative to the largest source output.

    Raises SpikeportError if it is above 1e-3: the import is wrong, and nothing after it could be trusted.
    """
    return check_graph(source.graph, source, x)


def check_graph(graph: Graph, source: Source, x: np.ndarray) -> float:
    """``check_source`` for a graph that was made from the source's own, by rewrites that should change nothing."""
    got = np.asarray(source.finish(analog_output(graph, x)))  # first, as it refuses data of another shape by name
    wanted = np.asarray(source.run(x))
    if not np.isfinite(wanted).all():
        raise RangeError(
            f"{source.name} itself gives NaN or infinity on the calibration data; repair the network or the data"
        )
    if got.size != wanted.size or len(got) != len(wanted):
        raise ShapeError(f"{source.name} gives an output of shape {wanted.shape}, but its Graph gives {got.shape}")
    scale = max(float(np.abs(wanted).max()), 1e-12)
    error = float(np.abs(got.reshape(wanted.shape).astype(np.float64) - wanted).max()) / scale
    if not error <= TOLERANCE:
        raise SpikeportError(
            f"its Graph differs from {source.name} by {error:.2e} of its largest output (allowed: {TOLERANCE}); "
            "please report this network as a fault of spikeport"
        )
    return error
