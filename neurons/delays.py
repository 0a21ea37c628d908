"""Integer delays: of each channel, or of each synapse of a linear layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._check import RangeError, ShapeError
from .layer import Layer, fits, flat_features

__all__ = ["Delay", "DelayState", "DelayedLinear", "Synapses"]


class DelayState(NamedTuple):
    """The input of the last steps, oldest first: (batch, longest delay, *features)."""

    history: Tensor


class Synapses(NamedTuple):
    """One entry a synapse: presynaptic unit, postsynaptic unit, weight, and delay in steps (0: in the same step).

    Brian2: ``connect(i=source, j=target)``, then ``w = weight`` and ``delay = delay * dt``.  Where a delay a synapse is
    a matrix, as in Lava's ``DelayDense``, take ``DelayedLinear.weight`` and ``.delays``: (outputs, inputs).
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    delay: Tensor


class HistoryLayer(Layer[DelayState]):
    """A layer whose state is its input of the last ``longest`` steps."""

    state_type = DelayState
    longest: int

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Refuse delays that the history has no room for; the length of the history is not saved."""
        saved = state_dict.get(f"{prefix}delays")
        most = float(saved.max()) if isinstance(saved, Tensor) and saved.numel() else 0.0
        if most > self.longest and isinstance(others[-1], list):
            others[-1].append(
                f"{prefix}delays go up to {most:g} steps, but this {type(self).__name__} was made for "
                f"{self.longest}; make it with longest={math.ceil(most)}."
            )
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _rest(
        self, shape: tuple[int, ...], device: torch.device | str | None, dtype: torch.dtype | None
    ) -> list[Tensor]:
        return [torch.zeros(shape[0], self.longest, *shape[1:], device=device, dtype=dtype)]

    def _shapes(self, x: Tensor) -> list[torch.Size]:
        return [torch.Size((x.shape[1], self.longest, *x.shape[2:]))]

    def _with_history(self, x: Tensor, state: DelayState | None) -> tuple[Tensor, DelayState]:
        """Return (longest + time, batch, *features), the history before the input, and the new state."""
        (history,) = self._begin(x, state)
        whole = torch.cat([history.to(x.dtype).movedim(1, 0), x]) if self.longest else x
        return whole, DelayState(_kept(whole[x.shape[0] :].movedim(0, 1)))  # len(x) would fix an exported length


def _kept(history: Tensor) -> Tensor:
    """In memory of its own, so that neither the sequence stays nor what happens to it matters."""
    return history.clone(memory_format=torch.contiguous_format)


def whole_delays(delays: int | Sequence[int] | Tensor, longest: int | None) -> tuple[Tensor, int]:
    """Return the delays as int64, and the longest that may occur."""
    delays = torch.as_tensor(delays)
    if delays.is_floating_point() or delays.dtype == torch.bool or delays.numel() == 0:
        raise RangeError(f"delays are {delays.dtype}, but a delay is a whole number of steps: round them first.")
    most = int(delays.max()) if longest is None else longest
    if int(delays.min()) < 0 or int(delays.max()) > most:
        raise RangeError(
            f"delays lie from {int(delays.min())} to {int(delays.max())} steps, but they must lie from 0 to {most}."
        )
    return delays.to(torch.int64).clone(), most


class Delay(HistoryLayer):
    """A delay of whole steps for each channel: y[t, ..., c] = x[t - delays[c], ..., c], 0 before the beginning.

    delays: one number, or a tensor of them that broadcasts against the features ((C, 1, 1): one a channel of (C, H,
    W)). longest: the longest delay that the state has room for; that of ``delays`` if left out.
    Raises RangeError for delays that are negative, no whole numbers or above ``longest``.

    >>> y, state = Delay([0, 2])(torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]).unsqueeze(1))
    >>> y[:, 0].tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, delays: int | Sequence[int] | Tensor, *, longest: int | None = None) -> None:
        super().__init__()
        delays, self.longest = whole_delays(delays, longest)
        self.register_buffer("delays", delays)

    delays: Tensor

    def forward(self, x: Tensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:
        """Return the delayed input like ``x`` (time, batch, *features) and the state after the last step."""
        whole, state = self._with_history(x, state)
        delays = self._flat("delays", x, torch.int64).reshape(-1)
        whole = flat_features(whole, 1)
        shift = _shift_traced if torch.compiler.is_compiling() else _shift
        return shift(whole, self.longest - delays, x.shape[0]).reshape(x.shape), state


def _shift(whole: Tensor, starts: Tensor, steps: int) -> Tensor:
    """Return y[t, n, c] = whole[starts[c] + t, n, c] for ``steps`` steps: a slice of time for each delay there is."""
    groups, member = starts.unique(return_inverse=True)
    if len(groups) == 1:
        return whole[int(groups) : int(groups) + steps]
    parts = [whole[start : start + steps, :, member == k] for k, start in enumerate(groups.tolist())]
    return torch.cat(parts, 2)[:, :, member.argsort(stable=True).argsort()]


def _shift_traced(whole: Tensor, starts: Tensor, steps: int) -> Tensor:
    """As ``_shift`` by an index for each value: slower, but the delays may be unknown where a graph is traced."""
    times = torch.arange(steps, device=whole.device).reshape(-1, 1, 1) + starts
    return whole.gather(0, times.expand(steps, *whole.shape[1:]))


def delayed_linear(whole: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Return y[t, n, o] = bias[o] + sum over d, i of kernel[o, i, d] * whole[t + longest - d, n, i].

    whole: (longest + steps, batch, inputs); kernel: (outputs, inputs, longest + 1), the weight at each delay.
    """
    return functional.conv1d(whole.permute(1, 2, 0), kernel.flip(2).to(whole.dtype), bias).permute(2, 0, 1)


class SynapticHistoryLayer(HistoryLayer):
    """Checks that the input is (time, batch, inputs)."""

    inputs: int

    def _begin(self, x: Tensor, state: DelayState | None) -> DelayState:
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise ShapeError(
                f"{type(self).__name__} takes (time, batch, {self.inputs}), but its input has shape {tuple(x.shape)}."
            )
        return super()._begin(x, state)


class DelayedLinear(SynapticHistoryLayer):
    """A linear layer whose synapses have delays of whole steps.

    y[t, n, o] = bias[o] + sum over i of weight[o, i] * x[t - delays[o, i], n, i]

    weight: (outputs, inputs), learned; delays: whole numbers of that shape, or (1, inputs) for one an input unit, or
    (outputs, 1); longest: as for `Delay`; bias: (outputs,), learned, or None.

    >>> layer = DelayedLinear(torch.tensor([[1.0, 10.0]]), torch.tensor([[0, 1]]))
    >>> layer(torch.ones(3, 1, 2))[0].flatten().tolist()
    [1.0, 11.0, 11.0]
    """

    def __init__(
        self, weight: Tensor, delays: Tensor, *, bias: Tensor | None = None, longest: int | None = None
    ) -> None:
        super().__init__()
        if weight.ndim != 2 or not fits(delays.shape, weight.shape):
            raise ShapeError(
                f"weight has shape {tuple(weight.shape)} and delays {tuple(delays.shape)}; they must be "
                "(outputs, inputs), where delays may have one row or one column."
            )
        delays, self.longest = whole_delays(delays, longest)
        self.inputs = weight.shape[1]
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("delays", delays)

    delays: Tensor

    def forward(self, x: Tensor, state: DelayState | None = None) -> tuple[Tensor, DelayState]:
        """Return (time, batch, outputs) for ``x`` (time, batch, inputs), and the state after the last step."""
        whole, state = self._with_history(x, state)
        taps = functional.one_hot(self.delays, self.longest + 1).to(self.weight.dtype)
        return delayed_linear(whole, self.weight.unsqueeze(2) * taps, self.bias), state

    def synapses(self) -> Synapses:
        """Return every synapse whose weight is not 0, for simulators that want lists."""
        weight, delays = self.weight.detach(), self.delays.expand(self.weight.shape)
        target, source = weight.nonzero(as_tuple=True)
        return Synapses(source, target, weight[target, source], delays[target, source])
