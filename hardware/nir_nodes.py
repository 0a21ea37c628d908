"""One NIR node of others as a chain of ours, by forward Euler steps of dt.

    LIF      v <- v + dt / tau * (v_leak - v + r x);   a spike where v > v_threshold, then v = v_reset
    IF       v <- v + dt * r x
    CubaLIF  i <- i + dt / tau_syn * (w_in x - i), then LIF of i

Membranes are counted from v_reset and in units of what an input of 1 adds, so that no scaling of currents is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._check import CorruptFileError, UnsupportedError
from ..networks.graph import Edge, Node
from .hdf5 import Tree

__all__ = ["Euler", "translated"]


@dataclass(frozen=True)
class Euler:
    """The length of a step in seconds."""

    dt: float


WHOLE = 1e-3  # steps by which a delay may miss a whole number


def translated(name: str, node: Tree, euler: Euler) -> list[Node]:
    """Our nodes, each reading the one before (the first has no input yet); raises UnsupportedError by the name."""
    kind = str(node["type"])
    if kind not in _KINDS:
        raise UnsupportedError(f"{name} ({kind})")
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by name
            chain = _KINDS[kind](name, node, euler)
    except (KeyError, AttributeError) as error:
        raise CorruptFileError(f"{name} ({kind}) lacks {error}") from None
    if not all(np.isfinite(array).all() for made in chain for array in made.arrays.values()):
        raise UnsupportedError(f"{name} ({kind} with numbers that are not finite)")
    linked = [chain[0]]
    for following in chain[1:]:
        linked.append(
            _node(following.name, following.operator, [linked[-1].name], following.arrays, following.attributes)
        )
    return linked


def _node(
    name: str, operator: str, sources: list[str], arrays: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Node:
    held = {key: np.array(array, np.float32, order="C") for key, array in arrays.items()}
    return Node(name, operator, tuple(Edge(source) for source in sources), attributes, held)


def _one(name: str, operator: str, arrays: Mapping[str, Any] | None = None, **attributes: Any) -> Node:
    return _node(name, operator, [], arrays or {}, attributes)


def _numbers(node: Tree, key: str, default: float | None = None) -> np.ndarray:
    value = node[key] if default is None else node.get(key, default)
    return np.asarray(value, np.float64)


def _whole(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in np.asarray(value).reshape(-1))


def _input(name: str, node: Tree, euler: Euler) -> list[Node]:
    return [_one(name, "input", shape=_whole(node["shape"]))]


def _linear(name: str, node: Tree, euler: Euler) -> list[Node]:
    weight = _numbers(node, "weight")
    if weight.ndim != 2:
        raise UnsupportedError(f"{name} (Linear with a weight of {weight.ndim} axes)")
    arrays: dict[str, Any] = {key: node[key] for key in ("weight", "bias") if key in node}
    return [_one(name, "linear", arrays)]


def _convolution(name: str, node: Tree, euler: Euler) -> list[Node]:
    weight = _numbers(node, "weight")
    axes = weight.ndim - 2
    if axes not in (1, 2):
        raise CorruptFileError(f"{name} has a weight of the shape {weight.shape}")
    dilation, stride = (_wide(node[key], axes) for key in ("dilation", "stride"))
    padding = node["padding"]
    if isinstance(padding, str):
        spans = [(size - 1) * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
        if padding not in ("same", "valid") or (padding == "same" and any(span % 2 for span in spans)):
            raise UnsupportedError(f"{name} (padding {padding!r} of a kernel of even size)")
        padding = [span // 2 if padding == "same" else 0 for span in spans]
    arrays: dict[str, Any] = {key: node[key] for key in ("weight", "bias") if key in node}
    fields: dict[str, Any] = {
        "stride": stride,
        "padding": _wide(padding, axes),
        "dilation": dilation,
        "groups": int(node["groups"]),
    }
    return [_one(name, f"conv{axes}d", arrays, **fields)]


def _wide(value: Any, axes: int) -> tuple[int, ...]:
    found = _whole(value)
    return found * axes if len(found) == 1 else found


def _pool(name: str, node: Tree, euler: Euler) -> list[Node]:
    fields: dict[str, Any] = {
        key: _wide(node[theirs], 2) for key, theirs in (("kernel", "kernel_size"), ("stride", "stride"))
    }
    operator = "sum_pool" if node["type"] == "SumPool2d" else "average_pool"
    return [_one(name, operator, **fields, padding=_wide(node["padding"], 2))]


def _flatten(name: str, node: Tree, euler: Euler) -> list[Node]:
    """All axes of a sample; files count them with the batch's axis before them or without it."""
    axes = len(_whole(node["input_type"])) if "input_type" in node else 0
    first, last = int(node.get("start_dim", 1)), int(node.get("end_dim", -1))
    if first not in (0, 1) or last not in (-1, axes - 1, axes):
        raise UnsupportedError(f"{name} (Flatten of the axes {first} to {last}: only all of them can be)")
    return [_one(name, "flatten")]


def _identity(name: str, node: Tree, euler: Euler) -> list[Node]:
    return [_one(name, "scale", {"factor": 1.0})]


def _scale(name: str, node: Tree, euler: Euler) -> list[Node]:
    return [_one(name, "scale", {"factor": node["scale"]})]


