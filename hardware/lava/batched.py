"""The message that lets the worker build a network from our own processes, a whole batch at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..program import IntegerProgram
from ..stages import Projection, Stage
from .schedule import Schedule
from .wire import Arrays, Header

__all__ = ["WINDOW", "batched_message", "batched_problems"]

WINDOW = 16  # steps that the recorders hold
_WIDEST = (1 << 31) - 1
_ATTRIBUTES = ("code", "test", "reset", "levels", "late")


def batched_problems(program: IntegerProgram, found: Sequence[Stage]) -> list[str]:
    """What the batched processes cannot do: sums beyond 32 bits."""
    largest = _largest(program, found)
    return [
        f"{name} (sums up to {value:,.0f}, beyond 32 bits: lower it for fewer steps or with smaller weights)"
        for name, value in largest.items()
        if value > _WIDEST
    ]


def batched_message(found: Sequence[Stage], plan: Schedule, batch: int) -> tuple[Header, Arrays]:
    """The header and the arrays of ``load``."""
    arrays: Arrays = {}

    def kept(prefix: str, values: Mapping[str, np.ndarray]) -> dict[str, str]:
        arrays.update({f"{prefix}.{key}": array.astype(np.int32) for key, array in values.items()})
        return {key: f"{prefix}.{key}" for key in values}

    populations: list[Header] = []
    connections: list[Header] = []
    for stage in found:
        own = {**stage.arrays, **({"bias": stage.bias} if stage.kind != "input" else {})}
        entry: dict[str, Any] = {"name": stage.name, "kind": stage.kind, "size": stage.size, "slots": stage.slots}
        entry |= {key: stage.attributes[key] for key in _ATTRIBUTES if stage.kind == "neuron"}
        entry |= {"start": plan.start[stage.name], "arrays": kept(f"p{len(populations)}", own)}
        populations.append(entry | _recorder(stage, plan))
        for projection in stage.projections or _nothing(found[0], stage):
            matrix = projection.matrix
            parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
            connections.append(
                {
                    "source": projection.source,
                    "target": stage.name,
                    "lag": max(1, plan.lag(stage.name, projection)),
                    "shape": list(matrix.shape),
                    "arrays": kept(f"c{len(connections)}", parts),
                }
            )
    header = {"stock": False, "batch": batch, "period": plan.period, "last": plan.last, "window": WINDOW}
    return {**header, "populations": populations, "connections": connections}, arrays


def _recorder(stage: Stage, plan: Schedule) -> dict[str, Any]:
    """A population that starts early is ahead of the last one by some steps, which its recorder has to hold too."""
    if stage.kind not in ("neuron", "output"):
        return {}
    ahead = -(-(plan.last - plan.start[stage.name]) // plan.period)
    small = stage.kind == "neuron" and stage.attributes["levels"] <= np.iinfo(np.int8).max
    return {"depth": WINDOW + ahead + 1, "dtype": "|i1" if small else "<i4"}


def _nothing(source: Stage, target: Stage) -> tuple[Projection, ...]:
    """Lava runs what is connected: a population that reads nothing is given a connection without weights."""
    if target.kind == "input":
        return ()
    from scipy import sparse

    return (Projection(source.name, 0, sparse.csr_array((target.slots, source.size), dtype=np.int64)),)


def _largest(program: IntegerProgram, found: Sequence[Stage]) -> dict[str, float]:
    """The largest sum of each population, whatever its sources give."""
    given = {}
    for stage in found:
        if stage.kind == "input":
            given[stage.name] = float(max(-program.input.low, program.input.high))
        elif stage.kind == "neuron":
            given[stage.name] = float(stage.attributes["levels"])
        else:
            given[stage.name] = float(1 << 23)
    sums = {}
    for stage in found:
        total = np.abs(stage.bias).astype(np.float64)
        for projection in stage.projections:
            total = total + abs(projection.matrix).sum(1) * given[projection.source]
        sums[stage.name] = float(total.max(initial=0))
        if stage.kind == "max":
            given[stage.name] = sums[stage.name]
    return sums
