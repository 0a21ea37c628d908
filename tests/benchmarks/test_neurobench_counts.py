"""The operations that activity counts are those that NeuroBench counts on the same network."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from spikeport.conversion.chain_import import import_chain
from spikeport.networks.activity import ActivityMeter, analog_synapses
from spikeport.networks.engine import Engine


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("neurobench_counts")
    sys.modules.pop("neurobench_counts", None)


@pytest.mark.parametrize("name", ["layers", "convolutions"])
def test_ours_equal_those_that_neurobench_counted(script: ModuleType, name: str) -> None:
    wanted = json.loads(script.RESULTS.read_text(encoding="utf-8"))["operations"][name]
    chain, shape = script.networks()[name]
    x = script.inputs(shape)
    graph = import_chain(chain, shape)
    meter, engine = ActivityMeter(graph), Engine(graph, max_steps=script.STEPS)
    with torch.no_grad():
        engine.advance(x, engine.start(x), script.STEPS, observe=meter.observe)
    accumulates = sum(float(each.sum()) for each in meter.accumulates.values()) / len(x)
    assert accumulates > 1000
    assert accumulates == wanted["Effective_ACs"]
    # a constant input is read once here; NeuroBench is shown it at every step
    assert sum(analog_synapses(graph).values()) * script.STEPS == wanted["Effective_MACs"]


@pytest.mark.needs("neurobench")
@pytest.mark.parametrize("name", ["layers", "convolutions"])
def test_neurobench_still_counts_so(script: ModuleType, name: str) -> None:
    chain, shape = script.networks()[name]
    wanted = json.loads(script.RESULTS.read_text(encoding="utf-8"))["operations"][name]
    assert script.count(chain, script.inputs(shape)) == wanted
