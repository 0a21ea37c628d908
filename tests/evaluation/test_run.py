import numpy as np
import pytest

from spikeport import RangeError, SpikeportError, UnsupportedError
from spikeport.evaluation.evaluate import calibrated_rule
from spikeport.evaluation.integer import integer_outputs
from spikeport.evaluation.run import backend_named, run_on
from spikeport.hardware.reference import run_reference
from spikeport.hardware.reference_backend import ReferenceBackend, ReferenceSession
from spikeport.inference import FixedSteps, decide


def test_a_fixed_run_is_the_reference(digits):
    program, data = digits.converted.integer, digits.evaluation
    found = run_on(backend_named("torch"), program, data, steps=8, rule=FixedSteps(8), compare_with="reference")
    label = program.real_output(run_reference(program, data.x, 8)[0])[-1].argmax(1)
    assert found["accuracy"] == (label == data.y).mean()
    assert found["agreement"]["mismatches"] == 0
    assert found["agreement"]["first_divergence"] is None
    units = sum(np.prod(program.graph.shapes[node.name]) for node in program.neurons)
    assert found["agreement"]["spikes_compared"] == 120 * 8 * (units + 10)
    assert (found["n"], found["mean_steps"], found["timesteps"]) == (120, 8.0, 8)
    assert set(found["spikes_per_layer"]) == {node.name for node in program.neurons}


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_early_exit_decides_as_on_the_whole_output(digits, backend):
    program, data, rule = digits.converted.integer, digits.evaluation, calibrated_rule(digits.converted.exit)
    found = run_on(backend_named(backend), program, data, steps=8, rule=rule)
    wanted = decide(rule, integer_outputs(program, data.x, 8))
    assert found["mean_steps"] == wanted.steps.double().mean()
    assert found["accuracy"] == (wanted.label.numpy() == data.y).mean()
    assert found["mean_steps"] < found["mean_steps_computed"] <= 8


def test_what_early_exit_saves_is_not_counted(digits):
    program, data = digits.converted.integer, digits.evaluation.take(np.arange(40))
    short, long = (
        run_on(backend_named("torch"), program, data, steps=8, rule=FixedSteps(steps), chip="loihi1")
        for steps in (3, 8)
    )
    assert short["synaptic_operations"] < long["synaptic_operations"]
    assert short["mean_steps_computed"] == 3
    for term, other in zip(short["energy"]["terms"], long["energy"]["terms"], strict=True):
        assert term["count_per_sample"] <= other["count_per_sample"]


class Wrong(ReferenceSession):
    """Loses one spike of one sample."""

    def advance(self, steps, *, record=()):
        found = super().advance(steps, record=record)
        values = found.spikes[record[1]].reshape(steps, found.output.shape[1], -1)
        values[0, 5, 7] ^= 1
        return found


class WrongBackend(ReferenceBackend):
    name = "wrong"

    def compile(self, program):
        return Wrong(program)


class Refusing(ReferenceBackend):
    name = "refusing"

    def unsupported(self, program):
        return ["everything: take another"]


def test_a_wrong_spike_is_found_and_placed(digits):
    program = digits.converted.integer
    found = run_on(WrongBackend(), program, digits.evaluation, steps=4, rule=FixedSteps(4), compare_with="reference")
    first = found["agreement"]["first_divergence"]
    assert found["agreement"]["mismatches"] == 2  # one in each batch
    assert first == {"layer": program.neurons[1].name, "step": 0, "sample": 5, "unit": 7}


@pytest.mark.needs("brian2")
@pytest.mark.parametrize(
    ("name", "target"),
    [("brian2", "numpy"), ("brian2:cython", "cython"), ("brian2:cpp_standalone", "cpp_standalone")],
)
def test_brian2_is_asked_for_with_its_target(name, target):
    backend = backend_named(name)
    assert (backend.name, backend.target) == ("brian2", target)


def test_targets_that_are_none_are_refused():
    with pytest.raises(RangeError, match="target is 'rust'; choose one of numpy, cython, cpp_standalone"):
        backend_named("brian2:rust")
    with pytest.raises(SpikeportError, match="no backend 'torch:cython'"):
        backend_named("torch:cython")


def test_bad_requests(digits):
    program, data = digits.converted.integer, digits.evaluation
    with pytest.raises(SpikeportError, match="no backend 'loihi'"):
        backend_named("loihi")
    with pytest.raises(RangeError, match="possible here"):
        run_on(backend_named("torch"), program, data, steps=9, rule=FixedSteps(3))
    with pytest.raises(RangeError, match="stops at step 3 or later, but 2 steps"):
        run_on(backend_named("torch"), program, data, steps=2, rule=FixedSteps(3))
    with pytest.raises(SpikeportError, match="choose reference"):
        run_on(backend_named("torch"), program, data, steps=2, rule=FixedSteps(2), compare_with="torch")
    with pytest.raises(UnsupportedError, match="take another"):
        run_on(Refusing(), program, data, steps=2, rule=FixedSteps(2))
    with pytest.raises(RangeError, match="calibration"):
        run_on(backend_named("torch"), program, digits.calibration, steps=2, rule=FixedSteps(2),
               shared=digits.converted.exit.calibration_hashes)  # fmt: skip
    with pytest.raises(SpikeportError, match="start a batch"):
        ReferenceBackend().compile(program).advance(1)
