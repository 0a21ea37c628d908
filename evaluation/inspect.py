"""What a network is made of, and what of it could not be converted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._check import UnsupportedError
from ..conversion.codes import KINDS
from ..conversion.open import open_model
from ..conversion.rewrite import simplified
from ..conversion.spiking import require_convertible
from ..networks.file import load_graph
from ..networks.graph import Graph, Node
from .folder import NETWORK, read_folder

__all__ = ["Description", "describe"]


@dataclass(frozen=True)
class Description:
    """A network for people and programs; ``problem`` says that it cannot be converted, and names every reason."""

    facts: dict[str, Any]
    problem: UnsupportedError | None = None


def describe(
    spec: str, *, features: Sequence[int] | None = None, weights: Path | None = None, allow_code: bool = False
) -> Description:
    """Describe a spikeport network, a conversion folder, or a model that could be converted.

    features: the shape of one sample, which only a factory needs.
    Raises what reading the file raises, but for operators that are not covered: those are listed.
    """
    if Path(spec).is_dir():
        held = read_folder(spec)
        evaluated = {"evaluated": "evaluate" in held.report}
        return Description({"kind": "conversion", **_of_graph(held.spiking, Path(spec) / NETWORK), **evaluated})
    if spec.endswith(".safetensors"):
        return Description({"kind": "network", **_of_graph(load_graph(spec), Path(spec))})
    kind = Path(spec).suffix[1:].lower() if ":" not in spec else "factory"
    try:
        source = open_model(spec, features=features, weights=weights, allow_code=allow_code)
    except UnsupportedError as error:
        found = _of_onnx(Path(spec)) if kind == "onnx" else {"name": spec}
        return Description({"kind": kind, **found, "unsupported": list(error.problems or [str(error)])}, error)
    graph = simplified(source.graph)
    facts = {"kind": kind, **_of_graph(source.graph, Path(source.name)), "sha256": source.sha256}
    if len(facts["output_shape"]) != 1:
        shape = tuple(facts["output_shape"])
        said = f"the output has the shape {shape}, but (classes,) is wanted: end with global pooling or a flatten"
        problem = UnsupportedError("this network is no classifier", [said])
        return Description({**facts, "notes": list(source.notes), "spikes": [], "unsupported": [said]}, problem)
    facts["notes"] = list(source.notes)
    refused = {code: refusal for code in KINDS if (refusal := _refusal(graph, code))}
    facts["spikes"] = [code for code in KINDS if code not in refused]
    if facts["spikes"]:
        return Description(facts)
    problem = refused["differential"]  # what the code that carries most cannot carry
    return Description({**facts, "unsupported": list(problem.problems or [str(problem)])}, problem)


def _refusal(graph: Graph, code: str) -> UnsupportedError | None:
    """Why the network cannot be converted with these spikes, if so."""
    try:
        require_convertible(graph, code)
    except UnsupportedError as error:
        return error
    return None


def _of_graph(graph: Graph, path: Path) -> dict[str, Any]:
    return {
        "name": path.name or str(path),
        "input_shape": list(graph.shapes[graph.input.name]),
        "output_shape": list(graph.shapes[graph.output.name]),
        "parameters": sum(_parameters(node) for node in graph.nodes),
        "operators": _counted(node.operator for node in graph.nodes),
        "nodes": [
            {
                "name": node.name,
                "operator": node.operator,
                "inputs": [[edge.source, edge.delay] for edge in node.inputs],
                "shape": list(graph.shapes[node.name]),
                "parameters": _parameters(node),
            }
            for node in graph.nodes
        ],
        "unsupported": [],
        "information": dict(graph.information),
    }


def _of_onnx(path: Path) -> dict[str, Any]:
    """What can be said of a file that cannot be taken over as a whole."""
    from ..conversion.onnx_file import read_model

    try:
        model = read_model(path)
    except UnsupportedError:  # it is not even one network of one input
        return {"name": path.name}
    constants = model.proto.graph.initializer
    return {
        "name": path.name,
        "sha256": model.sha256,
        "input_shape": list(model.shape),
        "parameters": sum(_product(tensor.dims) for tensor in constants),
        "operators": _counted(node.op_type for node in model.proto.graph.node),
    }


def _parameters(node: Node) -> int:
    return sum(int(array.size) for array in node.arrays.values())


def _counted(names: Any) -> Mapping[str, int]:
    return dict(sorted(Counter(names).items()))


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= int(size)
    return result
