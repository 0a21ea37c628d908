import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.hardware import int8, torch_backend, torch_engine
from spikeport.hardware.backend import Recording, compare, compiled, reference_recording
from spikeport.hardware.forms import forms
from spikeport.hardware.int8 import Int8Synapse, fits, largest_exact_input
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.program import InputCode, IntegerProgram, information
from spikeport.hardware.reference import run_reference
from spikeport.hardware.torch_backend import TorchBackend, TorchSession
from spikeport.hardware.torch_engine import IntegerEngine
from spikeport.inference import FixedSteps, run_with_exit
from spikeport.inference.engine import Replacing
from spikeport.networks.graph import Graph, make_node

STEPS = 16


@pytest.fixture(params=[0, pytest.param(127, marks=pytest.mark.needs("int8"))], ids=["floats", "bytes"])
def largest_byte(request) -> int:
    return request.param


@pytest.fixture
def engine(program, largest_byte) -> IntegerEngine:
    return IntegerEngine(program, largest_byte=largest_byte)


@pytest.fixture
def wanted(program, samples) -> torch.Tensor:
    """The cumulative output of the reference in real units."""
    return torch.from_numpy(program.real_output(run_reference(program, samples, STEPS)[0]))


def outputs(engine, x, parts):
    x = torch.from_numpy(x)
    state, found = engine.start(x), []
    for steps in parts:
        output, state = engine.advance(x, state, steps)
        found.append(output)
    return torch.cat(found), state


@pytest.mark.parametrize("parts", [(16,), (1,) * 16, (3, 1, 7, 5)])
def test_every_bit_is_the_reference_s(program, samples, largest_byte, parts):
    record = [node.name for node in program.neurons]
    with TorchSession(program, largest_byte=largest_byte) as session:
        session.start(samples)
        seen = [session.advance(steps, record=record) for steps in parts]
    spikes = {name: np.concatenate([part.spikes[name] for part in seen]) for name in record}
    found = Recording(np.concatenate([part.output for part in seen]), spikes)
    agreement = compare(found, reference_recording(program, samples, STEPS, record=record))
    assert agreement.exact, agreement.first_divergence


@pytest.mark.parametrize("parts", [(16,), (2, 9, 5)])
def test_the_output_is_that_of_the_reference_in_real_units(engine, samples, wanted, parts):
    assert torch.equal(outputs(engine, samples, parts)[0], wanted)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_folding_change_nothing(engine, samples, wanted, threads, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    monkeypatch.setattr(torch_engine, "MOST_IMAGES", 14 * threads)
    try:
        assert torch.equal(outputs(engine, samples, (16,))[0], wanted)
    finally:
        torch.set_num_threads(before)


def test_a_batch_of_one_is_one_of_a_batch(engine, samples, wanted):
    assert torch.equal(outputs(engine, samples[4:5], (5, 11))[0], wanted[:, 4:5])


def test_a_sequence(program, samples, largest_byte):
    rng = np.random.default_rng(8)
    x = (samples * rng.uniform(-1, 1, (12, *samples.shape))).astype(np.float32)
    wanted = program.real_output(run_reference(program, x, 12, constant=False)[0])
    engine = IntegerEngine(program, constant_input=False, largest_byte=largest_byte)
    state, found = engine.initial_state(len(samples)), []
    for first, last in ((0, 1), (1, 8), (8, 12)):
        output, state = engine.advance(torch.from_numpy(x[first:last]), state, last - first)
        found.append(output)
    assert torch.equal(torch.cat(found), torch.from_numpy(wanted))
    with pytest.raises(ShapeError, match="exactly those"):
        engine.advance(torch.from_numpy(x[:3]), state, 2)


def test_samples_of_different_ages_share_a_batch(engine, samples, wanted):
    x = torch.from_numpy(samples)
    _, old = engine.advance(x[:4], engine.start(x[:4]), 5)
    state = engine.join(engine.select(old, torch.tensor([3, 1])), engine.start(x[4:]))
    block = torch.cat([x[[3, 1]], x[4:]])
    output, state = engine.advance(block, state, 7)
    assert torch.equal(output[:, :2], wanted[5:12, [3, 1]])
    assert torch.equal(output[:, 2:], wanted[:7, 4:])
    state = engine.put(state, torch.tensor([2, 0]), engine.start(x[[0, 5]]))
    output, _ = engine.advance(torch.cat([x[[5, 1, 0]], x[5:]]), state, 4)
    assert torch.equal(output[:, [2, 0]], wanted[:4, [0, 5]])
    assert torch.equal(output[:, 1], wanted[12:16, 1])
    assert torch.equal(output[:, 3:], wanted[7:11, 5:])


def test_a_fresh_state_that_is_written_over_spoils_no_other(engine, samples, wanted):
    x = torch.from_numpy(samples)
    _, ran = engine.advance(x[1:2], engine.start(x[1:2]), 3)
    engine.put(engine.start(x[:1]), torch.tensor([0]), ran)
    assert torch.equal(outputs(engine, samples, (16,))[0], wanted)


def test_early_exit_decides_as_the_outputs_say(program, samples, largest_byte, wanted):
    engine = IntegerEngine(program, max_steps=6, chunk=4, largest_byte=largest_byte)
    assert isinstance(engine, Replacing)
    run = run_with_exit(engine, torch.from_numpy(samples), FixedSteps(6), batch_size=3)
    assert torch.equal(run.label, wanted[5].argmax(-1))


def test_the_caller_s_memory_and_state_stay_as_they_are(engine, samples, wanted):
    x = torch.from_numpy(samples.copy())
    state = engine.start(x)
    x.zero_()
    first, _ = engine.advance(x, state, 16)
    second, _ = engine.advance(x, state, 16)
    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)


