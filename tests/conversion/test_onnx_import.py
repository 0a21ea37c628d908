"""Law: a Graph read from an ONNX file computes what ONNX Runtime computes with the same file."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from spikeport.conversion.onnx_import import import_onnx
from spikeport.conversion.source import Source, check_source

pytestmark = pytest.mark.needs("onnxruntime")

NEWEST = min(onnx.defs.onnx_opset_version(), 23)  # the newest that the oldest ONNX Runtime we allow is sure to run
TOLERANCE = 2e-5
IMAGE = (3, 9, 8)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model from lines such as ``y = Conv <pads = [1, 1]> (x, w)``; arrays are drawn from a fixed seed."""

    def written(
        lines: str, shape: tuple[int, ...], opset: int, weights: dict[str, object], batch: object = "n"
    ) -> Path:
        rng = np.random.default_rng(7)
        arrays = {
            name: rng.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
            for name, value in weights.items()
        }
        nodes = [parser.parse_node(line) for line in lines.strip().splitlines()]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(opset, 8))
        inferred = onnx.shape_inference.infer_shapes(model)
        output = next((v for v in inferred.graph.output if v.type.HasField("tensor_type")), None)
        if output is None or not output.type.tensor_type.HasField("shape"):
            del model.graph.output[:]
            model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 2))
        else:
            model = inferred
        path = tmp_path / "model.onnx"
        onnx.save_model(model, path)
        return path

    return written


def samples(source: Source, n: int = 5) -> np.ndarray:
    shape = source.graph.shapes[source.graph.input.name]
    return np.random.default_rng(1).normal(size=(n, *shape)).astype(np.float32)


