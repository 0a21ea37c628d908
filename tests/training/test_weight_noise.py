"""Noise on weights: there while gradients are taken, gone afterwards, and of the size that was asked for."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeport import RangeError
from spikeport.data import Direct
from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky, LearnableDelays
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.optimizers import make_optimizer
from spikeport.training.processes import train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task
from spikeport.training.weight_noise import noisy_weights


def test_noise_is_a_share_of_the_largest_weight_of_an_output_and_goes_away() -> None:
    layer = nn.Linear(2000, 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with noisy_weights(layer, 0.1, seed=1):
        difference = layer.weight.detach() - before["weight"]
        assert torch.equal(layer.bias, before["bias"])
        relative = difference.std(1) / before["weight"].abs().amax(1)
        assert ((relative / 0.1 - 1).abs() < 0.1).all()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_gradients_are_those_at_the_noisy_weights() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with noisy_weights(layer, 0.5, seed=2):
        noisy = layer.weight.detach().clone()
        layer(torch.ones(1, 4)).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, 2 * noisy.sum() * torch.ones(1, 4))


def test_the_same_seed_gives_the_same_noise_and_an_error_leaves_none() -> None:
    layer, seen = nn.Linear(5, 5), []
    clean = layer.weight.detach().clone()
    for seed in (1, 1, 2):
        with noisy_weights(layer, 0.2, seed=seed):
            seen.append(layer.weight.detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    with pytest.raises(ZeroDivisionError), noisy_weights(layer, 0.2, seed=1):
        raise ZeroDivisionError
    assert torch.equal(layer.weight, clean)


def test_bad_shares_are_refused() -> None:
    with pytest.raises(RangeError, match="weight_noise"):
        TrainingSettings(weight_noise=1.5)
    with pytest.raises(RangeError, match="weight_noise"), noisy_weights(nn.Linear(1, 1), float("nan"), seed=0):
        pass


def test_training_with_noise_learns_and_is_repeatable() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    samples = Samples(x, (x[:, 0] > 0).long())
    settings = TrainingSettings(epochs=3, batch_size=16, tensorboard=False, weight_noise=0.1)

    def weights(settings: TrainingSettings) -> torch.Tensor:
        torch.manual_seed(0)
        network = Chain(nn.Linear(6, 8), Leaky(beta=0.9), nn.Linear(8, 2), Leaky(beta=0.9))
        task = Task(network, samples, samples, Direct(4), RateCrossEntropy())
        train(task, settings, OptimizerSettings(learning_rate=0.02))
        return torch.cat([value.detach().flatten() for value in network.parameters()])

    first = weights(settings)
    assert torch.equal(first, weights(settings))
    assert not torch.equal(first, weights(replace(settings, weight_noise=0.0)))


def test_noise_and_decay_leave_values_of_neurons_and_delays_alone() -> None:
    beta = torch.full((4, 1, 1), 0.9)
    network = nn.ModuleList([LearnableDelays(8, 12, 5), nn.Conv2d(1, 4, 3), Leaky(beta, learn_beta=True)])
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    with noisy_weights(network, 0.1, seed=3):
        moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "1.weight"}
    optimizer = make_optimizer(network, OptimizerSettings(weight_decay=0.1, learning_rate=1.0))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "1.weight"}
