"""Exported programs decide as the engine does, wherever a sample stops, and need nothing of ours to run."""

import ast
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.conversion.module_import import import_module
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.spiking import prepared, spiking
from spikeport.conversion.thresholds import MeanSquare
from spikeport.evaluation.compiled import CompiledNetwork, export_programs
from spikeport.evaluation.policies import Policy
from spikeport.inference import (
    AnyRule,
    ConformalExit,
    DynamicConfidence,
    FixedSteps,
    MaxSoftmax,
    patience,
    run_with_exit,
)
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Edge, Graph, make_node

T = 6
RULES: dict[str, AnyRule] = {"confidence": DynamicConfidence(MaxSoftmax(5.0), 0.4), "patience": patience(2)}
FORMATS = [pytest.param("pt2"), pytest.param("onnx", marks=pytest.mark.needs("onnxruntime"))]


def network(delay: int = 0) -> Graph:
    """Every weight is a multiple of 1/4, so that sums are exact in any order."""
    rng = np.random.default_rng(5)

    def grid(*shape: int) -> np.ndarray:
        return rng.integers(-3, 4, shape) / 4

    neuron = {"threshold": 1.0, "initial": 0.5, "bias": 0.0}
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return Graph.of(
        [
            make_node("x", "input", shape=(2, 4, 4)),
            make_node("c", "conv2d", ["x"], arrays={"weight": grid(3, 2, 3, 3), "bias": grid(3)}, **window),
            make_node("n1", "neuron", ["c"], arrays=neuron, code="signed", test=">=", reset="subtract"),
            make_node("f", "flatten", [Edge("n1", delay)]),
            make_node("w", "linear", ["f"], arrays={"weight": grid(12, 48)}),
            make_node("n2", "neuron", ["w"], arrays=neuron, code="binary", test=">=", reset="subtract"),
            make_node("v", "linear", ["n2"], arrays={"weight": grid(4, 12)}),
            make_node("y", "output", ["v"]),
        ]
    )


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randint(-4, 5, (300, 2, 4, 4), generator=torch.Generator().manual_seed(0)) / 4


