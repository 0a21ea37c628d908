"""Methods that choose a threshold for each channel (for each unit after a linear layer).

A neuron with threshold theta gives at most theta a step, in theta / T steps after T of them: a low threshold clips
large activations, a high one rounds small ones coarsely.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError, require_in_range
from ..networks.engine import Engine
from ..networks.graph import Graph, Node
from .statistics import BATCH, BINS, TINY, Histogram, activation_histograms, by_channel, channel_axis, channels

Thresholds = Mapping[str, np.ndarray]


class ThresholdMethod(Protocol):
    """Chooses thresholds for every activation node of an analog Graph from calibration inputs (n, *features)."""

    @property
    def name(self) -> str:
        """How the method is called in reports, with its parameters."""
        ...

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        """Thresholds above 0 by activation node: (channels,)."""
        ...


@dataclass(frozen=True)
class Percentile:
    """theta = the ``percent`` percentile of a channel's activations.

    Source: Rueckauer et al. 2017, section 2.2.2 (doi 10.3389/fnins.2017.00682), by channel as in Kim et al. 2020.
    """

    percent: float = 99.9

    @property
    def name(self) -> str:
        """How the method is called in reports."""
        return f"percentile {self.percent:g}"

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        """Thresholds by activation node: (channels,)."""
        require_in_range("percent", self.percent, 50.0, 100.0)
        found = activation_histograms(graph, x)
        return {node.name: _usable(node, found[node.name].percentile(self.percent)) for node in _activations(graph)}


@dataclass(frozen=True)
class MeanSquare:
    """theta that minimises the mean square of a - q(a), what T steps of a neuron with half-threshold start can say.

    q(a) = theta / T * clip(floor(a T / theta + 1/2), 0, T); a search over ``candidates`` fractions of the maximum.
    levels: T, or None for the time steps of the conversion.
    Source: Li et al. 2021 (arXiv 2106.06984), section 4.1.
    """

    levels: int | None = None
    candidates: int = 200

    @property
    def name(self) -> str:
        """How the method is called in reports."""
        return "mean square" if self.levels is None else f"mean square, {self.levels} levels"

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        """Thresholds by activation node: (channels,)."""
        levels = timesteps if self.levels is None else self.levels
        found = activation_histograms(graph, x)
        return {node.name: _usable(node, self._best(found[node.name], levels)) for node in _activations(graph)}

    def _best(self, histogram: Histogram, levels: int) -> np.ndarray:
        fractions = np.linspace(1 / self.candidates, 1.0, self.candidates)
        a = ((np.arange(BINS) + 0.5) / BINS)[:, None]
        q = fractions / levels * np.clip(np.floor(a * levels / fractions + 0.5), 0, levels)
        best = np.argmin(histogram.counts @ np.square(a - q), 1)
        return np.asarray(fractions[best] * histogram.maximum)


@dataclass(frozen=True)
class LocalThresholdBalancing:
    """Thresholds that grow, batch by batch, by what they still clip, each layer on the clipped values of the last.

    theta <- theta + 2 * rate * mean((z - theta) [z > theta]), from 0, over channels; the rate halves nothing and a
    run with too few batches ends far too low without a sign.  So it goes on over the data, again and again, until no
    layer clips more than ``tolerance`` of its activation, and raises RangeError if ``iterations`` are not enough.
    Source: Bu et al. 2025 (arXiv 2409.03368), local threshold balancing.
    """

    tolerance: float = 0.01
    iterations: int = 4000
    rate: float = 1.0

    @property
    def name(self) -> str:
        """How the method is called in reports."""
        return "local threshold balancing"

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        """Thresholds by activation node: (channels,)."""
        if len(x) == 0:
            raise SpikeportError("there is no calibration data; give at least one sample")
        balancer = _Balancer(graph, self.rate)
        for iteration in range(self.iterations):
            first = (iteration * BATCH) % len(x)
            worst, name = balancer.step(x[first : first + BATCH])
            if not np.isfinite(worst):
                raise RangeError(f"activations of {name} are not finite on the calibration data; check its scale")
            if iteration >= len(x) // BATCH and worst <= self.tolerance:
                return {node.name: _usable(node, balancer.theta[node.name].numpy()) for node in _activations(graph)}
        raise RangeError(
            f"local threshold balancing did not converge in {self.iterations} batches: {name} still clips "
            f"{100 * worst:.1f} % of its activation; use another method, more iterations or more varied data"
        )


@dataclass(frozen=True)
class Trained:
    """theta = the ceiling of the quantised activation that stands there (see ``quantised``): nothing is estimated.

    With half-threshold start the neurons then say after L steps of an even input what the activation says exactly.
    Source: Bu et al. 2022 (arXiv 2303.04347), theorem 2.
    """

    @property
    def name(self) -> str:
        """How the method is called in reports."""
        return "trained"

    def thresholds(self, graph: Graph, x: np.ndarray, timesteps: int) -> Thresholds:
        """Thresholds by activation node: (channels,), or whatever shape was trained."""
        missing = [node.name for node in _activations(graph) if node.attributes["levels"] is None]
        if missing:
            raise SpikeportError(
                f"{', '.join(missing)} were not trained as quantised activations, so no threshold is known; run "
                "spikeport finetune, or choose another method"
            )
        return {node.name: node.arrays["ceiling"] for node in _activations(graph)}


class _Balancer:
    """One analog network whose activations are clipped by thresholds that adapt."""

    def __init__(self, graph: Graph, rate: float) -> None:
        self.rate = rate
        self.theta = {node.name: torch.zeros(channels(graph, node)) for node in _activations(graph)}
        self._clipped: dict[str, float] = dict.fromkeys(self.theta, 1.0)
        self._graph, self._engine = graph, Engine(graph, max_steps=1)

    def step(self, x: np.ndarray) -> tuple[float, str]:
        """Adapt on one batch; returns the largest clipped share of any layer (a moving mean) and that layer's name."""
        self._engine.walk(torch.from_numpy(np.ascontiguousarray(x)), 1, self._adapt)
        worst = max(self._clipped, key=lambda name: (not np.isfinite(self._clipped[name]), self._clipped[name]))
        return self._clipped[worst], worst

    def _adapt(self, node: Node, inputs: list[Tensor]) -> Tensor | None:
        theta = self.theta.get(node.name)
        if theta is None:
            return None
        axis = channel_axis(self._graph, node)
        line = node.attributes["function"] == "identity"
        a = inputs[0].abs() if line else inputs[0].clamp(min=0.0, max=node.attributes["maximum"])
        over = (a - theta.reshape(-1, *([1] * (a.ndim - 3 - axis)))).clamp(min=0)
        share = float(over.sum() / a.sum().clamp(min=1e-12))
        self._clipped[node.name] = 0.8 * self._clipped[node.name] + 0.2 * share
        theta += 2 * self.rate * by_channel(over, axis).mean(1)
        return torch.copysign(a - over, inputs[0]) if line else a - over


def _activations(graph: Graph) -> tuple[Node, ...]:
    return graph.of_operator("activation")


def _usable(node: Node, theta: np.ndarray) -> np.ndarray:
    """A channel that never was active takes the layer's median; no threshold exceeds the activation's cut."""
    active = theta > TINY
    fallback = float(np.median(theta[active])) if active.any() else 1.0
    theta = np.where(active, theta, fallback)
    cut = node.arrays.get("ceiling", node.attributes["maximum"])
    return np.asarray(theta if cut is None else np.minimum(theta, cut))