# name: (lines, feature shape, weights, opsets)
OLD, MIDDLE, NEW = (7, 9), (7, 11, 13, 17, NEWEST), (13, 18, NEWEST)
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, object], tuple[int, ...]]] = {
    "convolution": (
        "y = Conv <pads = [1, 2, 1, 2], strides = [2, 1]> (x, w, b)", IMAGE, {"w": (4, 3, 3, 3), "b": (4,)}, MIDDLE,
    ),
    "grouped dilated": ("y = Conv <group = 3, dilations = [2, 1]> (x, w)", IMAGE, {"w": (6, 1, 3, 3)}, MIDDLE),
    "asymmetric": ("y = Conv <pads = [0, 1, 2, 0]> (x, w)", IMAGE, {"w": (4, 3, 3, 3)}, MIDDLE),
    "one axis": ("y = Conv <pads = [1, 1], strides = [2]> (x, w)", (3, 11), {"w": (4, 3, 3)}, MIDDLE),
    **{
        f"{mode} {kernel} by {stride}": (
            f'y = Conv <auto_pad = "{mode}", strides = [{stride}, 1]> (x, w)',
            IMAGE,
            {"w": (4, 3, kernel, 2)},
            (7, 17),
        )
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for kernel, stride in ((3, 2), (4, 1), (2, 3))
    },
    **{
        f"{operator} {mode} {kernel} by {stride}": (
            f'y = {operator} <auto_pad = "{mode}", kernel_shape = [{kernel}, 3], strides = [{stride}, 2]> (x)',
            IMAGE,
            {},
            (7, 17),
        )
        for operator in ("MaxPool", "AveragePool")
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for kernel, stride in ((3, 2), (2, 1), (3, 1))
    },
    **{
        f"{operator} {pads} ceil {ceil}": (
            f"y = {operator} <kernel_shape = [3, 2], strides = [2, 2], pads = {pads}, ceil_mode = {ceil}> (x)",
            (2, 8, 7),
            {},
            (11, 19),
        )
        for operator in ("MaxPool", "AveragePool")
        for pads in ("[0, 0, 0, 0]", "[1, 1, 1, 1]", "[0, 1, 1, 0]", "[2, 0, 0, 1]")
        for ceil in (0, 1)
    },
    **{
        f"counting padding {pads}": (
            f"y = AveragePool <kernel_shape = [3, 2], strides = [2, 1], pads = {pads}, count_include_pad = 1> (x)",
            (2, 7, 6),
            {},
            (7, 17),
        )
        for pads in ("[1, 1, 1, 1]", "[0, 1, 2, 0]", "[2, 0, 2, 0]")
    },
    "max-pool after relu": (
        "r = Relu(x)\ny = MaxPool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (r)", IMAGE, {}, (8, 17),
    ),
    "pool 1d": ("y = AveragePool <kernel_shape = [3], strides = [2]> (x)", (3, 9), {}, MIDDLE),
    "global average": ("y = GlobalAveragePool(x)", IMAGE, {}, MIDDLE),
    "global max": ("g = GlobalMaxPool(x)\ny = Flatten(g)", IMAGE, {}, MIDDLE),
    "gemm": ("y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b)", (6,), {"w": (4, 6), "b": (4,)}, MIDDLE),
    "gemm plain": ("y = Gemm(x, w, b)", (6,), {"w": (6, 4), "b": ()}, MIDDLE),
    "matmul": ("m = MatMul(x, w)\ny = Add(b, m)", (6,), {"w": (6, 4), "b": (1, 4)}, MIDDLE),
    "matmul of rows": ("m = MatMul(x, w)\ny = Add(m, b)", (5, 6), {"w": (6, 4), "b": (4,)}, MIDDLE),
    "batch norm": (
        "c = Conv(x, w)\ny = BatchNormalization <epsilon = 0.01> (c, s, b, m, v)",
        IMAGE,
        {"w": (4, 3, 1, 1), "s": (4,), "b": (4,), "m": (4,), "v": np.array([0.5, 1, 2, 3], np.float32)},
        MIDDLE,
    ),
    "relu6": ("y = Clip(x, low, high)", (6,), {"low": np.float32(0), "high": np.float32(0.6)}, (11, 13, NEWEST)),
    "clip without upper bound": ("y = Clip(x, low)", (6,), {"low": np.float32(0)}, (11, 13)),
    "old relu6": ("y = Clip <min = 0.0, max = 0.6> (x)", (6,), {}, OLD),
    "relu and min": ("r = Relu(x)\ny = Min(c, r)", (6,), {"c": np.float32(0.5)}, (8, 13)),
    "max with zero": ("y = Max(x, c)", (6,), {"c": np.float32(0)}, (8, 13)),
    "leak of zero": ("y = LeakyRelu <alpha = 0.0> (x)", (6,), {}, MIDDLE),
    "per channel": ("m = Mul(x, s)\ny = Add(m, t)", IMAGE, {"s": (3, 1, 1), "t": (1, 3, 1, 1)}, MIDDLE),
    "per unit": ("m = Sub(x, s)\ny = Div(m, t)", IMAGE, {"s": (9, 8), "t": (3, 9, 1)}, MIDDLE),
    "scalars": (
        "m = Sub(c, x)\nn = Mul(c, m)\no = Neg(n)\ny = Div(o, d)", IMAGE, {"c": (1,), "d": np.float32(3)}, MIDDLE,
    ),
    "shift after convolution": (
        "c = Conv(x, w)\nd = Add(c, t)\ny = Sub(d, t)", IMAGE, {"w": (2, 3, 1, 1), "t": (2, 1, 1)}, MIDDLE,
    ),
    "shift of a shared convolution": (
        "c = Conv(x, w)\nd = Add(c, t)\ny = Add(d, c)", IMAGE, {"w": (2, 3, 1, 1), "t": (2, 1, 1)}, OLD,
    ),
    "residual": (
        "c = Conv <pads = [1, 1, 1, 1]> (x, w)\ns = Add(c, x)\ny = Relu(s)", IMAGE, {"w": (3, 3, 3, 3)}, MIDDLE,
    ),
    "sums and products": ("a = Mul(x, x)\nb = Sum(a, x, x)\nc = Sub(b, a)\ny = Mul(c, a)", IMAGE, {}, MIDDLE),
    "gate": ("g = GlobalAveragePool(x)\nr = Relu(g)\ny = Mul(x, r)", IMAGE, {}, MIDDLE),
    "concat": ("r = Relu(x)\ny = Concat <axis = -1> (x, r, x)", IMAGE, {}, NEW),
    "identities": ("a = Identity(x)\nb = Dropout(a)\ny = Cast <to = 1> (b)", IMAGE, {}, MIDDLE),
    "like itself": (
        "a = CastLike(c, x)\nb = CastLike(x, d)\ny = Mul(b, a)", IMAGE, {"c": [3], "d": np.float32(1)}, (15, 19),
    ),
    "part of a shape": (
        "s = Shape <start = 1, end = 3> (w)\nc = Expand(d, s)\ny = Mul(x, c)",
        (2, 3), {"w": (4, 2, 3), "d": (1,)}, (15, 19),
    ),
    "flatten": ("y = Flatten(x)", IMAGE, {}, MIDDLE),
    "reshape": ("y = Reshape(x, s)", IMAGE, {"s": np.array([0, 3, -1])}, MIDDLE),
    "reshape with open batch": ("y = Reshape(x, s)", IMAGE, {"s": np.array([-1, 12, 18])}, MIDDLE),
    "old squeeze": (
        "a = Unsqueeze <axes = [1, 3]> (x)\nr = Relu(a)\ny = Squeeze <axes = [3, 1]> (r)", (5,), {}, (7, 11),
    ),
    "squeeze": ("a = Unsqueeze(x, p)\nr = Relu(a)\ny = Squeeze(r, p)", (5,), {"p": np.array([1, -1])}, NEW),
    "transpose": ("y = Transpose <perm = [0, 2, 3, 1]> (x)", IMAGE, {}, MIDDLE),
    "pad": ("y = Pad(x, p, v)", IMAGE, {"p": np.array([0, 0, 1, 2, 0, 1, 0, 3]), "v": np.float32(0.5)}, (11, 13, 18)),
    "old pad": ("y = Pad <pads = [0, 0, 1, 2, 0, 1, 0, 3], value = 0.5> (x)", IMAGE, {}, OLD),
    "pad of some axes": ("y = Pad(x, p, , a)", IMAGE, {"p": np.array([1, 2, 0, 1]), "a": np.array([2, -1])}, (18, 19)),
    "slice": ("y = Slice(x, s, e, a, t)", IMAGE, {"s": [1, -7], "e": [9, 99], "a": [2, -1], "t": [3, 2]}, (10, 13)),
    "crop": ("y = Slice(x, s, e, a)", IMAGE, {"s": [0, 2], "e": [5, 6], "a": [2, 3]}, (10, 13)),
    "channels": ("y = Slice(x, s, e, a, t)", IMAGE, {"s": [0], "e": [3], "a": [1], "t": [2]}, (10, 13)),
    "old slice": ("y = Slice <starts = [0, 1], ends = [9999, 7]> (x)", (9, 8), {}, (7, 9)),
    "slice twice": (
        "a = Slice(x, s, e, p, t)\nb = Slice(a, s, e, q, t)\ny = Slice(b, s, e, p, t)",
        IMAGE,
        {"s": [1], "e": [99], "p": [2], "q": [3], "t": [2]},
        (10, 13),
    ),
    "picked units": ("y = Slice(x, s, e, a, t)", (9,), {"s": [1], "e": [9], "a": [1], "t": [3]}, (10, 13)),
    "shortcut of option A": (
        "a = Slice(x, s, e, d, t)\ny = Pad(a, p)",
        (4, 8, 8),
        {"s": [0, 0], "e": [99, 99], "d": [2, 3], "t": [2, 2], "p": [0, 2, 0, 0, 0, 2, 0, 0]},
        (11, 13),
    ),
    "split": ("a, b = Split <axis = 1, split = [1, 2]> (x)\ny = Concat <axis = 1> (b, a)", IMAGE, {}, (7, 11)),
    "split in parts": (
        "a, b = Split <axis = 2, num_outputs = 2> (x)\ny = Concat <axis = 1> (a, b)", (3, 8, 8), {}, (18,),
    ),
    "reduced mean": ("y = ReduceMean <axes = [2, 3], keepdims = 0> (x)", IMAGE, {}, (7, 13)),
    "reduced mean, axes as input": ("y = ReduceMean(x, a)", IMAGE, {"a": np.array([-1, -2])}, (18, NEWEST)),
    "reduced sum and maximum": (
        "a = ReduceSum <keepdims = 0> (x, i)\nb = ReduceMax <axes = [2, 3], keepdims = 0> (x)\ny = Add(a, b)",
        IMAGE,
        {"i": np.array([2, 3])},
        (13,),
    ),
    "softmax head": ("l = MatMul(x, w)\ns = Softmax(l)\ny = Identity(s)", (6,), {"w": (6, 4)}, MIDDLE),
    "old softmax over a map": ("y = Softmax(x)", IMAGE, {}, (7, 11)),
    "new softmax over an axis": ("y = Softmax <axis = 1> (x)", IMAGE, {}, (13,)),
    "log-softmax head": ("l = MatMul(x, w)\ny = LogSoftmax <axis = 1> (l)", (6,), {"w": (6, 4)}, MIDDLE),
    "sigmoid head": ("l = MatMul(x, w)\ny = Sigmoid(l)", (6,), {"w": (6, 4)}, MIDDLE),
    "argmax head": ("l = Softmax(x)\na = ArgMax <axis = 1, keepdims = 0> (l)\ny = Cast <to = 6> (a)", (6,), {}, MIDDLE),
    "last argmax": ("r = Relu(x)\ny = ArgMax <axis = -1, select_last_index = 1> (r)", (6,), {}, (12, 13)),
}  # fmt: skip
CASES_BY_OPSET = [(name, opset) for name, case in CASES.items() for opset in case[3]]


