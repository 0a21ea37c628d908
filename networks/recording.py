"""Run a network in Python and keep what its layers gave."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._check import SpikeportError
from ..neurons.layer import require_steps, state_type
from .chain import Chain, has_state

__all__ = ["Run", "run"]


class Run(NamedTuple):
    """What a run gives.

    output: (time, batch, *features); state: after the last step; recorded: by name, (time, batch, *features) each.
    """

    output: Tensor
    state: Any
    recorded: dict[str, Tensor]


def run(network: nn.Module, x: Tensor, state: Any = None, *, record: Iterable[str] = ()) -> Run:
    """Run a network over x (time, batch, *features) and keep the outputs of the modules that ``record`` names.

    record: names as ``network.named_modules()`` gives them; "layers.1" is the second layer of a Chain.  What is
    recorded carries gradients as the output does.
    Raises SpikeportError for a name that the network does not have, or a module that this run did not reach.

    >>> from spikeport.networks.chain import Chain
    >>> from spikeport.neurons.leaky import Leaky
    >>> done = run(Chain(nn.Linear(3, 4), Leaky(beta=0.9)), torch.rand(5, 2, 3), record=["layers.1"])
    >>> done.recorded["layers.1"].shape
    torch.Size([5, 2, 4])
    """
    require_steps("this network", x)
    names, modules = tuple(record), dict(network.named_modules())
    unknown = [name for name in names if name not in modules or not name]
    if unknown:
        raise SpikeportError(
            f"the network has no module named {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(name for name in modules if name)}."
        )
    if state is None and has_state(network):  # before anything is recorded: it sends a sample through
        state = network.initial_state(tuple(x.shape[1:]), device=x.device, dtype=state_type(x))
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    batch = x.shape[1]

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if has_state(module):
                found[name].append(output[0].clone())  # what comes after may work in place
                return
            steps = len(output) // batch if batch else len(x)
            found[name].append(output.reshape(steps, batch, *output.shape[1:]).clone())

        return hook

    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        output, after = Chain(network)(x, None if state is None else {"0": state})
    finally:
        for handle in hooks:
            handle.remove()
    silent = [name for name, parts in found.items() if not parts]
    if silent:
        raise SpikeportError(f"{', '.join(silent)} took no part in this run, so nothing was recorded of it.")
    return Run(output, after.get("0"), {name: _over_time(name, parts, len(x)) for name, parts in found.items()})


def _over_time(name: str, parts: list[Tensor], steps: int) -> Tensor:
    """What a module gave at each step; once for all where its input is the same at each."""
    whole = torch.cat(parts)
    if len(parts) == 1 and len(whole) == 1:
        return whole.expand(steps, *whole.shape[1:])
    if len(whole) != steps:
        raise SpikeportError(
            f"{name} runs at {len(whole) / steps:g} places of this network; give each a module of its own."
        )
    return whole
