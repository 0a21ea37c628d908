"""Protection against faults: bounds above which activations are 0, limits of spikes, and units that are silenced.

All of it is a pure transformation, Graph in and Graph out: what is protected is a network like any other.
Sources: ProAct (Mousavi et al. 2024, arXiv 2406.06313) for bounds above which the value is 0, one a layer and one a
neuron in the last; Hussaini et al. 2023 (arXiv 2209.08723) for hyperactive neurons.
"""

from collections.abc import Mapping

import numpy as np
import torch

from .._check import RangeError, ShapeError, SpikeportError, require_in_range
from .engine import Engine
from .graph import Graph, Node
from .stored_faults import with_arrays, without_units

__all__ = ["activation_maxima", "hyperactive", "maximum_bounds", "silenced", "with_bounds", "with_limits"]

UNREACHABLE = float(np.finfo(np.float32).max)
_BATCH = 128


def activation_maxima(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """The largest value that comes into each unit of each activation of an analog network for x (n, *features).

    At least 0; of an activation that lets negative values pass, the largest magnitude.
    """
    found: dict[str, np.ndarray] = {}

    def observe(name: str, values: torch.Tensor) -> None:
        for node in graph.of_operator("activation"):
            if node.sources[0] == name:
                size = values.abs() if node.attributes["function"] == "identity" else values.clamp(min=0)
                largest = size.flatten(0, 1).amax(0).numpy()
                found[node.name] = np.maximum(found.get(node.name, largest), largest)

    engine = Engine(graph, max_steps=1)
    for first in range(0, len(x), _BATCH):
        engine.start(torch.from_numpy(np.ascontiguousarray(x[first : first + _BATCH])), observe)
    return found


def maximum_bounds(
    graph: Graph, maxima: Mapping[str, np.ndarray], *, last_by_unit: bool = True
) -> dict[str, np.ndarray]:
    """Bounds at the largest values seen: one for each layer, and in the last activation one for each unit.

    A layer that was silent gets a bound of 0.
    """
    _require(graph, maxima, "activation", "bound")
    last = graph.of_operator("activation")[-1].name
    return {
        name: np.asarray(value if last_by_unit and name == last else value.max(), np.float32)
        for name, value in maxima.items()
    }


def with_bounds(graph: Graph, bounds: Mapping[str, np.ndarray]) -> Graph:
    """The analog network whose activations are 0 where what comes in exceeds their bound, or is NaN.

    bounds: by activation node; one number, one for each channel, or one for each unit.
    Raises SpikeportError that lists the layers that are no activations of the network, RangeError for bounds that are
    negative or not finite, ShapeError for those that do not fit.
    """
    _require(graph, bounds, "activation", "bound")
    return _with(graph, {name: {"bound": np.asarray(value)} for name, value in bounds.items()})


def with_limits(graph: Graph, limits: Mapping[str, np.ndarray]) -> Graph:
    """The spiking network whose units send no more spikes in a window than their limit; then they are silent.

    limits: by neuron node; one number, one for each channel, or one for each unit, whole.
    Raises SpikeportError that lists the layers that are no neurons of the network, RangeError for limits that are
    negative or not whole, ShapeError for those that do not fit.
    """
    _require(graph, limits, "neuron", "limit")
    broken = [name for name, value in limits.items() if not (np.asarray(value) == np.floor(value)).all()]
    if broken:
        raise RangeError(f"limits of {', '.join(broken)} are not whole; spikes are counted, so round them up")
    return _with(graph, {name: {"limit": np.asarray(value)} for name, value in limits.items()})


def hyperactive(counts: np.ndarray, limit: np.ndarray | float, *, share: float) -> np.ndarray:
    """Which units spike more than their limit in at least this share of the samples, (*features) booleans.

    counts: spikes of each sample and unit (n, *features).  A limit of 0 is the published rule: units that respond to
    too many inputs tell none of them apart.
    Raises RangeError for a share outside of 0 to 1, ShapeError without samples.

    >>> hyperactive(np.array([[0, 3], [1, 4]]), 2, share=0.5)
    array([False,  True])
    """
    require_in_range("share", share, 0.0, 1.0)
    if not len(counts):
        raise ShapeError("no samples came; count the spikes of at least one")
    number = (counts > _spread(np.asarray(limit), counts.shape[1:])).sum(0)
    return np.asarray((number > 0) & (number >= share * len(counts)))


def silenced(graph: Graph, gone: Mapping[str, np.ndarray], *, unreachable: float = UNREACHABLE) -> Graph:
    """The spiking network in which these units never fire: their threshold is ``unreachable``.

    gone: by neuron node, booleans (*features).
    Raises SpikeportError that lists the layers that are no neurons of the network, ShapeError for another shape.
    """
    _require(graph, gone, "neuron", "silent units")
    for name, mask in gone.items():
        if mask.shape != graph.shapes[name]:
            raise ShapeError(f"{name} has the shape {graph.shapes[name]}, but {mask.shape} units were to be silenced")
    nodes = [_silent(node, gone.get(node.name), unreachable) for node in graph.nodes]
    return Graph.of(nodes, graph.information)


def _silent(node: Node, gone: np.ndarray | None, unreachable: float) -> Node:
    if gone is None or not gone.any():
        return node
    return without_units(node, gone, unreachable)


def _spread(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array if array.ndim in (0, len(shape)) else array.reshape(-1, *([1] * (len(shape) - 1)))


def _require(graph: Graph, named: Mapping[str, object], operator: str, what: str) -> None:
    known = [node.name for node in graph.of_operator(operator)]
    unknown = [name for name in named if name not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise SpikeportError(
            f"{', '.join(unknown)} can have no {what}; the {operator} layers of this network are: {has}"
        )
    if not known:
        raise SpikeportError(f"this network has no {operator} layer, so nothing in it can have any {what}")


def _with(graph: Graph, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Graph:
    nodes = [with_arrays(node, arrays[node.name]) if node.name in arrays else node for node in graph.nodes]
    return Graph.of(nodes, graph.information)
