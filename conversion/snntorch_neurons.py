"""Each neuron of snnTorch as layers of ours that give the same spikes, with its parameters and its reset."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .._check import BackendUnavailable, UnsupportedError
from ..neurons.alpha import Alpha
from ..neurons.leaky import Leaky
from ..neurons.recurrent import OneToOne, RecurrentLeaky, RecurrentSynaptic
from ..neurons.synaptic import Synaptic
from .snntorch_layers import PromptReset
from .snntorch_surrogates import surrogate_of

__all__ = ["is_neuron", "layers_of", "load_snntorch"]

RESETS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
REMEDIES = {  # of the classes that have no counterpart
    "SLSTM": "use Synaptic or RSynaptic",
    "SConv2dLSTM": "use a convolution and RLeaky",
    "LeakyParallel": "it has no reset and a weight for each unit; use Leaky",
    "LeakyKernel": "use Leaky",
    "StateLeaky": "it takes a whole sequence and has no reset; use Leaky",
    "LinearLeaky": "it takes a whole sequence and has no reset; use Linear and Leaky",
    "AssociativeLeaky": "use Leaky",
    "DeltaLeaky": "it fires at a change of its membrane; use Leaky on differences of the input",
}


def load_snntorch() -> Any:
    """Return the package; it warns of its own things on import.  Raises BackendUnavailable where it is absent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import snntorch
            import snntorch.surrogate
    except ImportError as error:
        raise BackendUnavailable(
            f"a network of snnTorch needs snntorch, which cannot be imported ({error}); pip install spikeport[train]."
        ) from error
    return snntorch


def is_neuron(module: nn.Module) -> bool:
    """Whether a module is a neuron of snnTorch, or derives from one."""
    return any(kind.__module__.startswith("snntorch._neurons") for kind in type(module).__mro__) and (
        type(module).__name__ != "RecurrentOneToOne"
    )


def layers_of(neuron: Any, features: int | None) -> list[nn.Module]:
    """Return the layers, mostly one, that do what a neuron does.

    features: how many axes the features have, None where that is not known; one value a unit needs it.
    Raises UnsupportedError that lists all that cannot come in.
    """
    snn = load_snntorch()
    makers: dict[type, Callable[[_Reader], list[nn.Module]]] = {
        snn.Leaky: _leaky,
        snn.Lapicque: _lapicque,
        snn.Synaptic: _synaptic,
        snn.Alpha: _alpha,
        snn.RLeaky: _rleaky,
        snn.RSynaptic: _rsynaptic,
    }
    make = makers.get(type(neuron))
    if make is None:
        raise UnsupportedError("", [_remedy(neuron, {kind.__name__ for kind in makers})])
    reader = _Reader(neuron, features)
    layers = [] if reader.problems else make(reader)
    if reader.problems:
        raise UnsupportedError("", reader.problems)
    return layers


def _remedy(neuron: nn.Module, known: set[str]) -> str:
    name = type(neuron).__name__
    base = next((kind.__name__ for kind in type(neuron).__mro__[1:] if kind.__name__ in known), None)
    if base is not None and name not in REMEDIES:
        return f"a class of its own that derives from {base}, whose dynamics may differ; use {base} itself"
    return f"no layer has its dynamics; {REMEDIES.get(name, 'use one of ' + ', '.join(sorted(known)))}"


class _Reader:
    """The options and parameters of a neuron, and what of them cannot come in."""

    def __init__(self, neuron: Any, features: int | None) -> None:
        self.neuron, self.features = neuron, features
        self.problems: list[str] = []
        self.late = bool(getattr(neuron, "reset_delay", True))
        self.reset = RESETS.get(getattr(neuron.state_function, "__name__", ""), "")
        if not self.reset or self.reset != neuron.reset_mechanism:
            self.problems.append(
                f"reset_mechanism was set to {neuron.reset_mechanism!r} after it was built, but snnTorch goes on with "
                f"{self.reset or 'what it was'!r}; build it anew"
            )
        if neuron.inhibition:
            self.problems.append("inhibition=True, the largest membrane silences the others; train without it")
        if neuron.state_quant:
            self.problems.append("state_quant rounds the membrane; train without it")
        self.firing: dict[str, Any] = {"reset": self.reset or "none", "test": ">", "detach_reset": self.late}
        self.firing["late_reset"] = self.late
        try:
            self.firing["surrogate"] = surrogate_of(neuron.spike_grad)
        except UnsupportedError as error:
            self.problems.append(str(error))
        self.values = {name: self._value(name) for name in ("beta", "threshold", "alpha") if hasattr(neuron, name)}
        if not bool((self.values["threshold"] > 0).all()):
            self.problems.append("its threshold is not above 0 everywhere; give it a positive one")

    def _value(self, name: str) -> Tensor:
        """A parameter as ours has it: (), or as many axes as the features."""
        held: Tensor = getattr(self.neuron, name)
        value = held.detach().clone()
        value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
        if not bool(torch.isfinite(value).all()):
            self.problems.append(f"its {name} is NaN or infinite; repair or retrain it")
        if value.numel() == 1:
            value = value.reshape(())
        elif self.features is None:
            self.problems.append(f"its {name} has shape {tuple(value.shape)}; pass example=, which shows the features")
        elif value.ndim > self.features + 1 or (value.ndim == self.features + 1 and len(value) > 1):
            self.problems.append(f"its {name} has shape {tuple(value.shape)}, more than features; give one a unit")
        else:  # snnTorch broadcasts against the last axes, (batch, *features)
            value = value[0] if value.ndim > self.features else value
            value = value.reshape((1,) * (self.features - value.ndim) + tuple(value.shape))
        if isinstance(held, nn.Parameter):
            return nn.Parameter(value, requires_grad=held.requires_grad)
        return value

    def filled(self, layer: nn.Module, **values: Tensor) -> nn.Module:
        """The layer with these values as they are, be they out of range: both clamp them where they use them."""
        for name, value in {**self.values, **values}.items():
            if hasattr(layer, name):
                setattr(layer, name, value)
        return layer

    @property
    def prompt(self) -> bool:
        """Whether the membrane is lowered by the threshold in the step of its spike."""
        return not self.late and self.reset == "subtract"

    @property
    def prompt_firing(self) -> dict[str, Any]:
        """The options of `PromptReset`, whose timing is its own."""
        return {"test": ">", "surrogate": self.firing["surrogate"]}

    def graded(self) -> list[nn.Module]:
        """The factor of the spikes, where there is one."""
        factor = self.neuron.graded_spikes_factor
        learned = isinstance(factor, nn.Parameter)
        return [_factor(factor, learned)] if learned or bool((factor != 1).any()) else []


