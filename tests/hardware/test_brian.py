"""Brian2 gives what the reference gives, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.hardware import brian_runtime
from spikeport.hardware.backend import Recording, compare, compiled, reference_recording
from spikeport.hardware.brian import BrianBackend, brian_network
from spikeport.hardware.brian_plan import plan_of

pytestmark = pytest.mark.needs("brian2")


@pytest.fixture
def plain_numpy():
    """Brian2 without a compiler: its own choice would compile each group for seconds."""
    import brian2

    before, brian2.prefs.codegen.target = brian2.prefs.codegen.target, "numpy"
    yield
    brian2.prefs.codegen.target = before


def names(program):
    return [node.name for node in program.neurons]


def joined(parts):
    spikes = {name: np.concatenate([part.spikes[name] for part in parts]) for name in parts[0].spikes}
    return Recording(np.concatenate([part.output for part in parts]), spikes)


def test_every_network_is_equal_bit_for_bit(program, samples):
    wanted = reference_recording(program, samples, 12, record=names(program))
    with compiled(BrianBackend(), program) as session:
        session.start(samples)
        assert compare(session.advance(12, record=names(program)), wanted).exact


@pytest.mark.parametrize("graph", ["recurrent", "graded_greater"], indirect=True)
def test_windows_blocks_and_sequences_change_nothing(program, samples, monkeypatch):
    sequence = np.random.default_rng(7).uniform(-2, 2, (9, *samples.shape))
    monkeypatch.setattr(brian_runtime, "SYNAPSES_AT_ONCE", 4 * plan_of(program).synapses)  # 7 samples are 2 blocks
    with compiled(BrianBackend(), program) as session:
        for x, constant in ((sequence, False), (samples, True)):
            wanted = reference_recording(program, x, 9, constant=constant, record=names(program))
            session.start(x, constant=constant)
            parts = [session.advance(steps, record=names(program)) for steps in (4, 5)]
            assert compare(joined(parts), wanted).exact
        assert session.report()["samples_at_once"] == 4


@pytest.mark.parametrize("graph", ["recurrent", "odd_windows", "signed"], indirect=True)
@pytest.mark.usefixtures("plain_numpy")
def test_a_network_with_units_gives_the_same_spikes(program, samples):
    import brian2

    made = brian_network(program, samples, 8, step=0.5 * brian2.ms, unit=brian2.volt * 2**-20)
    output = program.graph.output.name
    monitor = brian2.StateMonitor(made.groups[output], "s", record=True, when="end", clock=made.clock)
    made.network.add(monitor)
    made.network.run(8 * 0.5 * brian2.ms)
    wanted = reference_recording(program, samples, 8).output
    np.testing.assert_array_equal((monitor.s / brian2.volt * 2**20).T.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
@pytest.mark.usefixtures("plain_numpy")
def test_a_network_can_be_changed(program, samples):
    """Noise on the membranes, and weights by the names of the nodes."""
    import brian2

    counts = []
    for noise in (0, 50_000):
        made = brian_network(program, samples, 8)
        brian2.seed(1)
        made.network.add(made.groups["n"].run_regularly(f"v += floor({noise}*randn())", when="groups"))
        made.synapses["n", "m", 0].w = 0
        monitors = [brian2.SpikeMonitor(made.groups[name]) for name in ("n", "m")]
        made.network.add(monitors)
        made.network.run(8 * brian2.ms)
        counts.append([monitor.num_spikes for monitor in monitors])
    assert counts[0][0] != counts[1][0]
    assert counts[0][1] == counts[1][1]  # cut off from the noise


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_what_is_asked_is_checked(program, samples):
    with pytest.raises(RangeError, match="choose one of numpy"):
        BrianBackend("java")
    session = BrianBackend().compile(program)
    with pytest.raises(SpikeportError, match="start it before"):
        session.advance(1)
    with pytest.raises(ShapeError):
        session.start(samples[:, :-1])
    session.start(samples[:1])
    with pytest.raises(RangeError, match="17 steps were asked for, but 16 of 16 are left"):
        session.advance(17)
    with pytest.raises(SpikeportError, match="elsewhere: no such population"):
        session.advance(1, record=["elsewhere"])
    session.close()
    session.close()


@pytest.mark.slow
@pytest.mark.needs("compiler")
@pytest.mark.parametrize("graph", ["recurrent"], indirect=True)
@pytest.mark.parametrize("target", ["cython", "cpp_standalone"])
def test_compiled_targets_are_equal_bit_for_bit(program, samples, target):
    wanted = reference_recording(program, samples, 12, record=names(program))
    with compiled(BrianBackend(target), program) as session:
        session.start(samples)
        parts = [session.advance(steps, record=names(program)) for steps in ((12,) if target == "cython" else (5, 7))]
        assert compare(joined(parts), wanted).exact


def test_a_layer_whose_weights_are_all_zero_is_left_out(program, samples):
    nodes = list(program.graph.nodes)
    last = next(node for node in reversed(nodes) if "weight" in node.arrays)
    silent = replace(last, arrays={**last.arrays, "weight": np.zeros_like(last.arrays["weight"])})
    dead = replace(
        program, graph=program.graph.of([silent if node is last else node for node in nodes], program.graph.information)
    )
    wanted = reference_recording(dead, samples, 12, record=names(dead))
    with compiled(BrianBackend(), dead) as session:
        session.start(samples)
        assert compare(session.advance(12, record=names(dead)), wanted).exact
