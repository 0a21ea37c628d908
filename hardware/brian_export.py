"""An integer program as a Brian2 script that stands alone, readable, its arrays beside it."""

import io
import json
from pathlib import Path

import numpy as np

from .._check import SpikeportError
from ..networks.file import atomic_write
from .brian_plan import Plan, Population, Wiring, in_unit, plan_of
from .program import IntegerProgram

__all__ = ["export_brian"]

_HEAD = '''"""{title}

Runs in Brian2 >= 2.9 with NumPy < 2.4:   python {script} [INPUT.npy [STEPS]]
INPUT.npy holds analog samples {shape}, each given at every step; left out, the samples stored with this script.
All numbers are whole, so every spike is that of the network this was made from.  Each layer acts in a slot of its
own, in their order, so a spike reaches the next layer in the same step.
"""

import sys
from pathlib import Path

import numpy as np
from brian2 import NeuronGroup, Network, StateMonitor, Synapses, Clock, linked_var, ms, prefs

prefs.codegen.target = "numpy"  # leave this out to compile with Cython
arrays = np.load(Path(__file__).with_name("{arrays}"))
steps = int(sys.argv[2]) if len(sys.argv) > 2 else {steps}
samples = np.load(sys.argv[1]) if len(sys.argv) > 1 else arrays["samples"]
samples = np.clip(np.rint(samples.astype(np.float64) / {scale!r}), {low}, {high}).reshape(len(samples), -1)
n = len(samples)  # unit u of sample c has the index c * units + u
clock = Clock(dt=1 * ms)
groups, synapses = {{}}, []


def places(index, units):
    return (np.arange(n)[:, None] * units + index).reshape(-1)


def population(name, slot, units, equations, update, threshold=None, reset=None, events=None, **values):
    group = NeuronGroup(
        units * n, equations, method="euler", threshold=threshold, reset=reset, events=events or {{}},
        clock=clock, name=name,
    )
    for event in group.thresholder:
        group.set_event_schedule(event, when=slot, order=1)
    for resetter in group.resetter.values():
        resetter.when, resetter.order = slot, 2
    for variable, value in values.items():
        setattr(group, variable, np.tile(value, n))
    group.run_regularly(update, when=slot)
    groups[name] = group
    return group


def connect(name, source, target, slot, on_pre, on_event="spike", delay=0):
    made = Synapses(
        groups[source], groups[target], "w : 1", on_pre=on_pre, on_event=on_event, delay=delay * clock.dt,
        clock=clock, name=name,
    )
    made.pre.when, made.pre.order = slot, 3
    post, pre, shape = (arrays[f"{{name}}.{{key}}"] for key in ("post", "pre", "shape"))
    made.connect(i=places(pre, shape[1]), j=places(post, shape[0]))
    made.w = np.tile(arrays[f"{{name}}.w"], n)
    synapses.append(made)


'''
_TAIL = """

network = Network(*groups.values(), *synapses)
network.schedule = {schedule}
groups["{input}"].stimulus = samples.reshape(-1)
readout = StateMonitor(groups["{output}"], "s", record=True, when="end", clock=clock)
network.add(readout)

if __name__ == "__main__":
    network.run(steps * clock.dt)
    output = np.asarray(readout.s).T.reshape(steps, n, -1)  # the current of each class at each step
    weight = np.arange(1, steps + 1)[:, None, None] ** {ramp}
    print("decided for", (output * weight).sum(0).argmax(1).tolist())
"""


