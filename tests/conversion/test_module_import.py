"""What a module computes, its Graph computes, before and after the rewrites; what it cannot, it says all at once."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport import RangeError, SpikeportError, UnsupportedError
from spikeport.conversion.module_import import import_module
from spikeport.conversion.rewrite import simplified
from spikeport.conversion.source import check_graph, check_source
from spikeport.conversion.spiking import require_convertible

IMAGE = (2, 8, 8)
SERIES = (2, 12)


class Of(nn.Module):
    """A module whose forward is ``function(self, x)``, with a linear head on what it gives."""

    def __init__(self, function: Callable[..., Tensor], head: bool = True, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part) if isinstance(part, nn.Module) else self.register_buffer(name, part)
        self.head = nn.LazyLinear(3) if head else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.function(self, x)
        return self.head(x.flatten(1)) if isinstance(self.head, nn.Linear) else x


def layers(*parts: nn.Module) -> nn.Module:
    return Of(lambda net, x: net.body(x), body=nn.Sequential(*parts))


def conv(*arguments: int, **options: object) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **{"padding": 1, **options})


def option_a(net: Of, x: Tensor) -> Tensor:
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
    return F.relu(net.conv(x) + short)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functional relu": (lambda: Of(lambda n, x: F.relu(n.conv(x)), conv=conv(2, 4, 3)), IMAGE),
    "shared relu": (
        lambda: Of(lambda n, x: n.relu(n.b(n.relu(n.a(x)))), a=conv(2, 3, 3), b=conv(3, 4, 3), relu=nn.ReLU()),
        IMAGE,
    ),
    "x.relu()": (lambda: Of(lambda n, x: n.conv(x).relu(), conv=conv(2, 4, 3)), IMAGE),
    "x.relu_()": (lambda: Of(lambda n, x: n.conv(x).relu_(), conv=conv(2, 4, 3)), IMAGE),
    "relu in place": (lambda: layers(conv(2, 4, 3), nn.ReLU(inplace=True)), IMAGE),
    "relu6": (lambda: layers(nn.Linear(5, 9), nn.ReLU6()), (5,)),
    "hardtanh 0 to 6": (lambda: Of(lambda n, x: F.hardtanh(9 * n.a(x), 0.0, 6.0), a=nn.Linear(5, 9)), (5,)),
    "clamp from 0": (lambda: Of(lambda n, x: n.a(x).clamp(min=0), a=nn.Linear(5, 9)), (5,)),
    "clamp 0 to 1": (lambda: Of(lambda n, x: torch.clamp(n.a(x), 0, 1), a=nn.Linear(5, 9)), (5,)),
    "batch norm after conv": (lambda: layers(conv(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), IMAGE),
    "batch norm after linear": (lambda: layers(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU()), (5,)),
    "batch norm before conv": (lambda: layers(nn.BatchNorm2d(2), conv(2, 4, 3), nn.ReLU()), IMAGE),
    "batch norm without weights": (lambda: layers(conv(2, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU()), IMAGE),
    "batch norm after relu": (
        lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), conv(4, 3, 3), nn.ReLU()),
        IMAGE,
    ),
    "residual": (
        lambda: Of(lambda n, x: F.relu(n.b(F.relu(n.a(x))) + F.relu(n.a(x))), a=conv(2, 4, 3), b=conv(4, 4, 3)),
        IMAGE,
    ),
    "x += y": (
        lambda: Of(lambda n, x: n.a(x).add_(n.b(x)).relu_(), a=conv(2, 4, 3), b=conv(2, 4, 1, padding=0)),
        IMAGE,
    ),
    "concat": (
        lambda: Of(lambda n, x: torch.cat([n.a(x).relu(), n.b(x).relu()], 1), a=conv(2, 4, 3), b=conv(2, 3, 3)),
        IMAGE,
    ),
    "concat along the last axis": (
        lambda: Of(lambda n, x: torch.cat([n.a(x).relu(), x.relu()], -1), a=conv(2, 2, 3)),
        IMAGE,
    ),
    "fire module, then max-pool": (
        lambda: Of(
            lambda n, x: n.c(F.max_pool2d(torch.cat([n.a(x).relu(), n.b(x).relu()], 1), 3, 2, ceil_mode=True)).relu(),
            a=conv(2, 4, 3),
            b=conv(2, 3, 1, padding=0),
            c=conv(7, 5, 3),
        ),
        IMAGE,
    ),
    "max-pool": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), IMAGE),
    "max-pool 1d": (lambda: layers(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(3, 2, ceil_mode=True)), SERIES),
    "average pool": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)), IMAGE),
    "average pool 1d": (lambda: layers(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AvgPool1d(2)), SERIES),
    "adaptive average pool": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 4))), IMAGE),
    "adaptive average pool to 1": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), IMAGE),
    "adaptive average pool 1d": (lambda: layers(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(5)), SERIES),
    "adaptive max-pool": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d((None, 2))), IMAGE),
    "adaptive max-pool to 1": (lambda: layers(conv(2, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1)), IMAGE),
    "adaptive max-pool 1d": (lambda: layers(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1)), SERIES),
    "global mean": (lambda: Of(lambda n, x: n.a(x).relu().mean((2, 3)), a=conv(2, 4, 3)), IMAGE),
    "global mean, axes kept": (lambda: Of(lambda n, x: n.a(x).relu().mean([-1, -2], True), a=conv(2, 4, 3)), IMAGE),
    "global maximum": (lambda: Of(lambda n, x: n.a(x).relu().amax((2, 3)), a=conv(2, 4, 3)), IMAGE),
    "global maximum, axes kept": (lambda: Of(lambda n, x: n.a(x).relu().amax((-2, -1), True), a=conv(2, 4, 3)), IMAGE),
    "difference": (lambda: Of(lambda n, x: (n.a(x) - n.b(x)).relu(), a=conv(2, 4, 3), b=conv(2, 4, 3)), IMAGE),
    "1 - x": (lambda: Of(lambda n, x: (1 - n.a(x)).relu(), a=conv(2, 4, 3)), IMAGE),
    "constants - x": (lambda: Of(lambda n, x: (n.s - x).relu(), s=torch.rand(5)), (5,)),
    "-x": (lambda: Of(lambda n, x: (-n.a(x)).relu(), a=conv(2, 4, 3)), IMAGE),
    "maximum with 0": (lambda: Of(lambda n, x: torch.maximum(n.a(x), torch.zeros(1)), a=conv(2, 4, 3)), IMAGE),
    "maximum of 0 and x": (lambda: Of(lambda n, x: torch.max(torch.tensor(0.0), n.a(x)), a=conv(2, 4, 3)), IMAGE),
    "threshold at 0": (lambda: layers(conv(2, 4, 3), nn.Threshold(0.0, 0.0)), IMAGE),
    "stack": (lambda: Of(lambda n, x: torch.stack([n.a(x).relu(), x.relu()], 1), a=nn.Linear(5, 5)), (5,)),
    "stack along the last axis": (lambda: Of(lambda n, x: torch.stack([n.a(x), x], -1).relu(), a=conv(2, 2, 3)), IMAGE),
    "global sum 1d": (lambda: Of(lambda n, x: n.a(x).relu().sum(-1), a=nn.Conv1d(2, 4, 3)), SERIES),
    "dropout": (lambda: layers(conv(2, 4, 3), nn.Dropout2d(), nn.ReLU(), nn.Dropout(0.9)), IMAGE),
    "view": (lambda: Of(lambda n, x: n.a(x).relu().view(x.size(0), -1), a=conv(2, 4, 3)), IMAGE),
    "reshape": (lambda: Of(lambda n, x: n.a(x).relu().reshape(-1, 16, 4, 4), a=conv(2, 4, 3)), IMAGE),
    "permute": (lambda: Of(lambda n, x: n.a(x).relu().permute(0, 2, 3, 1), a=conv(2, 4, 3)), IMAGE),
    "transpose": (lambda: Of(lambda n, x: n.a(x.transpose(1, -1)).relu(), a=nn.Linear(2, 4)), SERIES),
    "unsqueeze": (lambda: Of(lambda n, x: n.a(x.unsqueeze(1)).relu().squeeze(1), a=conv(1, 1, 3)), SERIES),
    "grouped": (lambda: layers(conv(2, 4, 3, groups=2), nn.ReLU()), IMAGE),
    "depthwise": (lambda: layers(conv(2, 2, 3, groups=2), nn.ReLU(), conv(2, 5, 1), nn.ReLU6()), IMAGE),
    "dilated": (lambda: layers(conv(2, 4, 3, dilation=2, stride=2), nn.ReLU()), IMAGE),
    "same padding": (lambda: layers(conv(2, 4, 3, padding="same", dilation=2), nn.ReLU()), IMAGE),
    "same padding, even kernel": (lambda: layers(conv(2, 4, (4, 2), padding="same"), nn.ReLU()), IMAGE),
    "valid padding": (lambda: layers(conv(2, 4, 3, padding="valid"), nn.ReLU()), IMAGE),
    "zero pad": (lambda: layers(nn.ZeroPad2d((1, 2, 0, 1)), conv(2, 4, 3, padding=0), nn.ReLU()), IMAGE),
    "conv1d": (lambda: layers(nn.Conv1d(2, 6, 4, 2, 1, groups=2), nn.BatchNorm1d(6), nn.ReLU()), SERIES),
    "constants": (
        lambda: Of(lambda n, x: ((((x + 1) * 2 - n.s) / n.s) @ n.w).relu(), s=torch.rand(5) + 0.5, w=torch.rand(5, 4)),
        (5,),
    ),
    "constants by channel": (
        lambda: Of(lambda n, x: (0.5 * n.conv(x) * n.s + n.s).relu(), conv=conv(2, 4, 3), s=torch.rand(4, 1, 1)),
        IMAGE,
    ),
    "constant by row after linear": (
        lambda: Of(lambda n, x: (n.a(x) + n.s).relu(), a=nn.Linear(4, 4), s=torch.rand(4, 1)),
        (4, 4),
    ),
    "x + x": (lambda: Of(lambda n, x: (x + x).relu()), (5,)),
    "folded constants": (lambda: Of(lambda n, x: (x @ (n.w * n.w).T).relu(), w=torch.rand(4, 5)), (5,)),
    "option A": (lambda: Of(option_a, conv=conv(2, 4, 3, stride=2)), IMAGE),
    "weight norm": (
        lambda: layers(nn.utils.parametrizations.weight_norm(nn.Linear(5, 9)), nn.ReLU()),
        (5,),
    ),
    "weight norm by hooks": (lambda: layers(nn.utils.weight_norm(nn.Linear(5, 9)), nn.ReLU()), (5,)),
    "constant expanded over the batch": (
        lambda: Of(lambda n, x: (n.a(x) + n.s.expand(len(x), -1, -1)).relu(), a=nn.Linear(4, 4), s=torch.rand(1, 1, 4)),
        (4, 4),
    ),
    "cast to float": (lambda: Of(lambda n, x: n.conv(x.float()).relu(), conv=conv(2, 4, 3)), IMAGE),
    "relu of relu": (lambda: layers(nn.Linear(5, 9), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, 1), nn.ReLU()), (5,)),
}


def made(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """The module with weights, and with batch norm statistics that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = make()
            module(torch.rand(2, *shape))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.uniform_(-1, 1)
                part.running_var.uniform_(0.5, 2)
                if part.affine:
                    nn.init.uniform_(part.weight, 0.5, 2)
                    nn.init.uniform_(part.bias, -1, 1)
    return module


