"""Which modules of a network are called in each step of time, and whether each reads what the one before it gave."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .._check import UnsupportedError
from ..networks.chain import Chain
from .snntorch_neurons import is_neuron, load_snntorch

__all__ = ["Call", "disagreement", "faults_of", "steps_of", "trace"]

BY_HAND = "or build it from Chain, Residual and Feedback"


class Mark:
    """A tensor as it was at one moment: kept alive, so that its memory is not used again, with a copy of its values."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version, self.value = tensor, tensor._version, tensor.detach().clone()

    def is_(self, other: "Mark") -> bool:
        """Whether the other is this tensor, or a view of all of it, and nothing wrote into it in between."""
        return _same(self.tensor, other.tensor) and self.version == other.version

    def shares(self, other: "Mark") -> bool:
        """Whether the two lie in the same memory."""
        return self.tensor.untyped_storage().data_ptr() == other.tensor.untyped_storage().data_ptr() != 0


@dataclass
class Call:
    """One call of a module: its name, the tensors that went in (the state of a neuron last) and those that came out."""

    name: str
    module: nn.Module
    inputs: list[Mark]
    outputs: list[Mark] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Name and class, for messages."""
        return f"{self.name} ({type(self.module).__name__})"


def trace(net: nn.Module, units: dict[str, nn.Module], arguments: Sequence[Any]) -> list[Call]:
    """Run the network and return the calls of its units, in their order; a unit inside another one is part of it."""
    calls: list[Call] = []
    names = {id(unit): name for name, unit in units.items()}
    inside: list[nn.Module] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not inside:
            inside.append(module)
            given = [value for value in (*args, *_in_order(module, kwargs)) if isinstance(value, Tensor)]
            calls.append(Call(names[id(module)], module, [Mark(value) for value in given]))

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if inside and inside[0] is module:
            inside.clear()
            values = output if isinstance(output, tuple | list) else [output]
            calls[-1].outputs = [Mark(value) for value in values if isinstance(value, Tensor)]

    handles = [unit.register_forward_pre_hook(enter, with_kwargs=True) for unit in units.values()]
    handles += [unit.register_forward_hook(leave) for unit in units.values()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _registered(units):
            net(*arguments)
    except Exception as error:
        raise UnsupportedError(f"the network fails on the example ({type(error).__name__}: {error})") from error
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _in_order(module: nn.Module, kwargs: dict[str, Any]) -> list[Any]:
    order = list(inspect.signature(module.forward).parameters)
    return [kwargs[name] for name in sorted(kwargs, key=lambda name: order.index(name) if name in order else 99)]


@contextmanager
def _registered(units: dict[str, nn.Module]) -> Iterator[None]:
    """Let snnTorch's resets of all neurons there are reach these, and no others."""
    neuron: Any = load_snntorch().SpikingNeuron
    before = neuron.instances
    neuron.instances = [unit for unit in units.values() if isinstance(unit, neuron)]
    try:
        yield
    finally:
        neuron.instances = before


def steps_of(calls: Sequence[Call]) -> list[list[Call]]:
    """The calls of each step of time; a step begins where the first module is called again, not on what came before."""
    steps: list[list[Call]] = []
    for before, call in zip([None, *calls], calls, strict=False):
        goes_on = before is not None and call.inputs and any(output.is_(call.inputs[0]) for output in before.outputs)
        if call.module is calls[0].module and not goes_on:
            steps.append([])
        steps[-1].append(call)
    return steps


def faults_of(steps: Sequence[Sequence[Call]], example: Sequence[Any]) -> list[str]:
    """What makes these steps no chain, each thing once."""
    names = [call.name for call in steps[0]]
    given = [Mark(value) for value in example if isinstance(value, Tensor)]
    faults: dict[str, str] = {}
    for call in steps[0]:
        if names.count(call.name) > 1 and is_neuron(call.module):
            faults[call.name] = f"{call.place}: called more than once in a step of time; call every layer in each step"
    for index, step in enumerate(steps):
        if [call.name for call in step] != names:
            other = [call.name for call in step]
            faults.setdefault("", f"step {index} calls {other}, but step 0 {names}; do the same in every step")
            break
        _look_at_step(index, step, steps[index - 1] if index else None, given, faults)
    return list(faults.values())


