"""Training that knows of the conversion to come: activations in whole levels, with a ceiling that is learned."""

from collections.abc import Mapping

import numpy as np

from .._check import RangeError, SpikeportError, UnsupportedError
from ..networks.graph import Graph, Node, make_node

__all__ = ["require_levels", "with_quantised_activations"]

MAX_LEVELS = 64


def require_levels(levels: int) -> None:
    """Raise RangeError for a number of levels out of range."""
    if not 1 <= levels <= MAX_LEVELS:
        raise RangeError(f"levels is {levels}; choose 1 to {MAX_LEVELS} (2 to 16 are usual)")


def with_quantised_activations(graph: Graph, ceilings: Mapping[str, np.ndarray | float], levels: int) -> Graph:
    """The network with every ReLU replaced by a quantised activation of ``levels`` levels (see ``quantised``).

    ceilings: by activation, where its ceiling begins: above 0, () for a layer or (channels,).  It is learned.
    levels: L, 1 to 64; the spiking network says the same after L steps of an even input.
    An activation that has levels already gets the new ones.
    Raises RangeError for levels or ceilings out of range, SpikeportError for an activation without a ceiling,
    UnsupportedError for a network without a ReLU.
    """
    require_levels(levels)
    activations = graph.of_operator("activation")
    if not activations:
        raise UnsupportedError("nothing to train in levels", ["the network has no ReLU (remedy: retrain with ReLU)"])
    if missing := [node.name for node in activations if node.name not in ceilings]:
        raise SpikeportError(f"{', '.join(missing)} got no ceiling; give one for each activation")
    changed = {node.name: _quantised(node, np.asarray(ceilings[node.name], np.float32), levels) for node in activations}
    return Graph.of([changed.get(node.name, node) for node in graph.nodes], graph.information)


def _quantised(node: Node, ceiling: np.ndarray, levels: int) -> Node:
    cut = node.attributes["maximum"]
    ceiling = ceiling if cut is None else np.minimum(ceiling, np.float32(cut))
    return make_node(node.name, "activation", node.inputs, arrays={"ceiling": ceiling}, levels=levels)
