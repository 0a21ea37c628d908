"""A Graph as NIR nodes.

Neurons: tau = dt / (1 - beta) and r = 1 / (1 - beta) (no leak: IF with r = 1 / dt), so that a forward Euler step of dt
gives v <- beta v + x.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._check import BackendUnavailable, RangeError, SpikeportError, UnsupportedError
from ..networks.file import atomic_write, structure_of
from ..networks.graph import Edge, Graph, Node
from .nir_readers import reader_named
from .reference import channelwise

__all__ = ["DEFAULT_DT", "FORMAT", "digest", "nir_module", "plain_edges", "safe_names", "write_nir"]

DEFAULT_DT = 1e-4  # what most readers take
FORMAT = 1
_SYNAPSES = ("linear", "conv1d", "conv2d", "scale")
_DISSOLVED = ("add", "delay")
_UNKNOWN_TO_NIR = (
    "max_pool", "multiply", "concat", "transpose", "pad", "function", "softmax", "layer_norm", "rms_norm", "matmul",
    "constant", "slice", "step_bias",
)  # fmt: skip


def nir_module() -> Any:
    """The package ``nir``, or BackendUnavailable that says how to get it."""
    try:
        import nir
    except ImportError as error:
        raise BackendUnavailable(f"nir cannot be imported ({error}); pip install 'spikeport[nir]'") from error
    return nir


def write_nir(graph: Graph, path: Path, dt: float | None, reader: str | None = None) -> tuple[str, ...]:
    """See ``nir.export_nir``."""
    known = reader_named(reader)
    if known.dt is not None and dt not in (None, known.dt):
        raise RangeError(f"dt is {dt}, but {reader} takes every step for {known.dt} s; leave dt out")
    dt = (known.dt or DEFAULT_DT) if dt is None else dt
    if not 0 < dt < float("inf"):
        raise RangeError(f"dt is {dt}; seconds above 0 were wanted")
    nir = nir_module()
    problems = [f"{node.name} ({node.operator}): {said}" for node in graph.nodes if (said := _objection(graph, node))]
    problems += [f"{node.name}: a limit of spikes" for node in graph.nodes if "limit" in node.arrays]
    if problems:
        raise UnsupportedError("NIR has no form of", problems)
    writer = _Writer(nir, graph, dt, reader)
    made = writer.graph_node()
    try:
        with atomic_write(path) as temporary:
            nir.write(temporary, made)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
    return tuple(writer.notes)


def _objection(graph: Graph, node: Node) -> str:
    """Why a node has no form in NIR, or nothing."""
    shapes = [graph.shapes[source] for source in node.sources]
    if node.operator in ("batch_norm", "activation"):
        return "convert the network first"
    if node.attributes.get("code") == "differential" or node.attributes.get("decoded"):
        return "NIR has no differential coding; convert with binary or signed spikes"
    if node.operator in _UNKNOWN_TO_NIR:
        return "NIR has no such node"
    if node.operator == "reshape" and len(graph.shapes[node.name]) != 1:
        return "NIR can only flatten"
    if node.operator == "linear" and len(shapes[0]) != 1:
        return "NIR multiplies flat features only; flatten before"
    if node.operator == "scale" and "shift" in node.arrays:
        return "NIR scales without a shift"
    if node.operator in ("sum_pool", "average_pool") and len(node.attributes["kernel"]) != 2:
        return "NIR pools images only"
    if node.operator in ("sum_pool", "average_pool") and node.attributes["ceil_mode"]:
        return "partial windows (ceil_mode)"
    if node.operator == "average_pool" and any(node.attributes["padding"]) and not node.attributes["count_include_pad"]:
        return "an average that leaves out the padding"
    if node.operator == "global_pool" and (node.attributes["function"] == "max" or len(shapes[0]) != 3):
        return "NIR sums images only"
    if node.operator == "add" and len({(edge.source, edge.delay) for edge in node.inputs}) < len(node.inputs):
        return "the same value twice"
    return ""


def safe_names(graph: Graph) -> dict[str, str]:
    """Names that HDF5 takes, by those of the graph."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        word = node.name.replace("/", "_").strip(".") or "node"
        while word in found.values():
            word += "_"
        found[node.name] = word
    return found


