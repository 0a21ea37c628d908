"""Populations and matrices give what the graph gives."""

import numpy as np

from spikeport.hardware.backend import Recording, compare, reference_recording
from spikeport.hardware.program import IntegerProgram
from spikeport.hardware.reference import decay
from spikeport.hardware.stages import Stage, stages


def fire(stage: Stage, v: np.ndarray, count: np.ndarray) -> np.ndarray:
    theta, code = stage.arrays["theta"], stage.attributes["code"]
    over = (v - (stage.attributes["test"] == ">")) // theta
    if code == "graded":
        return np.clip(over, 0, stage.attributes["levels"])
    fired = v > theta if stage.attributes["test"] == ">" else v >= theta
    back = (code == "signed") & ~fired & (v < 0) & (count > 0)
    return fired.astype(np.int64) - back


def run(program: IntegerProgram, x: np.ndarray, steps: int) -> Recording:
    found, past, batch = stages(program), [], len(x)
    memory = {s.name: np.tile(s.arrays.get("initial", np.zeros(s.size, np.int64)), (batch, 1)) for s in found}
    counts = {s.name: np.zeros((batch, s.size), np.int64) for s in found}
    code = program.input(x).reshape(batch, -1).astype(np.int64)
    for _ in range(steps):
        now: dict[str, np.ndarray] = {}
        for s in found:
            total = np.tile(s.bias, (batch, 1))
            for p in s.projections:
                if p.delay <= len(past):
                    source = now[p.source] if p.delay == 0 else past[-p.delay][p.source]
                    total = total + (p.matrix @ source.T).T
            if s.kind == "input":
                now[s.name] = code
            elif s.kind == "max":
                now[s.name] = total[:, s.arrays["windows"]].max(2)
            elif s.kind == "filter":
                now[s.name] = memory[s.name] = decay(memory[s.name], s.arrays["k"]) + total
            elif s.kind == "neuron":
                v, late = memory[s.name], s.attributes["late"]
                taken = s.arrays["theta"] * fire(s, v, counts[s.name]) if late else 0
                v = decay(v, s.arrays["k"]) + total + s.arrays["b"] - taken
                spikes = fire(s, v, counts[s.name])
                if s.attributes["reset"] == "subtract" and not late:
                    v = v - s.arrays["theta"] * spikes
                elif s.attributes["reset"] == "zero":
                    v = np.where(spikes != 0, 0, v)
                memory[s.name], counts[s.name], now[s.name] = v, counts[s.name] + spikes, spikes
            else:
                now[s.name] = total
        past.append(now)
    spikes = {
        s.name: np.stack([now[s.name] for now in past]).reshape(steps, batch, *s.shape)
        for s in found
        if s.kind == "neuron"
    }
    return Recording(np.stack([now[program.graph.output.name] for now in past]), spikes)


def test_populations_and_matrices_give_what_the_graph_gives(program, samples):
    wanted = reference_recording(program, samples, 12, record=[node.name for node in program.neurons])
    assert compare(run(program, samples, 12), wanted).exact


def test_each_population_comes_after_what_it_reads_at_once(program):
    seen: set[str] = set()
    for stage in stages(program):
        for projection in stage.projections:
            assert projection.delay > 0 or projection.source in seen
            assert projection.matrix.shape[0] == stage.slots
        assert stage.name not in seen
        seen.add(stage.name)