def _factor(value: Tensor, learned: bool = False) -> nn.Module:
    held = value.detach() if value.is_floating_point() else value.to(torch.get_default_dtype())
    layer = OneToOne(0.0)
    layer.weight = nn.Parameter(held.clone(), requires_grad=learned and value.requires_grad)
    return layer


def _leaky(reader: _Reader) -> list[nn.Module]:
    if reader.prompt:
        return [reader.filled(PromptReset(0.5, **reader.prompt_firing)), *reader.graded()]
    return [reader.filled(Leaky(0.5, **reader.firing)), *reader.graded()]


def _lapicque(reader: _Reader) -> list[nn.Module]:
    """snnTorch computes with R and C, not with beta, and multiplies the input by three numbers in turn."""
    neuron = reader.neuron
    if neuron.beta.requires_grad:
        reader.problems.append("learn_beta=True, but snnTorch computes with C, which does not follow; use Leaky")
    r, c, dt = neuron.R, neuron.C, neuron.time_step
    if any(part.numel() > 1 for part in (r, c, dt)):
        reader.problems.append("an R or C for each unit; use Leaky with beta = 1 - dt / (R C)")
        return []
    gains = [part for part in (r, 1 / (r * c), dt) if float(part) != 1]
    beta = (1 - dt / (r * c)).detach().reshape(())
    if not 0 <= float(beta) <= 1:
        reader.problems.append("its time step is longer than R C, so that its membrane overshoots; shorten it")
    if reader.reset == "zero":  # it takes the input of the step after the spike too, as recurrent neurons do
        neuron_layer: nn.Module = RecurrentLeaky(_factor(torch.tensor(0.0)), 0.5, **reader.firing)
    else:
        neuron_layer = Leaky(0.5, **reader.firing)
    return [*map(_factor, gains), reader.filled(neuron_layer, beta=beta), *reader.graded()]


def _synaptic(reader: _Reader) -> list[nn.Module]:
    if reader.prompt:
        return [reader.filled(PromptReset(0.5, alpha=0.5, **reader.prompt_firing)), *reader.graded()]
    return [reader.filled(Synaptic(0.5, 0.5, **reader.firing)), *reader.graded()]


def _alpha(reader: _Reader) -> list[nn.Module]:
    if bool((reader.values["alpha"] <= reader.values["beta"]).any()):
        reader.problems.append("its alpha is not above beta everywhere; retrain it with decays that stay apart")
    return [reader.filled(Alpha(0.5, 0.25, **reader.firing)), *reader.graded()]


def _recurrent(reader: _Reader) -> nn.Module:
    """What the spikes are fed back through; 1-to-1 weights are those that snnTorch computes with."""
    if reader.graded():
        reader.problems.append("graded_spikes_factor is not 1 and would scale what it hears; fold it into its weights")
    recurrent: nn.Module = reader.neuron.recurrent
    if type(recurrent).__name__ == "RecurrentOneToOne":
        return _factor(torch.as_tensor(recurrent.V), isinstance(recurrent.V, nn.Parameter))
    return recurrent


def _rleaky(reader: _Reader) -> list[nn.Module]:
    recurrent = _recurrent(reader)
    if reader.prompt:
        return [reader.filled(PromptReset(0.5, recurrent=recurrent, **reader.prompt_firing))]
    return [reader.filled(RecurrentLeaky(recurrent, 0.5, **reader.firing))]


def _rsynaptic(reader: _Reader) -> list[nn.Module]:
    """Its ``reset_delay=False`` changes local variables only: snnTorch resets late all the same."""
    if not reader.late and reader.neuron.init_hidden:
        reader.problems.append("snnTorch itself fails on reset_delay=False with init_hidden=True; drop one of them")
    firing = {**reader.firing, "late_reset": True, "detach_reset": True}
    return [reader.filled(RecurrentSynaptic(_recurrent(reader), 0.5, 0.5, **firing))]
