"""Run a network with early exit: decided samples leave the batch, waiting ones take their places.

The batch is handled as servers of language models do (continuous batching): after each chunk of
steps the state of the undecided samples is kept, fresh samples join them, and all go on together,
each at its own age.  Which samples share a batch never changes a decision.

When an exchange pays.  A decided sample that stays costs the computing of its place; an exchange
costs the copying of everyone's state.  So places may idle until their steps, with those of the next
chunk, reach the price of the exchange: then all the idling ever costs is about what the exchanges
cost, and neither can be much more than the best plan would have paid (the rent-or-buy argument).
Where samples of one age end together the batch is replaced as a whole, without any copying; so a
run in which nobody leaves early costs what a run without early exit does.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._check import RangeError
from .checks import require_engine, require_output_block, require_samples, require_window
from .engine import Replacing, StepEngine
from .rules import AnyRule, Decision, answer, ask

__all__ = ["EXCHANGE_COST", "ExitRun", "iterate_decisions", "run_with_exit"]

State = TypeVar("State")
Integers = NDArray[np.int64]

REPLACED_SHARE = 1 / 16
"""Share of the places that must be free before fresh samples are put into them, where nobody else is copied.

An estimate: a refill costs a few small calls; fewer places would hardly pay for them.
"""

EXCHANGE_COST = 1.0
"""Price of an exchange in steps of the whole batch.