def test_the_slow_scan_gives_the_same(program, samples, wanted, monkeypatch):
    monkeypatch.setattr("spikeport.hardware.scans.threads_survive", lambda: False)
    for limit in {0, largest_exact_input()}:
        assert torch.equal(outputs(IntegerEngine(program, largest_byte=limit), samples, (3, 13))[0], wanted)


def test_the_backend(program, samples):
    backend = TorchBackend()
    assert (backend.name, backend.unsupported(program)) == ("torch", [])
    with compiled(backend, program) as session:
        with pytest.raises(SpikeportError, match="call start first"):
            session.advance(1)
        session.start(samples)
        assert compare(session.advance(STEPS), reference_recording(program, samples, STEPS)).exact
        with pytest.raises(RangeError, match="proven for 1 to 16"):
            session.advance(1)
        report = session.report()
        assert report["backend"] == "torch"
        assert report["threads"] == torch.get_num_threads()
    session.close()


def test_a_sequence_through_the_backend(program, samples):
    x = np.stack([samples, -samples, samples * 0.5, samples])
    with compiled(TorchBackend(), program) as session:
        session.start(x, constant=False)
        parts = [session.advance(steps).output for steps in (1, 3)]
    wanted = reference_recording(program, x, 4, constant=False).output
    np.testing.assert_array_equal(np.concatenate(parts), wanted)


def test_what_is_asked_is_checked(program, samples):
    for wrong in ({"max_steps": 17}, {"max_steps": 0}, {"chunk": 0}):
        with pytest.raises(RangeError, match="1 <= max_steps <= 16"):
            IntegerEngine(program, **wrong)
    engine = IntegerEngine(program)
    with pytest.raises(ShapeError, match="this network takes"):
        engine.start(torch.from_numpy(samples[..., :-1].copy()))
    with pytest.raises(RangeError, match="NaN"):
        engine.start(torch.from_numpy(np.full_like(samples, np.nan)))
    with pytest.raises(RangeError, match="at least 1"):
        engine.advance(torch.from_numpy(samples), engine.start(torch.from_numpy(samples)), 0)