def plain_edges(graph: Graph) -> list[tuple[str, str, int]]:
    """(source, target, delay) with adds and delays dissolved: what NIR draws; an edge that leads back: delay - 1."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    found: dict[tuple[str, str, int], None] = {}

    def follow(edge: Edge, late: int, target: str) -> None:
        node = graph.by_name[edge.source]
        late += edge.delay
        if node.operator in _DISSOLVED:
            for inner in node.inputs:
                follow(inner, late + (node.attributes["steps"] if node.operator == "delay" else 0), target)
        else:
            found[edge.source, target, late - (position[edge.source] >= position[target])] = None

    for node in graph.nodes:
        if node.operator not in _DISSOLVED:
            for edge in node.inputs:
                follow(edge, 0, node.name)
    return list(found)


class _Writer:
    def __init__(self, nir: Any, graph: Graph, dt: float, reader: str | None) -> None:
        self.nir, self.graph, self.dt = nir, graph, dt
        self.reader, self.who = reader_named(reader), reader or "others"
        self.names = safe_names(graph)
        self.gains: dict[str, float] = {}  # by what NIR's value of a node is too large
        self.notes: list[str] = []
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def graph_node(self) -> Any:
        for node in self.graph.nodes:
            if node.operator not in _DISSOLVED:
                self.gains[node.name] = self.gain(node)
                made, kept = self.node(node)
                held = {key: value[()] if np.ndim(value) == 0 else value for key, value in kept.items()}
                made.metadata = {"spikeport": {"name": node.name, **held}, **self.said(node)}
                self.nodes[self.names[node.name]] = made
            else:
                self.gains[node.name] = self.incoming(node)
        for source, target, delay in plain_edges(self.graph):
            self.connect(source, target, delay)
        structure = structure_of(self.graph)
        about = {"format": FORMAT, "digests": {name: digest(made.to_dict()) for name, made in self.nodes.items()}}
        metadata = {"dt": self.dt, "spikeport": json.dumps({**about, **structure}, allow_nan=False)}
        try:
            return self.nir.NIRGraph(self.nodes, self.edges, metadata=metadata)
        except (ValueError, AssertionError) as error:
            raise UnsupportedError("NIR refuses this network", [str(error)]) from error

    def connect(self, source: str, target: str, delay: int) -> None:
        ends = self.names[source], self.names[target]
        between: list[tuple[str, Any]] = []
        if self.graph.by_name[source].operator == "global_pool":  # a sum pool leaves its axes behind
            shape = self.graph.shapes[source]
            between.append(("flat", self.nir.Flatten({"input": np.array([*shape, *self.axes(source)])}, 0, -1)))
        gain = self.gains[source] * (1.0 if self.absorbed(source) is not None else self.strength(target))
        ends_here = self.graph.by_name[target].operator in ("neuron", "synaptic_filter", "output")
        if ends_here and (np.asarray(gain) != 1).any():
            between.append(("gain", self.nir.Scale(np.float32(np.broadcast_to(gain, self.graph.shapes[source])))))
        if delay:
            between.append((f"delay{delay}", self.nir.Delay(np.full(self.graph.shapes[source], delay * self.dt))))
        last = ends[0]
        for kind, made in between:
            name = f"{ends[0]}.{kind}.{ends[1]}"
            self.nodes[name] = made
            self.edges.append((last, name))
            last = name
        self.edges.append((last, ends[1]))

    def axes(self, name: str) -> list[int]:
        """The axes of length 1 that a pool over all places leaves."""
        return [1] * (len(self.graph.shapes[self.graph.by_name[name].sources[0]]) - 1)

    def strength(self, name: str) -> Any:
        """By what the current of a neuron has to be multiplied for this reader, of its whole shape or one value."""
        node, shape = self.graph.by_name[name], self.graph.shapes[name]
        if node.operator != "neuron" or not self.reader.unit_resistance:
            return 1.0
        made = self.reader.neuron(_decay(node, shape), self.dt)
        return 1.0 if made is None else made[2]

    def absorbed(self, name: str) -> np.ndarray | None:
        """The strength of the one neuron behind a synapse by channel, where it is the same all over a channel."""
        node, readers = self.graph.by_name[name], self.graph.consumers[name]
        if node.operator not in ("linear", "conv1d", "conv2d") or len(readers) != 1:
            return None
        strength = np.broadcast_to(self.strength(readers[0]), self.graph.shapes[readers[0]])
        channels = strength.reshape(len(strength), -1)
        return channels[:, 0].astype(np.float32) if (channels == channels[:, :1]).all() else None

    def incoming(self, node: Node) -> float:
        found = {self.gains.get(source, 1.0) for source in node.sources}
        if len(found) > 1:
            raise UnsupportedError("NIR has no form of", [f"{node.name} ({node.operator}): averages beside others"])
        return found.pop() if found else 1.0

    def gain(self, node: Node) -> float:
        """By what the values of NIR's node have to be multiplied: averages are sums there."""
        if node.operator == "average_pool":
            return self.incoming(node) / int(np.prod(node.attributes["kernel"]))
        if node.operator == "global_pool" and node.attributes["function"] == "mean":
            return self.incoming(node) / int(np.prod(self.graph.shapes[node.sources[0]][1:]))
        if node.operator in ("sum_pool", "global_pool", "flatten", "reshape"):
            return self.incoming(node)
        return 1.0

    def node(self, node: Node) -> tuple[Any, dict[str, Any]]:
        """NIR's node, and the arrays that cannot be had from it."""
        nir, shape = self.nir, self.graph.shapes[node.name]
        source = self.graph.shapes[node.sources[0]] if node.inputs else ()
        if node.operator == "input":
            return nir.Input({"input": np.array(shape)}), {}
        if node.operator == "output":
            return nir.Output({"output": np.array(shape)}), {}
        if node.operator in _SYNAPSES:
            return self.synapse(node, source, shape)
        if node.operator == "neuron":
            return self.neuron(node, shape)
        if node.operator == "synaptic_filter":
            return self.filter(node, shape), dict(node.arrays)
        if node.operator in ("sum_pool", "average_pool"):
            kernel, stride, padding = (np.array(node.attributes[key]) for key in ("kernel", "stride", "padding"))
            return nir.SumPool2d(kernel, stride, padding), {}
        if node.operator == "global_pool":
            size = np.array(source[1:])
            return nir.SumPool2d(size, size, np.array([0, 0])), {}
        return nir.Flatten({"input": np.array(source)}, start_dim=0, end_dim=-1), {}

    def synapse(self, node: Node, source: Sequence[int], shape: Sequence[int]) -> tuple[Any, dict[str, Any]]:
        key = "factor" if node.operator == "scale" else "weight"
        original, gain = node.arrays[key], np.float32(self.incoming(node))
        weight = original * gain
        # a gain that is no power of two rounds: the original is kept beside
        kept: dict[str, Any] = {} if np.array_equal(weight / gain, original) else {key: original}
        kept |= {"gain": gain} if gain != 1 and not kept else {}
        kept |= {"bias": node.arrays["bias"]} if "bias" in node.arrays else {}
        if node.operator == "scale":
            kept |= {key: original}
            return self.nir.Scale(_full(weight, shape)), kept
        bias = np.asarray(node.arrays.get("bias", np.zeros(len(weight), np.float32))) + self.neuron_bias(node)
        if (strength := self.absorbed(node.name)) is not None and (strength != 1).any():
            kept[key] = original
            weight, bias = weight * channelwise(strength, weight.ndim), bias * strength
        if node.operator == "linear":
            return (self.nir.Affine(weight, bias) if bias.any() else self.nir.Linear(weight)), kept
        groups = node.attributes["groups"]
        if groups > 1:  # nir takes each group's inputs for all there are, and refuses such a file
            kept[key] = original
            weight = _dense(weight, groups)
            self.notes.append(f"{node.name}: its {groups} groups are one in the file, with zeros between them")
        fields = [*(node.attributes[name] for name in ("stride", "padding", "dilation")), 1]
        if node.operator == "conv2d":
            return self.nir.Conv2d(tuple(source[1:]), weight, *fields, bias), kept
        fields = [field[0] if isinstance(field, tuple) else field for field in fields]
        return self.nir.Conv1d(source[1], weight, *fields, bias), kept

    def neuron_bias(self, node: Node) -> Any:
        """The biases of the neurons behind a synapse: NIR's neurons have none."""
        readers = self.graph.consumers[node.name]
        reader = self.graph.by_name[readers[0]] if len(readers) == 1 else None
        if reader is None or reader.operator != "neuron" or not reader.arrays["bias"].any():
            return np.float32(0)
        bias = reader.arrays["bias"]
        if node.inputs[0].delay or bias.ndim not in (0, 1):
            self.notes.append(f"{reader.name}: its bias is in metadata only")
            return np.float32(0)
        return bias

    def neuron(self, node: Node, shape: Sequence[int]) -> tuple[Any, dict[str, Any]]:
        said, arrays = node.attributes, node.arrays
        synapse = self.graph.by_name[node.sources[0]]
        if arrays["bias"].any() and synapse.operator not in ("linear", "conv1d", "conv2d"):
            self.notes.append(f"{node.name}: its bias is in metadata only")
        if arrays["initial"].any():
            self.notes.append(f"{node.name}: {self.who} start at 0, not at the initial membrane")
        if said["code"] != "binary":
            self.notes.append(f"{node.name}: {self.who} give binary spikes, not {said['code']} ones")
        if said["reset"] != self.reader.reset:
            does = {"zero": "may set the membrane to 0", "subtract": "subtract the threshold"}[self.reader.reset]
            self.notes.append(f"{node.name}: {self.who} {does}; here the reset is {said['reset']!r}")
        if said["late"]:
            self.notes.append(f"{node.name}: {self.who} reset in the same step, not one step later")
        threshold, zeros = _full(arrays["threshold"], shape), np.zeros(shape, np.float32)
        found = self.reader.neuron(_decay(node, shape), self.dt)
        if found is None:
            made = self.nir.IF(np.full(shape, 1 / self.dt), threshold, zeros)
        else:
            tau, strength = (np.broadcast_to(array, shape) for array in found[:2])
            made = self.nir.LIF(tau, strength, zeros, threshold, zeros)
        return made, dict(arrays)

    def filter(self, node: Node, shape: Sequence[int]) -> Any:
        if (node.arrays["alpha"] == 1).all():
            return self.nir.I(np.full(shape, 1 / self.dt, np.float32))
        leak = _leak(node, node.arrays["alpha"], shape)
        return self.nir.LI(self.dt / leak, 1 / leak, np.zeros(shape, np.float32))

    def said(self, node: Node) -> Mapping[str, Any]:
        """What a reader that wants to can act on."""
        if node.operator != "neuron":
            return {}
        test = "ge" if node.attributes["test"] == ">=" else "gt"
        return {"reset": node.attributes["reset"], "compare": test, "code": node.attributes["code"], "dt": self.dt}


def digest(fields: Mapping[str, Any]) -> str:
    """A hash of what a NIR node says, in float32, so that a file shows whether somebody has changed it."""
    found = hashlib.sha256()
    for key in sorted(set(fields) - {"metadata", "type"}):
        found.update(key.encode())
        found.update(np.asarray(fields[key], np.float32).tobytes())
    return found.hexdigest()


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """The weights of a grouped convolution as those of one without groups."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    whole = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return whole


def _full(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(channelwise(array, len(shape)), shape))


def _decay(node: Node, shape: Sequence[int]) -> np.ndarray | None:
    """The decay of a neuron's membrane, of its whole shape; None where nothing leaks."""
    beta = node.arrays.get("beta")
    return None if beta is None or (beta == 1).all() else 1 - _leak(node, beta, shape)


def _leak(node: Node, decay: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """1 - decay, of the whole shape; a unit without leak cannot stand among leaky ones in NIR."""
    leak = 1 - _full(decay, shape).astype(np.float64)
    if (leak <= 0).any():
        raise UnsupportedError("NIR has no form of", [f"{node.name} ({node.operator}): some units leak, others do not"])
    return np.asarray(leak)
