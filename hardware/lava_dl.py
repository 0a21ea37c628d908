"""Networks of Intel's lava-dl (``.net``: the HDF5 of its netx) as integer programs, in Lava's own fixed point.

A dense layer of CUBA neurons computes, for whole weights w and spikes s (Lava's bit-accurate LIF):

    u <- decay(u, 4096 - iDecay) + 64 * sum w s;   v <- decay(v, 4096 - vDecay) + u + 64 * bias
    v <- 0 and a spike where v > 64 * vThMant

Source: lava-dl ``netx/hdf5.py`` (du = iDecay - 1, dv = vDecay, bias exponent 6) and lava-nc ``proc/lif/models.py``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._check import CorruptFileError, SpikeportError, UnsupportedError
from ..networks.graph import Graph, Node, make_node
from .hdf5 import entry, read_tree
from .program import DECAY_BITS, STATE_LIMIT, InputCode, IntegerProgram, information
from .ranges import state_interval, value_intervals

__all__ = ["import_lava_dl"]

STATE_SHIFT = 6
_ONE = 1 << DECAY_BITS


def import_lava_dl(path: str | Path, *, steps: int = 64, full_scale: int = 255) -> IntegerProgram:
    """Read a ``.net`` file of dense CUBA layers; the output is the last layer's spikes, to be counted.

    A file says nothing of how analog inputs become spikes: an encoding neuron is put before the first layer that adds
    its input each step, fires at ``full_scale`` and is then set to zero (pixels of 0 to 255 as rates).
    ``information["integer"]["may_saturate"]`` names the layers whose membrane some input could drive out of 24 bits.
    Raises UnsupportedError that lists every layer not covered, CorruptFileError for a damaged file, SpikeportError
    where a current could leave 24 bits within ``steps`` steps (there Lava would wrap it around).
    """
    path = Path(path)
    found = entry(read_tree(path), "layer", str(path))
    try:
        return _program(path, found, steps, full_scale)
    except SpikeportError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise CorruptFileError(f"{path} is no sound netx file ({type(error).__name__}: {str(error)[:300]})") from None


def _program(path: Path, found: Any, steps: int, full_scale: int) -> IntegerProgram:
    layers: list[Any] = [found.get(str(index)) for index in range(len(found))] if isinstance(found, dict) else []
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise CorruptFileError(f"{path} holds no layers numbered from 0; save it anew with lava-dl")
    said = [_objection(layer) for layer in layers]
    kinds = [_text(layer.get("type")) for layer in layers]
    problems = [f"layer {index} ({kinds[index]}): {reason}" for index, reason in enumerate(said) if reason]
    if problems:
        raise UnsupportedError(f"cannot import {path.name}", problems)
    dense = [layer for layer in layers if _text(layer["type"]) == "dense"]
    if not dense:
        raise CorruptFileError(f"{path} holds no dense layer")
    inputs = int(dense[0]["weight"].reshape(_units(dense[0]), -1).shape[1])
    nodes = [make_node("input", "input", shape=(inputs,)), _neuron("encoder", "input", full_scale, test=">=")]
    for index, layer in enumerate(dense):
        nodes += _layer(f"layer{index}", nodes[-1].name, layer)
    nodes.append(make_node("output", "output", [nodes[-1].name]))
    saturating = _saturating(Graph.of(nodes), steps, full_scale)
    facts = information(InputCode(1.0, 0, full_scale), 1.0, steps, may_saturate=saturating)
    source = {"format": "lava-dl", "file": path.name}
    return IntegerProgram.of(Graph.of(nodes, {"source": source, "integer": facts}))


def _text(value: Any) -> str:
    item = np.asarray(value, object).reshape(-1)[0] if value is not None else "?"
    return item.decode() if isinstance(item, bytes) else str(item)


def _units(layer: Mapping[str, Any]) -> int:
    return int(np.prod(np.asarray(layer["shape"])))


def _objection(layer: Mapping[str, Any]) -> str:
    """Why a layer cannot be taken over, or nothing."""
    kind = _text(layer.get("type"))
    if kind == "flatten":
        return ""
    if kind != "dense":
        return "only dense layers are read"
    neuron, weight = layer.get("neuron"), layer.get("weight")
    if not isinstance(neuron, dict) or not isinstance(weight, np.ndarray) or "shape" not in layer:
        return "it lacks a neuron, a weight or a shape"
    if _text(neuron.get("type")) not in ("CUBA", "LOIHI"):
        return f"neurons of the kind {_text(neuron.get('type'))}; CUBA is read"
    reasons = []
    if neuron.get("gradedSpike", False):
        reasons.append("graded spikes")
    if _number(neuron, "refDelay", 1) != 1:
        reasons.append("a refractory delay above 1")
    if "delay" in layer and np.asarray(layer["delay"]).any():
        reasons.append("synaptic delays")
    if not 0 <= _number(neuron, "iDecay", 0) <= _ONE or not 0 <= _number(neuron, "vDecay", 0) < _ONE:
        reasons.append("decays outside 12 bits")
    if not 1 <= _number(neuron, "vThMant", 0) < 1 << 17:
        reasons.append("a threshold outside 17 bits")
    if weight.size == 0 or weight.size % max(_units(layer), 1):
        reasons.append(f"weights of the shape {weight.shape} for {_units(layer)} neurons")
    elif not (weight == np.rint(weight)).all() or (weight % 2).any() or np.abs(weight + 1).max() > 255:
        reasons.append("weights that are not even numbers from -256 to 254")
    return ", ".join(reasons)


def _number(neuron: Mapping[str, Any], key: str, default: int) -> int:
    return int(np.asarray(neuron.get(key, default)).reshape(-1)[0])


def _layer(name: str, source: str, layer: Mapping[str, Any]) -> list[Node]:
    settings, units = layer["neuron"], _units(layer)
    weight = np.asarray(layer["weight"], np.float64).reshape(units, -1) * (1 << STATE_SHIFT)
    nodes = [make_node(f"{name}.synapse", "linear", [source], arrays={"weight": weight})]
    current = _ONE - _number(settings, "iDecay", 0)
    if current:
        alpha = np.float32(current / _ONE)
        nodes.append(make_node(f"{name}.current", "synaptic_filter", [nodes[-1].name], arrays={"alpha": alpha}))
    bias = np.asarray(layer.get("bias", 0), np.float64).reshape(-1) * (1 << STATE_SHIFT)
    if bias.size not in (1, units):
        raise CorruptFileError(f"{name} has {bias.size} biases for {units} neurons")
    threshold = _number(settings, "vThMant", 0) << STATE_SHIFT
    decay = _ONE - _number(settings, "vDecay", 0)
    bias = bias if bias.size == units else np.broadcast_to(bias, units)
    return [*nodes, _neuron(name, nodes[-1].name, threshold, test=">", bias=bias, k=decay)]


def _neuron(name: str, source: str, threshold: int, *, test: str, bias: Any = 0, k: int = _ONE) -> Node:
    arrays = {"threshold": np.float32(threshold), "initial": np.float32(0), "bias": bias}
    arrays |= {"beta": np.float32(k / _ONE)} if k < _ONE else {}
    return make_node(name, "neuron", [source], arrays=arrays, code="binary", test=test, reset="zero")


def _saturating(graph: Graph, steps: int, full_scale: int) -> dict[str, float]:
    """Neurons whose membrane could leave 24 bits for some input, with the bound: there Lava would stop at the limit.

    Raises SpikeportError where a current could: Lava would wrap it around.
    """
    ranges = value_intervals(graph, 0, full_scale, steps)
    wide = {
        node.name: float(ranges[node.name].largest.max())
        for node in graph.of_operator("synaptic_filter")
        if ranges[node.name].largest.max() > STATE_LIMIT
    }
    if wide:
        raise SpikeportError(f"currents can leave 24 bits within {steps} steps: {wide}; ask for fewer steps")
    bounds = {
        node.name: float(state_interval(node, ranges[node.sources[0]], steps).largest.max())
        for node in graph.of_operator("neuron")
    }
    return {name: bound for name, bound in bounds.items() if bound > STATE_LIMIT}
