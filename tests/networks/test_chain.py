"""A chain is its layers one after the other, at any split of time and batch; so are skips and feedback."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.networks.chain import Chain, Feedback, Residual
from spikeport.neurons import Leaky, LeakyIntegrator, RecurrentLeaky, Synaptic


def mixed() -> Chain:
    torch.manual_seed(0)
    head = Chain(nn.Linear(32, 6), Synaptic(0.8, 0.9), nn.Linear(6, 3), LeakyIntegrator(0.9))
    convolution = nn.Conv2d(2, 8, 3, padding=1)
    return Chain(convolution, nn.BatchNorm2d(8), Leaky(0.9), nn.MaxPool2d(2), nn.Flatten(), head).eval().double()


def sequence(steps: int = 9) -> torch.Tensor:
    return torch.rand(steps, 4, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3


def test_it_is_its_layers_in_turn() -> None:
    chain, x = mixed(), sequence()
    whole, _ = chain(x)
    states: list = [None] * 5
    for step, wanted in zip(x, whole, strict=True):
        y = chain[1](chain[0](step))
        y, states[0] = chain[2](y.unsqueeze(0), states[0])
        y = chain[3](y[0]).flatten(1)
        head = chain[5]
        y, states[1] = head[1](head[0](y).unsqueeze(0), states[1])
        y, states[2] = head[3](head[2](y[0]).unsqueeze(0), states[2])
        assert_close(y[0], wanted)


def test_splitting_time_changes_nothing() -> None:
    chain, x = mixed(), sequence()
    whole, end = chain(x)
    first, state = chain(x[:4], chain.initial_state(x.shape[1:], dtype=torch.float64))
    rest, state = chain(x[4:], state)
    assert_close(torch.cat([first, rest]), whole)
    assert_close(state, end)


def test_a_sample_does_not_see_its_neighbours() -> None:
    chain, x = mixed(), sequence()
    assert_close(chain(x[:, :1])[0], chain(x)[0][:, :1])


def test_the_same_input_at_each_step_is_worked_out_once_with_the_same_result() -> None:
    chain, calls = mixed(), []
    chain[0].register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    x = sequence(1)[0]
    once, _ = chain(x.expand(5, *x.shape))
    repeated, _ = chain(x.repeat(5, 1, 1, 1, 1))
    assert calls == [4, 20]
    assert_close(once, repeated)


def test_gradients_are_those_of_repeated_input() -> None:
    gradients = []
    for repeat in (lambda x: x.expand(5, *x.shape), lambda x: x.repeat(5, 1, 1, 1, 1)):
        chain = mixed()
        chain(repeat(sequence(1)[0]))[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in chain.parameters()])
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_dropout_draws_anew_at_each_step() -> None:
    chain = Chain(nn.Dropout(0.5))
    y, state = chain(torch.ones(1, 1000).expand(8, 1, 1000))
    assert state == {}
    assert not torch.equal(y[0], y[1])


def test_a_fresh_state_is_found_without_a_trace() -> None:
    chain = mixed().train()
    before = {name: value.clone() for name, value in chain.state_dict().items()}
    state = chain.initial_state((4, 2, 4, 4), dtype=torch.float64)
    assert chain.training
    assert chain[1].training
    assert_close(dict(chain.state_dict()), before)
    assert_close(chain.eval()(sequence(), state), chain(sequence()))
    assert state["2"].membrane.shape == (4, 8, 4, 4)
    assert not any("membrane" in name for name in before), "no state among the parameters"


def test_recurrent_layers_keep_their_own_state() -> None:
    chain = Chain(nn.Linear(4, 5), RecurrentLeaky(nn.Linear(5, 5), 0.9))
    x = torch.rand(6, 2, 4)
    first, state = chain(x[:3])
    assert_close(torch.cat([first, chain(x[3:], state)[0]]), chain(x)[0])


def test_a_skip_adds_the_input() -> None:
    layers, x = [nn.Linear(4, 4), Leaky(0.9)], torch.rand(6, 2, 4)
    assert_close(Residual(*layers)(x)[0], Chain(*layers)(x)[0] + x)
    narrow = nn.Linear(4, 3)
    assert_close(Residual(nn.Linear(4, 3), shortcut=narrow).shortcut(x), narrow(x))
    with pytest.raises(ShapeError, match="shortcut"):
        Residual(nn.Linear(4, 3))(x)


def test_feedback_equals_the_recurrent_layer() -> None:
    back, x = nn.Linear(5, 5), torch.rand(7, 2, 5)
    looped, built_in = Feedback(Leaky(0.9), back=back), RecurrentLeaky(back, 0.9)
    whole, end = looped(x)
    assert_close(whole, built_in(x)[0])
    first, state = looped(x[:3])
    rest, state = looped(x[3:], state)
    assert_close(torch.cat([first, rest]), whole)
    assert_close(state, end)
    with pytest.raises(ShapeError, match="back"):
        Feedback(Leaky(0.9), back=nn.Linear(5, 4))(x)


@pytest.mark.parametrize("shape", [(4,), (0, 2, 4)])
def test_what_is_no_sequence_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        Chain(nn.Linear(4, 2))(torch.zeros(shape))


def test_a_state_of_another_chain_or_batch_is_refused() -> None:
    chain = mixed()
    with pytest.raises(ShapeError, match=r"initial_state\(x.shape"):
        chain(sequence(), {"1": None})
    with pytest.raises(ShapeError, match="initial_state"):
        chain(sequence()[:, :3], chain.initial_state((4, 2, 4, 4)))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(RangeError, match=r"layer 1 of the chain .* wrap"):
        Chain(nn.Flatten(), torch.relu)


def test_a_layer_that_stands_in_two_places_runs_in_both() -> None:
    """Each place has a state of its own; the parameters are shared."""
    shared, neuron = nn.Linear(3, 3), Leaky(beta=0.9)
    x = torch.rand(6, 2, 3)
    y, state = Chain(shared, neuron, shared, neuron)(x)
    wanted, _ = Chain(shared, neuron, copy.deepcopy(shared), copy.deepcopy(neuron))(x)
    assert torch.equal(y, wanted)
    assert list(state) == ["1", "3"]
    assert list(Chain(shared, neuron, shared, neuron).initial_state((2, 3))) == ["1", "3"]
