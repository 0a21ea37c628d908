import itertools

import numpy as np
import pytest

from spikeport import CorruptFileError, RangeError, UnsupportedError
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.normal import SYNAPSES
from spikeport.hardware.program import STATE_LIMIT, InputCode, IntegerProgram, mantissa
from spikeport.hardware.quantise import LARGEST, best_scales, rounded
from spikeport.hardware.ranges import Interval, state_interval, value_intervals
from spikeport.hardware.reference import _neuron, run_reference, steps_of
from spikeport.networks.graph import Graph, Node, make_node
from spikeport.networks.outputs import outputs_over_time


def test_every_array_is_whole_and_weights_have_eight_bits(program):
    for node in program.graph.nodes:
        if node.operator in SYNAPSES:
            weight = node.arrays["factor" if node.operator == "scale" else "weight"]
            rows = weight.reshape(len(weight), -1) if weight.ndim else weight.reshape(1, 1)
            for row in rows:
                assert np.abs(mantissa(row)[0]).max() <= LARGEST, node.name


def test_lowering_again_gives_the_same(graph, program):
    again = lower(graph, program.input, steps=program.steps)
    for a, b in zip(program.graph.nodes, again.graph.nodes, strict=True):
        assert a.name == b.name
        for key in a.arrays:
            np.testing.assert_array_equal(a.arrays[key], b.arrays[key])


def test_a_file_gives_the_same_network(program, samples, tmp_path):
    program.save(tmp_path / "network.int8.safetensors")
    loaded = IntegerProgram.load(tmp_path / "network.int8.safetensors")
    assert (loaded.input, loaded.output_scale, loaded.steps) == (program.input, program.output_scale, program.steps)
    np.testing.assert_array_equal(run_reference(loaded, samples, 5)[0], run_reference(program, samples, 5)[0])


def test_a_float_network_is_no_integer_network(graph):
    with pytest.raises((CorruptFileError, RangeError, UnsupportedError)):
        IntegerProgram.of(graph)


FORWARD = [
    *("binary", "signed", "graded", "greater", "graded_greater", "zero", "none", "leak", "late", "convolution"),
    "odd_windows",
]  # a loop makes one moved spike into many


@pytest.mark.parametrize("graph", FORWARD, indirect=True)
def test_rounding_changes_the_output_little(graph, program, samples):
    """Rates of a few neurons over 16 steps: most samples' outputs stay within a spike or two of the float network's."""
    wanted = outputs_over_time(graph, samples, 16).numpy()[-1]
    found = program.real_output(run_reference(program, samples, 16)[0])[-1]
    spread = np.abs(wanted).max()
    assert np.median(np.abs(found - wanted)) < 0.1 * spread
    assert np.corrcoef(found.reshape(-1), wanted.reshape(-1))[0, 1] > 0.95


def test_values_stay_within_the_proven_ranges(program, samples):
    code = program.input
    ranges = value_intervals(program.graph, code.low, code.high, program.steps)
    extremes = np.concatenate([samples, np.sign(samples) * 1e6])
    for values in steps_of(program, extremes, program.steps):
        for name, value in values.items():
            assert (value >= ranges[name].low).all(), name
            assert (value <= ranges[name].high).all(), name


NEURONS = [
    *itertools.product(("binary", "signed", "graded"), ("subtract", "zero", "none"), (">=", ">"), (0,)),
    *itertools.product(("binary",), ("subtract",), (">=", ">"), (1,)),
]


@pytest.mark.parametrize(("code", "reset", "test", "late"), NEURONS)
def test_a_membrane_stays_within_its_proven_range(code, reset, test, late):
    rng, size, steps = np.random.default_rng(3), 400, 12
    whole = {key: rng.integers(-60, 61, size) for key in ("initial", "bias")}
    arrays = {**whole, "threshold": rng.integers(1, 50, size), "beta": rng.integers(1, 4097, size) / 4096}
    node = make_node("n", "neuron", ["x"], arrays=arrays, code=code, test=test, reset=reset, levels=3, late=late)
    unreset = make_node("n", "neuron", ["x"], arrays=arrays, code=code, test=test, reset="none", levels=3)
    low, high = np.sort(rng.integers(-80, 81, (2, size)), 0)
    proven = state_interval(node, Interval(low.astype(float), high.astype(float)), steps)
    for _ in range(20):
        zeros = np.zeros((1, size), np.int64)
        state = {"v": arrays["initial"][None].astype(np.int64), "count": zeros, "fired": zeros}
        for _ in range(steps):
            x = np.where(rng.random(size) < 0.4, rng.choice([low, high]), rng.integers(low, high + 1))[None]
            before = dict(state)
            _neuron(node, x, state)
            if not late:
                _neuron(unreset, x, before)  # the membrane before its reset
                assert (before["v"] >= proven.low).all()
                assert (before["v"] <= proven.high).all()
            assert (state["v"] >= np.minimum(proven.low, 0)).all()
            assert (state["v"] <= proven.high).all()


def test_where_a_range_does_not_fit_weights_are_made_coarser_and_it_says_so():
    rng = np.random.default_rng(0)
    nodes = [
        make_node("x", "input", shape=(64,)),
        make_node("a", "linear", ["x"], arrays={"weight": rng.normal(0, 1, (8, 64))}),
        make_node("n", "neuron", ["a"], arrays={"threshold": np.r_[np.full(7, 5.0), 1e7], "initial": 0, "bias": 0},
                  code="binary", test=">=", reset="subtract"),
        make_node("c", "linear", ["n"], arrays={"weight": rng.normal(0, 1, (3, 8))}),
        make_node("y", "output", ["c"]),
    ]  # fmt: skip
    program = lower(Graph.of(nodes), InputCode(1.0, 0, 255), steps=2048)
    said = program.graph.information["integer"]
    assert said["channels_with_coarser_weights"]["a"] >= 1
    assert said["largest_state"]["n"] <= STATE_LIMIT


