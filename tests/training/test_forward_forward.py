"""Forward-forward learns through maps that nobody can differentiate, and no gradient ever passes one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.networks.resistive import ResistiveDevice, ResistiveLinear
from spikeport.training.forward_forward import (
    ForwardForward,
    ForwardForwardSettings,
    Physical,
    fit_forward_forward,
)

SHORT = ForwardForwardSettings(epochs=2)


def samples() -> tuple[Tensor, Tensor]:
    """Ninety samples of three classes around random centres."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    centres = torch.randn(3, 8, generator=generator)
    return centres[labels] + 0.3 * torch.randn(90, 8, generator=generator), labels


def tile(inputs: int, outputs: int, seed: int = 0, read_noise: float = 0.02) -> Callable[[Tensor], Tensor]:
    device = ResistiveDevice(read_noise=read_noise)
    cells = ResistiveLinear.formed(inputs, outputs, device, torch.Generator().manual_seed(seed), gain=inputs**0.5)
    return lambda z: torch.tanh(cells(z))


def maps() -> list[Physical]:
    return [Physical(tile(11, 32)), Physical(tile(24, 32, 1))]


class Spy(torch.autograd.Function):
    """A map that could be differentiated, and tells when it is."""

    backwards = 0

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor) -> Tensor:
        return torch.sin(z @ weight) ** 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        Spy.backwards += 1
        return None, None


def test_no_gradient_passes_a_map_even_where_it_could() -> None:
    weight = torch.randn(11, 20, generator=torch.Generator().manual_seed(0), requires_grad=True)
    saw = list[bool]()

    def physical(z: Tensor) -> Tensor:
        saw.append(z.requires_grad or torch.is_grad_enabled())
        result: Tensor = Spy.apply(z, weight)
        return result

    x, y = samples()
    made = fit_forward_forward([Physical(physical)], x, y, 3, 24, ForwardForwardSettings(epochs=30))
    assert Spy.backwards == 0
    assert weight.grad is None
    assert saw
    assert not any(saw)
    assert float((made.predict(x) == y).double().mean()) > 0.6


def test_a_map_outside_torch_can_be_learned_through() -> None:
    weight = np.random.default_rng(0).normal(size=(11, 30)).astype(np.float32)

    def instrument(z: Tensor) -> Tensor:
        return torch.from_numpy(np.round(7 * np.tanh(z.numpy() @ weight)) / 7)  # a converter of 15 levels

    x, y = samples()
    made = fit_forward_forward([Physical(instrument)], x, y, 3, 24, ForwardForwardSettings(epochs=20))
    assert float((made.predict(x) == y).double().mean()) > 0.9


def test_a_gradient_that_is_asked_to_pass_is_an_error() -> None:
    with pytest.raises(SpikeportError, match="wants a gradient"):
        Physical(lambda z: z * 2)(torch.ones(2, 3, requires_grad=True))

    def leaks(z: Tensor) -> Tensor:
        with torch.enable_grad():
            return z @ torch.ones(3, 3, requires_grad=True)

    with pytest.raises(SpikeportError, match="forwards only"):
        Physical(leaks)(torch.ones(2, 3))