def export_brian(
    program: IntegerProgram, path: str | Path, *, samples: np.ndarray | None = None, steps: int | None = None
) -> Path:
    """Write ``path`` (a Python script) and, beside it, its arrays (the same name, ``.npz``); return that second path.

    samples: (n, *features), analog, what the script runs by itself (left out: one sample of zeros).
    steps: how many by default, as many as are proven if left out.
    Raises SpikeportError where a file cannot be written, ShapeError for samples of another shape.
    """
    path = Path(path)
    shape = program.graph.shapes[program.graph.input.name]
    samples = np.zeros((1, *shape), np.float32) if samples is None else np.asarray(samples)
    steps = program.steps if steps is None else steps
    program.require_input(samples, steps=steps, constant=True)
    if path.suffix != ".py":
        raise SpikeportError(f"{path} would hold a Python script; give it a name that ends in .py")
    plan = plan_of(program)
    arrays = path.with_suffix(".npz")
    text = _script(plan, path.name, arrays.name, steps)
    content = io.BytesIO()
    np.savez_compressed(content, samples=samples, **_arrays(plan))  # type: ignore[arg-type]
    try:
        for target, data in ((arrays, content.getvalue()), (path, text.encode())):
            with atomic_write(target) as temporary:
                temporary.write_bytes(data)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
    return arrays


def _script(plan: Plan, script: str, arrays: str, steps: int) -> str:
    program, graph = plan.program, plan.program.graph
    title = f"A spiking network of {len(program.neurons)} layers of neurons as a Brian2 network, made by spikeport."
    head = _HEAD.format(
        title=title,
        script=script,
        arrays=arrays,
        steps=steps,
        shape=("n", *graph.shapes[graph.input.name]),
        scale=program.input.scale,
        low=program.input.low,
        high=program.input.high,
    )
    parts = [_population(plan, population) for population in plan.populations]
    parts += [_wiring(plan, wiring) for wiring in plan.wirings]
    tail = _TAIL.format(
        schedule=json.dumps(plan.schedule),
        input=plan.by_stage[graph.input.name].name,
        output=plan.by_stage[graph.output.name].name,
        ramp=graph.output.attributes["ramp"],
    )
    return head + "\n".join(parts) + tail


def _population(plan: Plan, population: Population) -> str:
    equations = [f"{name} : 1" for name in population.variables] + [f"{name} : 1 (linked)" for name in population.links]
    fields = {"equations": "\n".join(equations), "update": _plain("\n".join(population.update))}
    if population.threshold:
        fields |= {"threshold": _plain(population.threshold), "reset": _plain(population.reset)}
    lines = [f"    {key}={_quoted(value)}," for key, value in fields.items()]
    if population.events:
        lines.append(f"    events={ {name: _plain(code) for name, code in population.events.items()} },")
    lines += [f'    {key}=arrays["{population.name}.{key}"],' for key in population.arrays]
    call = f'population(\n    "{population.name}", "{plan.slot(population.name)}", {population.size},\n'
    text = f"# {json.dumps(population.stage)} ({population.kind})\n" + call + "\n".join(lines) + "\n)\n"
    units = {one.name: one.size for one in plan.populations}
    for key, (source, _) in population.links.items():
        index = f'places(arrays["{population.name}.{key}"], {units[source]})'
        text += f'groups["{population.name}"].{key} = linked_var(groups["{source}"], "s", index={index})\n'
    return text


def _wiring(plan: Plan, wiring: Wiring) -> str:
    said = [wiring.name, wiring.source, wiring.target, plan.slot(wiring.source), wiring.on_pre]
    more = [f"on_event={json.dumps(wiring.event)}"] if wiring.event != "spike" else []
    more += [f"delay={wiring.delay}"] if wiring.delay else []
    return f"connect({', '.join([*map(json.dumps, said), *more])})"


def _plain(code: str) -> str:
    return in_unit(code, unit=False)


def _quoted(text: str) -> str:
    if "\n" not in text:
        return json.dumps(text)
    return '"""\n        ' + text.replace("\n", "\n        ") + '\n    """'


def _arrays(plan: Plan) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for population in plan.populations:
        found |= {f"{population.name}.{key}": array for key, array in population.arrays.items()}
        found |= {f"{population.name}.{key}": index for key, (_, index) in population.links.items()}
    for wiring in plan.wirings:
        entries = wiring.matrix.tocoo()
        found[f"{wiring.name}.post"] = entries.row.astype(np.int32)
        found[f"{wiring.name}.pre"] = entries.col.astype(np.int32)
        found[f"{wiring.name}.w"] = entries.data.astype(np.int32)
        found[f"{wiring.name}.shape"] = np.array(wiring.matrix.shape)
    return found
