"""Our files in the readers of others: the same spikes where they can reset as we do, other ones where they cannot."""

import numpy as np
import pytest
import torch

from spikeport import SpikeportError
from spikeport.hardware.nir import export_nir, import_nir
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node

try:
    import nir
except ImportError:  # then the mark skips
    nir = None
pytestmark = [pytest.mark.needs("nir", "nirtorch"), pytest.mark.filterwarnings("ignore")]


def network(rng, reset, beta):
    nodes, source = [make_node("input", "input", shape=(12,))], "input"
    for name, inputs, units in (("n", 12, 20), ("m", 20, 6)):
        weight = {"weight": rng.normal(0, 0.4, (units, inputs)), "bias": rng.normal(0, 0.1, units)}
        nodes.append(make_node(f"{name}_in", "linear", [source], arrays=weight))
        arrays = {"threshold": np.ones(units), "initial": np.zeros(units), "bias": np.zeros(units)}
        if beta is not None:
            arrays["beta"] = np.full(units, beta) - 0.1 * (np.arange(units) % 2)
        fields = {"code": "binary", "test": ">", "reset": reset}
        nodes.append(make_node(name, "neuron", [f"{name}_in"], arrays=arrays, **fields))
        source = name
    return Graph.of([*nodes, make_node("output", "output", ["m"])])


def ours(graph, x):
    engine, found = Engine(graph, max_steps=len(x), constant_input=False), []

    def watch(name, value):
        if name == "m":
            found.append(value.clone())

    engine.advance(x, engine.start(x[0], watch), len(x), watch)
    return torch.cat(found).reshape(len(x), -1)


def step_by_step(module, x):
    state, found = None, []
    for row in x:
        spikes, state = module(row) if state is None else module(row, state)
        found.append(spikes.detach().reshape(-1))
    return torch.stack(found)


def in_snntorch(path, x):
    from snntorch.import_nir import import_from_nir

    return step_by_step(import_from_nir(nir.read(path)), x)


def in_norse(path, x):
    import norse.torch

    return step_by_step(norse.torch.from_nir(nir.read(path), dt=1e-4, ignore_warnings=True), x)


def in_sinabs(path, x):
    from sinabs.activation import SingleSpike
    from sinabs.nir import from_nir

    module = from_nir(nir.read(path), num_timesteps=len(x))
    for layer in module.modules():
        if hasattr(layer, "spike_fn"):
            layer.spike_fn = SingleSpike
    found = module(x.reshape(len(x), -1))
    return (found[0] if isinstance(found, tuple) else found).detach().reshape(len(x), -1)


READERS = {"snntorch": (in_snntorch, "zero"), "norse": (in_norse, "zero"), "sinabs": (in_sinabs, "subtract")}
EACH = [pytest.param(name, marks=pytest.mark.needs(name)) for name in READERS]


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("beta", [0.9, None], ids=["leaky", "without leak"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_reader_gives_the_same_spikes_where_it_can(name, beta, reset, tmp_path):
    rng = np.random.default_rng(0)
    graph = network(rng, reset, beta)
    theirs, can = READERS[name]
    said = export_nir(graph, tmp_path / "a.nir", reader=name)
    x = torch.from_numpy(rng.uniform(0, 1, (200, 1, 12)).astype(np.float32))
    a, b = ours(graph, x), theirs(tmp_path / "a.nir", x)
    assert a.sum() > 30
    assert torch.equal(a, b) == (reset == can)
    assert len(said) == (0 if reset == can else 2)
    assert all(name in line for line in said)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("beta", [0.9, None], ids=["leaky", "without leak"])
def test_a_file_for_a_reader_comes_back_as_it_was(name, beta, tmp_path):
    graph = network(np.random.default_rng(1), "subtract", beta)
    export_nir(graph, tmp_path / "a.nir", reader=name)
    back = import_nir(tmp_path / "a.nir")
    for node in graph.nodes:
        assert back.by_name[node.name].attributes == node.attributes
        for key, array in node.arrays.items():
            assert np.array_equal(back.by_name[node.name].arrays[key], array)


def test_a_reader_that_is_not_known_or_knows_another_step_is_refused(tmp_path):
    graph = network(np.random.default_rng(1), "zero", None)
    with pytest.raises(SpikeportError, match="choose one of snntorch, norse, sinabs"):
        export_nir(graph, tmp_path / "a.nir", reader="nest")
    with pytest.raises(SpikeportError, match="leave dt out"):
        export_nir(graph, tmp_path / "a.nir", reader="snntorch", dt=1e-3)
    assert not (tmp_path / "a.nir").exists()
