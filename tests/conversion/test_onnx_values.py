"""Laws: value operators read from ONNX compute what onnx's reference does; other spike codes refuse them by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from spikeport import UnsupportedError
from spikeport.conversion.onnx_import import import_onnx
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import require_convertible
from spikeport.networks.graph import Graph

TOKENS, IMAGE, HEADS = (5, 6), (3, 5, 4), (2, 5, 6)
TOLERANCE = 1e-5

Model = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Model:
    """write(lines, shape, opset, arrays, batch): a model from lines such as ``y = Gelu(x)``; a tuple is drawn."""

    def written(lines: str, shape: tuple[int, ...], opset: int, arrays: dict[str, object], batch: object = "n") -> Path:
        rng = np.random.default_rng(3)
        made = {
            name: rng.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
            for name, value in arrays.items()
        }
        graph = helper.make_graph(
            [parser.parse_node(line) for line in lines.strip().splitlines()],
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in made.items()],
        )
        graph.output[0].type.tensor_type.shape.SetInParent()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(opset, 10))
        path = tmp_path / "model.onnx"
        onnx.save_model(model, path)
        return path

    return written


def difference(path: Path, samples: int = 4) -> tuple[float, Graph]:
    """The largest difference between the Graph and onnx's reference, by the largest value above 1; and the Graph."""
    graph = import_onnx(path).graph
    x = 2 * np.random.default_rng(1).normal(size=(samples, *graph.shapes[graph.input.name])).astype(np.float32)
    (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    found = analog_output(graph, x)
    assert found.size == wanted.size
    return float(np.abs(found.reshape(wanted.shape) - wanted).max() / max(1.0, np.abs(wanted).max())), graph


INT, FLOAT = np.int64, np.float32
NORM = {"w": (6,), "b": (6,)}
MEAN = "ReduceMean <axes = [-1]>"
WRITTEN_OUT = f"m = {MEAN} (x)\nc = Sub(x, m)\np = Pow(c, two)\nv = {MEAN} (p)\ne = Add(v, eps)\ns = Sqrt(e)\n"
CONSTANTS = {
    "two": FLOAT(2),
    "eps": FLOAT(1e-5),
    "one": FLOAT(1),
    "half": FLOAT(0.5),
    "root": FLOAT(2**0.5),
    "three": FLOAT(3),
}
CUBE = {**CONSTANTS, "k": FLOAT(0.044715), "r": FLOAT((2 / np.pi) ** 0.5)}
ERF = "d = Div(x, root)\ne = Erf(d)\na = Add(e, one)\n"
TANH = "c = Pow(x, three)\nm = Mul(k, c)\ni = Add(x, m)\nj = Mul(r, i)\nt = Tanh(j)\na = Add(one, t)\n"

# name: (lines, shape, opsets, arrays, operators that must be in the graph)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, object], tuple[str, ...]]] = {
    "sigmoid": ("s = Sigmoid(x)\ny = Neg(s)", IMAGE, (7, 13), {}, ("sigmoid",)),
    "tanh": ("y = Tanh(x)", IMAGE, (7, 13), {}, ("tanh",)),
    "erf": ("y = Erf(x)", IMAGE, (9, 13), {}, ("erf",)),
    "hard sigmoid of ONNX": ("y = HardSigmoid(x)", IMAGE, (7, 22), {}, ("hard_sigmoid", "scale")),
    "hard sigmoid of PyTorch": ("y = HardSigmoid <alpha = 0.16666667> (x)", IMAGE, (7,), {}, ("hard_sigmoid",)),
    "hard sigmoid": ("y = HardSigmoid <alpha = -0.4, beta = 0.1> (x)", IMAGE, (7,), {}, ("hard_sigmoid",)),
    "hard swish": ("y = HardSwish(x)", IMAGE, (14, 22), {}, ("hard_swish",)),
    "gelu": ("y = Gelu(x)", IMAGE, (20,), {}, ("gelu",)),
    "gelu with tanh": ('y = Gelu <approximate = "tanh"> (x)', IMAGE, (20,), {}, ("gelu_tanh",)),
    "gelu in parts": (f"{ERF}m = Mul(x, a)\ny = Mul(m, half)", IMAGE, (9, 13), CONSTANTS, ("gelu",)),
    "gelu in other parts": (f"{ERF}m = Mul(half, a)\ny = Mul(m, x)", IMAGE, (13,), CONSTANTS, ("gelu",)),
    "gelu of keras": (f"{ERF}m = Mul(half, x)\ny = Mul(m, a)", IMAGE, (13,), CONSTANTS, ("gelu",)),
    "no gelu": (f"{ERF}m = Mul(half, a)\ny = Mul(m, e)", IMAGE, (13,), CONSTANTS, ("erf", "multiply")),
    "gelu of another number": (
        f"{ERF}m = Mul(x, a)\ny = Mul(m, half)", IMAGE, (13,), {**CONSTANTS, "root": FLOAT(1.5)}, ("erf", "multiply"),
    ),
    "gelu with tanh in parts": (f"{TANH}h = Mul(half, a)\ny = Mul(x, h)", IMAGE, (9, 13), CUBE, ("gelu_tanh",)),
    "silu": ("s = Sigmoid(x)\ny = Mul(x, s)", IMAGE, (7, 13), {}, ("silu",)),
    "silu, the other way": ("s = Sigmoid(x)\ny = Mul(s, x)", IMAGE, (7,), {}, ("silu",)),
    "quick gelu": ("m = Mul(x, c)\ns = Sigmoid(m)\ny = Mul(x, s)", IMAGE, (13,), {"c": FLOAT(1.702)}, ("sigmoid",)),
    "old hard swish": (
        "a = Add(x, c)\nb = Clip(a, z, d)\nm = Mul(x, b)\ny = Div(m, d)", IMAGE, (11,),
        {"c": FLOAT(3), "z": FLOAT(0), "d": FLOAT(6)}, ("activation", "multiply"),
    ),
    "softmax inside": ("s = Softmax(x)\ny = Neg(s)", TOKENS, (13, 18), {}, ("softmax",)),
    "softmax of another axis": ("s = Softmax <axis = 1> (x)\ny = Neg(s)", IMAGE, (13,), {}, ("softmax",)),
    "softmax of a turned axis": (
        "t = Transpose <perm = [0, 2, 3, 1]> (x)\ns = Softmax <axis = -1> (t)\ny = Neg(s)", IMAGE, (13,), {},
        ("softmax",),
    ),
    "old softmax": ("s = Softmax <axis = 2> (x)\ny = Neg(s)", TOKENS, (11,), {}, ("softmax",)),
    "layer norm": ("y = LayerNormalization <epsilon = 0.01> (x, w, b)", TOKENS, (17, 20), NORM, ("layer_norm",)),
    "layer norm without bias": ("y = LayerNormalization(x, w)", TOKENS, (17,), NORM, ("layer_norm",)),
    "layer norm of two axes": (
        "y = LayerNormalization <axis = 2> (x, w, b)", IMAGE, (17,), {"w": (5, 4), "b": (5, 4)}, ("layer_norm",),
    ),
    "rms norm": ("y = RMSNormalization(x, w)", TOKENS, (23,), NORM, ("rms_norm",)),
    "layer norm in parts": (
        f"{WRITTEN_OUT}d = Div(c, s)\nf = Mul(d, w)\ny = Add(f, b)", TOKENS, (9, 13), {**CONSTANTS, **NORM},
        ("layer_norm",),
    ),
    "layer norm in parts, turned": (
        f"{WRITTEN_OUT}d = Div(c, s)\nf = Mul(w, d)\ny = Add(b, f)", TOKENS, (13,), {**CONSTANTS, **NORM},
        ("layer_norm",),
    ),
    "layer norm in parts, read twice": (
        f"{WRITTEN_OUT}d = Div(c, s)\nf = Mul(d, w)\ny = Add(f, d)", TOKENS, (13,), {**CONSTANTS, **NORM},
        ("layer_norm", "scale", "add"),
    ),
    "rms norm in parts": (
        (f"p = Pow(x, two)\nv = {MEAN} (p)\ne = Add(v, eps)\ns = Sqrt(e)\nr = Reciprocal(s)\nm = Mul(x, r)\n"
        "y = Mul(m, w)"), TOKENS, (13,), {**CONSTANTS, **NORM}, ("rms_norm",),
    ),
    "product of two values": (
        "t = Transpose <perm = [0, 2, 1]> (x)\nm = MatMul(x, t)\ny = MatMul(m, x)", TOKENS, (9, 13), {}, ("matmul",),
    ),
    "product by heads": (
        "t = Transpose <perm = [0, 1, 3, 2]> (x)\ny = MatMul(x, t)", HEADS, (13,), {}, ("matmul",),
    ),
    "one token": ("g = Gather <axis = 1> (x, i)\ny = Tanh(g)", TOKENS, (13,), {"i": INT(0)}, ("slice",)),
    "the last token": ("g = Gather <axis = 1> (x, i)\ny = Tanh(g)", TOKENS, (13,), {"i": INT(-1)}, ("slice",)),
    "one channel": ("g = Gather <axis = 2> (x, i)\ny = Tanh(g)", HEADS, (13,), {"i": INT(3)}, ("slice",)),
    "some tokens": ("g = Gather <axis = 1> (x, i)\ny = Tanh(g)", TOKENS, (13,), {"i": INT([0, 2, 4])}, ("slice",)),
    "one token of a rate-coded network": ("y = Gather <axis = 1> (x, i)", TOKENS, (13,), {"i": INT(1)}, ("conv1d",)),
    "slices of four axes": (
        "r = Reshape(x, s)\np = Slice(r, a, e, c)\ny = Tanh(p)", (4, 12), (13,),
        {"s": INT([0, 2, 2, 3, 4]), "a": INT([1, 0]), "e": INT([2, 3]), "c": INT([2, 4])}, ("slice",),
    ),
    "squeeze-excite": (
        "g = GlobalAveragePool(x)\nc = Conv(g, v)\nr = Relu(c)\nd = Conv(r, w)\nh = HardSigmoid(d)\ny = Mul(x, h)",
        IMAGE, (7, 13), {"v": (2, 3, 1, 1), "w": (3, 2, 1, 1)}, ("global_pool", "hard_sigmoid", "multiply"),
    ),
    "mean of the tokens": ("y = ReduceMean <axes = [1], keepdims = 0> (x)", TOKENS, (13,), {}, ("global_pool",)),
    "mean of one axis": ("y = ReduceMean <axes = [2], keepdims = 1> (x)", IMAGE, (13,), {}, ("global_pool",)),
    "largest of the tokens": ("y = ReduceMax <axes = [1], keepdims = 1> (x)", TOKENS, (13,), {}, ("global_pool",)),
    "attention": ("y = Attention(x, x, x)", HEADS, (23,), {}, ("matmul", "softmax")),
    "causal attention": ("y = Attention <is_causal = 1, scale = 0.3> (x, x, x)", HEADS, (23,), {}, ("softmax",)),
    "attention with a mask": ("y = Attention(x, x, x, m)", HEADS, (23,), {"m": (5, 5)}, ("softmax",)),
    "attention, heads in the width": (
        "y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x)", TOKENS, (23,), {}, ("softmax",),
    ),
    "hidden scores": (
        "a = Add(x, m)\ns = Softmax <axis = -1> (a)\ny = Neg(s)", TOKENS, (13,),
        {"m": np.where(np.tri(5, 6) > 0, FLOAT(0), FLOAT(-np.inf))}, ("softmax",),
    ),
    "a softmax of what may be hidden": (
        "s = Softmax <axis = -1> (x)\nn = IsNaN(s)\nw = Where(n, z, s)\ny = Neg(w)", TOKENS, (13,), {"z": FLOAT(0)},
        ("softmax",),
    ),
    "tokens first": (
        ("t = Transpose <perm = [1, 0, 2]> (x)\nm = MatMul(t, w)\na = Add(m, b)\nr = Relu(a)\n"
        "y = Transpose <perm = [1, 0, 2]> (r)"), TOKENS, (13,), {"w": (6, 4), "b": (4,)}, ("linear",),
    ),
    "heads folded into the batch": (
        ("p = Reshape(x, s)\nt = Transpose <perm = [0, 2, 1, 3]> (p)\nf = Reshape(t, u)\n"
        "k = Transpose <perm = [0, 2, 1]> (f)\nm = MatMul(f, k)\na = Softmax <axis = 2> (m)\no = MatMul(a, f)\n"
        "q = Reshape(o, v)\ny = Transpose <perm = [0, 2, 1, 3]> (q)"), TOKENS, (13,),
        {"s": INT([0, 5, 2, 3]), "u": INT([-1, 5, 3]), "v": INT([-1, 2, 5, 3])}, ("matmul", "softmax"),
    ),
    "everything in rows": (
        "r = Reshape(x, s)\ng = Gemm(r, w, b)\nh = Gelu(g)\ny = Reshape(h, u)", TOKENS, (20,),
        {"s": INT([-1, 6]), "u": INT([-1, 5, 4]), "w": (6, 4), "b": (4,)}, ("linear", "gelu"),
    ),
    "parts in front": (
        ("p = Reshape(x, s)\nt = Transpose <perm = [2, 0, 1, 3]> (p)\ng = Gather <axis = 0> (t, i)\n"
        "a, b = Split <axis = 0> (t)\nc = Squeeze(b, z)\nd = Slice(t, o, e, z)\nf = Squeeze(d, z)\n"
        "h = Mul(g, c)\ny = Sub(h, f)"), TOKENS, (13,),
        {"s": INT([0, 5, 2, 3]), "i": INT(0), "z": INT([0]), "o": INT([1]), "e": INT([2])}, ("multiply",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_the_reference_computes(case: str, write: Model) -> None:
    lines, shape, opsets, arrays, operators = CASES[case]
    for opset in opsets:
        error, graph = difference(write(lines, shape, opset, arrays))
        assert error < TOLERANCE, opset
        found = {node.attributes.get("function") for node in graph.nodes} | {node.operator for node in graph.nodes}
        assert set(operators) <= found


@pytest.mark.parametrize("case", ["tokens first", "heads folded into the batch", "everything in rows"])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_fixed_batch_may_move_too(case: str, batch: int, write: Model) -> None:
    lines, shape, (opset, *_), arrays, _ = CASES[case]
    assert difference(write(lines, shape, opset, arrays, batch), batch)[0] < TOLERANCE


def test_what_would_take_too_many_weights_to_pick_is_sliced(write: Model) -> None:
    lines = "a = Slice(x, s, e, d)\ny = Slice(a, s, e, d)"
    error, graph = difference(write(lines, (2100, 2), 13, {"s": INT([5]), "e": INT([2090]), "d": INT([1])}))
    assert error == 0.0
    assert graph.of_operator("slice")
    assert not graph.of_operator("conv1d")


def test_a_constant_token_is_the_same_for_every_sample(write: Model) -> None:
    lines = (
        "s = Shape <start = 0, end = 1> (x)\nl = Concat <axis = 0> (s, r)\nt = Expand(c, l)\n"
        "j = Concat <axis = 1> (t, x)\ny = Gelu(j)"
    )
    error, graph = difference(write(lines, TOKENS, 20, {"r": INT([1, 6]), "c": (1, 1, 6)}))
    assert error < TOLERANCE
    assert graph.shapes["output"] == (6, 6)
    assert len(graph.of_operator("constant")) == 1


def test_other_spike_codes_refuse_every_value_operator_with_its_place_and_remedy(write: Model) -> None:
    lines = (
        "a = Gelu(x)\nb = LayerNormalization(a, w)\nc = Sigmoid(b)\nd = HardSwish(c)\ne = Softmax(d)\nf = Relu(e)\n"
        "g = Transpose <perm = [0, 2, 1]> (f)\nh = MatMul(f, g)\nj = Erf(h)\ny = Relu(j)"
    )
    graph = import_onnx(write(lines, TOKENS, 20, {"w": (6,)})).graph
    for code in ("binary", "signed", "burst:4"):
        with pytest.raises(UnsupportedError) as caught:
            require_convertible(graph, code)
        assert [problem.split(" ")[0] for problem in caught.value.problems] == ["a", "b", "c", "d", "e", "h", "j"]
        assert all("choose --spikes differential" in problem for problem in caught.value.problems)
    require_convertible(graph, "differential")


REFUSED = {
    "y = LayerNormalization(x, v)": "does not fit the normalised axes",
    "a, m = LayerNormalization(x, w)\ny = Add(a, m)": "reads a second result of a (LayerNormalization)",
    "a = Softmax <axis = 0> (x)\ny = Neg(a)": "batch axis",
    "a = Softmax <axis = 1> (x)\ny = Neg(a)": "before opset 13",
    "a = ReduceMean <axes = [1]> (x)\nb = Sub(x, a)\nc = Mul(b, b)\nd = ReduceMean <axes = [1]> (c)\n"
    "e = Add(d, n)\nf = Sqrt(e)\ny = Div(b, f)": "only the last ones are covered",
    "g = Gather <axis = 1> (x, k)\ny = Tanh(g)": "not at equal distances",
    "g = Gather <axis = 0> (x, i)\ny = Tanh(g)": "batch axis",
    "y = Gather <axis = 0> (t, x)": "looks values up",
    "a = Transpose <perm = [1, 0, 2]> (x)\ny = Relu(a)": "mixes samples",
    "a = Transpose <perm = [1, 0, 2]> (x)\ny = Add(a, x)": "only one of its inputs",
    "a = Transpose <perm = [1, 0, 2]> (x)\nb = Transpose <perm = [2, 1, 0]> (x)\ny = Add(a, b)": "different axes",
    "a = Transpose <perm = [1, 2, 0]> (x)\nb = Softmax <axis = -1> (a)\ny = Transpose <perm = [2, 0, 1]> (b)": "mixes",
    "a = Transpose <perm = [1, 2, 0]> (x)\nb = MatMul(a, v)\ny = Transpose <perm = [2, 0, 1]> (b)": "mixes samples",
    "a = Transpose <perm = [1, 0, 2]> (x)\nb = Gather <axis = 1> (a, i)\ny = Relu(b)": "mixes samples",
    "a = Reshape(x, s)\nb = Softmax <axis = 0> (a)\ny = Reshape(b, u)": "mixes samples",
    "a = Reshape(x, p)\nb = Reshape(x, q)\ny = MatMul(a, b)": "make all axes but two equal",
    "y = Attention <softcap = 2.0> (x, x, x)": "softcap",
    "a = Gather <axis = 2> (x, l)\ny = Attention <q_num_heads = 2, kv_num_heads = 1> (x, a, a)": "heads share keys",
    "y = Concat <axis = 1> (t, x)": "let it follow the number of samples",
}


@pytest.mark.parametrize("lines", REFUSED)
def test_what_mixes_samples_or_has_no_form_is_refused(lines: str, write: Model) -> None:
    arrays = {
        "w": (6,), "v": (2, 2), "i": INT(0), "k": INT([0, 1, 3]), "l": INT([0, 1, 2]), "t": (7, 1, 6),
        "s": INT([-1, 6]), "u": INT([-1, 5, 6]),
        "n": FLOAT(1e-5), "p": INT([0, 5, 2, 3]), "q": INT([0, 1, 3, 10]),
    }  # fmt: skip
    opset = 11 if "opset 13" in REFUSED[lines] else 23 if "Attention" in lines else 17
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(write(lines, TOKENS, opset, arrays))
    assert REFUSED[lines] in str(caught.value)
