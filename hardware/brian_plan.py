"""An integer program as Brian2 groups and synapses in plain data: equations, code, arrays; no Brian2 in here.

Every population has a slot of its own in Brian's schedule, in the order of the stages; in it, one after the other:
update, threshold, reset, synapses.  So a spike reaches the next population in the same step, as in the reference, and
nothing has to be shifted back.  All numbers are whole and below 2^53, which float64 holds exactly in any order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .program import DECAY_BITS, IntegerProgram
from .stages import Matrix, Projection, Stage, stages

__all__ = ["Plan", "Population", "Wiring", "in_unit", "plan_of"]

_ONE = 1 << DECAY_BITS


@dataclass(frozen=True)
class Population:
    """A NeuronGroup.  ``variables`` maps each to whether it carries the unit of the membrane (else it is a number).

    update: code of every step.  arrays: initial values by variable.  events: further conditions, by their name.
    links: variables that are read from another population, at these places.
    ``*unit`` and ``/unit`` in the code stand for one unit of the membrane: see ``in_unit``.
    """

    name: str
    stage: str
    kind: str
    size: int
    variables: Mapping[str, bool]
    update: tuple[str, ...]
    threshold: str = ""
    reset: str = ""
    events: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    links: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Whether it gives spikes of 1 and holds no variable s of what it gives."""
        return "s" not in self.variables


@dataclass(frozen=True)
class Wiring:
    """A Synapses object: ``on_pre`` at each event of the source, ``delay`` steps later; w: whole.

    steps: the delay of the program (``delay`` and the event together make it).  plain: w is a number even where
    membranes have a unit, because what the source gives has it.
    """

    name: str
    source: str
    target: str
    steps: int
    plain: bool
    event: str
    on_pre: str
    delay: int
    matrix: Matrix  # (targets, sources)


@dataclass(frozen=True)
class Plan:
    """All populations in the order of their slots, and what connects them.  by_stage: the one that gives its value."""

    program: IntegerProgram
    populations: tuple[Population, ...]
    wirings: tuple[Wiring, ...]
    by_stage: Mapping[str, Population]

    @property
    def synapses(self) -> int:
        """How many synapses one copy has."""
        return sum(int(wiring.matrix.nnz) for wiring in self.wirings)

    def slot(self, name: str) -> str:
        """The slot of a population in the schedule."""
        return f"layer_{[population.name for population in self.populations].index(name)}"

    @property
    def schedule(self) -> list[str]:
        """Brian's own slots (for what people add), then the populations."""
        slots = [f"layer_{position}" for position in range(len(self.populations))]
        return ["start", "groups", "thresholds", "synapses", "resets", *slots, "end"]


def in_unit(code: str, *, unit: bool) -> str:
    """The code for a membrane that has a unit (a constant called ``unit``), or for whole numbers.

    >>> in_unit("v = 0*unit", unit=False)
    'v = 0'
    """
    return code if unit else code.replace("*unit", "").replace("/unit", "")


def plan_of(program: IntegerProgram, *, sequence: bool = False) -> Plan:
    """The plan of a program; ``sequence``: the input changes from step to step."""
    found, names = stages(program), set[str]()
    populations: list[Population] = []
    by_stage: dict[str, Population] = {}
    entrance: dict[str, Population] = {}  # where what a stage reads arrives
    for stage in found:
        made = _populations(stage, _unique(stage.name, names), sequence)
        populations += made
        entrance[stage.name], by_stage[stage.name] = made[0], made[-1]
    position = {population.name: index for index, population in enumerate(populations)}
    wirings, histories = [], dict[str, set[int]]()
    for stage in found:
        target = entrance[stage.name]
        for projection in stage.projections:
            source = by_stage[projection.source]
            if not projection.matrix.nnz:  # Brian2 makes no group of no synapses
                continue
            late = projection.delay - (position[source.name] >= position[target.name])
            wirings.append(_wiring(source, target, projection, late))
            if late and not source.binary:
                histories.setdefault(source.name, set()).add(late)
    read = {wiring.source for wiring in wirings if wiring.event == "spike"}
    populations = [
        _remembering(
            population if population.kind == "neuron" or population.name in read else replace(population, threshold=""),
            histories.get(population.name, set()),
        )
        for population in populations
    ]
    kept = {population.name: population for population in populations}
    return Plan(program, tuple(populations), tuple(wirings), {name: kept[one.name] for name, one in by_stage.items()})


