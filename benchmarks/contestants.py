"""Leaky integrate-and-fire layers of the frameworks, behind one face: currents over time in, spikes over time out.

Every framework runs with the surrogate gradient atan(2) where it has it, decay 0.9 of the membrane, threshold 1, reset
by subtraction through which gradient flows where it can be chosen.  One that is not installed is left out, by name.
"""

import importlib
import importlib.metadata
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Contestant", "contestants", "gain_for_rate", "interleaved", "saved_bytes"]

BETA = 0.9


@dataclass(frozen=True)
class Contestant:
    """A layer: ``run`` maps currents (time, batch, features), or (batch, time, features), to spikes."""

    name: str
    run: Callable[[Tensor], Tensor]
    batch_first: bool = False

    def laid_out(self, x: Tensor) -> Tensor:
        """A (time, batch, features) tensor in the order that this framework wants, contiguous."""
        return x.transpose(0, 1).contiguous() if self.batch_first else x


def contestants(device: str = "cpu") -> tuple[list[Contestant], list[str]]:
    """Return the layers that can run here, and what is left out and why."""
    found, missing = [], []
    for make in (_spikeport, _snntorch, _spikingjelly, _norse, _sinabs):
        try:
            found += make(device)
        except ImportError as error:
            missing.append(f"{make.__name__.strip('_')}: {error}")
    return found, missing


def _spikeport(device: str) -> list[Contestant]:
    from spikeport.neurons import Leaky

    exact, compact = Leaky(BETA).to(device), Leaky(BETA, compact=True).to(device)
    return [
        Contestant("spikeport", lambda x: exact(x)[0]),
        Contestant("spikeport, bfloat16 saves", lambda x: compact(x)[0]),
    ]


def _snntorch(device: str) -> list[Contestant]:
    import snntorch

    layer = snntorch.Leaky(beta=BETA, spike_grad=snntorch.surrogate.atan(2.0), reset_delay=False).to(device)

    def run(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for step in x:
            spike, membrane = layer(step, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return [Contestant(_named("snntorch"), run)]


def _spikingjelly(device: str) -> list[Contestant]:
    _stand_in("torchvision", "torchaudio")
    from spikingjelly.activation_based import functional, neuron, surrogate

    def make(backend: str) -> Contestant:
        options: dict[str, Any] = {"tau": 1 / (1 - BETA), "decay_input": False, "v_reset": None, "step_mode": "m"}
        layer = neuron.LIFNode(surrogate_function=surrogate.ATan(2.0), **options).to(device)
        layer.backend = backend

        def run(x: Tensor) -> Tensor:
            functional.reset_net(layer)
            spikes: Tensor = layer(x)
            return spikes

        return Contestant(f"{_named('spikingjelly')} {backend}", run)

    backends = ["torch"]
    if device != "cpu":
        backends += [name for name in ("cupy", "triton") if importlib.util.find_spec(name)]
    return [make(backend) for backend in backends]


def _norse(device: str) -> list[Contestant]:
    _stand_in("torchvision", "torchaudio")
    from norse.torch import LIFBoxCell
    from norse.torch.functional.lif_box import LIFBoxParameters

    # v + dt * tau_mem_inv * (0 - v + x): a decay of 0.9 a step; its input is scaled by 0.1, which the gain makes up for
    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor((1 - BETA) / 0.001, device=device))
    cell = LIFBoxCell(p=parameters).to(device)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for step in x:
            spike, state = cell(step, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return [Contestant(f"{_named('norse')}, a loop over time", run)]


def _sinabs(device: str) -> list[Contestant]:
    _stand_in("samna")
    import sinabs.activation
    import sinabs.layers

    tau = float(-1 / torch.tensor(BETA).log())
    layer = sinabs.layers.LIF(tau_mem=tau, norm_input=False, spike_fn=sinabs.activation.SingleSpike).to(device)

    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        spikes: Tensor = layer(x)
        return spikes

    return [Contestant(_named("sinabs"), run, batch_first=True)]


def _named(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _stand_in(*names: str) -> None:
    """Let a package import others that nothing here uses and that may be absent or broken."""
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            module = types.ModuleType(name)
            module.__getattr__ = lambda attribute: types.SimpleNamespace()  # type: ignore[method-assign]
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            sys.modules[name] = module


def gain_for_rate(run: Callable[[Tensor], Tensor], x: Tensor, wanted: float = 0.25) -> float:
    """The factor of the input at which the layer's spikes are that share of all, found by halving (within 3 %)."""
    low, high, gain = 1e-3, 1e3, 1.0
    for _ in range(30):
        with torch.no_grad():
            rate = float((run(x * gain) > 0).float().mean())
        if abs(rate - wanted) < 0.03 * wanted:
            break
        low, high = (gain, high) if rate < wanted else (low, gain)
        gain = (low * high) ** 0.5
    return gain


def interleaved(
    tasks: dict[str, Callable[[], object]], rounds: int, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Run every task once a round, in turn, and return the median wall and CPU time of each, in milliseconds."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for task in tasks.values():
        task()  # compiled and warm
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            wait()
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            wait()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall_ms": 1e3 * statistics.median(wall for wall, _ in each),
            "wall_min_ms": 1e3 * min(wall for wall, _ in each),
            "cpu_ms": 1e3 * statistics.median(cpu for _, cpu in each),
        }
        for name, each in times.items()
    }


def saved_bytes(run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Bytes that autograd keeps for the backward pass, a neuron and step; a storage counts once, the input too."""
    storages: dict[int, int] = {}

    def keep(part: Tensor) -> Tensor:
        storages[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
        return part

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        spikes = run(x.detach().requires_grad_())
    return sum(storages.values()) / spikes.numel()
