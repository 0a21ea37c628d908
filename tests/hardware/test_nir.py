"""NIR: ours come back as they were, those of others in Euler steps."""

import contextlib
import csv

import numpy as np
import pytest
import torch

from spikeport import CorruptFileError, SpikeportError, UnsupportedError
from spikeport.hardware.lower import input_code, lower
from spikeport.hardware.nir import export_nir, import_nir
from spikeport.hardware.program import IntegerProgram
from spikeport.hardware.reference import run_reference
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Edge, Graph, make_node
from spikeport.networks.outputs import outputs_over_time

try:
    import nir
except ImportError:  # then the mark skips
    nir = None
pytestmark = pytest.mark.needs("nir")
FLAT = ["binary", "signed", "graded", "greater", "graded_greater", "zero", "none", "leak", "late", "recurrent"]


def same(a: Graph, b: Graph) -> bool:
    return dict(a.information) == dict(b.information) and all(
        (x.name, x.operator, x.inputs, dict(x.attributes), sorted(x.arrays))
        == (y.name, y.operator, y.inputs, dict(y.attributes), sorted(y.arrays))
        and all(np.array_equal(x.arrays[key], y.arrays[key]) for key in x.arrays)
        for x, y in zip(a.nodes, b.nodes, strict=True)
    )


@pytest.mark.parametrize("graph", FLAT, indirect=True)
def test_a_graph_comes_back_as_it_was(graph, samples, tmp_path):
    path = tmp_path / "a.nir"
    export_nir(graph, path)
    assert same(import_nir(path), graph)
    assert list(tmp_path.iterdir()) == [path]
    assert set(nir.read(path).nodes) >= {"x", "y"}  # sound for the library too


@pytest.mark.parametrize("graph", ["leak", "recurrent", "graded"], indirect=True)
def test_an_integer_program_comes_back(program, samples, tmp_path):
    export_nir(program.graph, tmp_path / "a.nir")
    again = IntegerProgram.of(import_nir(tmp_path / "a.nir"))
    assert (again.input, again.steps, again.output_scale) == (program.input, program.steps, program.output_scale)
    np.testing.assert_array_equal(run_reference(again, samples, 9)[0], run_reference(program, samples, 9)[0])