def test_all_that_has_no_integer_form_is_named_at_once():
    nodes = [
        make_node("x", "input", shape=(2, 5, 5)),
        make_node("m", "multiply", ["x", "x"]),
        make_node("r", "activation", ["m"]),
        make_node("p", "pad", ["r"], before=(0, 1, 1), after=(0, 1, 1), value=1.0),
        make_node("q", "average_pool", ["p"], kernel=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=1),
        make_node("f", "flatten", ["q"]),
        make_node("y", "output", ["f"]),
    ]
    with pytest.raises(UnsupportedError) as caught:
        lower(Graph.of(nodes), input_code(0, 1))
    assert [problem.split()[0] for problem in caught.value.problems] == ["m", "r", "p", "q"]


def test_averages_of_two_sizes_do_not_meet():
    pool = {"stride": (2, 2), "padding": (0, 0)}
    nodes: list[Node] = [
        make_node("x", "input", shape=(1, 6, 6)),
        make_node("a", "conv2d", ["x"], arrays={"weight": np.ones((1, 1, 1, 1))}, stride=(1, 1), padding=(0, 0),
                  dilation=(1, 1)),
        make_node("p", "average_pool", ["a"], kernel=(2, 2), **pool),
        make_node("q", "max_pool", ["a"], kernel=(2, 2), **pool),
        make_node("s", "add", ["p", "q"]),
        make_node("f", "flatten", ["s"]),
        make_node("y", "output", ["f"]),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match="averages of different sizes"):
        lower(Graph.of(nodes), input_code(0, 1))


def test_the_best_scale_is_the_best():
    rng = np.random.default_rng(1)
    rows = rng.standard_t(3, (20, 200))
    scales = best_scales(rows)

    def error(scale):
        return np.square(rows - scale[:, None] * rounded(rows, scale[:, None])).sum(1)

    for factor in (0.9, 0.95, 1.05, 1.1):
        assert (error(scales) <= error(scales * factor) * 1.02).all()
    assert (error(scales) <= error(np.abs(rows).max(1) / LARGEST)).all()
    assert best_scales(np.zeros((2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("low", "high", "step", "wanted"),
    [
        (0, 255, 1.0, (1.0, 0, 255)),
        (0, 510, None, (2.0, 0, 255)),
        (-127, 3, 1.0, (1.0, -127, 128)),
        (0, 1, 1.0, (1.0, 0, 1)),
        (-1, 1, 1 / 255, (1 / 255, -255, 256)),
        (0, 1, 1e-5, (1 / 255, 0, 255)),
        (0, 0, None, (1.0, 0, 1)),
        (-51, 0, None, (0.2, -255, 1)),
    ],
)
def test_input_codes(low, high, step, wanted):
    code = input_code(low, high, step=step)
    assert (code.scale, code.low, code.high) == wanted


def test_the_input_code_loses_at_most_half_a_step():
    x = np.random.default_rng(0).uniform(-3, 7, 1000)
    code = input_code(x.min(), x.max())
    assert np.abs(code(x) * code.scale - x).max() <= code.scale / 2 + 1e-9
    assert code.high - code.low == 255


@pytest.mark.parametrize("bad", [(0, float("nan")), (float("-inf"), 1), (2, 1)])
def test_senseless_ranges_are_refused(bad):
    with pytest.raises(RangeError, match="range"):
        input_code(*bad)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_senseless_steps_of_the_input_are_refused(step):
    with pytest.raises(RangeError, match="step"):
        input_code(0, 1, step=step)


@pytest.mark.parametrize("steps", [0, 5000])
def test_senseless_steps_are_refused(graph, steps):
    with pytest.raises(RangeError, match="steps"):
        lower(graph, input_code(-2, 2), steps=steps)


def test_decays_have_twelve_bits(program, graph):
    for node in program.graph.nodes:
        for key in {"beta", "alpha"} & set(node.arrays):
            k = node.arrays[key].astype(np.float64) * 4096
            assert (k == np.rint(k)).all()
            assert (k >= 1).all()
            error = program.graph.information["integer"]["decay_error"][node.name]
            assert error == pytest.approx(
                np.abs(node.arrays[key] - graph.by_name[node.name].arrays[key]).max(), abs=1e-9
            )
            assert error <= 1 / 8192 + 1e-9


def test_a_bias_that_cancels_another_is_lowered():
    ones = np.ones(2, np.float32)
    arrays = {"threshold": 0.01 * ones, "initial": 0 * ones, "bias": 1.1 * ones}
    nodes = [
        make_node("x", "input", shape=(1,)),
        make_node("a", "linear", ["x"], arrays={"weight": np.full((2, 1), 1e-5), "bias": -ones}),
        make_node("n", "neuron", ["a"], arrays=arrays, code="binary", test=">=", reset="subtract"),
        make_node("v", "linear", ["n"], arrays={"weight": np.ones((2, 2))}),
        make_node("y", "output", ["v"]),
    ]
    program = lower(Graph.of(nodes), input_code(0, 1), steps=4)
    (neuron,) = program.neurons
    assert np.abs(neuron.arrays["bias"]).max() <= STATE_LIMIT
