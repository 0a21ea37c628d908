"""Liquid state machines: a fixed random recurrent population of spiking neurons, read by counting its spikes."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from .._check import CorruptFileError, RangeError, ShapeError, SpikeportError, require_in_range
from ..neurons.layer import require_sequence, state_type
from ..neurons.recurrent import RecurrentLeaky, RecurrentLeakyState
from .file import atomic_write
from .resistive import FixedLinear, ResistiveDevice, ResistiveLinear

__all__ = [
    "Activity",
    "Reservoir",
    "activity",
    "fit_rate",
    "load_reservoir",
    "require_alive",
    "save_reservoir",
    "spike_counts",
]

FORMAT = "spikeport-reservoir-1"
ALLOWED = (0.05, 0.20)  # of steps, between which a reservoir computes; after the source of Reservoir
Synapses = FixedLinear | ResistiveLinear


class Activity(NamedTuple):
    """How a reservoir fires: the mean share of steps with a spike, and the shares of units that never or always do."""

    rate: float
    silent: float
    saturated: float


class Reservoir(nn.Module):
    """A random recurrent spiking population that is never trained.

    u[t] = β v[t−1] + W_in x[t] + W_rec s[t−1];  s[t] = [u > 1];  v[t] = (1 − s[t]) u[t]

    inward, recurrent: `ResistiveLinear` or `FixedLinear`; the second maps the units to themselves.  beta: decay of the
    membrane a step, in (0, 1].  x: (time, batch, inputs), events 0 or 1; spikes: (time, batch, units).
    Its synapses are buffers: ``parameters()`` is empty.  Fit the firing rate with `fit_rate` before anything is read.
    Raises ShapeError where the parts or an input do not fit together.
    Source: Lin et al., Resistive memory-based zero-shot liquid state machine for multimodal event data learning,
    arXiv 2307.00771.
    """

    def __init__(self, inward: Synapses, recurrent: Synapses, beta: float) -> None:
        super().__init__()
        units, inputs = _shape(inward)
        if _shape(recurrent) != (units, units):
            raise ShapeError(
                f"the recurrent synapses have shape {_shape(recurrent)}, but the {units} units that the inward ones "
                f"feed need ({units}, {units})."
            )
        self.inputs, self.units, self.beta = inputs, units, float(beta)
        self.inward = inward
        self.neurons = RecurrentLeaky(recurrent, beta, reset="zero", test=">")

    @classmethod
    def resistive(
        cls, inputs: int, units: int, device: ResistiveDevice, *, beta: float, recurrent: float = 1.0, seed: int = 0
    ) -> "Reservoir":
        """Return a reservoir of two crossbars as they came out of forming.

        recurrent: standard deviation of W_rec times √units, in thresholds; the inward gain is 1 until `fit_rate`.
        The same seed gives the same cells.
        """
        _require_sizes(inputs, units, recurrent, seed)
        generator = torch.Generator().manual_seed(seed)
        inward = ResistiveLinear.formed(inputs, units, device, generator)
        return cls(inward, ResistiveLinear.formed(units, units, device, generator, recurrent), beta)

    @classmethod
    def gaussian(cls, inputs: int, units: int, *, beta: float, recurrent: float = 1.0, seed: int = 0) -> "Reservoir":
        """Return the software counterpart of `resistive`: normal weights of the same variance, read exactly."""
        _require_sizes(inputs, units, recurrent, seed)
        generator = torch.Generator().manual_seed(seed)
        inward = FixedLinear.gaussian(inputs, units, generator)
        return cls(inward, FixedLinear.gaussian(units, units, generator, recurrent), beta)

    def initial_state(
        self, shape: tuple[int, ...], *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> RecurrentLeakyState:
        """Return the state at rest for steps of ``shape``, (batch, inputs)."""
        return self.neurons.initial_state((shape[0], self.units), device=device, dtype=dtype)

    def forward(self, x: Tensor, state: RecurrentLeakyState | None = None) -> tuple[Tensor, RecurrentLeakyState]:
        """Return the spikes (time, batch, units) and the state after the last step."""
        require_sequence("a reservoir", x)
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise ShapeError(
                f"the reservoir takes (time, batch, {self.inputs}), but its input has shape {tuple(x.shape)}; "
                "flatten the features of a step."
            )
        state = self.initial_state(x.shape[1:], device=x.device, dtype=state_type(x)) if state is None else state
        spikes = []
        for step in x.split(1):  # a read of noisy cells belongs to its step, wherever time is split
            fired, state = self.neurons(self.inward(step), state)
            spikes.append(fired)
        return torch.cat(spikes), state

    def worn(self, device: ResistiveDevice, seed: int) -> "Reservoir":
        """Return the same arrays some time later: shares of the cells stuck, reads as noisy as ``device`` says.

        Raises RangeError for a software reservoir, which has no cells.
        """
        inward, recurrent = self.inward, self.neurons.recurrent
        if not isinstance(inward, ResistiveLinear) or not isinstance(recurrent, ResistiveLinear):
            raise RangeError("this reservoir has Gaussian weights and no cells that could wear; make a resistive one.")
        return Reservoir(inward.worn(device, seed), recurrent.worn(device, seed + 1), self.beta)


def spike_counts(reservoir: Reservoir, x: Tensor, *, batch: int = 200) -> Tensor:
    """Count the spikes of each unit: (time, samples, inputs) to float32 (samples, units), at most the number of steps.

    x may hold whole numbers (events); what is above 1 is counted as 1, as a line of a crossbar carries it.
    """
    with torch.no_grad():
        parts = [reservoir(part.clamp(max=1).float())[0].sum(0) for part in x.split(batch, 1)]
    return torch.cat(parts)


def activity(reservoir: Reservoir, x: Tensor) -> Activity:
    """Measure how the reservoir fires on samples (time, samples, inputs)."""
    rates = spike_counts(reservoir, x) / len(x)
    units = rates.mean(0)
    return Activity(float(rates.mean()), float((units == 0).float().mean()), float((units == 1).float().mean()))


def require_alive(found: Activity, allowed: tuple[float, float] = ALLOWED) -> None:
    """Raise RangeError for a reservoir that is silent or saturated: what is read from it would mean little."""
    low, high = allowed
    if low <= found.rate <= high:
        return
    what = "silent" if found.rate < low else "saturated"
    raise RangeError(
        f"the reservoir is {what}: its units fire in {100 * found.rate:.2f} % of the steps, and {100 * low:g} to "
        f"{100 * high:g} % are wanted ({100 * found.silent:.0f} % of the units never fire); fit it with fit_rate; "
        f"if that fails, make the recurrent gain {'larger' if what == 'silent' else 'smaller'} or choose another beta."
    )


def fit_rate(
    reservoir: Reservoir, x: Tensor, rate: float = 0.1, *, allowed: tuple[float, float] = ALLOWED
) -> tuple[Reservoir, Activity]:
    """Return the reservoir with its inward gain scaled such that units fire in the share ``rate`` of steps.

    x: training samples (time, samples, inputs); a hundred are enough.  The gain is found by bisection of its logarithm
    between 2⁻²⁰ and 2²⁰; the cells are left as they are, as an amplifier behind the columns does it.
    Raises RangeError where no gain reaches the rates allowed, and says whether the reservoir is silent or saturated.
    """
    low, high = allowed
    require_in_range("the lowest rate allowed", low, 0.0, high)
    require_in_range("the highest rate allowed", high, low, 1.0)
    require_in_range("rate", rate, low, high)
    if not bool((x > 0).any()):
        raise RangeError("the reservoir is silent: the samples hold no event at all; look at what was read.")
    below, above = -20.0, 20.0
    tried = [(reservoir, Activity(0.0, 1.0, 0.0))]
    for _ in range(16):
        middle = (below + above) / 2
        candidate = _with_gain(reservoir, middle)
        tried.append((candidate, activity(candidate, x)))
        below, above = (middle, above) if tried[-1][1].rate < rate else (below, middle)
    best, found = min(tried, key=lambda each: abs(each[1].rate - rate))
    if found.rate < low:  # no gain fires more, or the least that does fires far more
        found = min((each for _, each in tried if each.rate > high), key=lambda each: each.rate, default=found)
    require_alive(found, allowed)
    return best, found


def save_reservoir(reservoir: Reservoir, path: str | Path, information: Mapping[str, Any] | None = None) -> str:
    """Write the frozen instance atomically (safetensors) and return its sha256.

    information: what else belongs to it, such as ``{"device": device.to_json(), "seed": 0}``, as JSON.
    Raises SpikeportError when the file cannot be written.
    """
    arrays = {name: value.contiguous() for name, value in reservoir.state_dict().items()}
    recurrent = reservoir.neurons.recurrent
    noise = [float(getattr(each, "read_noise", 0.0)) for each in (reservoir.inward, recurrent)]
    text = json.dumps({"read_noise": noise, "information": dict(information or {})}, allow_nan=False, sort_keys=True)
    digest = _digest(text, arrays)
    content = save(arrays, {"format": FORMAT, "structure": text, "sha256": digest})
    try:
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
    return digest


def load_reservoir(path: str | Path) -> tuple[Reservoir, dict[str, Any]]:
    """Read a reservoir and its information.

    Raises CorruptFileError for anything that ``save_reservoir`` did not write, SpikeportError if there is no such file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        arrays = load(content)
        structure = json.loads(metadata["structure"])
        if metadata["format"] != FORMAT or _digest(metadata["structure"], arrays) != metadata["sha256"]:
            raise ValueError("its content does not match its sha256, or it is of another format")
        noise = structure["read_noise"]
        inward = _synapses(arrays, "inward.", noise[0])
        made = Reservoir(inward, _synapses(arrays, "neurons.recurrent.", noise[1]), float(arrays["neurons.beta"]))
        made.load_state_dict(arrays)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, IndexError) as error:
        raise CorruptFileError(f"{path} is no reservoir: {str(error)[:300]}. Make it again and save it.") from None
    return made, structure["information"]


def _synapses(arrays: Mapping[str, Tensor], prefix: str, read_noise: float) -> Synapses:
    gain = float(arrays[f"{prefix}gain"])
    if f"{prefix}weight" in arrays:
        return FixedLinear(arrays[f"{prefix}weight"], gain)
    return ResistiveLinear(arrays[f"{prefix}positive"], arrays[f"{prefix}negative"], gain, read_noise)


def _digest(text: str, arrays: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name].numpy()
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _with_gain(reservoir: Reservoir, exponent: float) -> Reservoir:
    scaled = deepcopy(reservoir)
    scaled.inward.gain.mul_(2.0**exponent)
    return scaled


def _shape(synapses: Synapses) -> tuple[int, int]:
    outputs, inputs = synapses.weight.shape
    return outputs, inputs


def _require_sizes(inputs: int, units: int, recurrent: float, seed: int) -> None:
    require_in_range("inputs", inputs, 1, 10**6)
    require_in_range("units", units, 1, 10**6)
    require_in_range("recurrent", recurrent, 1e-6, 1e6)
    require_in_range("seed", seed, 0, 2**62)