def pooled(rng, kernel):
    fields = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    neuron = {"code": "binary", "test": ">", "reset": "zero"}
    arrays = {"threshold": np.full(3, 0.8), "initial": np.zeros(3), "bias": np.zeros(3)}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 6, 6)),
            make_node("a/1", "conv2d", ["x"], arrays={"weight": rng.normal(0, 0.4, (3, 2, 3, 3))}, **fields),
            make_node("n", "neuron", ["a/1"], arrays=arrays, **neuron),
            make_node("p", "average_pool", ["n"], kernel=(kernel,) * 2, stride=(kernel,) * 2, padding=(0, 0)),
            make_node("f", "flatten", ["p"]),
            make_node("b", "linear", ["f"], arrays={"weight": rng.normal(0, 1, (4, 3 * (6 // kernel) ** 2))}),
            make_node("m", "neuron", ["b"], arrays={k: v[0] for k, v in arrays.items()}, **neuron),
            make_node("y", "output", ["m"]),
        ]
    )


@pytest.mark.parametrize("kernel", [2, 3])
def test_an_average_is_a_sum_with_other_weights(kernel, tmp_path):
    graph = pooled(np.random.default_rng(4), kernel)
    export_nir(graph, tmp_path / "a.nir")
    assert same(import_nir(tmp_path / "a.nir"), graph)
    theirs = nir.read(tmp_path / "a.nir").nodes
    assert isinstance(theirs["p"], nir.SumPool2d)
    np.testing.assert_allclose(theirs["b"].weight, graph.by_name["b"].arrays["weight"] / kernel**2, rtol=1e-6)
    x = np.random.default_rng(5).uniform(0, 1, (5, 2, 6, 6)).astype(np.float32)
    foreign = import_nir(tmp_path / "a.nir", dt=1e-4)  # read as a file of others, at its own dt
    np.testing.assert_allclose(outputs_over_time(foreign, x, 12), outputs_over_time(graph, x, 12))


def test_what_others_do_differently_is_said(tmp_path):
    graph = pooled(np.random.default_rng(4), 2)
    assert export_nir(graph, tmp_path / "a.nir") == ()
    nodes = [
        make_node(node.name, node.operator, node.inputs, arrays=node.arrays, **{**node.attributes, "reset": "subtract"})
        if node.name == "n"
        else node
        for node in graph.nodes
    ]
    assert export_nir(Graph.of(nodes), tmp_path / "a.nir") == (
        "n: others may set the membrane to 0; here the reset is 'subtract'",
    )


@pytest.mark.parametrize("graph", ["odd_windows"], indirect=True)
def test_all_that_nir_lacks_is_named_at_once(graph, tmp_path):
    with pytest.raises(UnsupportedError) as caught:
        export_nir(graph, tmp_path / "a.nir")
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["p", "t", "z", "w", "g", "h"]
    assert not list(tmp_path.iterdir())


def test_a_neuron_of_norse_comes_in_and_goes_out(data_dir, tmp_path):
    folder = data_dir / "nir_lif_traces"
    graph = import_nir(folder / "lif_norse.nir")
    with (folder / "lif_norse.csv").open() as file:
        rows = np.array([[float(value) for value in row] for row in csv.reader(file)], np.float32)
    columns = [int(rows[:, column].sum()) for column in range(rows.shape[1])]
    spikes = spikes_of(graph, rows[:, 0].reshape(-1, 1, 1), "1")
    assert spikes.sum() == 4, columns
    export_nir(graph, tmp_path / "a.nir")
    again = import_nir(tmp_path / "a.nir")
    assert same(again, graph)
    np.testing.assert_array_equal(spikes_of(again, rows[:, 0].reshape(-1, 1, 1), "1"), spikes)


def spikes_of(graph, x, name):
    engine = Engine(graph, max_steps=len(x), constant_input=False)
    found = []
    watch = lambda node, value: found.append(value.clone()) if node == name else None  # noqa: E731
    state = engine.start(torch.from_numpy(x[0]), watch)
    engine.advance(torch.from_numpy(x), state, len(x), watch)
    return torch.cat(found).numpy().reshape(len(x), -1)


def euler(x, weight, node, dt, back=None):
    """NIR's own equations in float64, zero reset: Euler steps."""
    v = i = s = np.zeros(weight.shape[0])
    rows = []
    for row in x:
        current = weight @ row + (0 if back is None else back @ s)
        if isinstance(node, nir.CubaLIF):
            i = i + dt / node.tau_syn * (node.w_in * current - i)
            current = i
        if isinstance(node, nir.IF):
            v = v + dt * node.r * current
        else:
            tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
            v = v + dt / tau * (node.v_leak - v + node.r * current)
        s = (v > node.v_threshold).astype(float)
        v = np.where(s > 0, node.v_reset, v)
        rows.append(s)
    return np.array(rows)


def neurons(rng, kind, units):
    def between(low, high):
        return rng.uniform(low, high, units)

    threshold, reset = between(0.5, 1), between(-0.2, 0.2)
    if kind == "IF":
        return nir.IF(between(300, 900), threshold, reset)
    leak = between(-0.1, 0.3)
    if kind == "LIF":
        return nir.LIF(between(4e-3, 9e-3), between(1, 4), leak, threshold, reset)
    return nir.CubaLIF(between(2e-3, 5e-3), between(4e-3, 9e-3), between(1, 4), leak, threshold, reset, between(1, 2))


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
@pytest.mark.parametrize("loop", [False, True])
def test_neurons_of_others_obey_their_equations(kind, loop, tmp_path):
    rng = np.random.default_rng(8)
    node, weight, back = neurons(rng, kind, 5), rng.normal(0, 1, (5, 3)), rng.normal(0, 0.5, (5, 5))
    inner = nir.NIRGraph(
        {"in": nir.Input({"input": np.array([5])}), "n": node,
         "w": nir.Linear(back), "out": nir.Output({"output": np.array([5])})},
        [("in", "n"), ("n", "out")] + ([("n", "w"), ("w", "n")] if loop else []), type_check=False,
    )  # fmt: skip
    if not loop:
        del inner.nodes["w"]
    graph = nir.NIRGraph(
        {"x": nir.Input({"input": np.array([3])}), "a": nir.Linear(weight), "inner": inner,
         "y": nir.Output({"output": np.array([5])})},
        [("x", "a"), ("a", "inner"), ("inner", "y")], metadata={"dt": 1e-3}, type_check=False,
    )  # fmt: skip
    nir.write(tmp_path / "a.nir", graph)
    x = rng.uniform(0, 1.5, (40, 3)).astype(np.float32)
    found = spikes_of(import_nir(tmp_path / "a.nir"), x[:, None], "inner.n")
    wanted = euler(x.astype(float), weight, node, 1e-3, back if loop else None)
    assert 0.02 < wanted.mean() < 0.9
    # each unit counts its membrane from its reset, as wanted starts from 0: the same in both
    assert (found != wanted).mean() < 0.01


def test_damaged_files_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    export_nir(pooled(rng, 2), tmp_path / "a.nir")
    content = (tmp_path / "a.nir").read_bytes()
    for index in range(40):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 12):
            broken[place] = rng.integers(0, 256)
        path = tmp_path / f"{index}.nir"
        path.write_bytes(broken if index % 2 else content[: rng.integers(0, len(content))])
        with contextlib.suppress(SpikeportError):
            import_nir(path)
    (tmp_path / "b.nir").write_text("no HDF5")
    with pytest.raises(CorruptFileError, match="no sound HDF5"):
        import_nir(tmp_path / "b.nir")


def test_kinds_not_covered_are_named_at_once(tmp_path):
    import h5py

    nodes = {"x": nir.Input({"input": np.array([2])}), "y": nir.Output({"output": np.array([2])})}
    nodes |= {"d": nir.Delay(np.array([1e-3, 2e-3])), "n": nir.IF(-np.ones(2), np.ones(2))}
    nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, [("x", "d"), ("d", "n"), ("n", "y")], type_check=False))
    with h5py.File(tmp_path / "a.nir", "r+") as file:
        file["node/nodes/z/type"] = "Izhikevich"
    with pytest.raises(UnsupportedError) as caught:
        import_nir(tmp_path / "a.nir")
    assert len(caught.value.problems) == 3
    assert all(word in str(caught.value) for word in ("d (Delay", "n (IF", "z (Izhikevich)"))


