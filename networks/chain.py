"""Networks in Python: layers one after the other, around a skip connection, and with feedback.

Each of these is a layer too, so they nest.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from ..neurons.layer import require_steps

__all__ = ["Chain", "ChainState", "Feedback", "Residual", "has_state", "looks_at_shapes"]

ChainState = dict[str, Any]  # the state of each layer that has one, by its place in the chain ("0", "1", ...)


def has_state(module: nn.Module) -> TypeGuard[Any]:
    """Whether a module is a layer over time: y, state = module(x, state)."""
    return callable(getattr(module, "initial_state", None))


class Chain(nn.Module):
    """Layers one after the other, over a sequence of time.

    y, state = chain(x, state): x (time, batch, \\*features) goes through each layer in turn.  A layer with
    ``initial_state`` takes the sequence and its state; any other module is a function of one step, and takes all steps
    at once, as (time · batch, \\*features).  Where all steps are the same (``x.expand(steps, ...)``) such a module runs
    once, but for dropout, which draws anew at each step.
    state: the layers' states by their places, "0" the first; None is a fresh one.
    Raises ShapeError for a state that belongs to another chain, RangeError for something that is no module.

    >>> from spikeport.neurons.leaky import Leaky
    >>> chain = Chain(nn.Flatten(), nn.Linear(4, 3), Leaky(beta=0.9))
    >>> y, state = chain(torch.ones(5, 2, 2, 2))
    >>> tuple(y.shape), list(state)
    ((5, 2, 3), ['2'])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            _require_module(f"layer {index} of the chain", layer)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, state: ChainState | None = None) -> tuple[Tensor, ChainState]:
        """Return the last layer's output, (time, batch, \\*features), and the state after the last step."""
        require_steps("a chain", x)
        self._require_state(state)
        after: ChainState = {}
        for name, layer in self._places():
            if has_state(layer):
                x, after[name] = layer(x, None if state is None else state[name])
            else:
                x = _at_each_step(layer, x)
        return x, after

    def initial_state(
        self, shape: tuple[int, ...], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ChainState:
        """Return the state at rest for steps of ``shape``, (batch, \\*features).

        Zeros run through once, in evaluation mode, to find each layer's shape.
        """
        found: ChainState = {}
        with _looking(self):
            x = _zeros(self, shape, device)
            for name, layer in self._places():
                if has_state(layer):
                    found[name] = layer.initial_state(tuple(x.shape[1:]), device=x.device, dtype=dtype)
                    x = layer(x)[0]
                else:
                    x = _at_each_step(layer, x)
        return found

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> nn.Module:
        return self.layers[index]

    def _places(self) -> list[tuple[str, nn.Module]]:
        """Each layer with its place; unlike ``named_children``, one that stands in two places twice."""
        return [(str(index), layer) for index, layer in enumerate(self.layers)]

    def _require_state(self, state: ChainState | None) -> None:
        wanted = [name for name, layer in self._places() if has_state(layer)]
        if state is not None and (not isinstance(state, Mapping) or sorted(state) != sorted(wanted)):
            got = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ShapeError(
                f"the state has {got}, but this chain has a state for the layers {wanted}; make a fresh one with "
                f"initial_state(x.shape[1:])."
            )


class Residual(nn.Module):
    """Layers with a connection around them: y = layers(x) + shortcut(x).

    shortcut: a module without state, such as a convolution of stride 2; None passes ``x`` as it is.
    Raises ShapeError where the two have different shapes.
    """

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = Chain(*layers)
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        _require_stateless("the shortcut", self.shortcut)

    def initial_state(
        self, shape: tuple[int, ...], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ChainState:
        """Return the state at rest of the layers, for steps of ``shape``."""
        return self.inner.initial_state(shape, device=device, dtype=dtype)

    def forward(self, x: Tensor, state: ChainState | None = None) -> tuple[Tensor, ChainState]:
        """Return the sum, (time, batch, \\*features), and the layers' state."""
        y, state = self.inner(x, state)
        around = _at_each_step(self.shortcut, x)
        if y.shape != around.shape:
            raise ShapeError(
                f"the layers give {tuple(y.shape)} but the connection around them {tuple(around.shape)}; give a "
                f"shortcut that maps {tuple(x.shape)} to the former."
            )
        return y + around, state


class Feedback(nn.Module):
    """Layers that hear their own output a step later: y[t] = layers(x[t] + back(y[t − 1])), y before the first step 0.

    back: a module without state that maps a step of the output to the shape of a step of the input.
    state: {"inner": that of the layers, "heard": the last output}.
    """

    def __init__(self, *layers: nn.Module, back: nn.Module) -> None:
        super().__init__()
        _require_module("back", back)
        _require_stateless("back", back)
        self.inner, self.back = Chain(*layers), back

    def initial_state(
        self, shape: tuple[int, ...], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ChainState:
        """Return the state at rest, for steps of ``shape``."""
        inner = self.inner.initial_state(shape, device=device, dtype=dtype)
        with _looking(self):
            heard = torch.zeros_like(self.inner(_zeros(self, shape, device))[0][0])
        return {"inner": inner, "heard": heard if dtype is None else heard.to(dtype)}

    def forward(self, x: Tensor, state: ChainState | None = None) -> tuple[Tensor, ChainState]:
        """Return the outputs, (time, batch, \\*features), and the state after the last step."""
        require_steps("a layer with feedback", x)
        state = self.initial_state(tuple(x.shape[1:]), device=x.device) if state is None else state
        inner, y = state["inner"], state["heard"]
        outputs = []
        for step in x.unbind(0):
            back = self.back(y.to(x.dtype))
            if back.shape != step.shape:
                raise ShapeError(
                    f"the feedback has shape {tuple(back.shape)}, but a step of the input {tuple(step.shape)}; give "
                    f"a `back` that maps {tuple(y.shape)} to the latter."
                )
            sequence, inner = self.inner((step + back).unsqueeze(0), inner)
            y = sequence[0]
            outputs.append(y)
        return torch.stack(outputs), {"inner": inner, "heard": y}


_LOOKING = ContextVar("_LOOKING", default=False)


def looks_at_shapes() -> bool:
    """Whether a network runs only to see what shape its states have, on zeros; hooks that count have to know."""
    return _LOOKING.get()


@contextmanager
def _looking(network: nn.Module) -> Iterator[None]:
    """Run a network to see shapes: no gradients, and no running mean moves."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    token = _LOOKING.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        _LOOKING.reset(token)
        for module, training in modes:
            module.training = training


def _zeros(network: nn.Module, shape: tuple[int, ...], device: torch.device | str | None) -> Tensor:
    floats = [each for each in (*network.parameters(), *network.buffers()) if each.is_floating_point()]
    like = floats[0] if floats else torch.zeros(())
    return torch.zeros((1, *shape), device=like.device if device is None else device, dtype=like.dtype)


def _require_module(name: str, layer: object) -> None:
    if not isinstance(layer, nn.Module):
        raise RangeError(f"{name} is {layer!r}, but a torch module is wanted; wrap a function in one.")


def _require_stateless(name: str, module: nn.Module) -> None:
    if has_state(module):
        raise RangeError(
            f"{name} is a {type(module).__name__}, which has a state of its own; give a module of one step, and put "
            "neurons among the layers."
        )


ENOUGH = 1000
"""Values a channel whose variance hardly differs from that of their repetition over time."""


def _sees_steps(layer: nn.Module, step: Tensor) -> bool:
    """Whether a module in training may tell steps of equal input apart: chance, or how many values a norm sees."""
    for module in layer.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if step.numel() < ENOUGH * module.num_features:
                return True
        elif isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU):
            return True
        elif not (list(module.children()) or type(module).__module__.startswith("torch.nn")):
            return True  # somebody's own
    return False


def _at_each_step(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a module without state to every step."""
    steps, batch = x.shape[:2]
    if steps > 1 and x.stride(0) == 0 and not (layer.training and _sees_steps(layer, x[0])):
        once: Tensor = layer(x[0])
        return once.expand(steps, *once.shape)
    every: Tensor = layer(x.flatten(0, 1))
    return every.reshape(steps, batch, *every.shape[1:])