@pytest.mark.parametrize(("name", "opset"), CASES_BY_OPSET)
def test_the_graph_computes_what_onnx_runtime_computes(name: str, opset: int, write: Write) -> None:
    lines, shape, weights, _ = CASES[name]
    source = import_onnx(write(lines, shape, opset, weights))
    assert check_source(source, samples(source)) < TOLERANCE


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["convolution", "matmul", "reshape with open batch", "softmax head", "argmax head"])
def test_a_file_with_a_fixed_batch_runs_with_any(name: str, batch: int, write: Write) -> None:
    lines, shape, weights, _ = CASES[name]
    fixed = import_onnx(write(lines, shape, 13, weights, batch=batch))
    x = samples(fixed, 7)
    assert check_source(fixed, x) < TOLERANCE
    open_batch = import_onnx(write(lines, shape, 13, weights))
    np.testing.assert_allclose(fixed.run(x), open_batch.run(x), rtol=1e-5, atol=1e-6)


def operators(source: Source) -> list[str]:
    return [node.operator for node in source.graph.nodes]


LAYOUT_CHANGES = """
a = Transpose <perm = [0, 3, 1, 2]> (x)
b = Conv <auto_pad = "SAME_UPPER"> (a, w)
c = Transpose <perm = [0, 2, 3, 1]> (b)
d = Add(c, t)
e = Relu(d)
f = Transpose <perm = [0, 3, 1, 2]> (e)
g = Conv <auto_pad = "SAME_UPPER"> (f, v)
h = Transpose <perm = [0, 2, 3, 1]> (g)
i = Concat <axis = 3> (h, e)
y = ReduceMean <axes = [1, 2], keepdims = 0> (i)
"""


