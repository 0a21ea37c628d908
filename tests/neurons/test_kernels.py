"""The compiled kernel equals the reference bit for bit, and both keep the laws of an integrate-and-fire neuron."""

import itertools
import subprocess
import sys

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeport.neurons.kernels import NeuronArrays, cpu, fire, fire_reference, replay

CODES, RESETS, BETAS = ("binary", "signed", "graded"), ("subtract", "zero", "none"), (1.0, 0.9)
KINDS = [
    *itertools.product(CODES, (False, True), RESETS, BETAS),
    *(("binary", strict, "subtract", 0.9, "late") for strict in (False, True)),
]
BLOCK = cpu.BLOCK


def neuron_of(kind: tuple, features: int, generator: torch.Generator, levels: int = 5) -> NeuronArrays:
    code, strict, reset, beta, *late = kind
    threshold = torch.randint(1, 9, (features,), generator=generator) / 4
    bias = torch.randint(-1, 2, (features,), generator=generator) / 8
    decay = torch.full((features,), beta)
    decay[::2] = 1.0
    return NeuronArrays(threshold, bias, decay, code, strict, reset, levels if code == "graded" else 1, bool(late))


def start_of(neuron: NeuronArrays, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Membranes on a coarse grid, so that they meet the threshold exactly now and then."""
    membrane = torch.randint(-4, 9, (batch, len(neuron.threshold)), generator=generator) / 4
    count = torch.randint(0, 3, membrane.shape, generator=generator).float()
    return membrane, count if neuron.code == "signed" else None


def currents(rows: int, batch: int, features: int, generator: torch.Generator) -> Tensor:
    grid = torch.randint(-6, 9, (rows, batch, features), generator=generator) / 4
    noise = torch.randn(rows, batch, features, generator=generator)
    return torch.where(torch.rand(rows, batch, features, generator=generator) < 0.5, grid, noise)


def bits(x: Tensor | None) -> list[int] | None:
    """The bit patterns; -0 and 0 differ."""
    return None if x is None else x.contiguous().view(torch.int32).flatten().tolist()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("rows", [6, 1], ids=["sequence", "constant"])
def test_the_compiled_kernel_equals_the_reference(kind: tuple, rows: int) -> None:
    generator = torch.Generator().manual_seed(len(str(kind)) + rows)
    for features in (1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3):
        neuron = neuron_of(kind, features, generator)
        membrane, count = start_of(neuron, 3, generator)
        current = currents(rows, 3, features, generator)
        got = fire(current, 6, membrane, count, neuron)
        wanted = fire_reference(current.expand(6, -1, -1), membrane, count, neuron)
        assert [bits(x) for x in got] == [bits(x) for x in wanted]
        assert features == 1 or got[0].count_nonzero() > 0


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("levels", [1, 1 << 24])
def test_graded_spikes_of_any_size_equal_the_reference(strict: bool, levels: int) -> None:
    neuron = NeuronArrays(torch.full((6,), 1e-3), torch.zeros(6), torch.ones(6), "graded", strict, "subtract", levels)
    current = torch.tensor([[[1e20, -1e20, 3e3, 1e38, -0.0, 5e-4]]])
    got, wanted = (f(current, *more) for f, more in run_both(neuron, 6))
    assert [bits(x) for x in got] == [bits(x) for x in wanted]
    assert got[0][0, 0, :4].tolist() == pytest.approx([levels, 0, min(levels, 3e6), levels], rel=1e-6)


def run_both(neuron: NeuronArrays, features: int) -> list[tuple]:
    membrane = torch.zeros(1, features)
    return [(fire, (1, membrane, None, neuron)), (fire_reference, (membrane, None, neuron))]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("run", ["compiled", "reference"])
def test_splitting_time_changes_nothing_and_arguments_stay_as_they_are(kind: tuple, run: str) -> None:
    generator = torch.Generator().manual_seed(1)
    dtype = torch.float32 if run == "compiled" else torch.float64
    neuron = neuron_of(kind, 9, generator)
    neuron = neuron._replace(**{name: getattr(neuron, name).to(dtype) for name in ("threshold", "bias", "beta")})
    membrane, count = (None if x is None else x.to(dtype) for x in start_of(neuron, 2, generator))
    current = currents(7, 2, 9, generator).to(dtype)
    before = [None if x is None else x.clone() for x in (current, membrane, count, *neuron[:3])]
    whole = fire(current, 7, membrane, count, neuron)
    first, *state = fire(current[:3], 3, membrane, count, neuron)
    rest, *state = fire(current[3:], 4, *state, neuron)
    assert torch.equal(torch.cat([first, rest]), whole[0])
    assert torch.equal(state[0], whole[1])
    for x, old in zip((current, membrane, count, *neuron[:3]), before, strict=True):
        assert x is old is None or torch.equal(x, old)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_input_no_spike(kind: tuple) -> None:
    neuron = neuron_of(kind, 5, torch.Generator().manual_seed(0))._replace(bias=torch.zeros(5))
    count = torch.zeros(2, 5) if neuron.code == "signed" else None
    spikes, membrane, _ = fire(torch.zeros(1, 2, 5), 8, torch.zeros(2, 5), count, neuron)
    assert spikes.count_nonzero() == membrane.count_nonzero() == 0


@settings(deadline=None)
@given(st.lists(st.integers(-8, 12), min_size=1, max_size=30), st.sampled_from([False, True]))
def test_signed_spikes_never_take_back_more_than_was_given(quarters: list[int], strict: bool) -> None:
    neuron = NeuronArrays(torch.ones(1), torch.zeros(1), torch.ones(1), "signed", strict, "subtract", 1)
    current = (torch.tensor(quarters) / 4).reshape(-1, 1, 1)
    spikes, membrane, count = fire(current, len(quarters), torch.zeros(1, 1), torch.zeros(1, 1), neuron)
    net = spikes.flatten().cumsum(0)
    assert net.min() >= 0
    assert net[-1] == count.item()
    assert membrane.item() == sum(quarters) / 4 - net[-1], "what came in is in the membrane or went out"


@settings(deadline=None)
@given(st.floats(-2, 2, width=32), st.sampled_from(BETAS), st.sampled_from([False, True]))
def test_a_spike_is_at_the_threshold_or_above_it(start: float, beta: float, strict: bool) -> None:
    neuron = NeuronArrays(torch.ones(1), torch.zeros(1), torch.tensor([beta]), "binary", strict, "zero", 1)
    for current in (1.0 - start * beta, 1.0):
        spikes, membrane, _ = fire(torch.full((1, 1, 1), current), 1, torch.full((1, 1), start), None, neuron)
        before = torch.tensor(start) * beta + torch.tensor(current)
        fired = bool(before > 1 if strict else before >= 1)
        assert bool(spikes.item()) == fired
        assert membrane.item() == (0.0 if fired else before.item())


def test_the_compiled_kernel_runs_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict] = []

    def njit(**options: object) -> object:
        calls.append(options)
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert cpu._compiled(print) is print
    assert [options.get("cache") for options in calls] == [True, None]


PREPARE = """
import os, sys, warnings
import torch
from spikeport.neurons.kernels import NeuronArrays, fire, fire_reference
torch.set_num_threads(1)
ones = torch.ones(3000)
neuron = NeuronArrays(ones, 0.1 * ones, 0.9 * ones, "binary", False, "subtract", 1)
current, membrane = torch.rand(5, 4, 3000), torch.zeros(4, 3000)
wanted = fire_reference(current, membrane, None, neuron)
def same():
    got = fire(current, 5, membrane, None, neuron)
    return torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[1])
