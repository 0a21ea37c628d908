"""Laws of differential coding: the kernels agree, and a decoded value follows what it is told, a level at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeport.neurons.kernels import DifferentialArrays, cpu, follow, follow_reference

BLOCK = cpu.BLOCK
INFINITY = float("inf")


def neuron_of(features: int, *, line: bool, levels: int = 6, maximum: float = INFINITY, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    threshold = torch.rand(features, generator=generator) + 0.1
    bias, initial = torch.randn(2, features, generator=generator) / 8
    return DifferentialArrays(threshold, bias, initial, levels, line, maximum)


def plain(features: int = 1, *, line: bool = True, levels: int = 8) -> DifferentialArrays:
    zeros = torch.zeros(features)
    return DifferentialArrays(torch.ones(features), zeros, zeros, levels, line, INFINITY)


def values(steps: int, batch: int, features: int, seed: int = 0) -> Tensor:
    """Values on a coarse grid, which meet the borders between levels now and then, and others."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randint(-12, 13, (steps, batch, features), generator=generator) / 8
    noise = torch.randn(steps, batch, features, generator=generator)
    return torch.where(torch.rand(steps, batch, features, generator=generator) < 0.5, grid, noise)


@pytest.mark.parametrize("line", [True, False])
@pytest.mark.parametrize("rows", [6, 1], ids=["sequence", "constant"])
def test_the_compiled_kernel_equals_the_reference(line: bool, rows: int) -> None:
    for features in (1, 7, BLOCK, BLOCK + 1):
        neuron = neuron_of(features, line=line, maximum=INFINITY if line else 1.5)
        z, age = values(rows, 3, features), torch.tensor([0, 5, 1])
        decoded = values(1, 3, features, seed=1)[0].abs()
        got = follow(z, 6, age, decoded, neuron)
        wanted = follow_reference(z.expand(6, -1, -1), age, decoded, neuron)
        assert torch.equal(got.view(torch.int32), wanted.view(torch.int32))
        assert bool((got[1:] != got[:-1]).any())


@pytest.mark.parametrize("line", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_splitting_time_changes_nothing_and_arguments_stay_as_they_are(line: bool, dtype: torch.dtype) -> None:
    neuron = neuron_of(9, line=line)
    neuron = neuron._replace(**{name: getattr(neuron, name).to(dtype) for name in ("threshold", "bias", "initial")})
    z, age, decoded = values(7, 2, 9).to(dtype), torch.tensor([0, 2]), torch.zeros(2, 9, dtype=dtype)
    before = [part.clone() for part in (z, age, decoded)]
    whole = follow(z, 7, age, decoded, neuron)
    first = follow(z[:3], 3, age, decoded, neuron)
    rest = follow(z[3:], 4, age + 3, first[-1], neuron)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert all(torch.equal(x, old) for x, old in zip((z, age, decoded), before, strict=True))


@pytest.mark.parametrize("line", [True, False])
def test_the_closed_form_is_the_recursion_of_the_source(line: bool) -> None:
    """v += t (z[t] - z[t-1]) + z[t-1] - R[t-1]; s = the nearest level, guarded; v -= s; R += s / t."""
    z, neuron = values(20, 4, 5).double(), plain(5, line=line, levels=5)
    got = follow_reference(z, torch.zeros(4, dtype=torch.int64), torch.zeros(4, 5, dtype=torch.float64), neuron)
    levels = [2.0**-k for k in range(5)]
    for n in range(4):
        for f in range(5):
            v = r = z_before = 0.0
            for t in range(1, 21):
                now = float(z[t - 1, n, f])
                v += t * (now - z_before) + z_before - r
                z_before = now
                allowed = [s for s in levels if v > 0 or line or s <= t * r]
                s = next((s for s in allowed if abs(v) >= 0.75 * s), 0.0) * (1 if v >= 0 else -1)
                v, r = v - s, r + s / t
                assert float(got[t - 1, n, f]) == pytest.approx(r, abs=1e-9)


def test_no_input_no_spike() -> None:
    assert not follow(torch.zeros(1, 2, 3), 8, torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3), plain(3)).any()


@settings(deadline=None)
@given(st.floats(-1.25, 1.25, width=32))
def test_a_constant_value_is_reached_by_a_factor_of_three_a_step_and_kept_in_silence(value: float) -> None:
    """|z - R[t]| <= max(|z| / 3^t, the last level / t): a spike leaves a third of what was missing at most."""
    z = torch.full((1, 1, 1), value)
    found = follow(z, 12, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1), plain(levels=8))[:, 0, 0]
    for t, r in enumerate(found.tolist(), start=1):
        assert abs(value - r) <= max(abs(value) / 3**t, 2.0**-7 / t) + 1e-6
    silent = found[1:] == found[:-1]
    assert silent[6:].float().mean() >= 0.5 or float((found[-1] - value).abs()) < 2.0**-7


@pytest.mark.parametrize("seed", range(3))
def test_a_rectifier_never_falls_below_zero_nor_rises_above_its_cut(seed: int) -> None:
    z, fresh = values(3, 8, 33, seed), torch.zeros(8, dtype=torch.int64)
    neuron = neuron_of(33, line=False, maximum=0.8, seed=seed)
    neuron = neuron._replace(threshold=neuron.threshold + 0.5, bias=torch.zeros(33), initial=torch.zeros(33))
    found = follow(torch.cat([z, z[-1:].expand(400, -1, -1)]), 403, fresh, torch.zeros(8, 33), neuron)
    assert found.min() == 0
    error = (found[-1] - z[-1].clamp(0, 0.8)).abs()
    assert bool((error <= neuron.threshold / 2**5 / 403).all()), "it settles on the rectified, cut value"
    line = follow(z, 3, fresh, torch.zeros(8, 33), neuron._replace(line=True))
    assert line.min() < 0