def _unique(name: str, taken: set[str]) -> str:
    """A name that Brian2 takes: a word, and no other's."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    word = word if word[:1].isalpha() else f"n_{word}"
    found, count = word, 1
    while found in taken or f"{found}_sums" in taken:
        count += 1
        found = f"{word}_{count}"
    taken.update((found, f"{found}_sums"))
    return found


def _wiring(source: Population, target: Population, projection: Projection, late: int) -> Wiring:
    if source.binary:
        event, on_pre, delay = "spike", "received_post += w", late
    else:  # a value is read when it arrives: a late one from the source's own memory
        event, delay = (f"late_{late}" if late else "spike"), 0
        on_pre = f"received_post += w*{f's_{late}' if late else 's'}_pre"
    name, plain = f"{source.name}_to_{target.name}_{projection.delay}", source.variables.get("s", False)
    return Wiring(name, source.name, target.name, projection.delay, plain, event, on_pre, delay, projection.matrix)


def _remembering(population: Population, lags: set[int]) -> Population:
    """The population with its last values s_1, s_2, ... and an event for each of ``lags``."""
    if not lags:
        return population
    kept = [f"s_{lag}" for lag in range(1, max(lags) + 1)]
    shift = [f"{new} = {old}" for new, old in zip(kept, ["s", *kept], strict=False)]
    carries = population.variables["s"]
    zero = "0*unit" if carries else "0"
    return replace(
        population,
        variables={**population.variables, **dict.fromkeys(kept, carries)},
        update=(*reversed(shift), *population.update),
        events={f"late_{lag}": f"s_{lag} != {zero}" for lag in sorted(lags)},
    )


def _populations(stage: Stage, name: str, sequence: bool) -> list[Population]:
    if stage.kind == "input":
        variables = {"s": False} if sequence else {"s": False, "stimulus": False}
        update = ("s = stimulus(t, i)",) if sequence else ("s = stimulus",)
        return [Population(name, stage.name, "input", stage.size, variables, update, "s != 0")]
    if stage.kind == "neuron":
        return [_neuron(stage, name)]
    if stage.kind == "max" and not np.array_equal(stage.arrays["windows"].T, [np.arange(stage.slots)]):
        return _maximum(stage, name)
    arrays: dict[str, np.ndarray] = {}
    kept = f"{_decayed('s', stage.arrays['k'], arrays)} + " if stage.kind == "filter" else ""
    return [_summing(stage, name, kept, arrays)]


def _summing(stage: Stage, name: str, kept: str, arrays: dict[str, np.ndarray]) -> Population:
    """What gives the sum of its input as it is (``kept``: and what is left of the last step's)."""
    variables = {"received": True, "s": True, **dict.fromkeys(arrays, False)}
    bias = ""
    if stage.bias.any():
        arrays["b"], variables["b"], bias = stage.bias, True, " + b"
    update = (f"s = {kept}received{bias}", "received = 0*unit")
    return Population(name, stage.name, stage.kind, stage.slots, variables, update, "s != 0*unit", arrays=arrays)


def _maximum(stage: Stage, name: str) -> list[Population]:
    sums = _summing(replace(stage, kind="sums"), f"{name}_sums", "", {})
    places = stage.arrays["windows"]
    links = {f"y{place}": (sums.name, places[:, place]) for place in range(places.shape[1])}
    update = ("s = y0", *(f"s = s + (y{place} - s)*int(y{place} > s)" for place in range(1, places.shape[1])))
    pool = Population(name, stage.name, "max", stage.size, {"s": True}, update, "s != 0*unit", links=links)
    return [sums, pool]


def _decayed(variable: str, k: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    """decay(variable, k) as an expression; k joins ``arrays`` where there is a leak."""
    if (k == _ONE).all():
        return variable
    arrays["k"] = k
    return f"sign({variable})*floor(abs({variable})/unit*k/{_ONE})*unit"


def _neuron(stage: Stage, name: str) -> Population:
    said = stage.attributes
    arrays = {"theta": stage.arrays["theta"], "b": stage.arrays["b"] + stage.bias, "v": stage.arrays["initial"]}
    kept = _decayed("v", stage.arrays["k"], arrays)
    fired = _fired(said)
    late = f" - theta*{fired}" if said["late"] else ""
    update = [f"v = {kept} + received + b{late}", "received = 0*unit"]
    variables = {"v": True, "received": True, "theta": True, "b": True, **dict.fromkeys(arrays.keys() & {"k"}, False)}
    threshold, given = f"v {said['test']} theta", ""
    if said["code"] != "binary":
        update.append(f"s = {fired[1:-1]}")
        variables["s"], threshold, given = False, "s != 0", "*s"
    if said["code"] == "signed":
        update.append("count = count + s")
        variables["count"] = False
    resets = {"subtract": "" if said["late"] else f"v -= theta{given}", "zero": "v = 0*unit", "none": ""}
    return Population(
        name, stage.name, "neuron", stage.size, variables, tuple(update), threshold, resets[said["reset"]], {}, arrays
    )


def _fired(said: Mapping[str, object]) -> str:
    """How many spikes a membrane gives, in brackets."""
    test = f"int(v {said['test']} theta)"
    if said["code"] == "binary":
        return f"({test})"
    if said["code"] == "signed":  # thresholds are above 0: what is below 0 has not fired
        return f"({test} - int(v < 0*unit)*int(count > 0))"
    less = " - 1*unit" if said["test"] == ">" else ""
    return f"(clip(floor((v{less})/theta), 0, {said['levels']}))"
