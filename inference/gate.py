"""A learned exit: a small network reads how sure the output is and how long it has been so, and says when to stop.

Trained on held-out outputs of a frozen network, so that what it sees in training is what it sees in use.  With the
gate's g[t] a sample stops at step t with P[t] = g[t] (1 - g[1]) ... (1 - g[t-1]), and at T with what is left; the gate
minimises the mean of

    sum_t P[t] (1 if step t is wrong else 0, + price * t / T)

by its gradient.  Training runs through P itself.  (Where P only weighs the losses of classifiers that are trained too,
a ratio that keeps the size of the sum must be detached, or the weights cancel out of its gradient.  Here nothing is
rescaled.)
Source: Regol, Chataoui, Coates, "Jointly-Learned Exit and Inference for a Dynamic Neural Network" (JEI-DNN), ICLR 2024
(features of the softmax, and a price for time), with time steps in the place of layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, require_in_range
from .calibrate import confidence_candidates, safe_threshold
from .history import Recall, Recalled, run_lengths, trace
from .rules import steps_of
from .scores import MaxSoftmax
from .sweep import correct_by_step, curve_of

__all__ = ["FEATURES", "LearnedGate", "fit_gate", "gate_features"]

FEATURES = ("probability", "margin", "certainty", "lead", "run", "time")
HIDDEN = 8
PRICES = (0.3, 0.1, 0.03, 0.01)
"""What all T steps cost, in errors."""
ITERATIONS, RATE = 250, 0.03
MOST_SAMPLES = 3000
LEAST_SAMPLES = 40

Row = tuple[float, ...]


@dataclass(frozen=True)
class LearnedGate(Recall):
    """g = sigmoid(b + v . tanh(a + W f)), f the features of ``gate_features``, standardised.  Made by ``fit_gate``.

    divisor: of the softmax.  horizon: steps T that it was trained for; more of them count as T.
    """

    divisor: float
    horizon: int
    mean: Row = field(repr=False)
    spread: Row = field(repr=False)
    first: tuple[Row, ...] = field(repr=False)
    first_bias: Row = field(repr=False)
    second: Row = field(repr=False)
    second_bias: float = field(repr=False)

    def remembers(self, classes: int) -> int:
        """The last first choice, and its run."""
        return 2

    def over(self, output: Tensor, first_step: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return g."""
        features, memory = gate_features(output, first_step, memory, self.divisor, self.horizon)

        def like(values: Sequence[Row] | Row) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=output.device)

        standard = (features - like(self.mean)) / like(self.spread)
        hidden = torch.tanh(standard @ like(self.first).T + like(self.first_bias))
        return torch.sigmoid((hidden * like(self.second)).sum(-1) + self.second_bias), memory

    def at(self, output: Tensor) -> Tensor:
        """Return the probability of the first choice."""
        return MaxSoftmax(self.divisor)(output)


def gate_features(
    output: Tensor, first_step: Tensor, memory: Tensor, divisor: float, horizon: int
) -> tuple[Tensor, Tensor]:
    """What the gate sees, float64 (steps, N, 6), each in [0, 1], and the memory (last choice, run).

    p = softmax(output / divisor): p_1;  p_1 - p_2;  1 - entropy / ln C;  the lead of the largest output over the
    second, in divisors, as lead / (lead + 1);  the run of its first choice / T;  t / T.
    Raises RangeError for one class, NaN and infinity.
    """
    runs, memory = run_lengths(output, memory)
    log_p = torch.log_softmax(output.double() / divisor, -1)
    p, best = log_p.exp(), log_p.topk(2, dim=-1).values
    lead = best[..., 0] - best[..., 1]
    first, second = best.exp().unbind(-1)
    certainty = (1 + (p * log_p).sum(-1) / math.log(output.shape[-1])).clamp(0, 1)
    time = steps_of(output, first_step).clamp(max=horizon) / horizon
    parts = [first, first - second, certainty, lead / (lead + 1), runs.clamp(max=horizon) / horizon, time.double()]
    return torch.stack(parts, -1), memory


