"""Toy engines whose arithmetic is exact, and outputs that look like those of a converted network."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class ToyState(NamedTuple):
    age: Tensor  # (N,)
    total: Tensor  # (N, classes)


class ToyEngine:
    """Adds x and a wobble that depends on sample, class and step; whole numbers, so sums are exact."""

    def __init__(self, max_steps: int = 20, chunk: int = 4, *, can_refill: bool = True) -> None:
        self.max_steps, self.chunk, self.can_refill = max_steps, chunk, can_refill
        self.computed = 0  # steps times samples
        self.exchanges = 0
        self.widest = 0

    def start(self, x: Tensor) -> ToyState:
        return ToyState(torch.zeros(len(x), dtype=torch.int64), torch.zeros_like(x))

    def advance(self, x: Tensor, state: ToyState, steps: int) -> tuple[Tensor, ToyState]:
        assert steps >= 1
        assert len(x) == len(state.age)
        if self.can_refill:
            assert bool((state.age < self.max_steps).all()), "a place was run far past the window"
        else:
            assert bool((state.age + steps <= self.max_steps).all()), "a batch was run past the window"
        self.computed += steps * len(x)
        self.widest = max(self.widest, len(x))
        outputs, (age, total) = [], state
        for _ in range(steps):
            age = age + 1
            total = total + x + (x * 7 + age[:, None] * 13 + torch.arange(x.shape[1]) * 5) % 11 - 5
            # What lies past the window means nothing; make sure that nobody reads it.
            outputs.append(torch.where((age > self.max_steps)[:, None], torch.nan, total))
        return torch.stack(outputs), ToyState(age, total)

    def select(self, state: ToyState, index: Tensor) -> ToyState:
        assert self.can_refill
        self.exchanges += 1
        return ToyState(state.age[index], state.total[index])

    def join(self, a: ToyState, b: ToyState) -> ToyState:
        assert self.can_refill
        return ToyState(torch.cat([a.age, b.age]), torch.cat([a.total, b.total]))


class PuttingEngine(ToyEngine):
    """Puts fresh samples in the places of others, and writes over the state that it is given."""

    def put(self, state: ToyState, places: Tensor, fresh: ToyState) -> ToyState:
        assert self.can_refill
        assert len(places) == len(fresh.age)
        self.puts = getattr(self, "puts", 0) + 1
        state.age[places], state.total[places] = fresh.age, fresh.total
        return state


@pytest.fixture
def putting() -> type[PuttingEngine]:
    return PuttingEngine


@pytest.fixture
def toy() -> type[ToyEngine]:
    return ToyEngine


@pytest.fixture
def x() -> Tensor:
    """97 samples of 5 classes, from clear to hopeless."""
    return torch.randint(-3, 4, (97, 5), generator=torch.Generator().manual_seed(3)).float()


Simulate = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    """A maker of outputs (T, N, 10) and labels: an early transient, noise that fades, a lasting bias."""

    def make(
        n: int, steps: int = 32, *, margin: float = 9.0, noise: float = 2.0, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 10, (n,), generator=g)
        logits = torch.randn(n, 10, generator=g) * 1.6
        logits[torch.arange(n), labels] += margin + 2.6 * torch.randn(n, generator=g)
        lag = 2 * torch.rand(n, 1, generator=g)
        transient = torch.randn(n, 10, generator=g) * noise
        bias = torch.randn(n, 10, generator=g) * 0.25
        error, outputs = torch.zeros(n, 10), []
        for t in range(1, steps + 1):
            error = 0.97 * error + torch.randn(n, 10, generator=g) * noise * 0.5
            outputs.append(logits * (t - lag).clamp(min=0) + 1.5 * error + transient * min(t, 4) + bias * t)
        return torch.stack(outputs), labels

    return make
