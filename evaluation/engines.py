"""The engine of a network: float graphs and integer programs, samples and recordings are evaluated by the same code."""

from typing import Any, Protocol

from torch import Tensor

from ..hardware.faulty_engine import FaultyIntegerEngine
from ..hardware.program import IntegerProgram
from ..hardware.torch_engine import IntegerEngine
from ..networks.engine import Engine, constant_nodes
from ..networks.faulty_engine import FaultyEngine
from ..networks.graph import Graph
from ..networks.outputs import Observed
from ..networks.recorded import RecordedEngine
from ..networks.transient import Transient
from .recordings import framing_of

__all__ = ["Network", "engine_of", "fixed_nodes", "graph_of"]

Network = Graph | IntegerProgram


class Watched(Observed, Protocol):
    """A step engine of ``inference`` that can be watched; what it remembers is its own affair."""

    max_steps: int
    can_refill: bool

    def select(self, state: Any, index: Tensor) -> Any:
        """The state of the samples at ``index``."""

    def join(self, a: Any, b: Any) -> Any:
        """Both states."""


def graph_of(network: Network) -> Graph:
    """The nodes: of an integer program, those with whole arrays."""
    return network.graph if isinstance(network, IntegerProgram) else network


def engine_of(network: Network, *, max_steps: int, chunk: int = 4, transient: Transient | None = None) -> Watched:
    """The step engine that runs it: on constant inputs, or on recordings (n, time, *features) if it was made for them.

    In an integer network of recordings, frames are coded as the analog inputs are.  transient: faults during the run.
    """
    constant = framing_of(graph_of(network)) is None
    asked: dict[str, Any] = {"max_steps": max_steps, "chunk": chunk, "constant_input": constant}
    if isinstance(network, IntegerProgram):
        hit = None if transient is None else FaultyIntegerEngine(network, transient, **asked)
        whole = hit or IntegerEngine(network, **asked)
        return whole if constant else RecordedEngine(whole)
    real = Engine(network, **asked) if transient is None else FaultyEngine(transient, **asked)
    return real if constant else RecordedEngine(real)


def fixed_nodes(graph: Graph) -> frozenset[str]:
    """The nodes whose value is the same at each step: none where the input is a recording."""
    return constant_nodes(graph) if framing_of(graph) is None else frozenset()
