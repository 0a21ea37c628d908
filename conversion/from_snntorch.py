"""Front end for networks that were trained in snnTorch: they come in as a Chain, spike for spike."""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._check import UnsupportedError
from ..networks.chain import Chain
from .snntorch_neurons import is_neuron, layers_of, load_snntorch
from .snntorch_trace import Call, disagreement, faults_of, steps_of, trace

__all__ = ["from_snntorch"]

Unit = tuple[str, nn.Module, int | None]  # name, module, number of axes of its input's features where that is known


def from_snntorch(net: nn.Module, example: Any = None) -> Chain:
    """Return a network of snnTorch 1.0.0 as a `Chain` that gives the same spikes; ``net`` is left as it is.

    It maps (time, batch, \\*features) to the last layer's spikes: what ``net`` does with these afterwards (stack, sum)
    is yours to do, and so is encoding its input.  The same input in every step is ``x.expand(steps, *x.shape)``.
    net: ``nn.Sequential``, nested as you like, of torch modules and of Leaky, Lapicque, Synaptic, Alpha, RLeaky and
    RSynaptic; or any module whose ``forward`` calls such modules one after the other in every step of time, which is
    found by calling a copy of it on ``example``: its argument, or a tuple of its arguments.  With an example each
    imported layer is also compared with its source, on what that read and gave.
    Learned values stay learned, with the reset, its timing and the surrogate gradient; hidden states start at rest.
    Raises UnsupportedError that lists all that cannot come in, with the remedy; BackendUnavailable without snntorch.

    ``chain = from_snntorch(net, example=images)``; ``spikes, state = chain(images.expand(25, *images.shape))``
    """
    load_snntorch()
    source = _independent(net)
    modes = [(module, module.training) for module in source.modules()]
    units = dict(_units_of(source))
    problems: list[str] = []
    if not any(map(is_neuron, units.values())):
        raise UnsupportedError(
            f"{type(net).__name__} holds no neuron of snnTorch; an artificial network is read by import_module."
        )
    steps: list[list[Call]] = []
    if example is None:
        order = _listed(source, "", problems)
    else:
        arguments = example if isinstance(example, tuple) else (example,)
        steps = _steps(source.eval(), units, arguments)
        problems += faults_of(steps, arguments)
        order = [(call.name, call.module, call.inputs[0].tensor.ndim - 1 if call.inputs else None) for call in steps[0]]
    layers = _layers(order, problems)
    if not problems and steps:
        problems += _differences(steps, layers)
    if problems:
        raise UnsupportedError(f"cannot import {type(net).__name__} from snnTorch", problems)
    for (_, module, _), own in zip(order, layers, strict=True):
        _take_mode(own, dict(modes)[module])
    for module, mode in modes:
        module.training = mode
    chain = Chain(*(layer for own in layers for layer in own))
    chain.training = chain.layers.training = net.training
    return chain


def _take_mode(layers: Sequence[nn.Module], mode: bool) -> None:
    for layer in layers:
        layer.train(mode)


def _independent(net: nn.Module) -> nn.Module:
    """A copy at rest: the hidden states, which may hold on to a graph of gradients, are left out."""
    memo: dict[int, Any] = {}
    for module in net.modules():
        for value in (*module._buffers.values(), *vars(module).values()):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        source = copy.deepcopy(net, memo)
    except Exception as error:
        raise UnsupportedError(
            f"{type(net).__name__} cannot be copied ({type(error).__name__}: {error}); remove what holds a file, a "
            "lock or a graph of gradients from it."
        ) from error
    for module in filter(is_neuron, source.modules()):
        for name in module._non_persistent_buffers_set:
            held = module._buffers[name]
            if held is not None:
                module._buffers[name] = torch.zeros(0, dtype=held.dtype, device=held.device)
    return source


def _units_of(net: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Neurons, and the modules that hold none; those inside such a module count where they are called by themselves."""
    if is_neuron(net):
        yield name or "net", net
        return
    if name and not any(map(is_neuron, net.modules())):
        yield name, net
    for key, child in net.named_children():
        yield from _units_of(child, f"{name}.{key}" if name else key)


def _listed(module: nn.Module, name: str, problems: list[str]) -> list[Unit]:
    """The units of nested Sequentials, in their order."""
    if type(module).forward is nn.Sequential.forward:
        found: list[Unit] = []
        for key, child in module._modules.items():  # one that stands in two places twice
            if child is not None:
                found += _listed(child, f"{name}.{key}" if name else key, problems)
        return found
    if is_neuron(module) or not any(map(is_neuron, module.modules())):
        return [(name or "net", module, None)]
    problems.append(
        f"{name or 'the network'} ({type(module).__name__}: has a forward of its own; pass example=, one input of it)"
    )
    return [(each, unit, None) for each, unit in module.named_modules(prefix=name) if is_neuron(unit)]


def _steps(source: nn.Module, units: dict[str, nn.Module], arguments: Sequence[Any]) -> list[list[Call]]:
    calls = trace(source, units, arguments)
    if not calls:
        raise UnsupportedError("forward calls none of the network's layers on the example; is it the right example?")
    return steps_of(calls)


def _layers(order: Sequence[Unit], problems: list[str]) -> list[list[nn.Module]]:
    """Our layers for each unit; what cannot come in is added to ``problems``."""
    layers: list[list[nn.Module]] = []
    seen: set[int] = set()
    for index, (name, module, features) in enumerate(order):
        place = f"{name} ({type(module).__name__}"
        if not is_neuron(module):
            if any(isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in module.modules()):
                problems.append(f"{place}: it has a memory of its own, which no chain hands on; use neurons)")
            layers.append([module])
            continue
        if id(module) in seen:
            problems.append(f"{place}: the same neuron stands in two places, which share its state; use two)")
        if getattr(module, "output", False) and features is None and index + 1 < len(order):
            problems.append(f"{place}: output=True hands its state to the next layer; set it on the last one only)")
        seen.add(id(module))
        known = _features_after(order[:index]) if features is None else features
        try:
            layers.append(layers_of(module, known))
        except UnsupportedError as error:
            problems += [f"{place}: {problem})" for problem in error.problems]
    return layers


def _features_after(order: Sequence[Unit]) -> int | None:
    """How many axes the features have after these modules, where the last of them that tells says so."""
    for _, module, _ in reversed(order):
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Flatten) and module.start_dim == 1):
            return 1
        found = re.fullmatch(r"(?:Conv|ConvTranspose|\w*Pool|BatchNorm)([123])d", type(module).__name__)
        if found and not isinstance(module, nn.BatchNorm1d):  # which takes one axis or two
            return int(found[1]) + 1
    return None


def _differences(steps: Sequence[Sequence[Call]], layers: Sequence[Sequence[nn.Module]]) -> list[str]:
    """The layers that give something else than their source on the example."""
    found = []
    for position, own in enumerate(layers):
        calls = [step[position] for step in steps]
        step = disagreement(calls, Chain(*own).eval())
        if step is not None:
            found.append(
                f"{calls[0].place}: gives something else from step {step} of the example on; does forward, or a hook, "
                "change it or its state in between? Let it be called and nothing more"
            )
    return found