Export = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return a function that exports once for each format, rule and number of steps."""
    made: dict[tuple[str, str, int], Path] = {}

    def export(to: str, rule: str = "confidence", steps: int = 1) -> Path:
        if (to, rule, steps) not in made:
            made[to, rule, steps] = tmp_path_factory.mktemp("programs") / "out"
            export_programs(network(), RULES[rule], made[to, rule, steps], to=to, max_steps=T, steps=steps)
        return made[to, rule, steps]

    return export


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(("rule", "steps"), [("confidence", 1), ("confidence", 2), ("patience", 1)])
def test_decisions_are_those_of_the_engine_at_every_exit(exported: Export, x, to: str, rule: str, steps: int) -> None:
    wanted = run_with_exit(Engine(network(), max_steps=T), x, RULES[rule])
    reached = set(wanted.steps.tolist())
    assert reached >= set(range(2 if rule == "patience" else 1, T + 1)), "the samples do not reach every exit"
    compiled = CompiledNetwork(exported(to, rule, steps))
    for batch in (1, 7, 64) if steps == 1 else (64,):
        some = slice(0, 60 if batch == 1 else None)
        found = compiled.decide(x[some], batch_size=batch)
        assert torch.equal(found.label, wanted.label[some])
        assert torch.equal(found.steps, wanted.steps[some])
        torch.testing.assert_close(found.confidence, wanted.confidence[some])


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_the_host_loop_runs_alone(exported: Export, x: torch.Tensor, to: str, tmp_path: Path) -> None:
    folder = exported(to)
    np.save(tmp_path / "x.npy", x[:50].numpy())
    command = [sys.executable, "-I", str(folder / "host.py"), str(folder), str(tmp_path / "x.npy"), "16"]
    done = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    wanted = run_with_exit(Engine(network(), max_steps=T), x[:50], RULES["confidence"])
    assert (done["labels"], done["steps"]) == (wanted.label.tolist(), wanted.steps.tolist())
    tree = ast.parse((folder / "host.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert "import spikeport" not in (folder / "host.py").read_text()


@pytest.mark.slow
def test_what_the_programs_cannot_take_is_refused(exported: Export, x: torch.Tensor, tmp_path: Path) -> None:
    compiled = CompiledNetwork(exported("pt2"))
    with pytest.raises(ShapeError, match="at least one sample"):
        compiled.decide(x[:0])
    with pytest.raises(RangeError, match="programs take"):
        compiled.decide(x[:, :1])
    spoilt = x[:3].clone()
    spoilt[1] = math.nan
    with pytest.raises(RangeError, match="NaN"):
        compiled.decide(spoilt)
    with pytest.raises(SpikeportError, match="is there already"):
        export_programs(network(), RULES["patience"], exported("pt2"), to="pt2", max_steps=T)
    (tmp_path / "other").mkdir()
    with pytest.raises(SpikeportError, match="holds no programs"):
        export_programs(network(), RULES["patience"], tmp_path / "other", to="pt2", max_steps=T, overwrite=True)


@pytest.mark.slow
def test_only_what_an_export_wrote_is_replaced(tmp_path: Path) -> None:
    out, rule = tmp_path / "out", RULES["patience"]
    export_programs(network(), rule, out, to="pt2", max_steps=T)
    export_programs(network(), rule, out, to="pt2", max_steps=T, overwrite=True)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(SpikeportError, match=r"thesis\.tex.*not replaced"):
        export_programs(network(), rule, out, to="pt2", max_steps=T, overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_differential_networks_decide_alike(to: str, tmp_path: Path) -> None:
    rule = DynamicConfidence(MaxSoftmax(1.0), 0.4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(80, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    graph = prepared(simplified(import_module(module, (2, 4, 4)).graph), "differential")
    graph = spiking(graph, MeanSquare().thresholds(graph, x.numpy(), T), "differential")
    export_programs(graph, rule, tmp_path / "out", to=to, max_steps=T)
    wanted = run_with_exit(Engine(graph, max_steps=T), x, rule)
    assert len(set(wanted.steps.tolist())) > 2
    found = CompiledNetwork(tmp_path / "out").decide(x)
    assert float((found.label != wanted.label).double().mean()) < 0.03, "a last bit may tip a spike"
    assert float((found.steps != wanted.steps).double().mean()) < 0.05


def test_what_has_no_program_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out, rule = tmp_path / "out", RULES["confidence"]
    with pytest.raises(SpikeportError, match="choose one of pt2, onnx"):
        export_programs(network(), rule, out, to="tflite", max_steps=T)
    with pytest.raises(RangeError, match="stops at step 9"):
        export_programs(network(), FixedSteps(9), out, to="pt2", max_steps=T)
    with pytest.raises(UnsupportedError, match="late by 1"):
        export_programs(network(delay=1), rule, out, to="pt2", max_steps=T)
    with pytest.raises(SpikeportError, match="no folder"):
        export_programs(network(), rule, tmp_path / "a" / "b", to="pt2", max_steps=T)
    assert not out.exists()
    with pytest.raises(CorruptFileError, match="no whole programs"):
        CompiledNetwork(tmp_path)


@pytest.mark.slow
def test_a_trained_network_with_a_learned_gate_decides_alike(digits, tmp_path: Path) -> None:
    held = digits.converted
    rule = Policy("gate").rule(held.exit, max_loss=0.05)
    steps = len(held.exit.outputs)
    export_programs(held.spiking, rule, tmp_path / "out", to="pt2", max_steps=steps)
    x = torch.from_numpy(digits.evaluation.x)
    wanted = run_with_exit(Engine(held.spiking, max_steps=steps), x, rule)
    found = CompiledNetwork(tmp_path / "out").decide(x)
    assert int((found.label != wanted.label).sum()) <= 1, "a last bit may tip a spike"
    assert float((found.steps != wanted.steps).double().mean()) < 0.03


@pytest.mark.slow
def test_a_rule_that_no_onnx_program_holds_is_refused_by_name(tmp_path: Path) -> None:
    rule = ConformalExit(1.0, (2, 4), (0.3, 0.4), 1, 0.9)
    out = tmp_path / "out"
    with pytest.raises(UnsupportedError, match="head"):
        export_programs(network(), rule, out, to="onnx", max_steps=T)
    assert not out.exists()