def samples(shape: tuple[int, ...], n: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", MODULES)
def test_a_graph_computes_what_its_module_computes(name: str) -> None:
    make, shape = MODULES[name]
    module, x = made(make, shape).eval(), samples(shape)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = module(torch.from_numpy(x)).numpy()
    source = import_module(module, shape)
    np.testing.assert_array_equal(source.run(x), wanted)
    assert check_source(source, x) < 1e-5
    graph = simplified(source.graph)
    assert check_graph(graph, source, x) < 1e-5
    require_convertible(graph)


def test_an_option_a_shortcut_is_one_pointwise_convolution() -> None:
    graph = simplified(import_module(made(*MODULES["option A"]), IMAGE).graph)
    pointwise = [n for n in graph.of_operator("conv2d") if n.arrays["weight"].shape[2:] == (1, 1)]
    assert len(pointwise) == 1
    assert pointwise[0].attributes["stride"] == (2, 2)
    assert pointwise[0].arrays["weight"].shape[:2] == (4, 2)
    assert not graph.of_operator("pad")


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (lambda net, x: F.softmax(x, 1), "Softmax"),
        (lambda net, x: F.log_softmax(x, -1), "LogSoftmax"),
        (lambda net, x: x.argmax(1), "ArgMax"),
        (lambda net, x: x.argmax(1, keepdim=True), "ArgMax"),
        (lambda net, x: x.softmax(1).argmax(-1), "ArgMax"),
        (lambda net, x: x.sigmoid(), "Sigmoid"),
        (lambda net, x: torch.sigmoid(x).argmax(1), "Sigmoid"),
    ],
)
def test_a_head_is_removed_with_a_note(head: Callable[..., Tensor], word: str) -> None:
    body = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    module, x = Of(lambda net, x: head(net, net.body(x)), head=False, body=body), samples((5,))
    source = import_module(module, (5,))
    assert any(word in note for note in source.notes)
    assert check_source(source, x) < 1e-5
    assert source.graph.shapes[source.graph.output.name] == (4,)


