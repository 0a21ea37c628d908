"""In Lava every integer network gives what the reference gives, bit for bit."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from spikeport import RangeError
from spikeport.hardware import lower as lowering
from spikeport.hardware.backend import BackendEngine, Recording, compare, compiled, reference_recording
from spikeport.hardware.lava import LavaBackend, LavaSession
from spikeport.hardware.program import InputCode, IntegerProgram
from spikeport.networks.graph import Edge, Graph, Node, make_node

pytestmark = pytest.mark.needs("lava")
STEPS = 12


def names(program: IntegerProgram) -> list[str]:
    return [node.name for node in program.neurons]


def joined(parts: list[Recording]) -> Recording:
    spikes = {name: np.concatenate([part.spikes[name] for part in parts]) for name in parts[0].spikes}
    return Recording(np.concatenate([part.output for part in parts]), spikes)


@pytest.fixture
def session(program: IntegerProgram) -> Iterator[LavaSession]:
    with compiled(LavaBackend(), program) as made:
        yield made


def test_every_network_is_bit_equal_whole_in_windows_and_for_sequences(session, program, samples):
    record = names(program)
    wanted = reference_recording(program, samples, STEPS, record=record)
    session.start(samples)
    assert compare(session.advance(STEPS, record=record), wanted).exact

    fewer = samples[:5]  # a batch that leaves places empty, cut at steps where the pipeline is full
    session.start(fewer)
    windows = joined([session.advance(steps, record=record) for steps in (1, 3, 8)])
    assert compare(windows, reference_recording(program, fewer, STEPS, record=record)).exact

    frames = np.random.default_rng(7).uniform(-2, 2, (STEPS, *samples.shape)).astype(np.float32)
    session.start(frames, constant=False)
    sequence = joined([session.advance(steps, record=record) for steps in (5, 7)])
    assert compare(sequence, reference_recording(program, frames, STEPS, constant=False, record=record)).exact

    assert session.report()["engine"] == "Lava, Loihi-2 style fixed point"


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_more_steps_than_the_recorders_hold_and_larger_batches(graph, samples):
    program = lowering.lower(graph, lowering.input_code(-2.0, 2.0), steps=64)
    record = names(program)
    with LavaBackend(batch=8).compile(program) as session:
        session.start(samples)
        wanted = reference_recording(program, samples, 64, record=record)
        assert compare(session.advance(64, record=record), wanted).exact
        many = np.concatenate([samples, samples + 0.5])
        session.start(many)  # compiles anew
        assert compare(session.advance(9, record=record), reference_recording(program, many, 9, record=record)).exact
        assert session.report()["batch"] == 14
        with pytest.raises(RangeError, match="at most 64"):
            session.advance(56)


@pytest.mark.parametrize("graph", ["recurrent"], indirect=True)
def test_early_exit_sees_what_the_reference_gives(program, samples):
    with LavaBackend().compile(program) as session:
        engine = BackendEngine(session, max_steps=STEPS, chunk=4)
        state, outputs = engine.start(torch.from_numpy(samples)), []
        while state < STEPS:
            output, state = engine.advance(torch.from_numpy(samples), state, 4)
            outputs.append(output.numpy())
    wanted = program.real_output(reference_recording(program, samples, STEPS).output)
    np.testing.assert_array_equal(np.concatenate(outputs), wanted)


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_a_worker_that_was_killed_is_replaced_and_catches_up(program, samples):
    record = names(program)
    with LavaBackend().compile(program) as session:
        session.start(samples)
        first = session.advance(5, record=record)
        os.kill(session.report()["pid"], signal.SIGKILL)
        whole = joined([first, session.advance(7, record=record)])
        assert session.report()["restarts"] == 1
    assert compare(whole, reference_recording(program, samples, STEPS, record=record)).exact


def stock_neuron(name: str, source: str, rng: np.random.Generator, **fields: object) -> Node:
    arrays = {
        "threshold": np.repeat(np.float32([1.0, 1.5, 1.0]), 3),
        "initial": rng.uniform(-0.3, 0.6, 9),
        "bias": rng.normal(0, 0.05, 9),
    }
    return make_node(name, "neuron", [source], arrays=arrays, code="binary", reset="zero", **fields)


def stock_network() -> Graph:
    """Zero reset, no leak, two thresholds a population, a residual, a delay: all that stock processes can do."""
    rng = np.random.default_rng(5)

    def weight(rows: int, columns: int) -> np.ndarray:
        return rng.integers(-1, 2, (rows, columns)).astype(np.float32)

    return Graph.of(
        [
            make_node("x", "input", shape=(6,)),
            make_node("a", "linear", ["x"], arrays={"weight": weight(9, 6), "bias": rng.normal(0, 0.2, 9)}),
            stock_neuron("n", "a", rng, test=">="),
            make_node("b", "linear", [Edge("n", 2)], arrays={"weight": weight(9, 9)}),
            make_node("s", "linear", ["n"], arrays={"weight": weight(9, 9), "bias": rng.normal(0, 0.2, 9)}),
            make_node("r", "add", ["b", "s"]),
            stock_neuron("m", "r", rng, test=">"),
            make_node("c", "linear", ["m"], arrays={"weight": weight(3, 9), "bias": rng.normal(0, 0.2, 3)}),
            make_node("d", "linear", ["n"], arrays={"weight": weight(3, 9)}),
            make_node("o", "add", ["c", "d"]),
            make_node("y", "output", ["o"]),
        ]
    )


@pytest.fixture
def stock_program(monkeypatch: pytest.MonkeyPatch) -> IntegerProgram:
    monkeypatch.setattr(lowering, "MOST_FRACTION_BITS", 0)  # states of 17 bits
    return lowering.lower(stock_network(), InputCode(1.0, 0, 1), steps=16)


def test_stock_processes_are_bit_equal_where_they_fit(stock_program):
    x = np.random.default_rng(8).integers(0, 2, (5, 6)).astype(np.float32)
    backend, record = LavaBackend(faithful=True), ["n", "m"]
    assert backend.unsupported(stock_program) == []
    wanted = reference_recording(stock_program, x, STEPS, record=record)
    assert all(0 < wanted.spikes[name].mean() < 1 for name in record)
    with compiled(backend, stock_program) as session:
        session.start(x)
        parts = [session.advance(steps, record=record) for steps in (5, 7)]
        assert compare(joined(parts), wanted).exact
        frames = np.random.default_rng(9).integers(0, 2, (STEPS, 2, 6)).astype(np.float32)
        session.start(frames, constant=False)
        wanted = reference_recording(stock_program, frames, STEPS, constant=False, record=record)
        assert compare(session.advance(STEPS, record=record), wanted).exact
        assert session.report()["engine"] == "Lava, stock processes"
