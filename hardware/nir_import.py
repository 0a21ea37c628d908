"""NIR files as Graphs: ours as they were, those of others in forward Euler steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._check import CorruptFileError, RangeError, SpikeportError, UnsupportedError
from ..networks.file import nodes_of
from ..networks.graph import Edge, Graph, Node, make_node
from .hdf5 import Tree, entry
from .nir_export import DEFAULT_DT, FORMAT, digest, plain_edges, safe_names
from .nir_nodes import Euler, translated

__all__ = ["graph_of"]

_PARSE_ERRORS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)
_WEIGHTS = {"linear": "weight", "conv1d": "weight", "conv2d": "weight"}


def graph_of(tree: Tree, path: Path, dt: float | None) -> Graph:
    """See ``nir.import_nir``."""
    try:
        root = entry(tree, "node", str(path))
        if root.get("type") != "NIRGraph":
            raise CorruptFileError(f"its root is of the type {root.get('type')!r}; a NIRGraph was wanted")
        ours = "spikeport" in root.get("metadata", {})
        own = _own(root) if dt is None and ours else None
        if own is not None:
            return own
        found = _Importer(root, _step(root, dt)).graph(path)
        source = {**found.information["source"], "by_definition": True}
        return Graph.of(found.nodes, {"source": source}) if ours else found
    except UnsupportedError:
        raise
    except SpikeportError as error:
        raise type(error)(f"{path}: {error}") from None
    except _PARSE_ERRORS as error:
        raise CorruptFileError(f"{path} is no sound NIR file ({type(error).__name__}: {str(error)[:300]})") from None


def _step(root: Tree, dt: float | None) -> float:
    found = float(np.asarray(root.get("metadata", {}).get("dt", DEFAULT_DT))) if dt is None else dt
    if not 0 < found < float("inf"):
        if dt is not None:
            raise RangeError(f"dt is {found}; seconds above 0 were wanted")
        raise CorruptFileError(f"dt is {found}; seconds above 0 were wanted")
    return found


def _own(root: Tree) -> Graph | None:
    """The graph that was exported, or None where the file has been changed since (other nodes, values or edges)."""
    structure = json.loads(root["metadata"]["spikeport"])
    if structure.pop("format", None) != FORMAT:
        raise CorruptFileError(f"its metadata names another format than {FORMAT}")
    if structure.pop("digests", None) != {name: digest(node) for name, node in root["nodes"].items()}:
        return None
    held = {
        str(node["metadata"]["spikeport"]["name"]): node
        for node in root["nodes"].values()
        if "spikeport" in node.get("metadata", {})
    }
    arrays: dict[str, np.ndarray] = {}
    for item in structure["nodes"]:
        for key in item["arrays"]:
            arrays[f"{item['name']}/{key}"] = _array(held[item["name"]], item["operator"], key)
    graph = Graph.of(nodes_of(structure, arrays), structure["information"])
    names = safe_names(graph)
    wanted = {(names[source], names[target]) for source, target, _ in plain_edges(graph)}
    return graph if wanted == _through(root) else None


def _array(node: Tree, operator: str, key: str) -> np.ndarray:
    kept = node["metadata"]["spikeport"]
    if key in kept:
        return np.asarray(kept[key], np.float32)
    found = np.asarray(node[_WEIGHTS[operator]], np.float32)
    return found / np.float32(kept["gain"]) if "gain" in kept else found


def _through(root: Tree) -> set[tuple[str, str]]:
    """The edges between nodes that carry our names, through those that were put between."""
    ours = {name for name, node in root["nodes"].items() if "spikeport" in node.get("metadata", {})}
    after: dict[str, list[str]] = {}
    for source, target in _edges(root):
        after.setdefault(source, []).append(target)
    found = set()
    for name in ours:
        ahead, seen = list(after.get(name, [])), set[str]()
        while ahead:
            target = ahead.pop()
            if target in ours:
                found.add((name, target))
            elif target not in seen:
                seen.add(target)
                ahead += after.get(target, [])
    return found


def _edges(group: Tree) -> list[tuple[str, str]]:
    pairs = np.asarray(group["edges"], object).reshape(-1, 2)
    return [(_text(a), _text(b)) for a, b in pairs]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Importer:
    """Nested graphs are laid flat first; then each NIR node becomes a few of ours."""

    def __init__(self, root: Tree, dt: float) -> None:
        self.dt = dt
        self.nodes: dict[str, Tree] = {}
        self.edges: list[tuple[str, str]] = []
        self.lay_flat(root, "")

    def lay_flat(self, group: Tree, prefix: str) -> None:
        for name, node in group["nodes"].items():
            kind = _text(node["type"])
            if kind == "NIRGraph":
                self.lay_flat(node, f"{prefix}{name}.")
            else:
                inner = prefix != "" and kind in ("Input", "Output")
                self.nodes[prefix + name] = {**node, "type": "Identity" if inner else kind}
        for source, target in _edges(group):
            ends = [self.end(group, name, prefix, kind) for name, kind in ((source, "Output"), (target, "Input"))]
            self.edges.append((ends[0], ends[1]))

    def end(self, group: Tree, name: str, prefix: str, kind: str) -> str:
        """The node at the end of an edge: of a nested graph its only output or input."""
        node = group["nodes"].get(name)
        if node is None:
            raise CorruptFileError(f"an edge names {name!r}, which is no node")
        if _text(node["type"]) != "NIRGraph":
            return prefix + name
        inside = [inner for inner, item in node["nodes"].items() if _text(item["type"]) == kind]
        if len(inside) != 1:
            raise UnsupportedError("cannot import", [f"{prefix}{name}: a nested graph of {len(inside)} {kind} nodes"])
        return self.end(node, inside[0], f"{prefix}{name}.", kind)

    def graph(self, path: Path) -> Graph:
        inputs: dict[str, list[str]] = {name: [] for name in self.nodes}
        for source, target in self.edges:
            inputs[target].append(source)
        problems = [
            f"{len(found)} {kind} nodes"
            for kind in ("Input", "Output")
            if len(found := [name for name, node in self.nodes.items() if node["type"] == kind]) != 1
        ]
        late = _closing(inputs)
        made: list[Node] = []
        euler = Euler(self.dt)
        giving: dict[str, str] = {}  # the last of our nodes for each of theirs
        chains: dict[str, list[Node]] = {}
        for name, node in self.nodes.items():
            try:
                chains[name] = [] if node["type"] == "Identity" else translated(name, node, euler)
                giving[name] = chains[name][-1].name if chains[name] else f"{name}.sum"
            except UnsupportedError as error:
                problems.append(str(error))
        if problems:
            raise UnsupportedError(f"cannot import {path.name}", problems)
        self.bypass(inputs, late)
        for name, chain in chains.items():
            if self.nodes[name]["type"] == "Input":
                made += chain
                continue
            if not chain and len(set(inputs[name])) == 1:
                continue
            edges = [Edge(giving[source], int((source, name) in late)) for source in dict.fromkeys(inputs[name])]
            if not edges:
                raise CorruptFileError(f"nothing leads to {name!r}")
            if len(edges) > 1:
                made.append(make_node(f"{name}.sum", "add", edges))
                edges = [Edge(f"{name}.sum")]
            if not chain:
                continue
            made.append(
                make_node(chain[0].name, chain[0].operator, edges, arrays=chain[0].arrays, **chain[0].attributes)
            )
            made += chain[1:]
        return Graph.of(made, {"source": {"format": "nir", "file": path.name, "dt": self.dt}})

    def bypass(self, inputs: dict[str, list[str]], late: set[tuple[str, str]]) -> None:
        """Lead what goes through the border of a nested graph straight on, where only one edge comes in."""
        for name, node in self.nodes.items():
            if node["type"] != "Identity" or len(set(inputs[name])) != 1:
                continue
            (source,) = set(inputs[name])
            for target, sources in inputs.items():
                if name in sources:
                    inputs[target] = [source if one == name else one for one in sources]
                    if (name, target) in late or (source, name) in late:
                        late.add((source, target))


def _closing(inputs: Mapping[str, list[str]]) -> set[tuple[str, str]]:
    """The edges that close a loop, met when walking forward from the nodes that nothing leads to."""
    after: dict[str, list[str]] = {name: [] for name in inputs}
    for target, sources in inputs.items():
        for source in sources:
            after[source].append(target)
    closing: set[tuple[str, str]] = set()
    state: dict[str, int] = {}  # 1: on the way, 2: done
    for start in [name for name, sources in inputs.items() if not sources] + list(inputs):
        stack = [(start, iter(after[start]))] if start not in state else []
        state.setdefault(start, 1)
        while stack:
            name, ahead = stack[-1]
            target = next(ahead, "")
            if not target:
                state[name] = 2
                stack.pop()
            elif state.get(target) == 1:
                closing.add((name, target))
            elif target not in state:
                state[target] = 1
                stack.append((target, iter(after[target])))
    return closing
