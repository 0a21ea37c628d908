"""The message that lets the worker build a network from Lava's stock processes: Sparse, DelaySparse, LIF, RingBuffer.

They are bit-accurate for Loihi and have no batch: each sample gets a copy of the network.  The rules they set:

    LIF holds v at 64 times our scale (its inputs are shifted left by 6 bits) in 24 bits, one threshold of 17 bits a
    population, a test of v > 64 * vth, and a reset to zero.  So vth = theta - 1 for a test of >=, |v| < 2^17, and a
    leak, which rounds, would be another one at that scale.
    Sparse holds even weights of 9 bits, so q goes over as 2q and is shifted back by weight_exp = e - 1.
    LIF starts to work before its first input comes.  So bias and initial membrane do not lie in it: they come with
    the input, as spikes with a payload from a source that starts with the first step, and fit any size up to 21 bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from ..program import DECAY_BITS, IntegerProgram, mantissa
from ..stages import Stage
from .batched import WINDOW
from .schedule import Schedule
from .wire import Arrays, Header

__all__ = ["Part", "faithful_message", "faithful_problems", "parts"]

MOST_PARTS = 8  # of a population by threshold
_MOST_LAG = 63  # delays of 6 bits
_LARGEST_STATE = (1 << 17) - 1
_LARGEST_WEIGHT, _MOST_SHIFT = 127, 8  # weight_exp ends at 7, and is e - 1
_DIGITS = (1, 1 << 7, 1 << 14)  # the payloads that a bias is made of
_PAYLOAD_BITS = 24
_START = "first step"  # the source of biases and initial membranes


@dataclass(frozen=True)
class Part:
    """The units of a population that share a threshold; ``vth`` is None for the input and the readout."""

    name: str
    units: np.ndarray
    vth: int | None


def parts(stage: Stage) -> list[Part]:
    """The stock processes that a population becomes."""
    if stage.kind != "neuron":
        return [Part(stage.name, np.arange(stage.size), None)]
    vth = _thresholds(stage)
    return [Part(f"{stage.name}/{value}", np.flatnonzero(vth == value), int(value)) for value in np.unique(vth)]


def faithful_problems(program: IntegerProgram, found: Sequence[Stage], plan: Schedule) -> list[str]:
    """Everything that the stock processes cannot do."""
    largest = program.graph.information.get("integer", {}).get("largest_state", {})
    problems = []
    for stage in found:
        if stage.kind != "input" and not stage.projections:
            problems.append(f"{stage.name} (reads nothing: remove it)")
        problems += [f"{stage.name} ({what})" for what in _stage_problems(stage, largest.get(stage.name, np.inf))]
        for projection in stage.projections:
            if not _weights_fit(projection.matrix.data):
                problems.append(
                    f"the weights of {stage.name} from {projection.source} (beyond 8 bits and a common shift)"
                )
            if plan.lag(stage.name, projection) > _MOST_LAG:
                problems.append(f"{stage.name} from {projection.source} (a delay beyond {_MOST_LAG} steps)")
    if plan.period > 1:
        problems.append("a loop with fewer delays than connections (give it a delay for each)")
    return problems


def _stage_problems(stage: Stage, largest: float) -> Iterator[str]:
    if stage.kind in ("filter", "max"):
        yield f"{stage.kind}: there is no stock process of the same arithmetic; use the batched ones"
    if stage.kind != "neuron":
        return
    for what, wanted in (("code", "binary"), ("reset", "zero"), ("late", 0)):
        if stage.attributes[what] != wanted:
            yield f"{what} {stage.attributes[what]}: the stock LIF has {what} {wanted}; use the batched processes"
    if (stage.arrays["k"] != 1 << DECAY_BITS).any():
        yield "leak: the stock LIF rounds it at 64 times our scale; use the batched processes"
    if largest > _LARGEST_STATE:
        yield f"states up to {largest:,.0f}: the stock LIF holds {_LARGEST_STATE}; lower it with fewer fraction bits"
    values = len(np.unique(_thresholds(stage)))
    if values > MOST_PARTS:
        yield f"{values} thresholds: a stock LIF has one, and at most {MOST_PARTS} are made of a population"
    for key in ("b", "initial"):
        if np.abs(stage.arrays[key] + (stage.bias if key == "b" else 0)).max(initial=0) >= 1 << 20:
            yield f"{key} beyond 20 bits"


def _thresholds(stage: Stage) -> np.ndarray:
    """vth: v > vth as the test wants it; what no state reaches is cut to 17 bits."""
    vth = stage.arrays["theta"] - (stage.attributes["test"] == ">=")
    return np.asarray(np.minimum(vth, _LARGEST_STATE))


def _weights_fit(weights: np.ndarray) -> bool:
    if not len(weights):
        return True
    q, exponent = _exact(weights)
    return int(np.abs(q).max()) <= _LARGEST_WEIGHT and exponent <= _MOST_SHIFT


def _exact(weights: np.ndarray) -> tuple[np.ndarray, int]:
    q, exponent = mantissa(weights)
    more = max(0, exponent - _MOST_SHIFT)  # a higher shift than the process has stays in the weight
    return q << more, exponent - more


def faithful_message(
    program: IntegerProgram, found: Sequence[Stage], plan: Schedule, x: np.ndarray, *, hardware: bool
) -> tuple[Header, Arrays]:
    """The header and the arrays of ``load``.  x: (frames, n, units of the input), one frame if it is constant."""
    message = _Message(plan, x.shape[1])
    message.source(_START, _start(program.steps + plan.last + 1))
    made = {stage.name: parts(stage) for stage in found}
    for stage in found:
        if stage.kind == "input":
            message.source(stage.name, x.reshape(len(x), -1).T)
        for part in made[stage.name]:
            if stage.kind != "input":
                message.population(stage, part)
        for projection in stage.projections:
            for target in made[stage.name]:
                for source in made[projection.source]:
                    matrix = projection.matrix[target.units][:, source.units]
                    message.connect(source, target.name, matrix, plan.lag(stage.name, projection))
    header = {"stock": True, "hardware": hardware, "period": 1, "last": plan.last, "window": WINDOW}
    return {**header, "populations": message.populations, "connections": message.connections}, message.arrays


@dataclass
class _Message:
    plan: Schedule
    n: int
    populations: list[Header] = field(default_factory=list)
    connections: list[Header] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)

    def source(self, name: str, data: np.ndarray) -> None:
        """A source of (units, steps), for ever anew."""
        key = f"s{len(self.arrays)}"
        self.arrays[key] = data.astype(np.int32)
        self.populations.append({"name": name, "kind": "source", "data": key})

    def population(self, stage: Stage, part: Part) -> None:
        """A neuron population or the readout, its recorder, and what comes to it with the first step."""
        entry = {"name": part.name, "kind": stage.kind, "size": len(part.units) * self.n, "vth": part.vth}
        entry |= {"depth": WINDOW + self.plan.last + 1, "dtype": "|i1" if stage.kind == "neuron" else "<i4"}
        self.populations.append(entry | {"start": self.plan.start[stage.name]})
        each = (stage.bias + stage.arrays.get("b", 0))[part.units]
        once = stage.arrays["initial"][part.units] if stage.kind == "neuron" else np.zeros_like(each)
        weights = np.tile(np.stack([*_digits(each), *_digits(once)], 1), (self.n, 1))
        self.add(_START, part.name, sparse.csr_array(weights), self.plan.start[stage.name], _PAYLOAD_BITS)

    def connect(self, source: Part, target: str, matrix: Any, lag: int) -> None:
        """A copy of the matrix for each sample; the input is graded, neurons are binary."""
        if matrix.nnz:
            copies = sparse.kron(sparse.eye_array(self.n, dtype=np.int64), matrix, format="csr")
            self.add(source.name, target, copies, lag, _PAYLOAD_BITS if source.vth is None else 0)

    def add(self, source: str, target: str, matrix: Any, lag: int, message_bits: int) -> None:
        """Weights as the hardware holds them: 2q, shifted by one less."""
        q, exponent = _exact(matrix.data)
        key = f"c{len(self.connections)}"
        own = {"data": 2 * q, "indices": matrix.indices, "indptr": matrix.indptr}
        self.arrays |= {f"{key}.{part}": array.astype(np.int32) for part, array in own.items()}
        entry: Header = {"source": source, "target": target, "lag": lag, "shape": list(matrix.shape)}
        entry |= {"arrays": {part: f"{key}.{part}" for part in own}}
        self.connections.append(entry | {"weight_exp": exponent - 1, "message_bits": message_bits})


def _start(steps: int) -> np.ndarray:
    """(units, steps): payloads of every step, then the same in the first step only."""
    each = np.tile(np.array(_DIGITS)[:, None], (1, steps))
    return np.concatenate([each, each * (np.arange(steps) == 0)])


def _digits(values: np.ndarray) -> list[np.ndarray]:
    """Whole numbers as weights between -64 and 63, one for each payload.

    >>> [digit.tolist() for digit in _digits(np.array([200, -1]))]
    [[-56, -1], [2, 0], [0, 0]]
    """
    found = []
    for _ in _DIGITS:
        digit = (values + 64) % 128 - 64
        found.append(digit)
        values = (values - digit) // 128
    return found
