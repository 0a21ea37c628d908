"""Our files in the readers of others: the same spikes for a reset to zero, other ones where they cannot subtract."""

import numpy as np
import pytest
import torch

from spikeport.hardware.nir import export_nir
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node

try:
    import nir
except ImportError:  # then the mark skips
    nir = None
pytestmark = pytest.mark.needs("nir", "nirtorch")


def network(rng, reset):
    nodes, source = [make_node("input", "input", shape=(12,))], "input"
    for name, inputs, units in (("n", 12, 20), ("m", 20, 6)):
        weight = {"weight": rng.normal(0, 0.4, (units, inputs)), "bias": rng.normal(0, 0.1, units)}
        nodes.append(make_node(f"{name}_in", "linear", [source], arrays=weight))
        arrays = {"threshold": np.ones(units), "initial": np.zeros(units), "bias": np.zeros(units)}
        arrays["beta"] = np.full(units, 0.9)
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


def theirs(path, x):
    from snntorch.import_nir import import_from_nir

    module, state, found = import_from_nir(nir.read(path)), None, []
    for row in x:
        spikes, state = module(row) if state is None else module(row, state)
        found.append(spikes.detach().reshape(-1))
    return torch.stack(found)


@pytest.mark.needs("snntorch")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_snntorch_gives_the_same_spikes_where_it_can(reset, tmp_path):
    rng = np.random.default_rng(0)
    graph = network(rng, reset)
    said = export_nir(graph, tmp_path / "a.nir")
    x = torch.from_numpy(rng.uniform(0, 1, (200, 1, 12)).astype(np.float32))
    a, b = ours(graph, x), theirs(tmp_path / "a.nir", x)
    assert a.sum() > 30
    assert torch.equal(a, b) == (reset == "zero")
    assert len(said) == (0 if reset == "zero" else 2)
