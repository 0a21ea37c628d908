"""Exchange with other frameworks through NIR files (Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9).

What NIR has no field for (reset by subtraction, the comparison, the initial membrane, codes, quantisation) travels in
metadata, so that a network comes back as it went; readers of others ignore that, and ``export_nir`` says what they
will do differently.
"""

from pathlib import Path

from ..networks.graph import Graph
from .hdf5 import read_tree
from .nir_export import DEFAULT_DT, write_nir
from .nir_import import graph_of

__all__ = ["DEFAULT_DT", "export_nir", "import_nir"]


def export_nir(
    graph: Graph, path: str | Path, *, dt: float | None = None, reader: str | None = None
) -> tuple[str, ...]:
    """Write a spiking graph (or ``IntegerProgram.graph``) and return what readers that ignore metadata do differently.

    dt: seconds of one step, 0.1 ms if left out; time constants are such that a forward Euler step of dt gives the
    graph's own numbers.  reader: "snntorch", "norse" or "sinabs" writes the same network as that program has to be
    given it, because it takes r for 1, decays exponentially or knows one dt only; left out, as NIR defines its nodes.
    Average pools become sum pools, with the weights behind them scaled.
    Raises UnsupportedError that lists every node without a form in NIR, BackendUnavailable without ``nir``.
    """
    return write_nir(graph, Path(path), dt, reader)


def import_nir(path: str | Path, *, dt: float | None = None) -> Graph:
    """Read a .nir file: one of ours exactly as it was, one of others with Euler steps of dt seconds.

    One of ours that was changed since, in weights, thresholds or wires, is read as one of others; the information of
    the graph says so (source: by_definition).  dt: left out, what the file's metadata says, else 0.1 ms.  Neurons of
    others fire above (>) their threshold and are set to their reset value, unless their metadata says otherwise
    ("compare": "ge", "reset": "subtract").  An edge that closes a loop is one step late.
    Raises UnsupportedError that lists everything not covered, CorruptFileError for a damaged file.
    """
    return graph_of(read_tree(path), Path(path), dt)