def test_a_module_is_left_as_it_was() -> None:
    module = made(*MODULES["batch norm after conv"]).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    source = import_module(module, IMAGE)
    source.run(samples(IMAGE))
    assert torch.equal(torch.rand(3), wanted), "importing drew from the global generator"
    assert module.training
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_a_module_in_training_mode_is_read_in_eval_mode() -> None:
    module, x = made(*MODULES["dropout"]), samples(IMAGE)
    training, evaluating = import_module(module.train(), IMAGE), import_module(module.eval(), IMAGE)
    np.testing.assert_array_equal(training.run(x), evaluating.run(x))
    assert training.sha256 == evaluating.sha256


def test_other_weights_have_another_hash() -> None:
    module = made(*MODULES["relu6"])
    first = import_module(module, (5,)).sha256
    with torch.no_grad():
        module.head.bias[0] += 1e-6
    assert import_module(module, (5,)).sha256 != first


def test_every_problem_is_listed_with_its_place_and_remedy() -> None:
    module = nn.Sequential(nn.Linear(5, 5), nn.ELU(), nn.Linear(5, 5), nn.LeakyReLU(), nn.Linear(5, 5), nn.Mish())
    with pytest.raises(UnsupportedError, match="cannot convert 3 operators of Sequential") as caught:
        import_module(module, (5,))
    assert len(caught.value.problems) == 3
    wanted = [("1 (elu)", "ReLU"), ("3 (leaky_relu)", "ReLU"), ("5 (mish)", "not supported")]
    for problem, words in zip(caught.value.problems, wanted, strict=True):
        assert all(word in problem for word in words)