def whole_network(weight, *, low=-7, high=7, bias=None, ramp=0) -> IntegerProgram:
    """One linear readout of the input itself, with these whole weights."""
    arrays = {"weight": np.asarray(weight, np.float32)} | ({} if bias is None else {"bias": np.asarray(bias)})
    nodes = [
        make_node("x", "input", shape=(len(weight[0]),)),
        make_node("a", "linear", ["x"], arrays=arrays),
        make_node("y", "output", ["a"], ramp=ramp),
    ]
    return IntegerProgram.of(Graph.of(nodes, {"integer": information(InputCode(1.0, low, high), 1.0, 8)}))


def test_sums_beyond_float32_are_carried_in_float64():
    rows = [[8388607, 8388607, 8388605, 1], [4194303, -4194301, 3, 1]]
    program = whole_network(rows, ramp=3)
    assert forms(program, 0)[0]["a"].dtype == torch.float64
    x = np.array([[7, 7, 7, 1], [7, 7, -7, 3], [-7, 6, 5, 1]], np.float32)
    wanted = program.real_output(run_reference(program, x, 8)[0])
    for limit in {0, largest_exact_input()}:
        engine = IntegerEngine(program, largest_byte=limit)
        np.testing.assert_array_equal(outputs(engine, x, (8,))[0].numpy(), wanted)


def test_coarse_weights_stay_in_float32_and_fit_int8():
    program = whole_network((np.array([[127, -100, 3], [5, 0, 1]]) << 14).tolist(), bias=[1 << 16, 0])
    assert forms(program, 0)[0]["a"].dtype == torch.float32
    assert forms(program, 127)[1] == {"a"}


def test_what_no_type_holds_is_refused():
    wide = [[8388607.0] * 80_000]
    program = whole_network(wide, low=-32768, high=32767)
    with pytest.raises(UnsupportedError, match="beyond 53 bits"):
        IntegerEngine(program)
    assert "beyond 53 bits" in TorchBackend().unsupported(program)[0]


def test_a_weight_that_int8_does_not_hold_keeps_its_synapse_out():
    node = make_node("a", "linear", ["x"], arrays={"weight": np.array([[127.0, -127.0], [254.0, 2.0]])})
    assert fits(node, 0, 1, 255)
    assert not fits(node, -1, 255, 255)
    assert not fits(node, 0, 128, 127)
    wider = make_node("a", "linear", ["x"], arrays={"weight": np.array([[129.0, 1.0]])})
    assert not fits(wider, 0, 1, 255)
    longer = make_node("a", "linear", ["x"], arrays={"weight": np.full((1, 140_000), 127.0)})
    assert not fits(longer, 0, 1, 255)
    fine_bias = make_node(
        "a", "linear", ["x"], arrays={"weight": np.full((1, 20), 64.0 * 127), "bias": np.array([8388607])}
    )
    assert not fits(fine_bias, -1, 127, 255)
    assert not fits(make_node("a", "scale", ["x"], arrays={"factor": np.ones(())}), 0, 1, 255)


def saturating(limit):
    """An int8 kernel that adds pairs of products in 16 bits, as AVX2 does for inputs beyond ``limit``."""
    true = Int8Synapse.__call__

    def call(self, x):
        return true(self, x) - 1.0 * (x > limit).any()

    return call


@pytest.mark.needs("int8")
@pytest.mark.parametrize(("exact_to", "found"), [(127, 127), (126, 0), (0, 0)])
def test_the_self_test_refuses_a_kernel_that_saturates(monkeypatch, exact_to, found):
    monkeypatch.setattr(Int8Synapse, "__call__", saturating(exact_to))
    assert largest_exact_input.__wrapped__() == found


def test_kernels_that_are_absent_are_refused(monkeypatch):
    class Absent:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(int8.torch.ops, "onednn", Absent(), raising=False)
    assert largest_exact_input.__wrapped__() == 0


def test_a_network_without_int8_kernels(program, samples, wanted, monkeypatch):
    monkeypatch.setattr(torch_engine, "largest_exact_input", lambda: 0)
    monkeypatch.setattr(torch_backend, "largest_exact_input", lambda: 0)
    engine = IntegerEngine(program)
    assert engine.int8 == frozenset()
    assert torch.equal(outputs(engine, samples, (16,))[0], wanted)


