"""Wall time of early exit beside the fixed window of equal accuracy, in turns."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from ..inference import AnyRule, interleaved_medians, run_fixed, run_with_exit
from .engines import Network, engine_of

__all__ = ["timed"]

Plan = tuple[int, int]
SECONDS, MOST_SAMPLES = 15.0, 10_000  # of one fixed run: the number of timed samples follows from it
TRIAL_SECONDS, LEAST_SAMPLES, TRIAL_SAMPLES = 3.0, 128, 4096  # of one trial run
REPEATS = 5
# (chunk of steps, places in the batch)
PLANS = (
    *((4, 64), (1, 64), (2, 64), (8, 64), (2, 128), (4, 128)),
    *((1, 256), (2, 256), (1, 384), (2, 384), (1, 512), (2, 512)),
)


def timed(
    network: Network,
    x: np.ndarray,
    rule: AnyRule,
    steps: int,
    fixed_steps: int,
    tell: Callable[[str, float], None],
    seed: int,
) -> dict[str, Any]:
    """Medians of 5 interleaved runs over the same samples, drawn by the seed: as many as a fixed run does in 15 s.

    speedup_wall = seconds of the fixed run of ``fixed_steps`` steps, with the chunk and batch that are best for it, /
    seconds of the exit run with its own best; both are found first, in a trial run of each.
    """
    order = np.random.default_rng(seed).permutation(len(x))[:MOST_SAMPLES]
    tell("time early exit", 0.0)
    first = torch.from_numpy(x[order[: PLANS[0][1]]])
    rate = len(first) / interleaved_medians([_fixed(network, first, fixed_steps, PLANS[0])], 1)[0]
    trial = torch.from_numpy(x[order[: int(np.clip(TRIAL_SECONDS * rate, LEAST_SAMPLES, TRIAL_SAMPLES))]])
    plans = [plan for plan in PLANS if plan[1] <= max(len(trial), PLANS[0][1])]
    fixed_plan, seconds = _fastest(plans, lambda plan: _fixed(network, trial, fixed_steps, plan))
    exit_plan, _ = _fastest(plans, lambda plan: _exit(network, trial, rule, steps, plan))
    tell("time early exit", 0.3)
    drawn = torch.from_numpy(x[order[: max(LEAST_SAMPLES, int(SECONDS * len(trial) / seconds))]])
    fixed_seconds, exit_seconds = interleaved_medians(
        [_fixed(network, drawn, fixed_steps, fixed_plan), _exit(network, drawn, rule, steps, exit_plan)], REPEATS
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
    """The plan of the fastest of single runs, and its seconds."""
    seconds = []
    for plan in plans:
        begin = time.perf_counter()
        run(plan)()
        seconds.append(time.perf_counter() - begin)
    best = int(np.argmin(seconds))
    return plans[best], seconds[best]
