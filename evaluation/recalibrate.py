"""Fit what is digital to the chips at hand: gains (thresholds) and biases of neurons, and exit thresholds.

No weight is touched and nothing is written again.  Of the calibration samples 70 % fit the neurons, on each chip by
itself, and the others the exit rule, for all chips together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..data import Dataset, refuse_shared, split_calibration
from ..hardware.analog.chips import Chips, Correction
from ..hardware.analog.crossbar import Crossbar
from ..hardware.analog.device_file import load_device
from ..hardware.program import IntegerProgram
from ..inference import AnyRule, FixedSteps
from ..networks.graph import Graph, Node
from .chips import ChipEngine, begun, chip_engine, chip_outputs, network_on_chips, ranged
from .convert import ExitData, Progress, require_labels
from .engines import Network, graph_of
from .policies import Policy

__all__ = ["Recalibrated", "fit_corrections", "recalibrate"]

LEAST = 20  # samples
RANGE_SAMPLES = 32
ROUNDS, DAMPING = 2, 0.7  # of the biases by step, while all layers run on what chips give
DEEPEST = 8  # layers of neurons: all move at once, and in deeper networks what they mend adds up to too much
_LARGEST_GAIN = 4.0
_VALUES = 1 << 26  # currents kept at a time


@dataclass(frozen=True)
class Recalibrated:
    """Chips with their corrections, the exit rule for them, what the report says, and the hashes of what was used."""

    chips: Chips
    rule: AnyRule
    report: dict[str, Any]
    hashes: np.ndarray


def recalibrate(  # noqa: PLR0913 - a network, its chips, data, and five options
    network: Network,
    chips: Chips,
    data: Dataset,
    *,
    steps: int,
    policy: Policy | FixedSteps | None = None,
    max_loss: float = 0.001,
    refused: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Recalibrated:
    """Fit converters' ranges, gains and biases of neurons, and the exit rule, on the programmed chips.

    data: labelled calibration samples.  policy: the exit rule; dynamic confidence by default.  refused: hashes of
    samples that must not be among them (the evaluation's).
    Raises RangeError for too few samples and for one that is refused, SpikeportError without labels.
    """
    tell = progress or (lambda stage, done: None)
    if refused is not None:
        refuse_shared(refused, data.hashes)
    if len(data) < LEAST:
        raise RangeError(f"{data.name} has {len(data)} samples; {LEAST} at least are needed to calibrate chips on")
    if data.y is None:
        raise SpikeportError(f"{data.name} has no labels, so no exit rule can be calibrated on it; add labels")
    graph = graph_of(network)
    require_labels("the labels", data.y, graph.shapes[graph.output.name][0])
    split = split_calibration(len(data), seed, hashes=data.hashes)
    fit, held = np.sort(np.concatenate([split.fit, split.choose])), np.sort(split.exit)
    tell("fit the converters", 0.0)
    if chips.crossbar.adc_bits is not None:
        chips = ranged(network, chips, data.x[fit[:RANGE_SAMPLES]], steps)
    tell("fit the neurons", 0.0)
    chips = chips.corrected(fit_corrections(network, chips, data.x[fit], steps))
    tell("fit the exit rule", 0.0)
    rule = _rule(network, chips, data.take(held), steps, policy, max_loss, seed)
    gains = torch.cat([each.gain.flatten() for each in chips.corrections.values()])
    report = {
        "data": data.name,
        "n_neurons": len(fit),
        "n_exit": len(held),
        "gain": {"lowest": float(gains.min()), "mean": float(gains.mean()), "highest": float(gains.max())},
    }
    return Recalibrated(chips, rule, report, data.hashes)


def fit_corrections(network: Network, chips: Chips, x: np.ndarray, steps: int) -> Mapping[str, Correction]:
    """Gains and biases of every neuron's current, by chip and channel, for samples x (n, *features) or recordings.

    First every layer is shown the digital network's own spikes: with A and C the currents of a unit on the chip and in
    the digital network, summed over the window, gain = cov(A, C) / var(A) over samples and places, and
    bias = mean(C - gain A) / T: the least squares.  Then all layers run on what the chips give, and the bias of each
    step takes up what is still missing on average, some rounds over; networks of more than 8 layers of neurons are left
    without that.
    """
    graph = graph_of(network)
    fitting = _Fitting(network, chips, x, steps)
    corrections = {name: part.correction(steps, axis(graph, name)) for name, part in fitting.forced().items()}
    for _ in range(ROUNDS if len(graph.of_operator("neuron")) <= DEEPEST else 0):
        missing = fitting.missing(corrections)
        corrections = {
            name: Correction(each.gain, each.bias + DAMPING * missing[name], each.axis)
            for name, each in corrections.items()
        }
    return {
        name: Correction(each.gain, torch.cat([each.bias, each.bias.mean(0, keepdim=True)]), each.axis)
        for name, each in corrections.items()
    }


@dataclass
class _Moments:
    """Sums over samples and places, by chip and channel, of currents summed over the window."""

    n: int
    a: Tensor
    c: Tensor
    aa: Tensor
    ac: Tensor

    def correction(self, steps: int, axis: int) -> Correction:
        variance = self.aa / self.n - (self.a / self.n) ** 2
        covariance = self.ac / self.n - self.a * self.c / self.n**2
        alive = variance > 1e-12 * (self.aa / self.n).clamp(min=1e-30)
        gain = torch.where(alive, covariance / variance.where(alive, torch.ones_like(variance)), 1.0)
        gain = gain.clamp(1 / _LARGEST_GAIN, _LARGEST_GAIN)
        bias = (self.c - gain * self.a) / self.n / steps
        return Correction(gain.float(), bias.float().expand(steps, *bias.shape), axis)


class _Fitting:
    """The digital network and the chips side by side, a chunk of time after the other."""

    def __init__(self, network: Network, chips: Chips, x: np.ndarray, steps: int) -> None:
        self.network, self.chips, self.x, self.steps = network, chips, x, steps
        self.graph = graph_of(network)
        exact = Crossbar(load_device("ideal"), tile_rows=chips.crossbar.tile_rows, scale="power_of_two")
        self.digital = network_on_chips(network, exact, time_s=0.0, instances=1, seed=0)
        units = sum(int(np.prod(self.graph.shapes[node.name])) for node in self._watched())
        self.size = int(np.clip(_VALUES // (units * chips.instances), 1, max(1, 400 // chips.instances)))

    def _watched(self) -> list[Node]:
        return [node for node in self.graph.nodes if node.operator in ("neuron", "output")]

    def forced(self) -> dict[str, _Moments]:
        """Moments of the currents when every layer reads the digital network's spikes."""
        found: dict[str, _Moments] = {}
        for first in range(0, len(self.x), self.size):
            sums: dict[str, list[Tensor]] = {}
            for name, c, a, _ in self._side_by_side(self.x[first : first + self.size], self.chips, force=True):
                both = sums.setdefault(name, [torch.zeros(()), torch.zeros(())])
                both[0], both[1] = both[0] + c.sum(0), both[1] + a.sum(0)
            for name, (c, a) in sums.items():
                self._add(found, name, c.double(), a.double())
        return found

    def _add(self, found: dict[str, _Moments], name: str, c: Tensor, a: Tensor) -> None:
        a, c = (self._by_channel(name, part[None])[0] for part in (a, c))  # (instances, channels, values)
        parts = (a.sum(2), c.sum(2), (a * a).sum(2), (a * c).sum(2))
        if name not in found:
            found[name] = _Moments(a.shape[2], *parts)
            return
        held = found[name]
        found[name] = _Moments(
            held.n + a.shape[2], held.a + parts[0], held.c + parts[1], held.aa + parts[2], held.ac + parts[3]
        )

    def missing(self, corrections: Mapping[str, Correction]) -> dict[str, Tensor]:
        """mean(C - corrected A) at each step, (steps, instances, channels), while layers read what chips give."""
        chips, found = self.chips.corrected(corrections), dict[str, Tensor]()
        for first in range(0, len(self.x), self.size):
            block = self.x[first : first + self.size]
            for name, c, a, when in self._side_by_side(block, chips, force=False):
                rows = max(len(c), len(a))
                lack = self._by_channel(name, (c - a).expand(rows, *a.shape[1:])).mean(3)
                total = found.setdefault(name, torch.zeros(self.steps, *lack.shape[1:]))
                total[when] += lack.float() * (len(block) / len(self.x))
        return found

    def _by_channel(self, name: str, x: Tensor) -> Tensor:
        """(rows, instances * n, *features) -> (rows, instances, channels, values)."""
        split = x.reshape(len(x), self.chips.instances, -1, *x.shape[2:]).movedim(3 + axis(self.graph, name), 2)
        return split.flatten(3)

    def _side_by_side(self, x: np.ndarray, chips: Chips, *, force: bool) -> Any:
        """Yield (node, digital current, chips' current as corrected, steps) for each chunk and watched node."""
        wanted: dict[str, Tensor] = {}
        seen: list[tuple[str, Tensor, Tensor, Tensor]] = []

        def keep(node: Node, current: Tensor, when: Tensor) -> Tensor:
            wanted[node.name] = current
            return current

        def meet(node: Node, current: Tensor, when: Tensor) -> Tensor:
            c = torch.cat([wanted[node.name]] * chips.instances, 1)
            correction = chips.corrections.get(node.name)
            a = current if correction is None else correction(current, when)
            seen.append((node.name, c.expand(len(when), *c.shape[1:]), a.expand(len(when), *a.shape[1:]), when[:, 0]))
            return c if force else a

        digital = chip_engine(self.network, self.digital, max_steps=self.steps, listen=keep)
        analog = chip_engine(self.network, chips, max_steps=self.steps, listen=meet)
        both: list[tuple[ChipEngine, Tensor, Any]] = [
            (digital, *begun(digital, x, self.steps, 1)),
            (analog, *begun(analog, x, self.steps, chips.instances)),
        ]
        # an integer engine cuts chunks of large batches itself, so that the two would not meet
        chunk = 1 if isinstance(self.network, IntegerProgram) else analog.chunk
        for done in range(0, self.steps, chunk):
            size = min(chunk, self.steps - done)
            for index, (engine, block, state) in enumerate(both):
                part = block if engine.constant_input else block[done : done + size]
                _, state = engine.advance(part, state, size)
                both[index] = engine, block, state
            yield from seen
            seen.clear()


def axis(graph: Graph, name: str) -> int:
    """The feature axis of a node's channels: the last of a sequence of tokens that a linear layer gives, else 0."""
    shape, node = graph.shapes[name], graph.by_name[name]
    source = graph.by_name[node.sources[0]]
    return len(shape) - 1 if source.operator == "linear" else 0


def _rule(
    network: Network,
    chips: Chips,
    held: Dataset,
    steps: int,
    policy: Policy | FixedSteps | None,
    max_loss: float,
    seed: int,
) -> AnyRule:
    """The exit rule on the outputs of all chips."""
    if isinstance(policy, FixedSteps):
        return policy
    assert held.y is not None  # noqa: S101 - for the type checker
    outputs = chip_outputs(network, chips, held.x, steps).flatten(1, 2).numpy()
    labels = np.tile(held.y, chips.instances)
    exit_data = ExitData(outputs, labels, labels, np.tile(held.hashes, chips.instances), held.hashes)
    return (policy or Policy()).rule(exit_data, max_loss=max_loss, seed=seed)
