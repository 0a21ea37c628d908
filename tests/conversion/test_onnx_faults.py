"""Law: a damaged ONNX file ends in a typed error, or is a network that computes what ONNX Runtime computes with it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

pytestmark = [pytest.mark.slow, pytest.mark.needs("onnxruntime")]

MUTATIONS = 200
SECONDS = 10.0

# Little weight and much structure, so that most flipped bits change what the file means.
NODES = """
w1 = DequantizeLinear <axis = 0> (q1, s1, z1)
c1 = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w1, b1)
n1 = BatchNormalization <epsilon = 0.001> (c1, s1, b1, b1, v1)
r1 = Relu(n1)
p1 = MaxPool <kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 1, 1]> (r1)
c2 = Conv <pads = [1, 1, 1, 1], group = 2> (p1, w2)
k2 = Slice(r1, starts, ends, axes, steps)
e2 = Pad(k2, pads)
a2 = Add(c2, e2)
r2 = Clip(a2, low, high)
t2 = Transpose <perm = [0, 2, 3, 1]> (r2)
m2 = ReduceMean <axes = [1, 2], keepdims = 0> (t2)
g2 = Shape(r1)
i2 = Gather <axis = 0> (g2, zero)
j2 = Concat <axis = 0> (i2, rest)
f2 = Reshape(r2, j2)
h2 = Concat <axis = 1> (m2, f2)
l2 = MatMul(h2, w3)
o2 = Add(l2, b3)
y = Softmax(o2)
"""


def sound_model() -> bytes:
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {
        "q1": rng.integers(-90, 90, (4, 1, 3, 3)).astype(np.int8),
        "s1": np.full(4, 0.01, np.float32),
        "z1": np.zeros(4, np.int8),
        "b1": rng.normal(size=4).astype(np.float32),
        "v1": np.ones(4, np.float32),
        "w2": rng.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "starts": [0],
        "ends": [9],
        "axes": [1],
        "steps": [2],
        "pads": [0, 1, 0, 0, 0, 1, 0, 0],
        "low": np.float32(0),
        "high": np.float32(6),
        "zero": [0],
        "rest": [-1],
        "w3": rng.normal(size=(68, 3)).astype(np.float32),
        "b3": rng.normal(size=3).astype(np.float32),
    }
    graph = helper.make_graph(
        [parser.parse_node(line) for line in NODES.strip().splitlines()],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def worker(fault_worker: Callable[[str], Any]) -> Any:
    return fault_worker("onnx_fault_worker.py")


def outcomes(worker: Any, mutants: list[bytes], folder: Path) -> list[dict[str, Any]]:
    path, found = folder / "mutant.onnx", []
    for mutant in mutants:
        path.write_bytes(mutant)
        found.append(worker.ask(path))
        if found[-1]["result"] not in ("refused", "equal"):
            (folder / f"kept-{len(found)}.onnx").write_bytes(mutant)
    return found


def test_the_sound_model_is_equal(worker: Any, tmp_path: Path) -> None:
    (found,) = outcomes(worker, [sound_model()], tmp_path)
    assert found["result"] == "equal", found


def test_a_truncated_file_is_always_refused(worker: Any, tmp_path: Path) -> None:
    whole = sound_model()
    cuts = np.random.default_rng(0).choice(len(whole), MUTATIONS, replace=False)
    found = outcomes(worker, [whole[:cut] for cut in cuts], tmp_path)
    assert Counter(item["result"] for item in found) == {"refused": MUTATIONS}, found
    assert max(item["seconds"] for item in found) < SECONDS


def damaged(whole: bytes, rng: np.random.Generator, flips: int) -> bytes:
    content = bytearray(whole)
    for _ in range(flips):
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def assert_refused_or_equal(found: list[dict[str, Any]]) -> None:
    bad = [(index, item) for index, item in enumerate(found) if item["result"] not in ("refused", "equal")]
    assert bad == []
    assert max(item["seconds"] for item in found) < SECONDS


@pytest.mark.parametrize("flips", [1, 8])
def test_a_bit_flipped_file_is_refused_or_computes_what_onnx_runtime_computes(
    flips: int, worker: Any, tmp_path: Path
) -> None:
    rng, whole = np.random.default_rng(flips), sound_model()
    assert_refused_or_equal(outcomes(worker, [damaged(whole, rng, flips) for _ in range(MUTATIONS)], tmp_path))


@pytest.mark.parametrize("name", ["mnist8_cntk", "cifar10_resnet20_akamaster", "mlperf_tiny_kws_dscnn_float"])
def test_real_files_are_refused_or_compute_what_onnx_runtime_computes(
    name: str, worker: Any, tmp_path: Path, data_dir: Path
) -> None:
    whole = (data_dir / "models" / f"{name}.onnx").read_bytes()
    structure = np.ones(len(whole), bool)
    for tensor in onnx.load_model_from_string(whole).graph.initializer:
        start, length = whole.find(tensor.raw_data), len(tensor.raw_data)
        structure[start : start + length] &= length < 64
    rng = np.random.default_rng(11)
    places = [*rng.choice(np.flatnonzero(structure), MUTATIONS // 4), *rng.choice(len(whole), MUTATIONS // 20)]
    mutants = []
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        mutants.append(bytes(content))
    assert_refused_or_equal(outcomes(worker, mutants, tmp_path))
