"""What training sees of a network while it runs: the spikes of its hidden layers, at every step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeport.data import Direct
from spikeport.networks import Chain, Feedback
from spikeport.neurons import Izhikevich, Leaky, LeakyIntegrator, LearnableDelays
from spikeport.neurons.izhikevich import CHATTERING
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.processes import train
from spikeport.training.settings import TrainingSettings
from spikeport.training.step import Samples, Task
from spikeport.training.watch import Activity, recorded_spikes, spiking_layers


def test_penalties_see_every_step_of_a_loop_and_no_output() -> None:
    back = Feedback(Leaky(0.9, 0.3), back=nn.Linear(5, 5))
    loop = Chain(nn.Linear(8, 5), back, nn.Linear(5, 3), LeakyIntegrator(0.9))
    x = torch.rand(8, 3, 8)
    with recorded_spikes(loop) as spikes:
        loop(x)
    assert [tuple(each.shape) for each in spikes.values()] == [(8, 3, 5)]
    ends = Chain(nn.Linear(8, 5), Leaky(0.9), nn.Linear(5, 4), Leaky(0.9), nn.Flatten())
    with recorded_spikes(ends) as spikes:
        ends(x)
    assert list(spikes) == ["layers.1"]
    assert list(spiking_layers(Chain(nn.Linear(8, 5), Izhikevich(*CHATTERING)))) == ["layers.1"]


def test_rates_are_of_the_samples_and_not_of_a_look_at_shapes() -> None:
    """A loop sends zeros through itself to see what its state is like; the neuron inside fires then, too."""
    loop = Chain(Feedback(Leaky(0.9, 0.3), back=nn.Linear(5, 5)))
    with torch.no_grad():
        loop[0].back.bias.fill_(9.0)
    with Activity(loop) as activity:
        loop(torch.rand(4, 3, 5))
    ((_, unit_steps),) = activity.sums.values()
    assert unit_steps == 4 * 3 * 5


@pytest.mark.slow
def test_delays_learn_again_where_a_finished_run_goes_on_and_any_float_is_a_sample(tmp_path: Path) -> None:
    def task() -> Task:
        torch.manual_seed(0)
        layers = LearnableDelays(8, 12, 5), Leaky(0.9), nn.Linear(12, 3), LeakyIntegrator(0.9)
        samples = Samples(torch.rand(96, 8).double(), torch.arange(96) % 3)
        return Task(Chain(*layers), samples, samples, Direct(6), RateCrossEntropy())

    settings = TrainingSettings(epochs=4, batch_size=16, tensorboard=False)
    first, second = task(), task()
    train(first, settings, folder=tmp_path / "run")
    train(second, replace(settings, epochs=20), folder=tmp_path / "run", resume=True)
    moved = (second.network[0].delay - first.network[0].delay).abs().sum()
    assert first.network[0].settled
    assert second.network[0].settled
    assert moved > 1
