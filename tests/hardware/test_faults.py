"""Faults in integer networks: the same bits on every backend, in what is stored and during the run."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from spikeport import SpikeportError, UnsupportedError
from spikeport.hardware import brian_runtime
from spikeport.hardware.backend import Recording, compare, compiled, reference_recording
from spikeport.hardware.brian import BrianBackend
from spikeport.hardware.brian_plan import plan_of
from spikeport.hardware.faults import checked_program, faulty_program, integer_words, row_exponents
from spikeport.hardware.lava import LavaBackend
from spikeport.hardware.program import STATE_LIMIT, IntegerProgram
from spikeport.hardware.reference_backend import ReferenceBackend
from spikeport.hardware.torch_backend import TorchBackend, TorchSession
from spikeport.networks.faults import STORED, Faults
from spikeport.networks.graph import make_node
from spikeport.networks.protection import with_limits
from spikeport.networks.transient import Transient

STEPS = 16
DURING = Faults(dropped_spikes=0.2, state=0.01)


def stored(program: IntegerProgram, rate: float = 0.01) -> Faults:
    held = {target for target in STORED for node in program.graph.nodes if STORED[target] & set(node.arrays)}
    return Faults(**dict.fromkeys(held, rate), stuck_at_0=0.01, stuck_at_1=0.01, dead_neurons=0.1)


@pytest.fixture
def hurt(program: IntegerProgram) -> IntegerProgram:
    return faulty_program(program, stored(program), seed=3)[0]


def recorded(session, x, parts, record) -> Recording:
    session.start(x)
    return joined([session.advance(steps, record=record) for steps in parts], record)


def joined(seen, record) -> Recording:
    spikes = {name: np.concatenate([part.spikes[name] for part in seen]) for name in record}
    return Recording(np.concatenate([part.output for part in seen]), spikes)


@pytest.mark.parametrize("largest_byte", [0, pytest.param(127, marks=pytest.mark.needs("int8"))])
@pytest.mark.parametrize("parts", [(16,), (1,) * 16, (3, 1, 7, 5)])
def test_every_bit_is_the_reference_s(program, hurt, samples, largest_byte, parts):
    record, transient = [node.name for node in hurt.neurons], Transient(hurt.graph, DURING, 5)
    with TorchSession(hurt, largest_byte=largest_byte, transient=transient) as session:
        found = recorded(session, samples, parts, record)
    wanted = reference_recording(hurt, samples, STEPS, record=record, transient=transient)
    assert compare(found, wanted).exact, compare(found, wanted).first_divergence
    for less in ({"transient": None}, {"transient": replace(transient, seed=6)}):
        other = reference_recording(hurt, samples, STEPS, record=record, **less)
        assert not compare(found, other).exact
    assert not compare(found, reference_recording(program, samples, STEPS, record=record, transient=transient)).exact


def test_a_sequence_meets_the_same_faults(hurt, samples):
    x = (samples * np.random.default_rng(1).uniform(-1, 1, (9, *samples.shape))).astype(np.float32)
    transient = Transient(hurt.graph, DURING, 5)
    wanted = reference_recording(hurt, x, 9, constant=False, transient=transient).output
    with compiled(TorchBackend(DURING, seed=5), hurt) as session:
        session.start(x, constant=False)
        found = np.concatenate([session.advance(steps).output for steps in (4, 1, 4)])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("backend", [TorchBackend, ReferenceBackend])
def test_batches_and_their_order_change_nothing(hurt, samples, backend):
    with compiled(backend(DURING, seed=1), hurt) as session:
        whole = recorded(session, samples, (STEPS,), []).output
        np.testing.assert_array_equal(recorded(session, samples[[5, 2]], (STEPS,), []).output, whole[:, [5, 2]])


@pytest.mark.needs("brian2")
def test_stored_faults_run_in_brian2(hurt, samples):
    record = [node.name for node in hurt.neurons]
    with compiled(BrianBackend(), hurt) as session:
        found = recorded(session, samples[:3], (4, 4), record)
    assert compare(found, reference_recording(hurt, samples[:3], 8, record=record)).exact


@pytest.mark.slow
@pytest.mark.needs("lava")
def test_stored_faults_run_in_lava(hurt, samples):
    record = [node.name for node in hurt.neurons]
    with compiled(LavaBackend(), hurt) as session:
        found = recorded(session, samples[:3], (8,), record)
    assert compare(found, reference_recording(hurt, samples[:3], 8, record=record)).exact


@pytest.mark.needs("brian2")
def test_faults_during_the_run_are_the_reference_s_in_brian2(program, samples, monkeypatch):
    monkeypatch.setattr(brian_runtime, "SYNAPSES_AT_ONCE", 4 * plan_of(program).synapses)  # 7 samples are 2 blocks
    meets_the_reference(BrianBackend(faults=DURING, seed=5), program, samples)


@pytest.mark.slow
@pytest.mark.needs("lava")
def test_faults_during_the_run_are_the_reference_s_in_lava(program, samples):
    meets_the_reference(LavaBackend(faults=DURING, seed=5), program, samples)


def meets_the_reference(backend, program, samples):
    """Constant samples, another batch of them, and a sequence: each in windows."""
    record, transient = [node.name for node in program.neurons], Transient(program.graph, DURING, 5)
    frames = np.random.default_rng(7).uniform(-2, 2, (9, *samples.shape)).astype(np.float32)
    with compiled(backend, program) as session:
        for x, constant in ((samples, True), (samples[[3, 1]], True), (frames, False)):
            session.start(x, constant=constant)
            parts = [session.advance(steps, record=record) for steps in (1, 3, 5)]
            wanted = reference_recording(program, x, 9, constant=constant, record=record, transient=transient)
            found = joined(parts, record)
            assert compare(found, wanted).exact, compare(found, wanted).first_divergence
            assert not compare(found, reference_recording(program, x, 9, constant=constant, record=record)).exact


def test_what_cannot_be_entered_refuses_faults_during_the_run(program):
    for backend in (BrianBackend("cpp_standalone", faults=DURING), LavaBackend(faithful=True, faults=DURING)):
        assert any("faults during the run" in problem for problem in backend.unsupported(program))
        assert not any("faults" in problem for problem in LavaBackend(faults=DURING).unsupported(program))


def test_limits_are_the_reference_s_and_others_refuse_them(program, samples):
    record = [node.name for node in program.neurons]
    plain = reference_recording(program, samples, STEPS, record=record)
    limits = {name: np.float32(2) for name in record}
    limited = checked_program(replace(program, graph=with_limits(program.graph, limits)))
    with TorchSession(limited) as session:
        found = recorded(session, samples, (5, 11), record)
    assert compare(found, reference_recording(limited, samples, STEPS, record=record)).exact
    first = record[0]
    counts = np.abs(plain.spikes[first]).cumsum(0)
    if not program.graph.recurrent:  # nothing that comes later changes what the first neurons do
        np.testing.assert_array_equal(found.spikes[first], np.where(counts <= 2, plain.spikes[first], 0))
    assert all(np.abs(values).sum(0).max() <= 2 for values in found.spikes.values())
    for backend in (BrianBackend(), LavaBackend()):
        with pytest.raises(UnsupportedError, match=f"{first}.*choose torch or reference"):
            compiled(backend, limited)


def test_words_are_read_as_they_were_written(program):
    for node in program.graph.nodes:
        for key in set(node.arrays) & set().union(*STORED.values()):
            memory = integer_words(node, key)
            assert ((memory.words >= 0) & (memory.words < 1 << memory.bits)).all()
            np.testing.assert_array_equal(memory.read(memory.words), node.arrays[key])
            if key in ("weight", "factor"):
                assert memory.bits == 8


@pytest.mark.parametrize("exponent", [0, 3])
def test_a_weight_has_eight_bits_and_its_row_s_power_of_two(exponent):
    weight = (np.array([[100, -128 + 1], [3, 8 * 127]]) << exponent).astype(np.float32)
    weight[1] -= weight[1] % (8 << exponent)
    assert row_exponents(weight.astype(np.int64)).tolist() == [exponent, exponent + 3]
    node = make_node("a", "linear", ["x"], arrays={"weight": weight})
    memory = integer_words(node, "weight")
    top = memory.read(memory.words ^ 128)
    unit = 1 << np.array([[exponent], [exponent + 3]])
    np.testing.assert_array_equal(np.abs(top - weight), np.broadcast_to(128 * unit, (2, 2)))


def test_all_stays_whole_and_inside(program):
    for seed in range(4):
        found, _ = faulty_program(program, stored(program, 0.2), seed=seed)
        for node in found.neurons:
            assert node.arrays["threshold"].min() >= 1
            assert max(np.abs(array).max() for array in node.arrays.values()) <= STATE_LIMIT
        said = found.graph.information["integer"]["largest_state"]
        assert set(said) == set(program.graph.information["integer"]["largest_state"])


def test_dead_neurons_are_silent_on_a_chip(program, samples):
    found, injected = faulty_program(program, Faults(dead_neurons=0.4), seed=0)
    record = [node.name for node in found.neurons]
    spikes = reference_recording(found, samples, STEPS, record=record).spikes
    for name in record:
        shape = found.graph.shapes[name]
        theta = found.graph.by_name[name].arrays["threshold"]
        if injected.dead[name]:
            dead = np.broadcast_to(theta, shape) == STATE_LIMIT
            assert dead.sum() == injected.dead[name]
            assert not spikes[name][..., dead].any()


def test_a_limit_can_be_hit(program):
    limits = {node.name: np.float32(3) for node in program.neurons}
    limited = checked_program(replace(program, graph=with_limits(program.graph, limits)))
    found, injected = faulty_program(limited, Faults(bounds=0.5), seed=1)
    assert injected.bits == {"bounds": 8 * len(limits)}
    assert any(node.arrays["limit"] != 3 for node in found.neurons)
    with pytest.raises(UnsupportedError, match="bounds"):
        faulty_program(program, Faults(bounds=0.5), seed=1)


def test_what_would_leave_32_bits_is_refused(program, make_program: Callable[..., IntegerProgram]):
    with pytest.raises(SpikeportError, match=r"leave 32 bits within 4096 steps: n \("):
        checked_program(make_program(bias=1 << 22, steps=4096))
    with pytest.raises(SpikeportError, match="no layers nowhere"):
        faulty_program(program, Faults(weights=0.1, layers=("nowhere",)), seed=0)


@pytest.fixture
def make_program() -> Callable[..., IntegerProgram]:
    """A network of one neuron that has a bias."""
    from spikeport.hardware.program import InputCode, information
    from spikeport.networks.graph import Graph

    def made(*, bias: int, steps: int) -> IntegerProgram:
        arrays = {"threshold": np.float32([4]), "initial": np.float32([0]), "bias": np.float32([bias])}
        nodes = [
            make_node("x", "input", shape=(1,)),
            make_node("a", "linear", ["x"], arrays={"weight": np.float32([[1]])}),
            make_node("n", "neuron", ["a"], arrays=arrays, code="binary", test=">=", reset="subtract"),
            make_node("b", "linear", ["n"], arrays={"weight": np.float32([[1]])}),
            make_node("y", "output", ["b"]),
        ]
        return IntegerProgram.of(Graph.of(nodes, {"integer": information(InputCode(1.0, 0, 1), 1.0, steps)}))

    return made
