"""Delays shift their input by whole steps; learned ones find the right delays, and run identically once frozen."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from spikeport import neurons
from spikeport.neurons.learnable_delays import DelayWindow


def shifted(x: Tensor, delay: int) -> Tensor:
    """x, ``delay`` steps later."""
    return torch.cat([torch.zeros_like(x[:delay]), x[: len(x) - delay]])


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_each_channel_comes_its_delay_later(steps: int) -> None:
    delays = torch.tensor([4, 0, 2, 4, 7, 0])
    x = torch.randn(steps, 2, 6)
    y, state = neurons.Delay(delays)(x)
    for channel, delay in enumerate(delays.tolist()):
        assert torch.equal(y[:, :, channel], shifted(x[:, :, channel], min(delay, steps)))
    assert state.history.shape == (2, 7, 6)


def test_a_delay_of_0_is_nothing_and_delays_add_up() -> None:
    x = torch.randn(9, 2, 3)
    assert torch.equal(neurons.Delay(0)(x)[0], x)
    twice = neurons.Delay(2)(neurons.Delay([1, 0, 3])(x)[0])[0]
    assert torch.equal(twice, neurons.Delay([3, 2, 5])(x)[0])


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (4, 1)])
def test_each_synapse_hears_its_input_its_delay_later(shape: tuple[int, int]) -> None:
    delays, weight, bias = torch.randint(0, 7, shape), torch.randn(4, 5), torch.randn(4)
    x = torch.randn(12, 2, 5)
    y, _ = neurons.DelayedLinear(weight, delays, bias=bias)(x)
    each = delays.expand(4, 5)
    wanted = bias + torch.stack(
        [sum(weight[o, i] * shifted(x[:, :, i], int(each[o, i])) for i in range(5)) for o in range(4)], dim=2
    )
    assert_close(y, wanted)


def test_delays_that_are_one_an_input_are_a_delay_before_a_linear_layer() -> None:
    delays, weight, x = torch.tensor([3, 0, 5]), torch.randn(2, 3), torch.randn(12, 2, 3)
    y, _ = neurons.DelayedLinear(weight, delays.reshape(1, 3))(x)
    assert_close(y, functional.linear(neurons.Delay(delays)(x)[0], weight))


def test_the_list_of_synapses_says_the_same_as_the_layer() -> None:
    """What Brian2 is given: one entry a synapse, of spikes that arrive ``delay`` steps later."""
    weight = torch.randn(4, 5) * (torch.rand(4, 5) < 0.5)
    layer, x = neurons.DelayedLinear(weight, torch.randint(0, 7, (4, 5))), torch.randn(12, 5)
    wanted = torch.zeros(12, 4)
    synapses = layer.synapses()
    assert len(synapses.source) == weight.count_nonzero()
    for source, target, value, delay in zip(*synapses, strict=True):
        wanted[:, target] += value * shifted(x[:, source], int(delay))
    assert_close(layer(x.unsqueeze(1))[0].squeeze(1), wanted)


WINDOWS = [neurons.GaussianWindow(), neurons.TriangularWindow()]


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
def test_a_window_shares_out_the_whole_weight_and_narrows(window: DelayWindow) -> None:
    delay = torch.linspace(0, 10, 21)
    last = None
    for progress in (0.0, 0.3, 0.7, 1.0):
        taps = window.taps(delay, torch.tensor(window.width(5.0, progress)), 10)
        assert_close(taps.sum(-1), torch.ones(21))
        assert torch.equal(taps[::2].argmax(-1), torch.arange(11)), "a whole delay gets the most"
        inner = taps[10].max()
        assert last is None or inner > last
        last = inner


def test_the_windows_are_those_of_the_source() -> None:
    """By hand: delay 2 of 0 to 4, width 1."""
    delay, width = torch.tensor([2.0]), torch.tensor(1.0)
    gaussian = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / 1.27) ** 2)
    assert_close(neurons.GaussianWindow().taps(delay, width, 4)[0], gaussian / gaussian.sum())
    assert_close(neurons.TriangularWindow().taps(delay, width, 4)[0], torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0]) / 4)
    assert neurons.GaussianWindow().width(6.0, 1.0) == pytest.approx(0.23)


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (4, 1)])
def test_the_frozen_layer_runs_identically(shape: tuple[int, int]) -> None:
    """At whole delays and width 0, output and state are the same bits, and each goes on from the other's state."""
    layer = neurons.LearnableDelays(
        5, 4, 9, window=neurons.TriangularWindow(), delay=torch.randint(0, 10, shape).float(), bias=True
    )
    layer.anneal(1.0)
    frozen, x = layer.freeze(), torch.randn(30, 3, 5)
    y, state = layer(x)
    other, other_state = frozen(x)
    assert torch.equal(y, other)
    assert torch.equal(state.history, other_state.history)
    assert torch.equal(layer(x, other_state)[0], frozen(x, state)[0])


