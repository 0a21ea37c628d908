"""The benchmark of networks trained in levels: its networks can be converted, and a missed target is marked."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from spikeport.conversion.module_import import import_module
from spikeport.conversion.rewrite import arranged, simplified
from spikeport.conversion.spiking import require_convertible


@pytest.fixture
def script(root, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("qcfs_table")
    for name in ("qcfs_table", "qcfs_networks"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "activations"), [("vgg_like", 7), ("resnet18_like", 17)])
def test_the_networks_can_be_trained_and_converted(script: ModuleType, name: str, activations: int) -> None:
    torch.manual_seed(0)
    graph = import_module(script.NETWORKS[name](4), (3, 32, 32)).graph
    assert len(arranged(graph).of_operator("activation")) == activations
    assert arranged(graph).of_operator("batch_norm")
    require_convertible(simplified(graph))


def test_a_missed_target_is_marked(script: ModuleType) -> None:
    def steps(difference: float) -> dict[str, Any]:
        held = {"accuracy": 0.9, "difference": [difference, difference - 0.01, difference + 0.01]}
        return {str(step): held for step in script.SHOWN}

    early = {"mean_steps": 2.0, "accuracy": 0.9, "speedup_steps": 1.5}
    result = {"n": 100, "relu_accuracy": 0.9}
    texts = [
        script.line("v", result, {"code": "binary", "quantised_accuracy": 0.9, "steps": steps(d), "early_exit": early})
        for d in (-0.004, -0.006, -0.03)
    ]
    assert [text.count("missed") for text in texts] == [0, 1, 2]
