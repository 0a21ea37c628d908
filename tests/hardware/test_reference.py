import numpy as np
import pytest

from spikeport import RangeError, ShapeError
from spikeport.hardware.backend import Recording, compare, reference_recording
from spikeport.hardware.reference import decay, run_reference
from spikeport.networks.graph import Graph
from spikeport.networks.outputs import outputs_over_time


def test_decay_rounds_toward_zero():
    v = np.array([-4097, -1, 0, 1, 4097, 8192])
    assert decay(v, np.array(4095)).tolist() == [-4095, 0, 0, 0, 4095, 8190]
    assert decay(v, np.array(4096)).tolist() == v.tolist()


WITHOUT_LEAK = [
    *("binary", "signed", "graded", "greater", "graded_greater", "zero", "late", "convolution", "odd_windows"),
]  # a leak is rounded, which the float engine does not do


@pytest.mark.parametrize("graph", WITHOUT_LEAK, indirect=True)
def test_it_is_the_float_engine_on_whole_numbers(program, samples):
    currents, _ = run_reference(program, samples, 16)
    graph = Graph.of(program.graph.nodes)
    cumulative = outputs_over_time(graph, program.input(samples).astype(np.float32), 16).numpy()
    ramp = program.graph.output.attributes["ramp"]
    step = np.arange(1, 17)[:, None, None]
    wanted = (currents * step**ramp).cumsum(0) * (step / (step**ramp).cumsum(0))
    np.testing.assert_allclose(cumulative, wanted, rtol=1e-6, atol=1e-6)


def test_a_sequence_of_the_same_sample_is_a_constant_input(program, samples):
    constant, _ = run_reference(program, samples, 9)
    sequence, _ = run_reference(program, np.broadcast_to(samples, (9, *samples.shape)), 9, constant=False)
    np.testing.assert_array_equal(constant, sequence)


def test_samples_do_not_touch_each_other(program, samples):
    together, spikes = run_reference(program, samples, 9, record=[node.name for node in program.neurons])
    alone, own = run_reference(program, samples[3:4], 9, record=list(spikes))
    np.testing.assert_array_equal(together[:, 3:4], alone)
    for name in spikes:
        np.testing.assert_array_equal(spikes[name][:, 3:4], own[name])


def test_networks_spike(program, samples):
    _, spikes = run_reference(program, samples, 16, record=[node.name for node in program.neurons])
    for name, values in spikes.items():
        assert 0.01 < np.abs(values).mean() < 4, name


def test_what_is_asked_of_a_program_is_checked(program, samples):
    with pytest.raises(RangeError, match="proven for 1 to 16"):
        run_reference(program, samples, 17)
    with pytest.raises(ShapeError, match="was wanted"):
        run_reference(program, samples[..., :-1], 3)
    with pytest.raises(RangeError, match="NaN"):
        run_reference(program, np.full_like(samples, np.nan), 3)


def test_a_difference_is_found_and_placed(program, samples):
    record = [node.name for node in program.neurons]
    wanted = reference_recording(program, samples, 8, record=record)
    assert compare(wanted, wanted).exact
    spoilt = {name: values.copy() for name, values in wanted.spikes.items()}
    spoilt[record[-1]][5, 2].reshape(-1)[1] += 1
    found = compare(Recording(wanted.output, spoilt), wanted)
    assert (found.mismatches, found.first_divergence) == (1, (record[-1], 5, 2, 1))