def test_freezing_rounds_and_holds_the_range_and_leaves_the_layer_as_it_is() -> None:
    layer = neurons.LearnableDelays(4, 1, 6, delay=torch.tensor([[0.4, 1.6, 3.0, 6.0]]))
    with torch.no_grad():
        layer.delay.copy_(torch.tensor([[-2.0, 1.6, 3.0, 99.0]]))
    frozen = layer.freeze()
    assert frozen.delays.tolist() == [[0, 2, 3, 6]]
    frozen.weight.data.zero_()
    assert layer.weight.count_nonzero() == 4
    assert layer.delay.tolist()[0][3] == 99.0


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
def test_a_settled_layer_is_the_frozen_one_and_its_delays_stay(window: DelayWindow) -> None:
    layer = neurons.LearnableDelays(5, 4, 9, window=window)
    x = torch.randn(30, 3, 5)
    assert not torch.equal(layer(x)[0], layer.freeze()(x)[0])
    layer.settle()
    assert torch.equal(layer(x)[0], layer.freeze()(x)[0])
    layer(x)[0].square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.delay.grad is not None
    assert layer.weight.grad.count_nonzero() == 20
    assert layer.delay.grad.count_nonzero() == 0


def test_a_delay_beyond_its_range_still_feels_where_to_go() -> None:
    layer = neurons.LearnableDelays(1, 1, 6, delay=torch.tensor([[6.0]]))
    with torch.no_grad():
        layer.delay += 5.0
        layer.weight.fill_(1.0)
    x = torch.zeros(8, 1, 1)
    x[0] = 1
    layer(x)[0][2].sum().backward()
    assert layer.delay.grad is not None
    assert layer.delay.grad.item() < 0, "an earlier delay gives more at step 2"


OFFSETS = torch.tensor([0, 7, 3, 10, 5])


def coincidences(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each line fires once: in half of the samples with the offsets above, else at random steps."""
    begin = torch.randint(0, 6, (batch, 1), generator=generator)
    right = torch.rand(batch, generator=generator) < 0.5
    offsets = torch.where(right[:, None], OFFSETS, torch.randint(0, 11, (batch, 5), generator=generator))
    x = torch.zeros(32, batch, 5)
    x[begin + offsets, torch.arange(batch)[:, None], torch.arange(5)] = 1
    return x, right.float()


def fires(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """Whether a neuron that needs four spikes at once, with hardly any memory, fires behind these delays."""
    return neurons.Leaky(1e-6, threshold=3.5)(layer(x)[0])[0].amax((0, 2))


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_learned_delays_are_those_of_the_task(window: DelayWindow, seed: int) -> None:
    """Five lines fire one after the other; only delays that undo the offsets bring their spikes together."""
    generator = torch.Generator().manual_seed(seed)
    layer = neurons.LearnableDelays(5, 1, 15, window=window, delay=torch.full((1, 5), 7.5))
    layer.weight.data.fill_(1.0)
    optimiser, steps = torch.optim.Adam([layer.delay], lr=0.2), 150
    before = layer.freeze()
    for step in range(steps):
        layer.anneal(min(1.0, step / (0.75 * steps)))
        x, right = coincidences(64, generator)
        peak = layer(x)[0][:, :, 0].amax(0)
        loss = functional.binary_cross_entropy_with_logits(2 * (peak - 3), right)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    frozen = layer.freeze()
    assert len(set((frozen.delays[0] + OFFSETS).tolist())) == 1, "all spikes of the pattern arrive at once"
    x, right = coincidences(500, generator)
    assert (fires(frozen, x) == right).float().mean() > 0.98
    assert (fires(before, x) == right).float().mean() < 0.6