def by_the_data(net: Of, x: Tensor) -> Tensor:
    return x.relu() if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda net, x: torch.clamp(x, -1, 1), "lower bound"),
        (lambda net, x: torch.clamp(x, min=torch.zeros(())), "clamp"),
        (lambda net, x: F.dropout(x.relu()), "training=self.training"),
        (lambda net, x: F.batch_norm(x, None, None, training=True), "track_running_stats"),
        (lambda net, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "zeros"),
        (lambda net, x: F.pad(x, (-1, 0)), "crops"),
        (lambda net, x: x[:, :, 1::2], "crop"),
        (lambda net, x: x[1:].relu(), "batch"),
        (lambda net, x: x.unbind(0)[1].relu(), "batch"),
        (lambda net, x: x.transpose(0, 1).relu(), "batch axis was moved"),
        (lambda net, x: x.relu() / x.exp(), "exp"),
        (lambda net, x: x.mean((2, 3), keepdim=True) + torch.ones(2, 4, 4), "larger"),
        (lambda net, x: x.mean(1), "spatial"),
        (lambda net, x: x.flatten(0, 1).relu().view(x.shape), "mixes samples"),
        (lambda net, x: torch.cat([x, x], 0).relu(), "batch"),
        (lambda net, x: F.max_pool2d(x, 2, dilation=2), "dilated"),
        (lambda net, x: F.avg_pool2d(x, 2, divisor_override=3), "divisor"),
        (lambda net, x: F.adaptive_avg_pool2d(x, 3), "divides"),
        (lambda net, x: torch.sub(x, x.relu(), alpha=2), "weighted difference"),
        (lambda net, x: torch.maximum(x, torch.ones(1)), "constant 0"),
        (lambda net, x: torch.maximum(x, x.relu()), "constant 0"),
        (lambda net, x: x.max(1)[0], "constant 0"),
        (lambda net, x: F.threshold(x, 0.1, 0.0), "threshold"),
        (lambda net, x: torch.stack([x, x]), "batch"),
        (by_the_data, "control flow"),
        (lambda net, x: x.relu().int().float(), "rounds"),
        (lambda net, x: x.relu() / x.shape[0], "batches of different sizes"),
        (lambda net, x: x.relu() + torch.arange(len(x)).reshape(-1, 1, 1, 1), "differs between samples"),
    ],
)
def test_what_cannot_be_read_is_refused(function: Callable[..., Tensor], word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        import_module(Of(function, head=False), IMAGE)


def test_a_product_of_two_values_is_read_but_not_convertible() -> None:
    module = Of(lambda net, x: net.a(x).relu() * net.b(x), head=False, a=conv(2, 4, 3), b=conv(2, 4, 3))
    source = import_module(module, IMAGE)
    with pytest.raises(UnsupportedError, match=r"mul.*product of two rates"):
        require_convertible(source.graph)


@pytest.mark.parametrize(
    ("module", "shape", "error"),
    [
        (nn.Bilinear(3, 3, 3), (3,), SpikeportError),  # two inputs
        (nn.Linear(4, 3), (5,), SpikeportError),  # fails on the shape
        (Of(lambda net, x: (x.relu(), x), head=False), (5,), UnsupportedError),  # two outputs
    ],
)
def test_a_module_of_another_form_is_refused(module: nn.Module, shape: tuple[int, ...], error: type) -> None:
    with pytest.raises(error, match=type(module).__name__):
        import_module(module, shape)


def test_channels_that_lie_last_are_pointed_out() -> None:
    with pytest.raises(SpikeportError, match="--layout NHWC"):
        import_module(nn.Sequential(conv(2, 4, 3), nn.ReLU()), (8, 8, 2))
    with pytest.raises(SpikeportError) as caught:
        import_module(nn.Sequential(conv(2, 4, 3), nn.ReLU()), (3, 8, 8))
    assert "NHWC" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    with torch.no_grad():
        module[2].weight[1, 1] = value
    with pytest.raises(RangeError, match=r"2\.weight"):
        import_module(module, (3,))


def test_weights_without_values_are_refused_by_name() -> None:
    with pytest.raises(SpikeportError, match=r"0\.weight.*call the module once"):
        import_module(nn.Sequential(nn.LazyLinear(3), nn.ReLU()), (3,))


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda net: net.to("meta"), SpikeportError, "weights have values"),
        (lambda net: torch.ao.quantization.quantize_dynamic(net, {nn.Linear}), UnsupportedError, "convert the float"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch says that these will go
def test_weights_of_another_kind_are_refused(make: Callable[..., nn.Module], error: type, word: str) -> None:
    with pytest.raises(error, match=word):
        import_module(make(nn.Sequential(nn.Linear(3, 3), nn.ReLU())), (3,))


def talkative(net: Of, x: Tensor) -> Tensor:
    print("hello")
    warnings.warn("from the module", stacklevel=1)
    return net.conv(x).relu()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    source = import_module(Of(talkative, head=False, conv=conv(2, 4, 4, padding="same")), IMAGE)
    check_source(source, samples(IMAGE))
    with pytest.raises(UnsupportedError):
        import_module(Of(by_the_data, head=False), IMAGE)
    assert capfd.readouterr() == ("", "")