class Operations(TorchDispatchMode):
    """Names of all that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_map_runs_in_forward_passes_alone() -> None:
    """Nothing that the map does, here a cosine, happens while losses are taken back."""
    x, y = samples()
    made = ForwardForward([Physical(lambda z: torch.cos(z @ torch.ones(11, 7)))], 8, 3, 5)
    with Operations() as forwards:
        losses = made.train_batch(x, y, (y + 1) % 3, 4.0)
    with Operations() as backwards:
        sum(losses).backward()  # type: ignore[union-attr]
    assert any("cos" in name for name in forwards.names)
    assert not any("cos" in name or "sin" in name for name in backwards.names)


def test_a_layer_learns_the_same_whatever_comes_behind_it() -> None:
    x, y = samples()
    quiet = [Physical(tile(11, 32, read_noise=0.0)), Physical(tile(24, 32, 1, read_noise=0.0))]
    alone, both = _fresh(quiet[:1]), _fresh(quiet)
    alone.train_batch(x, y, (y + 1) % 3, 4.0)[0].backward()
    sum(both.train_batch(x, y, (y + 1) % 3, 4.0)).backward()  # type: ignore[union-attr]
    assert_close(alone.digital[0].weight.grad, both.digital[0].weight.grad)
    assert both.digital[1].weight.grad is not None


def _fresh(physical: list[Physical]) -> ForwardForward:
    return ForwardForward(physical, 8, 3, 24, generator=torch.Generator().manual_seed(0))


def test_the_gradient_is_the_local_one() -> None:
    """dL/dW = Σ ∂L/∂h · r, of nothing but what the map gave."""
    x, y = samples()
    made, wrong = _fresh([Physical(tile(11, 32, read_noise=0.0))]), (y + 1) % 3
    made.train_batch(x, y, wrong, 4.0)[0].backward()
    gradient = torch.zeros_like(made.digital[0].weight)
    parts = []
    for labels in (y, wrong):
        r = made.maps[0](made.labelled(x, labels))
        h = torch.relu(r @ made.digital[0].weight.detach().T)
        parts.append((r, h, h.square().mean(1)))
    slope = -4.0 * torch.sigmoid(-4.0 * (parts[0][2] - parts[1][2])) / len(x)
    for (r, h, _), sign in zip(parts, (1, -1), strict=True):
        gradient += (sign * slope[:, None] * 2 * h / h.shape[1]).T @ r
    assert_close(made.digital[0].weight.grad, gradient, rtol=1e-4, atol=1e-6)


def test_it_learns_and_counts_its_reads() -> None:
    x, y = samples()
    physical = maps()
    made = fit_forward_forward(physical, x, y, 3, 24, ForwardForwardSettings(epochs=20))
    assert [each.reads for each in physical] == [1 + 20 * 2 * 90] * 2
    assert float((made.predict(x) == y).double().mean()) > 0.9
    assert [each.reads for each in physical] == [1 + 20 * 2 * 90 + 3 * 90] * 2
    assert not any(each.requires_grad for each in made.parameters())


def test_the_same_seed_gives_the_same_network() -> None:
    x, y = samples()
    quiet = [Physical(tile(11, 32, read_noise=0.0))]
    one, two = (fit_forward_forward(quiet, x, y, 3, 24, SHORT) for _ in range(2))
    assert torch.equal(one.digital[0].weight, two.digital[0].weight)


def test_the_scale_of_a_sample_changes_nothing() -> None:
    x, y = samples()
    made = _fresh([Physical(tile(11, 32, read_noise=0.0))])
    assert_close(made.goodness(7 * x, y), made.goodness(x, y))


@pytest.mark.parametrize(
    ("physical", "error"),
    [
        (lambda z: z[:1], ShapeError),
        (lambda z: z[0], ShapeError),
        (lambda z: z.numpy(), ShapeError),
        (lambda z: z * float("nan"), RangeError),
    ],
)
def test_maps_that_give_no_values_are_refused(physical: Callable[[Tensor], Tensor], error: type) -> None:
    with pytest.raises(error, match="physical map"):
        Physical(physical)(torch.ones(3, 4))


def test_bad_input_is_refused() -> None:
    x, y = samples()
    with pytest.raises(RangeError, match="Physical map"):
        ForwardForward([], 8, 3, 24)
    with pytest.raises(RangeError, match="wrap your callable"):
        ForwardForward([tile(11, 32)], 8, 3, 24)  # type: ignore[list-item]
    with pytest.raises(ShapeError, match="do not fit"):
        fit_forward_forward(maps(), x, y[:5], 3, 24)
    with pytest.raises(RangeError, match="classes"):
        fit_forward_forward([Physical(tile(10, 32))], x, y, 2, 24)
    with pytest.raises(RangeError, match="epochs"):
        fit_forward_forward(maps(), x, y, 3, 24, ForwardForwardSettings(epochs=0))
