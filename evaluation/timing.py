"""Wall time of early exit beside the fixed window of equal accuracy, in turns."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ..inference import AnyRule, interleaved_medians, run_fixed, run_with_exit
from .engines import Network, engine_of

__all__ = ["SECONDS", "Seconds", "timed"]

Plan = tuple[int, int]
LEAST_SAMPLES, TRIAL_SAMPLES, MOST_SAMPLES = 128, 4096, 10_000
REPEATS, MOST_REPEATS, ROUNDS_SECONDS = 5, 100, 5.0  # short runs take turns until they fill the seconds
TRIES_SECONDS = 0.1
FINALISTS = 3  # plans that are tried twice more
# (chunk of steps, places in the batch)
PLANS = (
    *((4, 64), (1, 64), (2, 64), (8, 64), (2, 128), (4, 128)),
    *((1, 128), (1, 256), (2, 256), (1, 384), (2, 384), (1, 512), (2, 512)),
)


class Seconds(NamedTuple):
    """How long one fixed run and one trial run may last; the number of samples follows from it."""

    run: float = 15.0
    trial: float = 3.0


SECONDS = Seconds()


def timed(
    network: Network,
    x: np.ndarray,
    rule: AnyRule,
    steps: int,
    fixed_steps: int,
    tell: Callable[[str, float], None],
    seed: int,
    seconds: Seconds = SECONDS,
) -> dict[str, Any]:
    """Medians of 5 interleaved runs over the same samples, drawn by the seed: as many as a fixed run does in time.

    Runs that are over in no time take more turns, 100 at most.

    speedup_wall = seconds of the fixed run of ``fixed_steps`` steps, with the chunk and batch that are best for it, /
    seconds of the exit run with its own best; both are found first, in a trial run of each.
    """
    order = np.random.default_rng(seed).permutation(len(x))[:MOST_SAMPLES]
    tell("time early exit", 0.0)
    first = torch.from_numpy(x[order[: PLANS[0][1]]])
    rate = len(first) / interleaved_medians([_fixed(network, first, fixed_steps, PLANS[0])], 1)[0]
    trial = torch.from_numpy(x[order[: int(np.clip(seconds.trial * rate, LEAST_SAMPLES, TRIAL_SAMPLES))]])
    plans = [plan for plan in PLANS if plan[1] <= max(len(trial), PLANS[0][1])]
    fixed_plan, needed = _fastest(plans, lambda plan: _fixed(network, trial, fixed_steps, plan))
    exit_plan, _ = _fastest(plans, lambda plan: _exit(network, trial, rule, steps, plan))
    tell("time early exit", 0.3)
    drawn = torch.from_numpy(x[order[: max(LEAST_SAMPLES, int(min(seconds.run * len(trial) / needed, MOST_SAMPLES)))]])
    repeats = int(np.clip(ROUNDS_SECONDS * len(trial) / (needed * len(drawn)), REPEATS, MOST_REPEATS))
    fixed_seconds, exit_seconds = interleaved_medians(
        [_fixed(network, drawn, fixed_steps, fixed_plan), _exit(network, drawn, rule, steps, exit_plan)], repeats
    )
    return {
        "speedup_wall": fixed_seconds / exit_seconds,
        "wall_seconds": exit_seconds,
        "fixed_wall_seconds": fixed_seconds,
        "timing_n": len(drawn),
        "timing_chunk": exit_plan[0],
        "timing_batch": exit_plan[1],
        "timing_fixed_chunk": fixed_plan[0],
        "timing_fixed_batch": fixed_plan[1],
        "timing_threads": torch.get_num_threads(),
    }


def _fixed(network: Network, x: torch.Tensor, steps: int, plan: Plan) -> Callable[[], object]:
    return partial(run_fixed, engine_of(network, max_steps=steps, chunk=plan[0]), x, steps, batch_size=plan[1])


def _exit(network: Network, x: torch.Tensor, rule: AnyRule, steps: int, plan: Plan) -> Callable[[], object]:
    return partial(run_with_exit, engine_of(network, max_steps=steps, chunk=plan[0]), x, rule, batch_size=plan[1])


def _fastest(plans: list[Plan], run: Callable[[Plan], Callable[[], object]]) -> tuple[Plan, float]:
    """The plan of the fastest run, and its seconds; the plans that were best at first run again, in turns."""

    def seconds(plan: Plan) -> float:
        """Of one run, or of the fastest of several short ones."""
        function, times = run(plan), [0.0]
        while sum(times) < TRIES_SECONDS:
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
        return min(times[1:])

    found = {plan: seconds(plan) for plan in plans}
    finalists = sorted(found, key=found.__getitem__)[:FINALISTS]
    for plan in 2 * finalists:
        found[plan] = min(found[plan], seconds(plan))
    best = min(finalists, key=found.__getitem__)
    return best, found[best]