An estimate: select and join read and write all membranes twice, where a step reads and writes them
once and computes the synapses; small networks pay about as much again in calls.
"""


class ExitRun(NamedTuple):
    """Decisions of N samples in the order of the input.

    label, steps: int64 (N,), steps counted from 1.  confidence: float64 (N,).
    steps_computed: int64 (N,), every step that the engine computed for the sample: up to its
    decision, the rest of that chunk, and while its place was idle.  Unlike the other three it
    depends on batch and chunk, and it can exceed the window by less than a chunk.
    """

    label: Tensor
    steps: Tensor
    confidence: Tensor
    steps_computed: Tensor


def run_with_exit(
    engine: StepEngine[State],
    x: Tensor,
    rule: AnyRule,
    *,
    batch_size: int = 64,
    exchange_cost: float = EXCHANGE_COST,
    progress: Callable[[int, int], None] | None = None,
) -> ExitRun:
    """Decide every sample of x (N, *features) as early as the rule allows, after ``engine.max_steps`` at the latest.

    batch_size: places in the batch.  exchange_cost: price of removing and adding samples, in steps
    of the whole batch; 0 exchanges at every chance, infinity only when the whole batch is done (an
    engine with ``put`` fills free places without that price while samples wait).
    progress: called with (samples decided, N) after each chunk.
    Raises ShapeError for an empty x or a misshapen output, RangeError for a batch_size below 1, for
    a rule that cannot stop within max_steps, and for NaN in the output.
    """
    run = _run(engine, x, rule, batch_size, exchange_cost)
    while run.undecided:
        run.advance()
        if progress is not None:
            progress(len(x) - run.undecided, len(x))
    return run.found


def iterate_decisions(
    engine: StepEngine[State],
    x: Tensor,
    rule: AnyRule,
    *,
    batch_size: int = 64,
    exchange_cost: float = EXCHANGE_COST,
) -> Iterator[tuple[int, Decision]]:
    """Yield (position in x, decision) as samples decide, the surest first; the rest is as for ``run_with_exit``."""
    return _decisions(_run(engine, x, rule, batch_size, exchange_cost))


def _run(engine: StepEngine[State], x: Tensor, rule: AnyRule, batch_size: int, exchange_cost: float) -> "_Books[State]":
    require_engine(engine)
    require_samples(x, batch_size)
    require_window(str(rule), rule.min_steps, engine.max_steps)
    if math.isnan(exchange_cost) or exchange_cost < 0:
        raise RangeError(f"exchange_cost is {exchange_cost}, but a cost in steps is at least 0.")
    return _Single(engine, x, rule) if batch_size == 1 else _Run(engine, x, rule, batch_size, exchange_cost)


def _decisions(run: "_Books[State]") -> Iterator[tuple[int, Decision]]:
    while run.undecided:
        for i in run.advance().tolist():
            yield i, Decision(int(run.label[i]), int(run.steps[i]), float(run.confidence[i]))


class _Books(ABC, Generic[State]):
    """What every run keeps: the samples, what was found for each, and how many wait or run.

    The books are kept in NumPy: they are short, and its calls take a fraction of the time of torch's.
    """

    state: State
    memory: Tensor | None = None  # what a rule that looks back remembers of each place; None where there is nothing

    def __init__(self, engine: StepEngine[State], x: Tensor, rule: AnyRule) -> None:
        self.engine, self.x, self.rule = engine, x, rule
        counts = (torch.zeros(len(x), dtype=torch.int64) for _ in range(3))
        self.found = ExitRun(next(counts), next(counts), torch.zeros(len(x), dtype=torch.float64), next(counts))
        self.label, self.steps, self.confidence, self.steps_computed = (part.numpy() for part in self.found)
        self.undecided = len(x)

    @abstractmethod
    def advance(self) -> Integers:
        """Compute one chunk, and return the positions of the samples that decided."""


class _Single(_Books[State]):
    """A batch of one: the samples run one after another, and nothing is exchanged."""

    age = 0
    block: Tensor | None = None

    @torch.no_grad()
    def advance(self) -> Integers:
        """Compute one chunk of the sample that runs, or of the next one."""
        sample = len(self.x) - self.undecided
        if self.block is None:
            self.block, self.age, self.memory = self.x[sample : sample + 1], 0, None
            self.state = self.engine.start(self.block)
        steps = min(self.engine.chunk, self.engine.max_steps - self.age)
        output, self.state = self.engine.advance(self.block, self.state, steps)
        require_output_block(output, steps, 1)
        age = torch.tensor([self.age], device=output.device)
        stops, self.memory = ask(self.rule, output, age, self.memory)
        self.age += steps
        self.steps_computed[sample] = self.age
        at = next((t for t, stop in enumerate(stops[:, 0].tolist()) if stop), None)
        if at is None and self.age < self.engine.max_steps:
            return np.empty(0, dtype=np.int64)
        at = steps - 1 if at is None else at
        chosen = output[at, 0]
        self.label[sample], self.steps[sample] = chosen.argmax().item(), self.age - steps + at + 1
        self.confidence[sample] = self.rule.confidence(chosen).item()
        self.undecided -= 1
        self.block = None
        return np.array([sample])


class _Run(_Books[State]):
    """The places of the batch (``sample``, ``age``, ``live``, ``state``) and the queue (``queued``)."""

    def __init__(
        self, engine: StepEngine[State], x: Tensor, rule: AnyRule, batch_size: int, exchange_cost: float
    ) -> None:
        super().__init__(engine, x, rule)
        self.batch_size, self.exchange_cost = batch_size, exchange_cost
        self.replacing = engine if isinstance(engine, Replacing) else None  # asked once: the answer takes its time
        self.queued = 0
        self._fill()

    @torch.no_grad()
    def advance(self) -> Integers:
        """Make room if it pays, compute one chunk, and return the positions of the samples that decided."""
        self._exchange()
        steps = self._next_steps()
        output, self.state = self.engine.advance(self.block, self.state, steps)
        require_output_block(output, steps, len(self.sample))
        self.idle_steps += steps * self._free()
        self.steps_computed[self.sample] += steps
        decided = self._decide(output, steps)
        self.age += steps
        return decided

    def _decide(self, output: Tensor, steps: int) -> Integers:
        place = np.flatnonzero(self.live)
        age = self.age[place]
        if len(place) < len(self.live):
            output = output.index_select(1, torch.from_numpy(place).to(output.device))
        last = self.engine.max_steps - 1 - age
        entry = np.arange(steps)[:, None]
        if last.min() < steps - 1:  # what an engine computes past the end means nothing, not even NaN
            past = torch.from_numpy(entry > last).to(output.device)
            output = output.masked_fill(past.unsqueeze(2), 0.0)
        stops = self._asked(output, age, place).cpu().numpy() | (entry == last)
        who = np.flatnonzero(stops.any(0))
        if not len(who):
            return who
        places = (torch.from_numpy(axis).to(output.device) for axis in (stops[:, who].argmax(0), who))
        label, steps_here, confidence = answer(self.rule, output, *places)
        sample = self.sample[place[who]]
        self.label[sample] = label.cpu().numpy()
        self.steps[sample] = age[who] + steps_here.cpu().numpy()
        self.confidence[sample] = confidence.cpu().numpy()
        self.live[place[who]] = False
        self.undecided -= len(who)
        return sample

    def _asked(self, output: Tensor, age: Integers, place: Integers) -> Tensor:
        """Where the rule stops; its memory of these places goes in and comes out."""
        before = None if self.memory is None else self.memory[place]
        stops, after = ask(self.rule, output, torch.from_numpy(age).to(output.device), before)
        if after is not None:
            self.memory = after.new_zeros(len(self.live), after.shape[1]) if self.memory is None else self.memory
            self.memory[place] = after
        return stops

    def _free(self) -> int:
        return len(self.live) - int(np.count_nonzero(self.live))

    def _next_steps(self) -> int:
        return min(self.engine.chunk, self.engine.max_steps - int(self.age[self.live].min()))

    def _exchange(self) -> None:
        if not self.live.any():
            self._fill()
        elif self.engine.can_refill and self._exchange_pays():
            self._refill()

    def _exchange_pays(self) -> bool:
        free = self._free()
        if free == 0:
            return False
        if self.age.max() >= self.engine.max_steps:  # no place is ever run far past the window
            return True
        if self._replaces():
            return free >= REPLACED_SHARE * len(self.live)
        return self.idle_steps + free * self._next_steps() >= self.exchange_cost * len(self.live)

    @torch.no_grad()
    def _fill(self) -> None:
        self._settle(self._take(self.batch_size))
        self.state = self.engine.start(self.block)

    def _replaces(self) -> bool:
        """Whether fresh samples are put in the free places, all of them, and nobody else is copied."""
        return self.replacing is not None and len(self.x) - self.queued >= self._free()

    def _refill(self) -> None:
        if self.replacing is not None and self._replaces():
            self._replace(self.replacing)
        else:
            self._compact()

    def _replace(self, engine: Replacing) -> None:
        free = np.flatnonzero(~self.live)
        fresh = self._take(len(free))
        block, places = self.x[self.queued - len(free) : self.queued], torch.from_numpy(free).to(self.x.device)
        self.state = engine.put(self.state, places, self.engine.start(block))
        self.block.index_copy_(0, places, block)
        self.sample[free] = fresh
        self.age[free] = 0
        self.live[free] = True
        if self.memory is not None:
            self.memory[free] = 0.0
        self.idle_steps = 0

    def _compact(self) -> None:
        keep = np.flatnonzero(self.live)
        state = self.engine.select(self.state, torch.from_numpy(keep).to(self.x.device))
        age, fresh = self.age[keep], self._take(self.batch_size - len(keep))
        memory = None if self.memory is None else self.memory[keep]
        self._settle(np.concatenate([self.sample[keep], fresh]))
        self.age[: len(keep)] = age
        if memory is not None:
            self.memory = torch.cat([memory, memory.new_zeros(len(fresh), memory.shape[1])])
        self.state = self.engine.join(state, self.engine.start(self.block[len(keep) :])) if len(fresh) else state

    def _take(self, count: int) -> Integers:
        first, self.queued = self.queued, min(self.queued + count, len(self.x))
        return np.arange(first, self.queued)

    def _settle(self, sample: Integers) -> None:
        self.sample = sample
        self.block = self.x[torch.from_numpy(sample).to(self.x.device)]  # a copy: it is written to
        self.age = np.zeros(len(sample), dtype=np.int64)
        self.live = np.ones(len(sample), dtype=np.bool_)
        self.memory = None
        self.idle_steps = 0