"""


def run_script(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import numba
for threads in (1, 2, 1):
    torch.set_num_threads(threads)
    assert same()
    assert numba.get_num_threads() == threads == torch.get_num_threads()
"""
    run_script(script, monkeypatch)


@pytest.mark.parametrize("started", [True, False])
def test_a_forked_child_works_and_says_when_it_is_slower(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
assert not {started} or same()
pid = os.fork()
if not pid:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        equal = same()
    warned = any("forked" in str(w.message) and w.category is RuntimeWarning for w in caught)
    os._exit(0 if equal and warned is {started} else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    run_script(script, monkeypatch)


def test_importing_the_engine_does_not_wait_for_numba() -> None:
    code = "import sys, spikeport.networks.engine; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_replaying_a_constant_current_gives_what_was_not_remembered(reset: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    for features, age in ((7, [0, 3, 1]), (BLOCK + 1, [5, 0, 0])):
        neuron = neuron_of(("binary", False, reset, 0.9), features, generator)
        neuron = neuron._replace(**{name: getattr(neuron, name).to(dtype) for name in ("threshold", "bias", "beta")})
        current, initial = currents(1, 3, features, generator).to(dtype)[0], torch.rand(features, dtype=dtype)
        whole, *_ = fire(current[None], 9, initial.expand_as(current), None, neuron)
        got = replay(current, 4, torch.tensor(age), initial, neuron)
        wanted = torch.stack([whole[first : first + 4, n] for n, first in enumerate(age)], 1)
        assert torch.equal(got, wanted)
        assert got.count_nonzero() > 0