def test_layout_changes_around_convolutions_cancel(write: Write) -> None:
    weights = {"w": (4, 3, 3, 3), "v": (5, 4, 3, 3), "t": (4,)}
    source = import_onnx(write(LAYOUT_CHANGES, (8, 9, 3), 13, weights))
    assert check_source(source, samples(source)) < TOLERANCE
    assert operators(source)[1:-1] == ["transpose", "conv2d", "activation", "conv2d", "concat", "global_pool"]


def test_what_sees_the_axes_gets_them_in_the_order_of_onnx(write: Write) -> None:
    lines = "a = Relu(x)\nb = Transpose <perm = [0, 2, 3, 1]> (a)\nc = Flatten(b)\ny = MatMul(c, w)"
    source = import_onnx(write(lines, (3, 4, 5), 13, {"w": (60, 2)}))
    assert check_source(source, samples(source)) < TOLERANCE
    assert operators(source) == ["input", "activation", "transpose", "flatten", "linear", "output"]


DEQUANTISED = """
w = DequantizeLinear <axis = 0> (q, s, z)
b = Conv(x, w)
n = Shape(b)
i = Constant <value_ints = [0]> ()
m = Gather <axis = 0> (n, i)
k = Constant <value_ints = [-1]> ()
t = Concat <axis = 0> (m, k)
f = Reshape(b, t)
o = ConstantOfShape <value = float[1] {0.5}> (r)
y = Mul(f, o)
"""


