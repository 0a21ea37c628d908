"""Looking into a network while it runs: what its layers fire, and where the first value that is not finite appears."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..networks.chain import looks_at_shapes
from ..neurons.izhikevich import Izhikevich

__all__ = ["Activity", "find_not_finite", "recorded_spikes", "spiking_layers"]


def spiking_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that fire, by name: they have a threshold and a state, and lie in no other such layer."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(not outer or name.startswith(f"{outer}.") for outer in found)
        fires = hasattr(module, "threshold") or isinstance(module, Izhikevich)
        if hasattr(module, "initial_state") and fires and not inside:
            found[name] = module
    return found


@contextmanager
def recorded_spikes(network: nn.Module, wanted: bool = True) -> Iterator[dict[str, Tensor]]:
    """Give a dict that holds, once it is closed, what each spiking layer but the last sent (time, batch, \\*features).

    A layer that is called for each step, or at several places, has all its calls along the first axis.
    wanted: False leaves it empty.
    """
    spikes: dict[str, Tensor] = {}
    calls: dict[str, list[Tensor]] = {}
    layers = list(spiking_layers(network).items()) if wanted else []
    # the last layer is the output, which the loss itself looks at, unless a readout without spikes follows
    hidden = layers[:-1] if layers and _is_last(network, layers[-1][1]) else layers

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not looks_at_shapes():
                calls.setdefault(name, []).append(output[0])

        return hook

    handles = [layer.register_forward_hook(record(name)) for name, layer in hidden]
    try:
        yield spikes
    finally:
        for handle in handles:
            handle.remove()
    spikes |= {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in calls.items()}


def _is_last(network: nn.Module, layer: nn.Module) -> bool:
    inside = set(layer.modules())
    leaves = [module for module in network.modules() if not list(module.children())]
    speaking = [leaf for leaf in leaves if leaf in inside or hasattr(leaf, "initial_state") or list(leaf.parameters())]
    return bool(speaking) and speaking[-1] in inside


class Activity:
    """Spikes a unit and step of each spiking layer, over all calls inside ``with``.

    ``sums`` holds (spikes, unit-steps) by layer, which add up over processes.
    """

    def __init__(self, network: nn.Module) -> None:
        self.sums: dict[str, Tensor] = {}
        self._layers = spiking_layers(network)
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_hook(self._hook(name)) for name, layer in self._layers.items()]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            if looks_at_shapes():
                return
            spikes = output[0].detach()
            counted = torch.stack([spikes.abs().sum(dtype=torch.float32).double(), _size(spikes)])
            self.sums[name] = self.sums[name] + counted if name in self.sums else counted

        return add

    def rates(self) -> dict[str, float]:
        """Spikes a unit and step by layer."""
        return {name: float(sums[0] / sums[1]) for name, sums in self.sums.items()}


def _size(spikes: Tensor) -> Tensor:
    return torch.tensor(spikes.numel(), dtype=torch.float64, device=spikes.device)


@torch.no_grad()
def find_not_finite(network: nn.Module, x: Tensor) -> str:
    """Say where NaN or infinity first appears when ``x`` runs through, or in the gradients; empty: nowhere."""
    if not bool(torch.isfinite(x).all()):
        return "the input"
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the parameter {name}"
    found: list[str] = []

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(bool(torch.isfinite(each).all()) for each in _tensors(output)):
                found.append(f"layer {name or 'network'} ({type(module).__name__})")

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in network.named_modules()]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    # a gradient runs from the last layer to the first, so the last parameter that has it is nearest to its origin
    bad = [n for n, p in network.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    return f"the gradient of {bad[-1]}" if bad else ""


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
