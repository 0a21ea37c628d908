"""Law: a file that is not covered is refused with a typed error that names what is wrong and what to do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper, parser

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.conversion import onnx_constants
from spikeport.conversion.onnx_import import import_onnx

WEIGHT = np.ones((3, 2, 1, 1), np.float32)


def network(lines: str, *, opset: int = 17, shape: tuple[object, ...] = ("n", 2, 4, 4), **arrays: object) -> ModelProto:
    """A model from lines such as ``y = Relu(x)``; each further argument is an initializer."""
    graph = helper.make_graph(
        [parser.parse_node(line) for line in lines.strip().splitlines()],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    graph.output[0].type.tensor_type.shape.SetInParent()
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[[ModelProto | bytes], SpikeportError]:
    """Import a model that must be refused, and return the error."""

    def refused(model: ModelProto | bytes) -> SpikeportError:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        with pytest.raises(SpikeportError) as caught:
            import_onnx(path)
        assert "model.onnx" in str(caught.value)
        return caught.value

    return refused


Refuse = Callable[[ModelProto | bytes], SpikeportError]

UNSUPPORTED = {
    "y = Elu(x)": "Elu: retrain with ReLU",
    "y = Pow(x, c)": "Pow: retrain with ReLU",
    "y = LeakyRelu <alpha = 0.1> (x)": "retrain with ReLU",
    "y = Clip(x, c, c)": "retrain with ReLU",
    "s = LogSoftmax(x)\ny = Relu(s)": "s (LogSoftmax: it can only be the last operator",
    "y = Softmax <axis = 0> (x)": "Softmax",
    "y = ArgMax(x)": "ArgMax",
    "y = Conv(x, x)": "its weight is computed by the network",
    "y = Div(c, x)": "it divides by a value",
    "y = Max(x, x)": "retrain with ReLU",
    "y = ReduceMean <axes = [1, 2, 3], keepdims = 0> (x)": "one number of each sample",
    "y = ReduceMean <axes = [0, 2, 3]> (x)": "batch axis",
    "y = ReduceMean(x)": "reduces the batch",
    "y = Flatten <axis = 2> (x)": "mixes samples",
    "y = Reshape(x, r)": "mixes samples",
    "y = Transpose <perm = [1, 0, 2, 3]> (x)": "mixes samples",
    "y = Transpose(x)": "mixes samples",
    "y = Concat <axis = 0> (x, x)": "batch axis",
    "y = Concat <axis = 1> (x, w)": "is a constant",
    'y = Pad <mode = "reflect"> (x, p)': "pad with a constant",
    "y = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (x)": "dilations",
    "m, z = MaxPool <kernel_shape = [2, 2]> (x)\ny = Cast <to = 1> (z)": "it reads a second result of m (MaxPool)",
    "m, y = MaxPool <kernel_shape = [2, 2]> (x)": "it reads a second result of m (MaxPool)",
    "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, count_include_pad = 1> (x)": "ceil_mode",
    "y = BatchNormalization <training_mode = 1> (x, a, a, a, a)": "evaluation mode",
    "y = MatMul(w, x)": "swap the two",
    "y = Cast <to = 7> (x)": "rounds the values",
    "y = QuantizeLinear(x, c)": "export the float model",
    "y = Resize(x, , q)": "use strided convolution",
    "y = Expand(x, e)": "repeats values",
    "s = Size(x)\nf = Cast <to = 1> (s)\ny = Mul(x, f)": "batches of different size",
    "y = Relu(w)": "does not depend on the input",
}  # fmt: skip


@pytest.mark.parametrize("lines", UNSUPPORTED)
def test_operators_that_are_not_covered_are_refused_by_name(lines: str, refuse: Refuse) -> None:
    opset = 17
    arrays = {"c": np.float32(1), "w": WEIGHT, "r": np.array([-1, 16]), "p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    arrays |= {"a": np.ones(2, np.float32), "q": np.ones(4, np.float32), "e": np.array([5, 2, 4, 4])}
    error = refuse(network(lines, opset=opset, **arrays))
    assert isinstance(error, UnsupportedError)
    assert UNSUPPORTED[lines] in str(error)


def test_one_error_lists_every_operator_with_its_place(refuse: Refuse) -> None:
    lines = "a = Elu(x)\nb = Conv(a, w)\nc = Relu(b)\nd = Mish(c)\ne = LogSoftmax(d)\nf = Resize(e, , q)\ny = Neg(f)"
    model = network(lines, opset=20, w=WEIGHT, q=np.ones(4, np.float32))
    model.graph.node[3].name = "encoder.3"
    error = refuse(model)
    assert isinstance(error, UnsupportedError)
    assert [problem.split(":")[0] for problem in error.problems] == [
        "a (Elu", "encoder.3 (Mish", "e (LogSoftmax", "f (Resize",
    ]  # fmt: skip


def test_what_the_output_does_not_need_is_no_obstacle(tmp_path: Path) -> None:
    model = network("a = Sigmoid(x)\nb = Gelu(a)\ny = Relu(x)", opset=20)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    assert [node.operator for node in import_onnx(path).graph.nodes] == ["input", "activation", "output"]


def test_nodes_of_a_foreign_domain_are_refused_and_an_unused_import_is_not(refuse: Refuse, tmp_path: Path) -> None:
    model = network("y = Relu(x)")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path = tmp_path / "fine.onnx"
    onnx.save_model(model, path)
    import_onnx(path)
    model.graph.node.append(helper.make_node("FusedConv", ["x"], ["z"], domain="com.microsoft"))
    error = refuse(model)
    assert isinstance(error, UnsupportedError)
    assert "com.microsoft.FusedConv" in error.problems[0]


def test_control_flow_is_refused(refuse: Refuse) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", 1, ["n", 2, 4, 4])],
    )
    model = network("y = Relu(x)", t=np.array(True))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("If", ["t"], ["y"], "gate", then_branch=branch, else_branch=branch))
    error = refuse(model)
    assert isinstance(error, UnsupportedError)
    assert "gate (If: control flow" in error.problems[0]


def test_functions_of_the_file_are_refused(refuse: Refuse) -> None:
    model = network("y = Relu(x)")
    node = helper.make_node("Neg", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))
    assert isinstance(refuse(model), SpikeportError)
    model.functions[0].domain = "own"
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert "own.Relu" in str(refuse(model))


def test_several_inputs_or_outputs_are_named(refuse: Refuse) -> None:
    model = network("y = Relu(x)\nz = Neg(x)")
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 2, 4, 4]))
    assert "2 outputs (y, z)" in str(refuse(model))
    model = network("y = Add(x, z)")
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 2, 4, 4]))
    assert "2 inputs (x, z)" in str(refuse(model))


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        (("n", 2, "height", 4), UnsupportedError, "'height'"),
        (("n",), ShapeError, r"(batch, features...)"),
        ((), ShapeError, r"(batch, features...)"),
        (("n", 2, -1, 4), SpikeportError, ""),
        (("n", 1 << 20, 1 << 20), ShapeError, "no sample"),
    ],
)
def test_an_input_without_a_fixed_feature_shape_is_refused(
    shape: tuple[object, ...], kind: type[SpikeportError], words: str, refuse: Refuse
) -> None:
    error = refuse(network("y = Relu(x)", shape=shape))
    assert isinstance(error, kind)
    assert words in str(error)


def test_an_input_of_integers_is_refused(refuse: Refuse) -> None:
    model = network("y = Cast <to = 1> (x)")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    assert "floating-point" in str(refuse(model))


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_outside_the_range_are_refused(opset: int, refuse: Refuse) -> None:
    error = refuse(network("y = Relu(x)", opset=opset))
    assert isinstance(error, UnsupportedError)
    assert f"opset {opset}" in str(error)


def test_nan_and_infinity_in_weights_name_the_tensor(refuse: Refuse) -> None:
    for bad in (np.nan, np.inf):
        weight = WEIGHT.copy()
        weight[1] = bad
        error = refuse(network("y = Conv(x, kernel)", kernel=weight))
        assert isinstance(error, RangeError)
        assert "kernel" in str(error)


def test_weights_of_another_shape_are_refused_at_their_place(refuse: Refuse) -> None:
    error = refuse(network("y = Conv(x, w)", w=np.ones((3, 5, 1, 1), np.float32)))
    assert isinstance(error, ShapeError)
    assert "y (Conv)" in str(error)


def external(tensor: TensorProto) -> TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.ClearField("raw_data")
    return tensor


def in_initializer(model: ModelProto) -> None:
    external(model.graph.initializer[0])


def in_attribute(model: ModelProto) -> None:
    tensor = external(numpy_helper.from_array(WEIGHT, "hidden"))
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))


def in_subgraph(model: ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [external(numpy_helper.from_array(WEIGHT, "hidden"))])
    outer = helper.make_graph([helper.make_node("If", ["q"], ["r"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["w"], ["k"], then_branch=outer))


def in_sparse(model: ModelProto) -> None:
    sparse = onnx.SparseTensorProto(dims=[4], values=external(numpy_helper.from_array(WEIGHT.ravel(), "hidden")))
    model.graph.sparse_initializer.append(sparse)


def in_list(model: ModelProto) -> None:
    tensors = AttributeProto(name="many", type=AttributeProto.TENSORS)
    tensors.tensors.append(external(numpy_helper.from_array(WEIGHT, "hidden")))
    model.graph.node[0].attribute.append(tensors)


def in_function(model: ModelProto) -> None:
    node = helper.make_node("Constant", [], ["b"], value=external(numpy_helper.from_array(WEIGHT, "hidden")))
    model.functions.append(helper.make_function("own", "f", [], ["b"], [node], [helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("hide", [in_initializer, in_attribute, in_subgraph, in_sparse, in_list, in_function])
def test_external_data_are_refused_wherever_they_hide(hide: Callable[[ModelProto], None], refuse: Refuse) -> None:
    model = network("y = Conv(x, w)", w=WEIGHT)
    hide(model)
    error = refuse(model)
    assert isinstance(error, UnsupportedError)
    assert "outside the file" in str(error)


def test_tensors_that_claim_more_than_they_hold_are_refused(refuse: Refuse) -> None:
    for dims in ([1 << 40, 2, 1, 1], [4, 2, 1, 1], [-3, 2, 1, 1], [1 << 62, 1 << 62]):
        model = network("y = Conv(x, w)", w=WEIGHT)
        model.graph.initializer[0].ClearField("dims")
        model.graph.initializer[0].dims.extend(dims)
        error = refuse(model)
        assert isinstance(error, CorruptFileError)
        assert "tensor w claims" in str(error)


EXPLOSIONS = {
    "ConstantOfShape": ("c = ConstantOfShape(big)\ny = Add(x, c)", {"big": [1 << 20, 1 << 20]}),
    "Expand": ("c = Expand(one, big)\ny = Add(x, c)", {"big": [1 << 20, 1 << 20], "one": np.ones(1, np.float32)}),
    "Tile": ("c = Tile(one, big)\ny = Add(x, c)", {"big": [1 << 40], "one": np.ones(1, np.float32)}),
    "Range": ("c = Range(a, b, d)\ny = Add(x, c)", {"a": np.float32(0), "b": np.float32(1e9), "d": np.float32(1e-9)}),
    "Pad": ("c = Pad(one, big)\ny = Add(x, c)", {"big": [1 << 40, 0], "one": np.ones(1, np.float32)}),
    "elementwise": ("c = Add(a, b)\ny = Add(x, c)", {"a": np.ones((1 << 16, 1)), "b": np.ones((1, 1 << 16))}),
    "MatMul": ("c = MatMul(a, b)\ny = Add(x, c)", {"a": np.ones((1 << 16, 1)), "b": np.ones((1, 1 << 16))}),
    "doubling": (
        "\n".join(f"c{i + 1} = Concat <axis = 0> (c{i}, c{i})" for i in range(40)) + "\ny = Add(x, c40)",
        {"c0": np.ones(8, np.float32)},
    ),
}


@pytest.mark.parametrize("name", EXPLOSIONS)
def test_constants_that_would_explode_are_refused_before_they_do(
    name: str, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_constants, "MAX_FOLDED", 1 << 20)
    lines, arrays = EXPLOSIONS[name]
    error = refuse(network(lines, **arrays))
    assert isinstance(error, CorruptFileError)
    assert f"more than {1 << 20} elements" in str(error)


def test_layers_that_would_explode_are_refused(refuse: Refuse) -> None:
    for pads in ([0, 1 << 20, 0, 1 << 20], [1 << 20] * 4, [1 << 40, 0, 0, 0]):
        error = refuse(network(f"y = Conv <strides = [1048576, 1048576], pads = {pads}> (x, w)", w=WEIGHT))
        assert isinstance(error, SpikeportError)


def test_a_file_that_is_no_model_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    for content in (b"", b"\0" * 100, b"hello, this is no model", b"\x08\x08"):
        assert isinstance(refuse(content), CorruptFileError)
    with pytest.raises(SpikeportError, match="cannot be read"):
        import_onnx(tmp_path / "absent.onnx")
    with pytest.raises(SpikeportError, match="cannot be read"):
        import_onnx(tmp_path)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 31)  # sparse: it takes no space
    with pytest.raises(CorruptFileError, match="bytes"):
        import_onnx(path)