def _look_at_step(
    index: int, step: Sequence[Call], last: Sequence[Call] | None, given: list[Mark], faults: dict[str, str]
) -> None:
    for position, call in enumerate(step):
        fault = "it is not given a tensor" if not call.inputs else None
        if not fault and not position:
            fault = _fault_of_entry(call, index, given)
        elif not fault:
            fault = _fault_of_link(call, step[:position])
        if not fault and is_neuron(call.module):
            fault = _fault_of_state(call, None if last is None else last[position])
        elif not fault and (len(call.inputs), len(call.outputs)) != (1, 1):
            counts = f"it takes {len(call.inputs)} tensors and gives {len(call.outputs)}"
            fault = f"{counts}; a layer of a chain takes one and gives one, {BY_HAND}"
        if fault:
            faults.setdefault(call.name, f"{call.place}: {fault}")


def _fault_of_entry(call: Call, index: int, given: list[Mark]) -> str | None:
    """The first layer reads the example, or of it what belongs to this step."""
    source = call.inputs[0]
    for mark in given:
        views: list[Tensor] = [mark.tensor]
        views += [mark.tensor.select(axis, index) for axis, size in enumerate(mark.tensor.shape) if index < size]
        if any(_same(view, source.tensor) for view in views):
            return None
    if any(mark.shares(source) for mark in given):
        return "reads the example in another shape or order; make that a module (nn.Flatten), or do it outside"
    return "reads something that is computed from the example by no module; make it one, or do it outside (encoding)"


def _fault_of_link(call: Call, before: Sequence[Call]) -> str | None:
    """Any other layer reads the first output of the one that is called before it."""
    source, previous = call.inputs[0], before[-1]
    if previous.outputs and previous.outputs[0].is_(source):
        return None
    if any(output.is_(source) for output in previous.outputs):
        return f"reads the state of {previous.place}, not its spikes; chains pass on spikes"
    for other in reversed(before[:-1]):
        if any(output.is_(source) for output in other.outputs):
            return (
                f"reads {other.place}, not {previous.place}, which is called before it; a branch of plain layers can "
                f"be a module of your own, {BY_HAND}"
            )
    if any(output.shares(source) for output in previous.outputs):
        return (
            f"the output of {previous.place} is reshaped or changed in place before it; make that a module (nn.Flatten)"
        )
    return (
        f"something that is no module (F.relu, F.max_pool2d, +, ...) lies between {previous.place} and it; "
        "make that a module (nn.ReLU, nn.MaxPool2d, one of your own)"
    )


def _fault_of_state(call: Call, last: Call | None) -> str | None:
    """A neuron is handed no state, or at first zeros and then what it gave itself."""
    handed = call.inputs[1:]
    if last is None:
        zero = all(not bool(mark.value.any()) for mark in handed)
        return None if zero else "it starts from a state that is not zero; our layers start at rest"
    if all(any(output.is_(mark) for output in last.outputs) for mark in handed):
        return None
    return "it is not handed the state that it gave in the step before; hand it on as it is"


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )


def disagreement(calls: Sequence[Call], layers: Chain) -> int | None:
    """The first step in which our layers, over the sequence of what a module read, give something else than it did."""
    exact = is_neuron(calls[0].module)
    rtol, atol = (0.0, 0.0) if exact else (1e-3, 1e-4)  # of many steps at once, sums are taken in another order
    with torch.no_grad():
        got, _ = layers(torch.stack([call.inputs[0].value for call in calls]))
    for step, (call, one) in enumerate(zip(calls, got, strict=True)):
        other = call.outputs[0].value
        if one.shape != other.shape or one.dtype != other.dtype or not torch.allclose(one, other, rtol=rtol, atol=atol):
            return step
    return None