def _delay(name: str, node: Tree, euler: Euler) -> list[Node]:
    asked = _numbers(node, "delay") / euler.dt
    steps = np.rint(asked)
    if steps.size == 0 or (steps != steps.flat[0]).any():
        raise UnsupportedError(f"{name} (Delay that differs from unit to unit)")
    if not (steps.flat[0] >= 0 and np.abs(asked - steps).max() < WHOLE):
        raise UnsupportedError(
            f"{name} (Delay of {asked.flat[0]:g} steps of {euler.dt:g} s; choose a dt of which it is a multiple)"
        )
    return [_one(name, "delay", steps=int(steps.flat[0]))] if steps.flat[0] > 0 else _identity(name, node, euler)


def _threshold(name: str, node: Tree, euler: Euler) -> list[Node]:
    arrays = {"threshold": node["threshold"], "initial": 0.0, "bias": 0.0, "beta": np.zeros_like(node["threshold"])}
    return [_one(name, "neuron", arrays, code="binary", test=">", reset="zero")]


def _neuron(name: str, node: Tree, euler: Euler) -> list[Node]:
    kind, said = node["type"], node.get("metadata", {})
    gain, chain, leaky = euler.dt * _numbers(node, "r"), [], kind != "IF"
    beta = leak = np.zeros(())
    if leaky:
        rate = euler.dt / _numbers(node, "tau_mem" if kind == "CubaLIF" else "tau")
        beta, gain, leak = 1 - rate, rate * _numbers(node, "r"), rate
    if kind == "CubaLIF":
        rate = euler.dt / _numbers(node, "tau_syn")
        gain = gain * rate * _numbers(node, "w_in", 1.0)
        chain.append(_one(f"{name}.current", "synaptic_filter", {"alpha": _decay(name, 1 - rate)}))
    rest = _numbers(node, "v_reset", 0.0)
    if not np.isfinite(np.asarray(gain)).all():
        raise UnsupportedError(f"{name} ({kind} with numbers that are not finite)")
    if not (np.asarray(gain) > 0).all():
        raise UnsupportedError(f"{name} ({kind} with a resistance or weight that is not above 0)")
    constant = (leak * (_numbers(node, "v_leak") - rest) if leaky else np.zeros(())) / gain
    arrays = {"threshold": (_numbers(node, "v_threshold") - rest) / gain, "initial": -rest / gain, "bias": constant}
    if not (arrays["threshold"] > 0).all():
        raise UnsupportedError(f"{name} ({kind} whose threshold is not above its reset)")
    arrays |= {"beta": _decay(name, beta)} if leaky else {}
    compare, reset = str(said.get("compare", "gt")), str(said.get("reset", "zero"))
    if compare not in ("gt", "ge") or reset not in ("zero", "subtract", "none"):
        raise UnsupportedError(f"{name} ({kind} with compare {compare!r} and reset {reset!r} in its metadata)")
    test = ">=" if compare == "ge" else ">"
    return [*chain, _one(name, "neuron", _same_shape(arrays), code="binary", test=test, reset=reset)]


def _same_shape(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    shape = np.broadcast_shapes(*(np.shape(array) for array in arrays.values()))
    return {key: np.broadcast_to(array, shape) for key, array in arrays.items()}


def _decay(name: str, value: np.ndarray) -> np.ndarray:
    if not ((value >= 0) & (value <= 1)).all():
        raise UnsupportedError(f"{name} (a time constant below dt: choose a smaller dt)")
    return value


def _integrator(name: str, node: Tree, euler: Euler) -> list[Node]:
    """LI, CubaLI and I: filters; what an input adds is a scale before them."""
    kind = node["type"]
    if kind == "I":
        gain, shift, rates = euler.dt * _numbers(node, "r"), np.zeros(()), [np.zeros(())]
    else:
        rate = euler.dt / _numbers(node, "tau_mem" if kind == "CubaLI" else "tau")
        gain, shift, rates = rate * _numbers(node, "r"), rate * _numbers(node, "v_leak"), [rate]
        if kind == "CubaLI":
            rates.insert(0, euler.dt / _numbers(node, "tau_syn"))
            gain = gain * rates[0] * _numbers(node, "w_in", 1.0)
    last = len(rates) - 1
    chain = []
    for index, rate in enumerate(rates):
        label = name if index == last else f"{name}.current"
        if index == last and ((gain != 1).any() or shift.any()):
            arrays = {"factor": gain} | ({"shift": np.broadcast_to(shift, gain.shape)} if shift.any() else {})
            chain.append(_one(f"{name}.gain", "scale", arrays))
        chain.append(_one(label, "synaptic_filter", {"alpha": _decay(name, 1 - rate)}))
    return chain


_KINDS: Mapping[str, Callable[[str, Tree, Euler], list[Node]]] = {
    "Input": _input,
    "Output": lambda name, node, euler: [_one(name, "output")],
    "Identity": _identity,
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _scale,
    "Delay": _delay,
    "Threshold": _threshold,
    "IF": _neuron,
    "LIF": _neuron,
    "CubaLIF": _neuron,
    "I": _integrator,
    "LI": _integrator,
    "CubaLI": _integrator,
}
