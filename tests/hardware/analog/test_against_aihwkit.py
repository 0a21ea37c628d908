"""Our devices against IBM's aihwkit: the same targets and times give the same conductances, within sampling error."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torch.testing import assert_close

from spikeport.hardware.analog.cells import read_variance
from spikeport.hardware.analog.crossbar import Crossbar, Programmed, program
from spikeport.hardware.analog.device_file import load_device

pytestmark = pytest.mark.needs("aihwkit")

SHARES = torch.tensor([0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.0])
SAMPLES = 20_000
DAY = 86400.0
CASES = [("pcm", t) for t in (0.0, 1.0, 3600.0, DAY, 30 * DAY)] + [("reram", t) for t in (1.0, DAY, 2 * DAY)]


def programmed(name: str, **changes: object) -> Programmed:
    """SAMPLES devices at each share of the range: the positive devices of weights that one scale holds."""
    weight = SHARES[:, None].expand(-1, SAMPLES // 4)
    crossbar = Crossbar(replace(load_device(name), **changes), tile_rows=SAMPLES, scale=1.0)  # type: ignore[arg-type]
    return program(weight, crossbar, instances=4, seed=11)


def by_share(conductance: Tensor) -> Tensor:
    """(shares, samples) of (instances, slices, 2, columns, rows)."""
    return conductance[:, 0, 0].transpose(0, 1).flatten(1)


def theirs(name: str, time_s: float) -> Tensor:
    """What aihwkit's model draws, (shares, samples)."""
    from aihwkit.inference import PCMLikeNoiseModel, ReRamWan2022NoiseModel

    model = {"pcm": lambda: PCMLikeNoiseModel(g_max=25.0), "reram": lambda: ReRamWan2022NoiseModel(g_max=40.0)}[name]()
    target = (SHARES[:, None] * model.g_max).expand(-1, SAMPLES).contiguous()
    torch.manual_seed(7)
    written = model.apply_programming_noise_to_conductance(target)
    drift = model.generate_drift_coefficients(target)
    aged: Tensor = model.apply_drift_noise_to_conductance(written, drift, time_s)
    return aged


def agree(ours: Tensor, expected: Tensor) -> None:
    """Mean, spread and whole distribution agree at every share: 5 standard errors, and a Kolmogorov-Smirnov test."""
    n = ours.shape[1]
    error = ((ours.var(1) + expected.var(1)) / n).sqrt()
    assert ((ours.mean(1) - expected.mean(1)).abs() <= 5 * error + 1e-6).all()
    centred = [(each - each.mean(1, keepdim=True)) ** 2 for each in (ours, expected)]
    error = sum((each.var(1) / n for each in centred), torch.zeros(len(ours))).sqrt()
    assert ((centred[0].mean(1) - centred[1].mean(1)).abs() <= 5 * error + 1e-6).all()
    assert min(ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in zip(ours, expected, strict=True)) > 1e-4


@pytest.mark.parametrize(("name", "time_s"), CASES)
def test_conductances_are_distributed_as_theirs(name: str, time_s: float) -> None:
    ours = programmed(name, read_window_s=0.0).conductances(time_s, seed=3)
    agree(by_share(ours), theirs(name, time_s))


def test_one_read_is_distributed_as_theirs_though_part_of_its_noise_is_drawn_anew() -> None:
    """Far from zero: there clamping at no conductance plays no part."""
    devices = programmed("pcm")
    aged = devices.conductances(DAY, seed=3)
    variance = read_variance(devices.crossbar.device, devices.conductance, aged, DAY)
    assert variance is not None
    read = aged + variance.sqrt() * torch.randn(aged.shape, generator=torch.Generator().manual_seed(1))
    agree(by_share(read)[3:], theirs("pcm", DAY)[3:])


def test_the_comparison_notices_another_device() -> None:
    ours = by_share(programmed("pcm", read_window_s=0.0, drift_start_s=10.0).conductances(DAY, seed=3))
    with pytest.raises(AssertionError):
        agree(ours, theirs("pcm", DAY))


WEIGHT = torch.randn(64, 200, generator=torch.Generator().manual_seed(0)) / 10


def our_layer(compensation: bool) -> Tensor:
    crossbar = Crossbar(replace(load_device("pcm"), read_window_s=0.0), tile_rows=512, compensation=compensation)
    return program(WEIGHT, crossbar, instances=8, seed=0).at(DAY, seed=0).weight


def test_a_layer_of_pairs_loses_as_much_as_in_their_model() -> None:
    from aihwkit.inference import PCMLikeNoiseModel

    scale = WEIGHT.abs().amax(1, keepdim=True)
    torch.manual_seed(5)
    expected = torch.stack([PCMLikeNoiseModel(g_max=25.0).apply_noise(WEIGHT / scale, DAY) * scale for _ in range(8)])
    for measure in _measures(WEIGHT):
        a, b = measure(our_layer(False)), measure(expected)
        assert_close(a.mean(), b.mean(), rtol=0, atol=5 * float((a.var() / 8 + b.var() / 8).sqrt()))


@pytest.mark.parametrize("compensation", [True, False])
def test_a_layer_loses_about_as_much_as_in_their_tiles(compensation: bool) -> None:
    """Their tile lets the difference of a pair drift as one device, which the model does not: hence the tolerance."""
    expected = torch.stack([_their_layer(WEIGHT, seed, compensation) for seed in range(8)])
    for measure in _measures(WEIGHT):
        assert_close(measure(our_layer(compensation)).mean(), measure(expected).mean(), rtol=0.05, atol=0)


def _measures(weight: Tensor) -> list[Callable[[Tensor], Tensor]]:
    return [
        lambda each: (each * weight).sum((1, 2)) / (weight**2).sum(),
        lambda each: ((each - weight) ** 2).mean((1, 2)),
        lambda each: each.abs().mean((1, 2)),
    ]


def _their_layer(weight: Tensor, seed: int, compensation: bool) -> Tensor:
    """The weights that aihwkit's analog layer computes with, read with one-hot inputs."""
    from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig(noise_model=PCMLikeNoiseModel(g_max=25.0))
    config.drift_compensation = GlobalDriftCompensation() if compensation else None
    config.forward.is_perfect = True
    config.mapping.weight_scaling_columnwise = True
    config.mapping.weight_scaling_omega = 1.0
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    torch.manual_seed(seed)
    layer = convert_to_analog(linear, config).eval()
    layer.drift_analog_weights(DAY)
    with torch.no_grad():
        response: Tensor = layer(torch.eye(weight.shape[1]))
    return response.T