def fit_gate(outputs: Tensor, labels: Tensor, *, max_loss: float = 0.001, skip: int = 0, seed: int = 0) -> Recalled:
    """Train gates on one half of held-out outputs; on the other choose the fastest that loses next to nothing.

    outputs: cumulative, (T, N, classes), of samples that no threshold or weight was fitted on; labels: int64 (N,).
    skip: steps at the beginning after which nobody will stop.  The threshold on g is chosen with the caution of
    ``calibrate_confidence``.  The same seed gives the same gate.
    Raises ShapeError, RangeError as ``calibrate_confidence``, and for fewer than 40 samples.
    """
    require_in_range("max_loss", max_loss, 0.0, 1.0, remedy="It is a fraction: 0.001 is 0.1 point.")
    right = correct_by_step(outputs, labels)
    steps, n = right.shape
    if n < LEAST_SAMPLES:
        raise RangeError(f"{n} samples cannot train a gate; give at least {LEAST_SAMPLES}, or choose another rule.")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    train, choose = order[: n // 2][:MOST_SAMPLES], order[n // 2 :]
    candidates = confidence_candidates(outputs[:, train])
    divisor = candidates[len(candidates) // 2].divisor
    fresh = torch.zeros(len(train), 2, dtype=torch.float64)
    none_done = torch.zeros(len(train), dtype=torch.int64)
    features, _ = gate_features(outputs[:, train], none_done, fresh, divisor, steps)
    found = []
    for price in PRICES:
        gate = _trained(features[skip:], right[skip:, train], price, steps, divisor, seed)
        seen = trace(gate, outputs[:, choose])[skip:]
        threshold, mean_steps = safe_threshold(curve_of(seen, right[skip:, choose]), max_loss)
        found.append((mean_steps, Recalled(gate, threshold)))
    return min(found, key=lambda pair: pair[0])[1]


def expected_cost(gates: Tensor, cost: Tensor) -> Tensor:
    """Mean over N of sum_t P[t] cost[t], from the logits of g and the costs, both (T, N); the last step takes the rest.

    >>> certain = torch.tensor([[-50.0], [50.0], [50.0]])
    >>> expected_cost(certain, torch.tensor([[1.0], [2.0], [4.0]])).item()
    2.0
    """
    stay = torch.nn.functional.logsigmoid(-gates).cumsum(0)  # ln of (1 - g[1]) ... (1 - g[t])
    before = torch.cat([torch.zeros_like(stay[:1]), stay[:-1]])
    log_g = torch.nn.functional.logsigmoid(gates)
    log_p = torch.cat([(before + log_g)[:-1], before[-1:]])
    return (log_p.exp() * cost).sum(0).mean()


def _trained(features: Tensor, right: Tensor, price: float, steps: int, divisor: float, seed: int) -> LearnedGate:
    """One gate by Adam, on all samples at once; features (T, N, 6), right (T, N), of the last steps of T."""
    mean, spread = features.mean((0, 1)), features.std((0, 1)).clamp(min=1e-3)
    x = ((features - mean) / spread).float()
    time = torch.arange(1, len(right) + 1)[:, None] / steps
    cost = (~right).float() + price * time
    generator = torch.Generator().manual_seed(seed)
    count = len(FEATURES)
    weights = [
        torch.randn(HIDDEN, count, generator=generator) / math.sqrt(count),
        torch.zeros(HIDDEN),
        torch.randn(HIDDEN, generator=generator) / math.sqrt(HIDDEN),
        torch.tensor(-1.0),
    ]
    with torch.enable_grad():
        parameters = [weight.requires_grad_() for weight in weights]
        optimizer = torch.optim.Adam(parameters, lr=RATE)
        for _ in range(ITERATIONS):
            first, first_bias, second, second_bias = parameters
            loss = expected_cost(torch.tanh(x @ first.T + first_bias) @ second + second_bias, cost)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    rows, shift, out = (weight.detach().tolist() for weight in parameters[:3])
    return LearnedGate(
        divisor, steps, tuple(mean.tolist()), tuple(spread.tolist()), tuple(map(tuple, rows)), tuple(shift),
        tuple(out), float(parameters[3].detach()),
    )  # fmt: skip
