"""One neuron (time constant 2.5 ms, threshold 0.1, steps of 0.1 ms) as other simulators recorded it.

The columns of each file: input, membrane, whether that simulator's neuron fired.  ``lif_exact`` solves the differential
equation; norse, snnTorch and Lava agree with its four spikes.  sinabs leaks by exp(-dt / tau) but takes dt / tau of the
input, so that its membrane is 2 % higher and two of its spikes come earlier; Lava is a step behind.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport import neurons

TAU_S, DT_S, THRESHOLD = 0.0025, 0.0001, 0.1
EXACT, EULER = math.exp(-DT_S / TAU_S), 1 - DT_S / TAU_S
SPIKES = [460, 510, 710, 760]
GAIN = DT_S / TAU_S


@pytest.fixture(autouse=True)
def _double_precision() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def recording(data_dir: Path, simulator: str) -> tuple[Tensor, Tensor, list[int]]:
    """Input (time, 1, 1), membrane (time,), steps with a spike."""
    table = np.loadtxt(data_dir / "nir_lif_traces" / f"lif_{simulator}.csv", delimiter=",")
    return (
        torch.from_numpy(table[:, 0]).reshape(-1, 1, 1),
        torch.from_numpy(table[:, 1]),
        np.flatnonzero(table[:, 2]).tolist(),
    )


def run(layer: neurons.Leaky, x: Tensor) -> tuple[Tensor, list[int]]:
    """The membrane after every step, and the steps with a spike."""
    state, membranes, spikes = None, [], []
    for t in range(len(x)):
        spike, state = layer(x[t : t + 1], state)
        membranes.append(state.membrane.flatten())
        spikes += [t] * int(spike)
    return torch.cat(membranes), spikes


def test_the_exact_solution(data_dir: Path) -> None:
    """To 1e-8 up to the first spike.

    The solution falls to 0 where it crosses the threshold, a part f of a step before its end, and rises again to
    1 - exp(-f dt / tau); a stepped neuron then has (1 - threshold) of that: less than threshold * dt / tau apart.
    """
    x, membrane, spikes = recording(data_dir, "exact")
    got, fired = run(neurons.Leaky(EXACT, THRESHOLD, gain=1 - EXACT), x)
    assert fired == spikes == SPIKES
    torch.testing.assert_close(got[: SPIKES[0]], membrane[: SPIKES[0]], rtol=0, atol=1e-8)
    torch.testing.assert_close(got, membrane, rtol=0, atol=GAIN * THRESHOLD)


def test_the_time_constant_gives_the_exact_decay() -> None:
    assert neurons.Leaky.from_time_constant(TAU_S, DT_S).beta.item() == EXACT


@pytest.mark.parametrize(
    ("simulator", "beta", "threshold", "gain", "reset", "spikes", "tolerance"),
    [
        ("norse", EULER, THRESHOLD, GAIN, "zero", SPIKES, 1e-7),
        ("snntorch", EULER, THRESHOLD / GAIN, 1.0, "zero", SPIKES, 1e-6),
        (
            "sinabs",
            EXACT,
            THRESHOLD,
            1.0,
            "subtract",
            [450, 500, 710, 760],
            1e-7,
        ),  # its input is recorded times dt / tau
    ],
)
def test_stepped_simulators(
    data_dir: Path,
    simulator: str,
    beta: float,
    threshold: float,
    gain: float,
    reset: str,
    spikes: list[int],
    tolerance: float,
) -> None:
    x, membrane, recorded = recording(data_dir, simulator)
    got, fired = run(neurons.Leaky(beta, threshold, gain=gain, reset=reset), x)
    assert fired == recorded == spikes
    torch.testing.assert_close(got, membrane, rtol=0, atol=tolerance)


def test_lava_is_the_same_a_step_later(data_dir: Path) -> None:
    x, membrane, recorded = recording(data_dir, "lava_cpu_float")
    got, fired = run(neurons.Leaky(EULER, THRESHOLD, gain=GAIN, reset="zero"), x)
    assert [t + 1 for t in fired] == recorded == [t + 1 for t in SPIKES]
    torch.testing.assert_close(got[:-1], membrane[1:], rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_whole_sequence_fires_as_step_by_step(data_dir: Path, dtype: torch.dtype) -> None:
    x, _, _ = recording(data_dir, "norse")
    spikes, _ = neurons.Leaky(EULER, THRESHOLD, gain=GAIN, reset="zero").to(dtype)(x.to(dtype))
    assert spikes.flatten().nonzero().flatten().tolist() == SPIKES