def test_low_precision_asked_for_elsewhere_changes_nothing(engine, samples, wanted):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(outputs(engine, samples, (16,))[0], wanted)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.needs("int8")
def test_pools_of_spikes_stay_bytes():
    largest_byte = 127
    rng = np.random.default_rng(3)
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    fire = {"threshold": np.full(8, 1.0), "initial": np.full(8, 0.5), "bias": np.zeros(8)}
    nodes = [
        make_node("x", "input", shape=(1, 9, 8)),
        make_node("a", "conv2d", ["x"], arrays={"weight": rng.normal(0, 1, (8, 1, 3, 3))}, **window),
        make_node("n", "neuron", ["a"], arrays=fire, code="signed", test=">=", reset="subtract"),
        make_node("p", "average_pool", ["n"], kernel=(2, 3), stride=(2, 2), padding=(0, 0)),
        make_node("b", "conv2d", ["p"], arrays={"weight": rng.normal(0, 1, (8, 8, 3, 3))}, **window),
        make_node("m", "neuron", ["b"], arrays=fire, code="binary", test=">", reset="zero"),
        make_node("f", "flatten", ["m"]),
        make_node("c", "linear", ["f"], arrays={"weight": rng.normal(0, 1, (3, 96))}),
        make_node("y", "output", ["c"]),
    ]
    program = lower(Graph.of(nodes), input_code(-1.0, 1.0), steps=12)
    x = rng.uniform(-1, 1, (5, 1, 9, 8)).astype(np.float32)
    held, chosen = forms(program, largest_byte)
    assert {"b", "c"} <= chosen
    assert held["p"] == (torch.uint8, 6)
    wanted = program.real_output(run_reference(program, x, 12)[0])
    np.testing.assert_array_equal(outputs(IntegerEngine(program), x, (5, 7))[0].numpy(), wanted)


@pytest.mark.needs("int8")
@pytest.mark.parametrize(("kernel", "padding"), [(3, 3), (2, 2), (1, 1), (3, 2), (3, 5)])
def test_windows_that_see_only_padding_are_exact(kernel, padding):
    """The int8 kernels add there what nobody wrote, for signed spikes and channels that have kernels of their own."""
    rng, ones = np.random.default_rng(0), np.ones(4)
    places = 7 + 2 * padding - kernel + 1
    fields = {"stride": (1, 1), "dilation": (1, 1)}
    neuron = {"test": ">=", "reset": "subtract"}

    def arrays(n):
        return {"threshold": np.ones(n), "initial": np.ones(n) / 2, "bias": np.zeros(n)}

    weights = {"a": (4, 4, 1, 1), "b": (12, 1, kernel, kernel), "v": (2, 12 * places**2)}
    drawn = {name: {"weight": rng.normal(size=shape)} for name, shape in weights.items()}
    nodes = [
        make_node("x", "input", shape=(4, 7, 7)),
        make_node("a", "conv2d", ["x"], arrays=drawn["a"], padding=(0, 0), groups=1, **fields),
        make_node("n", "neuron", ["a"], arrays=arrays(len(ones)), code="signed", **neuron),
        make_node("b", "conv2d", ["n"], arrays=drawn["b"], padding=(padding,) * 2, groups=4, **fields),
        make_node("m", "neuron", ["b"], arrays=arrays(12), code="binary", **neuron),
        make_node("f", "flatten", ["m"]),
        make_node("v", "linear", ["f"], arrays=drawn["v"]),
        make_node("y", "output", ["v"]),
    ]
    program = lower(Graph.of(nodes), input_code(-1, 1), steps=8)
    x = rng.uniform(-1, 1, (3, 4, 7, 7)).astype(np.float32)
    with compiled(TorchBackend(), program) as session:
        session.start(x)
        found = session.advance(8, record=["n", "m"])
    assert compare(found, reference_recording(program, x, 8, record=["n", "m"])).exact
    assert found.spikes["m"].any()
