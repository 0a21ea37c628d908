"""The engine of a network: float graphs and integer programs are evaluated by the same code."""

from ..hardware.program import IntegerProgram
from ..hardware.torch_engine import IntegerEngine
from ..networks.engine import Engine
from ..networks.graph import Graph

__all__ = ["Network", "engine_of", "graph_of"]

Network = Graph | IntegerProgram


def graph_of(network: Network) -> Graph:
    """The nodes: of an integer program, those with whole arrays."""
    return network.graph if isinstance(network, IntegerProgram) else network


def engine_of(network: Network, *, max_steps: int, chunk: int = 4) -> Engine | IntegerEngine:
    """The step engine that runs it on constant inputs."""
    if isinstance(network, IntegerProgram):
        return IntegerEngine(network, max_steps=max_steps, chunk=chunk)
    return Engine(network, max_steps=max_steps, chunk=chunk)