def test_constants_and_shapes_are_computed_while_reading(write: Write) -> None:
    weights = {
        "q": np.arange(-13, 14, dtype=np.int8).reshape(9, 3, 1, 1),
        "s": np.linspace(0.1, 0.9, 9, dtype=np.float32),
        "z": np.arange(9, dtype=np.int8),
        "r": np.array([1]),
    }
    source = import_onnx(write(DEQUANTISED, (3, 2, 2), 13, weights))
    assert check_source(source, samples(source)) < TOLERANCE
    assert operators(source) == ["input", "conv2d", "flatten", "scale", "output"]


def test_a_strided_slice_with_channel_padding_is_one_fixed_convolution(write: Write) -> None:
    lines, shape, weights, _ = CASES["shortcut of option A"]
    source = import_onnx(write(lines, shape, 13, weights))
    assert operators(source) == ["input", "conv2d", "output"]
    weight = source.graph.nodes[1].arrays["weight"]
    assert weight.shape == (8, 4, 1, 1)
    np.testing.assert_array_equal(weight[2:6, :, 0, 0], np.eye(4))
    assert np.count_nonzero(weight) == 4


def test_a_removed_head_is_noted_and_the_graph_returns_logits(write: Write) -> None:
    lines, shape, weights, _ = CASES["argmax head"]
    source = import_onnx(write(lines, shape, 13, weights))
    assert [note.split()[:2] for note in source.notes] == [["removed", "ArgMax"], ["removed", "Softmax"]]
    assert operators(source) == ["input", "output"]


def test_a_sigmoid_at_the_end_is_a_head_too(write: Write) -> None:
    lines, shape, weights, _ = CASES["sigmoid head"]
    source = import_onnx(write(lines, shape, 13, weights))
    assert [note.split()[:2] for note in source.notes] == [["removed", "Sigmoid"]]
    assert operators(source) == ["input", "linear", "output"]


def test_names_are_readable_and_unique(write: Write) -> None:
    path = write("a = Relu(x)\nb = Neg(a)\nc = Relu(b)\ny = Neg(c)", (4,), 13, {})
    model = onnx.load_model(path)
    for node, name in zip(model.graph.node, ["/block/Relu", "output", "/block/Relu", "other;tail/Neg:0"], strict=True):
        node.name = name
    onnx.save_model(model, path)
    names = [node.name for node in import_onnx(path).graph.nodes]
    assert names == ["x", "block.Relu", "output_2", "block.Relu_2", "tail.Neg.0", "output"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+", name) for name in names)


REAL = {"mnist8_cntk": 255.0, "cifar10_resnet20_akamaster": 1.0, "mlperf_tiny_kws_dscnn_float": 50.0}


@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str, data_dir: Path) -> None:
    source = import_onnx(data_dir / "models" / f"{name}.onnx")
    assert check_source(source, samples(source, 6) * REAL[name]) < TOLERANCE
    layers = {"conv2d", "linear", "activation", "max_pool", "average_pool", "global_pool", "add"}
    assert not set(operators(source)) - layers - {"input", "output", "flatten", "reshape", "pad"}


def test_the_reference_of_onnx_stands_in_for_a_missing_runtime(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, shape, weights, _ = CASES["residual"]
    path = write(lines, shape, 13, weights)
    x = samples(import_onnx(path))
    wanted = import_onnx(path).run(x)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    np.testing.assert_allclose(import_onnx(path).run(x), wanted, rtol=1e-4, atol=1e-5)