@pytest.mark.parametrize("graph", ["leak"], indirect=True)
def test_an_exported_network_can_be_delayed(graph, samples, tmp_path):
    """A loop with a delay of 2, read by its nodes alone."""
    nodes = [node for node in graph.nodes if node.name != "n"]
    (old,) = [node for node in graph.nodes if node.name == "n"]
    rng = np.random.default_rng(1)
    arrays = {**old.arrays, "bias": np.zeros(9)}
    loop = [
        make_node("back", "linear", [Edge("n", 2)], arrays={"weight": rng.normal(0, 0.3, (9, 9))}),
        make_node("sum", "add", ["a", "back"]),
        make_node("n", "neuron", ["sum"], arrays=arrays, code="binary", reset="zero", test=">"),
    ]
    delayed = Graph.of([*nodes, *loop])
    export_nir(delayed, tmp_path / "a.nir")
    assert same(import_nir(tmp_path / "a.nir"), delayed)
    code = input_code(-2.0, 2.0)
    lower(delayed, code, steps=8)
    lower(import_nir(tmp_path / "a.nir", dt=1e-4), code, steps=8)


def built(rng, *, groups=1, pool="global_pool", delay=0):
    fields = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    arrays = {"threshold": np.full(4, 0.8), "initial": np.zeros(4), "bias": np.zeros(4)}
    nodes = [
        make_node("x", "input", shape=(2, 6, 6)),
        make_node("a", "conv2d", ["x"], arrays={"weight": rng.normal(0, 0.6, (4, 2 // groups, 3, 3))}, **fields),
        make_node("n", "neuron", ["a"], arrays=arrays, code="binary", test=">", reset="zero"),
        make_node("p", pool, [Edge("n", delay)], **({"function": "mean"} if pool == "global_pool" else {})),
        make_node("b", "linear", ["p"], arrays={"weight": rng.normal(0, 9, (3, 4 if pool == "global_pool" else 144))}),
        make_node("y", "output", ["b"]),
    ]
    return Graph.of(nodes)


@pytest.mark.parametrize(
    "options", [{}, {"groups": 2, "pool": "flatten"}, {"delay": 2}], ids=["global mean", "groups", "delay"]
)
def test_pools_over_all_places_and_groups_go_out_and_come_back(options, tmp_path):
    graph = built(np.random.default_rng(4), **options)
    said = export_nir(graph, tmp_path / "a.nir")
    assert same(import_nir(tmp_path / "a.nir"), graph)
    assert any("2 groups" in line for line in said) == ("groups" in options)
    nir.read(tmp_path / "a.nir")
    x = np.random.default_rng(5).uniform(0, 1, (5, 2, 6, 6)).astype(np.float32)
    foreign = import_nir(tmp_path / "a.nir", dt=1e-4)
    wanted = outputs_over_time(graph, x, 12)
    assert wanted.any()
    np.testing.assert_allclose(outputs_over_time(foreign, x, 12), wanted, rtol=1e-5, atol=1e-5)


def test_a_file_that_was_changed_elsewhere_is_read_as_it_is_now(tmp_path):
    graph = built(np.random.default_rng(4), delay=2)
    export_nir(graph, tmp_path / "a.nir")
    nir.write(tmp_path / "same.nir", nir.read(tmp_path / "a.nir"))
    assert same(import_nir(tmp_path / "same.nir"), graph)
    for name, key, factor in (("a", "weight", 3), ("n", "v_threshold", 7), ("n.delay2.p", "delay", 2)):
        changed = nir.read(tmp_path / "a.nir")
        setattr(changed.nodes[name], key, getattr(changed.nodes[name], key) * factor)
        nir.write(tmp_path / "b.nir", changed)
        found = import_nir(tmp_path / "b.nir")
        assert found.information["source"]["by_definition"]
        weight, threshold = found.by_name["a"].arrays["weight"], found.by_name["n"].arrays["threshold"]
        was = graph.by_name["a"].arrays["weight"] * (3 if name == "a" else 1)
        np.testing.assert_allclose(weight, was, rtol=1e-6)
        np.testing.assert_allclose(threshold, 0.8 * (7 if name == "n" else 1), rtol=1e-6)
        late = next(node for node in found.nodes if node.operator == "delay")
        assert late.attributes["steps"] == (4 if key == "delay" else 2)


def test_a_sum_without_leak_goes_out_and_comes_back(tmp_path):
    weight = np.random.default_rng(0).normal(size=(3, 4))
    graph = Graph.of(
        [
            make_node("x", "input", shape=(4,)),
            make_node("a", "linear", ["x"], arrays={"weight": weight}),
            make_node("s", "synaptic_filter", ["a"], arrays={"alpha": np.ones(3)}),
            make_node("y", "output", ["s"]),
        ]
    )
    export_nir(graph, tmp_path / "a.nir")
    assert same(import_nir(tmp_path / "a.nir"), graph)
    x = np.random.default_rng(1).uniform(0, 1, (2, 4)).astype(np.float32)
    foreign = import_nir(tmp_path / "a.nir", dt=1e-4)
    np.testing.assert_allclose(outputs_over_time(foreign, x, 5), outputs_over_time(graph, x, 5), rtol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("node", "said"),
    [
        (lambda: nir.Delay(np.full(4, -1e-4)), "Delay of -1 steps"),
        (lambda: nir.Delay(np.full(4, 1.5e-4)), "Delay of 1.5 steps"),
        (lambda: nir.IF(np.full(4, np.inf), np.ones(4), np.zeros(4)), "not finite"),
        (lambda: nir.LIF(np.full(4, np.nan), np.ones(4), np.zeros(4), np.ones(4), np.zeros(4)), "not finite"),
        (lambda: nir.LIF(np.zeros(4), np.ones(4), np.zeros(4), np.ones(4), np.zeros(4)), "not finite"),
        (lambda: nir.Linear(np.full((4, 4), 1e300)), "not finite"),
    ],
)
def test_numbers_without_sense_are_refused_by_name(node, said, tmp_path):
    ends = {"x": nir.Input({"input": np.array([4])}), "y": nir.Output({"output": np.array([4])})}
    nir.write(tmp_path / "a.nir", nir.NIRGraph({**ends, "odd": node()}, [("x", "odd"), ("odd", "y")]))
    with pytest.raises(UnsupportedError, match=f"odd .*{said}"):
        import_nir(tmp_path / "a.nir")


@pytest.mark.parametrize(("first", "last"), [(0, -1), (1, -1), (0, 2), (1, 3), (2, -1), (0, 1)])
def test_a_flatten_is_one_of_all_axes(first, last, tmp_path):
    """Torch's exporters count the batch's axis, NIR does not; what leaves axes out is refused."""
    ends = {"x": nir.Input({"input": np.array([2, 3, 4])}), "y": nir.Output({"output": np.array([24])})}
    flat = nir.Flatten({"input": np.array([2, 3, 4])})
    flat.start_dim, flat.end_dim = first, last
    edges = [("x", "f"), ("f", "y")]
    nir.write(tmp_path / "a.nir", nir.NIRGraph({**ends, "f": flat}, edges, type_check=False))
    if (first, last) in ((2, -1), (0, 1)):
        with pytest.raises(UnsupportedError, match=r"f \(Flatten of the axes"):
            import_nir(tmp_path / "a.nir")
    else:
        assert import_nir(tmp_path / "a.nir").shapes["f"] == (24,)
