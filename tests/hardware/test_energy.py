import numpy as np
import pytest

from spikeport import SpikeportError
from spikeport.hardware.backend import reference_recording
from spikeport.hardware.energy import Counts, bill, count, neurobench_metrics
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.stages import stages
from spikeport.networks.graph import Graph, make_node


@pytest.fixture
def spikes(program, samples):
    return reference_recording(program, samples, 8, record=[node.name for node in program.neurons]).spikes


def test_counts_add_up_over_samples(program, spikes):
    whole = count(program, spikes)
    parts = [count(program, {k: v[:, i : i + 1] for k, v in spikes.items()}) for i in range(7)]
    assert whole.n == 7
    assert whole.steps == 56
    for key in ("accumulates", "multiply_accumulates", "neuron_updates"):
        assert getattr(whole, key) == sum(getattr(part, key) for part in parts)
    assert whole.spikes == {name: sum(part.spikes[name] for part in parts) for name in spikes}


def test_a_decided_sample_costs_nothing_more(program, spikes):
    decided = np.array([1, 2, 3, 4, 5, 6, 8])
    found = count(program, spikes, decided=decided)
    parts = [count(program, {k: v[: decided[i], i : i + 1] for k, v in spikes.items()}) for i in range(7)]
    assert found.accumulates == sum(part.accumulates for part in parts)
    assert found.neuron_updates == sum(part.neuron_updates for part in parts)
    assert found.steps == decided.sum()
    assert found.accumulates <= count(program, spikes).accumulates


@pytest.mark.parametrize("graph", ["binary", "signed", "graded", "zero", "none", "leak", "late"], indirect=True)
def test_accumulates_are_spikes_times_the_synapses_they_reach(spikes, program):
    """By the unrolled matrices, where no pool or plain sum lies between (there a synapse of the graph is several)."""
    total = 0
    for stage in stages(program):
        for projection in stage.projections:
            if projection.source in spikes:
                fired = np.abs(spikes[projection.source]).reshape(-1, projection.matrix.shape[1]).sum(0)
                total += int(fired.sum()) * projection.matrix.shape[0]
    assert count(program, spikes).accumulates == total


COUNTS = Counts(n=2, steps=10, spikes={"a": 4}, accumulates=100, multiply_accumulates=0, neuron_updates=50)


def test_a_bill_is_the_sum_of_its_terms():
    found = bill(COUNTS, "loihi1")
    assert found.total == pytest.approx((100 * 23.6 + 50 * 81 + 4 * 1.7) / 2)
    assert {line.price.evidence for line in found.lines if line.price} == {"simulated"}


def test_no_total_without_a_price():
    analog = Counts(2, 10, {"a": 4}, 100, 7, 50)
    assert bill(analog, "loihi1").total is None
    assert bill(COUNTS, "generic").total is None  # neuron updates have no price there
    assert bill(COUNTS, "no such chip").total is None


def test_a_figure_that_holds_everything_is_not_added_to_others():
    assert bill(COUNTS, "truenorth").total == pytest.approx(100 * 26 / 2)
    assert bill(Counts(2, 10, {"a": 4}, 100, 7, 50), "truenorth").total is None


def test_a_bill_of_nothing():
    assert bill(Counts(1, 1, {}, 0, 0, 0), "loihi1").total == 0


def test_the_json_of_a_bill_says_where_each_price_comes_from():
    found = bill(COUNTS, "loihi2").to_json()
    assert found["total"] > 0
    for term in found["terms"]:
        assert (term["picojoules_per_sample"] is None) == ("source" not in term)


def test_metrics_in_the_names_of_neurobench(program, spikes):
    found = neurobench_metrics(program, count(program, spikes))
    assert 0 <= found["ActivationSparsity"] <= 1 or any(n.attributes["code"] == "graded" for n in program.neurons)
    assert 0 <= found["ConnectionSparsity"] < 1
    assert found["MembraneUpdates"] == 8 * sum(np.prod(program.graph.shapes[n.name]) for n in program.neurons)


def test_a_network_without_neurons_costs_its_analog_input():
    graph = Graph.of(
        [
            make_node("x", "input", shape=(4,)),
            make_node("a", "linear", ["x"], arrays={"weight": np.eye(4)}),
            make_node("y", "output", ["a"]),
        ]
    )
    program = lower(graph, input_code(0, 1), steps=4)
    found = count(program, {}, decided=np.array([4, 2]))
    assert (found.n, found.steps, found.spikes, found.accumulates) == (2, 6, {}, 0)
    with pytest.raises(SpikeportError, match="no spikes to count"):
        count(program, {})
