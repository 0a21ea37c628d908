"""When each population works: a connection takes a step, so the network becomes a pipeline.

Population p does the network's step t at the step  period * t + start[p]  of Lava.  A connection from p to q with the
delay d has to wait  lag = start[q] - start[p] + period * d  steps, at least 1.  Loops with fewer delays than
connections leave no room for that at period 1: the whole network is then slowed down, each population working every
``period`` steps (c-slow retiming; Leiserson and Saxe 1991, doi 10.1007/BF01759032).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..stages import Projection, Stage

__all__ = ["Schedule", "schedule"]


@dataclass(frozen=True)
class Schedule:
    """start: by population, from 0.  period: steps of Lava for one of the network."""

    start: dict[str, int]
    period: int

    def lag(self, target: str, projection: Projection) -> int:
        """How many steps of Lava lie between the source's value and its use."""
        return self.start[target] - self.start[projection.source] + self.period * projection.delay

    @property
    def last(self) -> int:
        """The latest start: how many steps of Lava the pipeline is deep."""
        return max(self.start.values())


def schedule(found: Sequence[Stage]) -> Schedule:
    """The earliest starts with the smallest period."""
    wires = [(p.source, stage.name, p.delay) for stage in found for p in stage.projections]
    period = 1
    while True:
        start = _earliest([stage.name for stage in found], wires, period)
        if start is not None:
            return Schedule(start, period)
        period += 1  # ends: a loop has a delay of at least 1 and at most as many connections as there are populations


def _earliest(names: Sequence[str], wires: Sequence[tuple[str, str, int]], period: int) -> dict[str, int] | None:
    """The longest paths of weight 1 - period * delay (Bellman and Ford), or None where a loop has none."""
    start = dict.fromkeys(names, 0)
    for _ in range(len(names) + 1):
        changed = False
        for source, target, delay in wires:
            least = start[source] + 1 - period * delay
            if start[target] < least:
                start[target], changed = least, True
        if not changed:
            return start
    return None
