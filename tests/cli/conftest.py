"""Small models and data for the command, and a way to run it inside the test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from spikeport.cli.main import run


class Outcome(NamedTuple):
    """How the command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of the error, without its head."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run ``spikeport`` with arguments, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(code, captured.out, captured.err)

    return invoke


NETWORK = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    b = {activation} (a)
    c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
    d = Flatten (c)
    e = MatMul (d, w2)
    f = Relu (e)
    y = MatMul (f, w3)
"""


def write_model(path: Path, activation: str = "Relu") -> Path:
    """A network for the digits with random weights."""
    rng = np.random.default_rng(3)
    shapes = {"w1": (4, 1, 3, 3), "w2": (64, 16), "w3": (16, 10)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32) / 3, n) for n, s in shapes.items()]
    lines = NETWORK.format(activation=activation).strip().splitlines()
    graph = helper.make_graph(
        [parser.parse_node(line.strip()) for line in lines],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        weights,
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that can be converted."""
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Return a function that writes the network with another first activation."""
    return write_model


@pytest.fixture(scope="session")
def converted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversion folder made by the command; not to be changed."""
    folder = tmp_path_factory.mktemp("converted") / "small"
    assert run([*convert_arguments(model), "-o", str(folder)]) == 0
    return folder


def convert_arguments(model: Path, data: str = "digits") -> list[str]:
    return ["convert", str(model), "--calibration", data, "--method", "mse", "--timesteps", "4", "--num-samples", "80"]


@pytest.fixture(scope="session")
def arguments() -> Callable[..., list[str]]:
    """Return a function that gives the arguments of a quick conversion, without its folder."""
    return convert_arguments
