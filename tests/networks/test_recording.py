"""A recorded run gives what the network gives, and what its named modules gave."""

import pytest
import torch
from torch import Tensor, nn

from spikeport import RangeError, SpikeportError
from spikeport.networks import Chain, Feedback, Residual, run
from spikeport.neurons import Leaky, LeakyIntegrator


def branched() -> Chain:
    block = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), Leaky(0.7))
    head = (nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 4), Leaky(0.5))
    return Chain(nn.Conv2d(3, 4, 1), Leaky(0.9), block, *head).double().eval()


def looped() -> Chain:
    loop = Feedback(nn.Linear(6, 5), Leaky(0.9), back=nn.Linear(5, 6))
    return Chain(nn.Flatten(), nn.Linear(12, 6), loop).double()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3


def test_a_run_records_what_is_named(x: Tensor) -> None:
    network = branched()
    done = run(network, x, record=["layers.1", "layers.2.inner.layers.0"])
    spikes, _ = network.layers[1](network.layers[0](x.flatten(0, 1)).unflatten(0, (6, 3)))
    torch.testing.assert_close(done.recorded["layers.1"], spikes)
    assert done.recorded["layers.2.inner.layers.0"].shape == (6, 3, 4, 2, 2)
    torch.testing.assert_close(done.output, network(x)[0])


def test_a_recorded_loop_has_all_its_steps_and_no_more(x: Tensor) -> None:
    done = run(looped(), x, record=["layers.2.inner.layers.1"])
    torch.testing.assert_close(done.recorded["layers.2.inner.layers.1"], done.output)


def test_a_run_goes_on_from_a_state(x: Tensor) -> None:
    network = looped()
    first = run(network, x[:2])
    rest = run(network, x[2:], first.state, record=["layers.2.inner.layers.1"])
    torch.testing.assert_close(torch.cat([first.output, rest.output]), network(x)[0])
    assert len(rest.recorded["layers.2.inner.layers.1"]) == 4


def test_a_wrong_name_is_refused_with_the_names_there_are(x: Tensor) -> None:
    network = branched()
    with pytest.raises(SpikeportError, match=r"no module named 'layers\.9'; it has layers"):
        run(network, x, record=["layers.9"])
    assert not any(module._forward_hooks for module in network.modules())


def test_a_module_that_took_no_part_is_told(x: Tensor) -> None:
    network = branched()
    network.unused = nn.Linear(1, 1)
    with pytest.raises(SpikeportError, match="unused took no part"):
        run(network, x, record=["unused"])


def test_a_branch_with_a_state_is_refused() -> None:
    with pytest.raises(RangeError, match="the shortcut is a Leaky, which has a state"):
        Residual(nn.Linear(3, 3), shortcut=Leaky(0.9))
    with pytest.raises(RangeError, match="back is a Chain, which has a state"):
        Feedback(nn.Linear(3, 3), back=Chain(nn.Linear(3, 3)))


def test_what_is_the_same_at_each_step_is_recorded_for_each(x: Tensor) -> None:
    network = Chain(nn.Linear(4, 4), Leaky(0.9)).eval()
    constant = torch.rand(2, 4).expand(6, 2, 4)
    found = run(network, constant, record=["layers.0", "layers.1"]).recorded
    assert found["layers.0"].shape == found["layers.1"].shape == (6, 2, 4)
    assert torch.equal(found["layers.0"], run(network, constant.contiguous(), record=["layers.0"]).recorded["layers.0"])
    assert run(network, constant[:, :0], record=["layers.0"]).recorded["layers.0"].shape == (6, 0, 4)


def test_a_module_at_two_places_is_refused_and_work_in_place_changes_no_record() -> None:
    neuron = Leaky(0.9)
    with pytest.raises(SpikeportError, match=r"layers\.1 runs at 2 places"):
        run(Chain(nn.Linear(4, 4), neuron, nn.Linear(4, 4), neuron), torch.rand(6, 2, 4), record=["layers.1"])
    network = Chain(nn.Linear(4, 4), LeakyIntegrator(0.9), nn.ReLU(inplace=True))
    done = run(network, torch.randn(6, 2, 4), record=["layers.1"])
    assert done.recorded["layers.1"].min() < 0
    assert torch.equal(done.recorded["layers.1"].relu(), done.output)


def test_a_norm_in_training_counts_every_step() -> None:
    constant = torch.rand(2, 3).expand(6, 2, 3)
    found = []
    for x in (constant, constant.contiguous()):
        network = Chain(nn.BatchNorm1d(3), Leaky(0.9))
        network(x)
        found.append(network[0].running_var)
    torch.testing.assert_close(*found)
    Chain(nn.BatchNorm1d(3), Leaky(0.9))(constant[:, :1])  # one sample is several values over time


def test_a_module_of_ones_own_draws_for_every_step_in_training() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    y, _ = Chain(Noise(), LeakyIntegrator(0.5))(torch.zeros(1, 2, 3).expand(4, 2, 3))
    steps = y - 0.5 * torch.cat([torch.zeros(1, 2, 3), y[:-1]])
    assert not torch.equal(steps[0], steps[1])
