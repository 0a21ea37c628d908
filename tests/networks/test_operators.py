"""Every entry of the operator table: its shape rule and its function say what plain PyTorch modules say."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeport import ShapeError
from spikeport.networks.graph import make_node
from spikeport.networks.operators import OPERATORS

Shape = tuple[int, ...]
few = st.integers(1, 3)


class Case(NamedTuple):
    """An operator with its parameters, and what PyTorch makes of the same (batch, *features) inputs."""

    operator: str
    shapes: list[Shape]
    wanted: Callable[..., Tensor]
    attributes: dict[str, Any] = {}  # noqa: RUF012 - never changed
    arrays: dict[str, Tensor] = {}  # noqa: RUF012


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def tuples(values: st.SearchStrategy[int], length: int) -> st.SearchStrategy[Shape]:
    return st.tuples(*[values] * length)


@st.composite
def shapes_of(draw: st.DrawFn, low: int = 1, high: int = 4) -> Shape:
    return draw(st.lists(few, min_size=low, max_size=high).map(tuple))


@st.composite
def linear(draw: st.DrawFn) -> Case:
    shape, outputs, bias = draw(shapes_of(1, 3)), draw(few), draw(st.booleans())
    module = nn.Linear(shape[-1], outputs, bias=bias)
    return Case("linear", [shape], module, {}, dict(module.named_parameters()))


@st.composite
def convolution(draw: st.DrawFn, axes: int) -> Case:
    groups, bias = draw(few), draw(st.booleans())
    channels, outputs = groups * draw(few), groups * draw(few)
    kernel, stride = draw(tuples(few, axes)), draw(tuples(few, axes))
    padding, dilation = draw(tuples(st.integers(0, 3), axes)), draw(tuples(few, axes))
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    module = kind(channels, outputs, kernel, bias=bias, **attributes)
    size = draw(tuples(st.integers(1, 8), axes))
    return Case(f"conv{axes}d", [(channels, *size)], module, attributes, dict(module.named_parameters()))


@st.composite
def pool(draw: st.DrawFn, operator: str) -> Case:
    axes = draw(st.sampled_from([1, 2]))
    names = {"kernel": st.integers(1, 4), "stride": st.integers(1, 4), "padding": st.integers(0, 2)}
    attributes: dict[str, Any] = {name: draw(tuples(values, axes)) for name, values in names.items()}
    shape = (draw(few), *draw(tuples(st.integers(1, 8), axes)))
    options = {"ceil_mode": draw(st.booleans())}
    if operator == "average_pool":
        options["count_include_pad"] = draw(st.booleans())
    kinds = {"average_pool": (nn.AvgPool1d, nn.AvgPool2d), "max_pool": (nn.MaxPool1d, nn.MaxPool2d)}
    module = kinds.get(operator, kinds["max_pool"])[axes - 1](*attributes.values(), **options)
    wanted = module if operator in kinds else lambda x: summed_windows(x, module(x).shape, **attributes)
    return Case(operator, [shape], wanted, {**attributes, **{key: int(value) for key, value in options.items()}})


def summed_windows(x: Tensor, shape: torch.Size, kernel: Shape, stride: Shape, padding: Shape) -> Tensor:
    """Window by window; the shape is that of any pool."""
    sums = torch.zeros(shape)
    for place in itertools.product(*map(range, shape[2:])):
        starts = [i * step - pad for i, step, pad in zip(place, stride, padding, strict=True)]
        cut = tuple(slice(max(start, 0), start + width) for start, width in zip(starts, kernel, strict=True))
        sums[(..., *place)] = x[(..., *cut)].flatten(2).sum(2)
    return sums


@st.composite
def global_pool(draw: st.DrawFn) -> Case:
    shape, function = draw(shapes_of(2, 3)), draw(st.sampled_from(["mean", "sum", "max"]))
    count = int(np.prod(shape[1:]))
    kind = nn.AdaptiveMaxPool1d if function == "max" else nn.AdaptiveAvgPool1d
    factor = count if function == "sum" else 1
    return Case("global_pool", [shape], lambda x: kind(1)(x.flatten(2)).squeeze(2) * factor, {"function": function})


@st.composite
def reshape(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 4))
    target = draw(st.permutations(shape).map(tuple))
    return Case(
        "reshape",
        [shape],
        nn.Unflatten(1, target).__call__ if len(shape) == 1 else lambda x: nn.Unflatten(1, target)(x.flatten(1)),
        {"shape": target},
    )


@st.composite
def transpose(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 4))
    order = draw(st.permutations(range(len(shape))))
    wanted = lambda x: torch.stack([each.permute(*order) for each in x])  # noqa: E731
    return Case("transpose", [shape], wanted, {"permutation": tuple(order)})


@st.composite
def pad(draw: st.DrawFn) -> Case:
    shape, value = draw(shapes_of(1, 3)), draw(st.sampled_from([0.0, -1.5]))
    widths = st.integers(0, 2)
    before, after = draw(tuples(widths, len(shape))), draw(tuples(widths, len(shape)))

    def wanted(x: Tensor) -> Tensor:
        return torch.from_numpy(
            np.pad(x.numpy(), [(0, 0), *zip(before, after, strict=True)], constant_values=np.float32(value))
        )

    return Case("pad", [shape], wanted, {"before": before, "after": after, "value": value})


@st.composite
def elementwise(draw: st.DrawFn, operator: str) -> Case:
    shape = draw(shapes_of(1, 3))
    count = draw(st.integers(2, 4)) if operator == "add" else 2
    shapes = [tuple(1 if draw(st.booleans()) else axis for axis in shape) for _ in range(count)]
    together = np.add if operator == "add" else np.multiply

    def wanted(*values: Tensor) -> Tensor:
        total = values[0].numpy()
        for value in values[1:]:
            total = together(total, value.numpy())
        return torch.from_numpy(total)

    return Case(operator, shapes, wanted)


@st.composite
def concat(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    shapes = [(*shape[:axis], size, *shape[axis + 1 :]) for size in draw(st.lists(few, min_size=1, max_size=3))]
    wanted = lambda *x: torch.from_numpy(np.concatenate([each.numpy() for each in x], axis + 1))  # noqa: E731
    return Case("concat", shapes, wanted, {"axis": axis})


@st.composite
def scale(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 3))
    spread = draw(st.sampled_from([(), shape[:1], shape]))
    arrays = {"factor": numbers(*spread), **({"shift": numbers(*spread)} if draw(st.booleans()) else {})}

    def wanted(x: Tensor) -> Tensor:
        whole = {
            key: array.reshape(array.shape + (1,) * (len(shape) - array.ndim)).expand(shape)
            for key, array in arrays.items()
        }
        return torch.addcmul(whole.get("shift", torch.zeros(shape)), x, whole["factor"])

    return Case("scale", [shape], wanted, {}, arrays)


@st.composite
def batch_norm(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 3))
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    module = kind(shape[0], eps=draw(st.sampled_from([1e-5, 0.1]))).eval()
    arrays = {name: numbers(*shape[:1]) + 2 * i for i, name in enumerate(("mean", "weight", "bias"))}
    module.running_mean, module.running_var = arrays["mean"], torch.arange(1.0, shape[0] + 1)
    module.weight, module.bias = nn.Parameter(arrays["weight"]), nn.Parameter(arrays["bias"])
    return Case("batch_norm", [shape], module, {"epsilon": module.eps}, {**arrays, "variance": module.running_var})


@st.composite
def activation(draw: st.DrawFn) -> Case:
    maximum = draw(st.sampled_from([None, 0.5, 6.0]))
    module = nn.ReLU() if maximum is None else nn.Hardtanh(0.0, maximum)
    return Case("activation", [draw(shapes_of())], module, {"maximum": maximum})


@st.composite
def norm(draw: st.DrawFn, operator: str) -> Case:
    shape = draw(shapes_of(1, 3))
    axes, affine = draw(st.integers(1, len(shape))), draw(st.booleans())
    kind = nn.LayerNorm if operator == "layer_norm" else nn.RMSNorm
    module = kind(shape[-axes:], eps=draw(st.sampled_from([1e-5, 0.1])), elementwise_affine=affine)
    names = ("weight", "bias") if operator == "layer_norm" else ("weight",)
    arrays = {name: numbers(*shape[-axes:]) + i for i, name in enumerate(names)} if affine else {}
    for name, array in arrays.items():
        setattr(module, name, nn.Parameter(array))
    return Case(operator, [shape], module, {"axes": axes, "epsilon": module.eps}, arrays)


@st.composite
def softmax(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    return Case("softmax", [shape], nn.Softmax(axis + 1), {"axis": axis})


@st.composite
def matmul(draw: st.DrawFn) -> Case:
    heads, rows, inner, columns = draw(shapes_of(0, 2)), draw(few), draw(few), draw(few)
    other = inner + draw(st.integers(0, 1))
    return Case("matmul", [(*heads, rows, inner), (*heads, other, columns)], torch.matmul)


@st.composite
def part(draw: st.DrawFn) -> Case:
    shape = draw(shapes_of(1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    start, step = draw(st.integers(0, shape[axis] - 1)), draw(few)
    stop = draw(st.integers(start + 1, shape[axis]))
    wanted = lambda x: x.index_select(axis + 1, torch.arange(start, stop, step))  # noqa: E731
    return Case("slice", [shape], wanted, {"axis": axis, "start": start, "stop": stop, "step": step})


MODULES = {
    "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh"), "silu": nn.SiLU(), "hard_swish": nn.Hardswish(),
    "hard_sigmoid": nn.Hardsigmoid(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(),
}  # fmt: skip


def learned(shape: Shape, value: Shape) -> Case:
    wanted = lambda x: numbers(*value).expand(len(x), *value)  # noqa: E731
    return Case("constant", [shape], wanted, {}, {"value": numbers(*value)})


CASES: dict[str, st.SearchStrategy[Case]] = {
    "constant": st.builds(learned, shapes_of(), shapes_of()),
    "function": st.builds(
        lambda shape, name: Case("function", [shape], MODULES[name], {"function": name}),
        shapes_of(),
        st.sampled_from(sorted(MODULES)),
    ),
    "layer_norm": norm("layer_norm"),
    "matmul": matmul(),
    "rms_norm": norm("rms_norm"),
    "slice": part(),
    "softmax": softmax(),
    "linear": linear(),
    "conv1d": convolution(1),
    "conv2d": convolution(2),
    "sum_pool": pool("sum_pool"),
    "average_pool": pool("average_pool"),
    "max_pool": pool("max_pool"),
    "global_pool": global_pool(),
    "flatten": shapes_of().map(lambda shape: Case("flatten", [shape], nn.Flatten())),
    "reshape": reshape(),
    "transpose": transpose(),
    "pad": pad(),
    "add": elementwise("add"),
    "multiply": elementwise("multiply"),
    "concat": concat(),
    "scale": scale(),
    "batch_norm": batch_norm(),
    "activation": activation(),
}


def test_every_operator_without_memory_has_a_case() -> None:
    """Those with memory are compared with a plain loop in test_run."""
    assert {name for name, operator in OPERATORS.items() if operator.function is not None} == set(CASES)
    assert {name for name, operator in OPERATORS.items() if operator.memory} == {
        "step_bias",
        "synaptic_filter",
        "delay",
        "neuron",
        "output",
    }


@pytest.mark.parametrize("name", CASES)
def test_shape_rule_and_function_agree_with_pytorch(name: str) -> None:
    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(CASES[name])
    def agree(case: Case) -> None:
        check(case)

    agree()


def check(case: Case) -> None:
    operator, names = OPERATORS[case.operator], [f"x{i}" for i in range(len(case.shapes))]
    arrays = {key: value.detach().numpy() for key, value in case.arrays.items()}
    node = make_node("node", case.operator, names, arrays=arrays, **case.attributes)
    inputs = [numbers(2, *shape) for shape in case.shapes]
    try:
        with torch.no_grad():
            wanted = case.wanted(*inputs)
    except RuntimeError:  # PyTorch refuses, and so must the rule
        with pytest.raises(ShapeError):
            operator.shape(node.attributes, node.arrays, case.shapes)
        return
    shape = operator.shape(node.attributes, node.arrays, case.shapes)
    assert shape == wanted.shape[1:]
    assert all(type(size) is int for size in shape)
    assert operator.function is not None
    before = [x.clone() for x in inputs]
    tensors = {key: torch.tensor(array) for key, array in node.arrays.items()}
    torch.testing.assert_close(operator.function(node.attributes, tensors, inputs), wanted)
    assert all(torch.equal(x, old) for x, old in zip(inputs, before, strict=True))


WINDOW = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
NORM = ("mean", "variance", "weight", "bias")
NEURON = {"code": "binary", "test": ">", "reset": "zero"}
DIFFERENTIAL = {"code": "differential", "test": ">=", "reset": "subtract"}
FIRES: dict[str, Shape] = {"threshold": (), "initial": (), "bias": ()}

MISFITS: list[tuple[str, list[Shape], dict[str, Any], dict[str, Shape]]] = [
    ("linear", [(3,)], {}, {"weight": (2, 4)}),
    ("linear", [(3,)], {}, {"weight": (2, 3, 1)}),
    ("linear", [()], {}, {"weight": (2, 3)}),
    ("linear", [(3,)], {}, {"weight": (2, 3), "bias": (3,)}),
    ("conv2d", [(3, 5, 5)], WINDOW, {"weight": (4, 2, 3, 3)}),
    ("conv2d", [(3, 5)], WINDOW, {"weight": (4, 3, 3, 3)}),
    ("conv2d", [(3, 5, 5)], WINDOW, {"weight": (4, 3, 3)}),
    ("conv2d", [(4, 5, 5)], {**WINDOW, "groups": 2}, {"weight": (3, 2, 3, 3)}),
    ("conv2d", [(3, 5, 5)], WINDOW, {"weight": (4, 3, 3, 3), "bias": (3,)}),
    ("conv2d", [(3, 2, 2)], WINDOW, {"weight": (4, 3, 3, 3)}),
    ("max_pool", [(3, 5)], POOL, {}),
    ("max_pool", [(3, 5, 5)], {**POOL, "kernel": (2,)}, {}),
    ("sum_pool", [(3, 5, 5)], {**POOL, "padding": (2, 2)}, {}),
    ("average_pool", [(3, 1, 1)], POOL, {}),
    ("global_pool", [(3,)], {}, {}),
    ("reshape", [(3, 4)], {"shape": (5, 2)}, {}),
    ("transpose", [(3, 4)], {"permutation": (0, 0)}, {}),
    ("transpose", [(3, 4)], {"permutation": (0,)}, {}),
    ("pad", [(3, 4)], {"before": (1,), "after": (1,)}, {}),
    ("add", [(3, 4), (3, 5)], {}, {}),
    ("multiply", [(3, 4), (4,)], {}, {}),
    ("concat", [(3, 4), (3, 5)], {"axis": 0}, {}),
    ("concat", [(3, 4)], {"axis": 2}, {}),
    ("scale", [(3, 4)], {}, {"factor": (4,)}),
    ("scale", [(3, 4)], {}, {"factor": (3, 4), "shift": (2,)}),
    ("batch_norm", [(3, 4)], {}, dict.fromkeys(NORM, (3, 4))),
    ("batch_norm", [(3, 4)], {}, {**dict.fromkeys(NORM, (3,)), "bias": (4,)}),
    ("batch_norm", [()], {}, dict.fromkeys(NORM, ())),
    ("layer_norm", [(3, 4)], {"axes": 3}, {}),
    ("layer_norm", [(3, 4)], {"axes": 1}, {"weight": (3,)}),
    ("rms_norm", [(3, 4)], {"axes": 2}, {"weight": (4,)}),
    ("softmax", [(3, 4)], {"axis": 2}, {}),
    ("matmul", [(3, 4), (3, 4)], {}, {}),
    ("matmul", [(4,), (4,)], {}, {}),
    ("matmul", [(2, 3, 4), (3, 4, 3)], {}, {}),
    ("slice", [(3, 4)], {"axis": 1, "start": 2, "stop": 5}, {}),
    ("slice", [(3, 4)], {"axis": 0, "start": 2, "stop": 2}, {}),
    ("synaptic_filter", [(3, 4)], {}, {"alpha": (4,)}),
    ("neuron", [(3, 4)], NEURON, {"threshold": (4,), "initial": (), "bias": ()}),
    ("neuron", [(3,)], {**NEURON, "line": 1}, FIRES),
    ("neuron", [(3,)], {**NEURON, "maximum": 1.0}, FIRES),
    ("neuron", [(3,)], {**NEURON, "code": "differential"}, FIRES),
    ("neuron", [(3,)], DIFFERENTIAL, {**FIRES, "beta": ()}),
    ("neuron", [(3,)], {**DIFFERENTIAL, "levels": 25}, FIRES),
]


@pytest.mark.parametrize(("operator", "shapes", "attributes", "arrays"), MISFITS, ids=lambda x: str(x)[:40])
def test_what_does_not_fit_together_is_refused(
    operator: str, shapes: list[Shape], attributes: dict[str, Any], arrays: dict[str, Shape]
) -> None:
    names = [f"x{i}" for i in range(len(shapes))]
    held = {key: np.ones(shape) for key, shape in arrays.items()}
    with pytest.raises(ShapeError):
        inferred(operator, names, held, attributes, shapes)


def inferred(operator: str, names: list[str], arrays: dict, attributes: dict, shapes: list[Shape]) -> Shape:
    node = make_node("node", operator, names, arrays=arrays, **attributes)
    return OPERATORS[operator].shape(node.attributes, node.arrays, shapes)
