"""The compiled kernels of the leaky neuron equal the reference: spikes and membrane bit for bit, gradients closely."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.neurons import Leaky, surrogates
from spikeport.neurons.kernels import leaky_numba, leaky_plain_cpu, leaky_plan_cpu
from spikeport.neurons.kernels.leaky import leaky
from spikeport.neurons.kernels.leaky_reference import Firing, leaky_reference
from spikeport.neurons.kernels.leaky_steps import steps_backward, steps_forward

FIRINGS = [Firing(*each) for each in itertools.product(("subtract", "zero", "none"), *[(False, True)] * 3)]
SURROGATES = [
    surrogates.Atan(),
    surrogates.FastSigmoid(5.0),
    surrogates.SuperSpike(10.0, 2.0),
    surrogates.Sigmoid(4.0),
    surrogates.Triangular(0.5, 2.0),
    surrogates.Gaussian(0.4),
    surrogates.StraightThrough(0.3),
]
BLOCK = leaky_plan_cpu.BLOCK

# The largest difference of a gradient, as a part of the largest gradient: float32 against the same sums in float64
# (measured: 4e-6), and bfloat16 saves (measured: 3e-3).
CLOSE, COMPACT = 1e-5, 1e-2


def short(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def inputs(features: int, *, shared: bool = False, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Current, membrane, beta and threshold; now and then a membrane meets its threshold exactly."""
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(11, 3, features, generator=generator)
    current = torch.where(torch.rand(current.shape, generator=generator) < 0.3, (current * 4).round() / 4, current)
    membrane = torch.randint(-2, 7, (3, features), generator=generator) / 4
    beta = torch.rand(() if shared else features, generator=generator)
    threshold = torch.randint(1, 6, () if shared else (features,), generator=generator) / 4
    return [part.to(dtype).requires_grad_() for part in (current, membrane, beta, threshold)]


def options(firing: Firing) -> dict:
    return {
        "reset": firing.reset,
        "strict": firing.strict,
        "late_reset": firing.late,
        "detach_reset": firing.detach,
    }


def gradients(outputs: tuple[Tensor, Tensor], tensors: list[Tensor], seed: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(part.shape, generator=generator).to(part.dtype) for part in outputs]
    loss = sum((part * weight).sum() for part, weight in zip(outputs, weights, strict=True))
    return list(torch.autograd.grad(loss, tensors))


def largest_difference(got: list[Tensor], wanted: list[Tensor]) -> float:
    """Of the gradients, as a part of the largest entry of each."""
    pairs = zip(got, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)) for a, b in pairs)


def wide(tensors: list[Tensor]) -> list[Tensor]:
    return [part.detach().double().requires_grad_() for part in tensors]


@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_forward_equals_the_reference_bit_for_bit(firing: Firing) -> None:
    for features in (1, 7, BLOCK - 1, BLOCK + 1):
        tensors = inputs(features)
        got = leaky(*tensors, surrogates.Atan(), **options(firing))
        wanted = leaky_reference(*tensors, surrogates.Atan(), firing)
        for ours, theirs in zip(got, wanted, strict=True):
            assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))
        assert features == 1 or 0.05 < got[0].mean() < 0.95
        with torch.no_grad():
            assert torch.equal(leaky(*tensors, surrogates.Atan(), **options(firing))[0], got[0]), "without saving"


@pytest.mark.parametrize("firing", FIRINGS, ids=short)
@pytest.mark.parametrize("long", [16, 48, 1 << 16])
def test_one_beta_and_threshold_for_all_give_what_one_for_each_gives(
    monkeypatch: pytest.MonkeyPatch, firing: Firing, long: int
) -> None:
    """The kernels over samples and features as one axis, in blocks of any length, against those by feature."""
    monkeypatch.setattr(leaky_numba, "LONG_BLOCK", long)
    for features, start in ((1, True), (7, False), (33, True), (64, False)):
        shared = [part.detach() for part in inputs(features, shared=True)]
        each = [*shared[:2], *(part.expand(features).clone() for part in shared[2:])]
        membrane = shared[1] if start else torch.zeros(()).expand_as(shared[1])  # as a fresh state is
        found = []
        for beta, threshold in (shared[2:], each[2:]):
            current = shared[0].clone().requires_grad_()
            held = membrane.clone().requires_grad_() if start else membrane
            outputs = leaky(current, held, beta, threshold, surrogates.Atan(), **options(firing))
            found.append([*outputs, *gradients(outputs, [current, held] if start else [current])])
        for ours, theirs in zip(*found, strict=True):
            assert torch.equal(ours, theirs)


def test_a_gradient_that_is_the_same_everywhere_compiles_nothing_of_its_own() -> None:
    """That of a sum lies in memory once; the kernel takes it as a row like any other."""
    layer, x = Leaky(0.5), torch.randn(4, 3, 5, requires_grad=True)
    layer(x)[0].backward(torch.rand(4, 3, 5))
    before = len(leaky_plain_cpu.plain_backward.signatures)
    layer(x)[0].sum().backward()
    assert len(leaky_plain_cpu.plain_backward.signatures) == before


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_gradients_equal_the_reference(firing: Firing, surrogate: surrogates.Surrogate) -> None:
    for features in (9, BLOCK + 3):
        tensors = inputs(features)
        got = gradients(leaky(*tensors, surrogate, **options(firing)), tensors)
        wanted = gradients(leaky_reference(*tensors, surrogate, firing), tensors)
        assert largest_difference(got, wanted) < CLOSE


def test_the_gradient_of_a_shared_parameter_is_the_sum_over_units() -> None:
    tensors = inputs(BLOCK + 3, shared=True)
    each = [*tensors[:2], *(part.detach().expand(BLOCK + 3).clone().requires_grad_() for part in tensors[2:])]
    got, wanted = (gradients(leaky(*parts, surrogates.Atan()), parts) for parts in (tensors, each))
    assert all(map(torch.equal, got[:2], wanted[:2]))
    for shared, units in zip(got[2:], wanted[2:], strict=True):
        assert abs(shared - units.sum()) < CLOSE * units.abs().sum()


@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_gradients_of_current_alone_equal_those_beside_parameters(firing: Firing) -> None:
    tensors = inputs(9)
    wanted = gradients(leaky(*tensors, surrogates.Atan(), **options(firing)), tensors)[:2]
    tensors = [*tensors[:2], *(part.detach() for part in tensors[2:])]
    got = gradients(leaky(*tensors, surrogates.Atan(), **options(firing)), tensors[:2])
    assert largest_difference(got, wanted) < CLOSE


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_the_written_gradient_equals_autograd_in_double_precision(
    firing: Firing, surrogate: surrogates.Surrogate
) -> None:
    tensors = inputs(9, dtype=torch.float64)
    outputs = leaky_reference(*tensors, surrogate, firing)
    weights = [torch.linspace(-1, 1, part.numel(), dtype=part.dtype).reshape(part.shape) for part in outputs]
    loss = sum((part * weight).sum() for part, weight in zip(outputs, weights, strict=True))
    wanted = torch.autograd.grad(loss, tensors)
    with torch.no_grad():
        spikes, after, saved = steps_forward(*tensors, firing)
        rule = (surrogate.kernel_id, *surrogate.coefficients)
        got = steps_backward(*weights, saved, *tensors[1:], firing, rule)
    assert torch.equal(spikes, outputs[0])
    assert torch.equal(after, outputs[1])
    assert largest_difference([*got[:2], *(part.sum(0) for part in got[2:])], list(wanted)) < 1e-11


class Smooth(surrogates.Surrogate):
    """A spike that is the logistic function itself, so that the derivative is no surrogate and can be differenced."""

    def spike(self, u: Tensor, strict: bool = False) -> Tensor:
        return torch.sigmoid(4 * u)


@pytest.mark.parametrize("firing", [firing for firing in FIRINGS if not firing.detach], ids=short)
def test_the_reference_differentiates_its_recursion(firing: Firing) -> None:
    tensors = [part.detach()[..., :4].requires_grad_() for part in inputs(4, dtype=torch.float64)]
    tensors[0] = tensors[0].detach()[:4].requires_grad_()
    assert torch.autograd.gradcheck(lambda *parts: leaky_reference(*parts, Smooth(), firing), tensors)


@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_compact_saves_keep_the_spikes_and_nearly_the_gradients(firing: Firing) -> None:
    tensors = inputs(50)
    got = leaky(*tensors, surrogates.Atan(), **options(firing), compact=True)
    wanted = leaky(*tensors, surrogates.Atan(), **options(firing))
    assert torch.equal(got[0], wanted[0])
    assert largest_difference(gradients(got, tensors), gradients(wanted, tensors)) < COMPACT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("firing", FIRINGS, ids=short)
def test_half_precision_currents_run_as_their_values_in_float32(firing: Firing, dtype: torch.dtype) -> None:
    """Spikes 0 and 1 are exact; the gradient is rounded to the current's type once, at the end."""
    tensors = inputs(50)
    tensors[0] = tensors[0].detach().to(dtype).requires_grad_()
    spikes, after = leaky(*tensors, surrogates.Atan(), **options(firing))
    same = [tensors[0].detach().float().requires_grad_(), *tensors[1:]]
    wanted = leaky(*same, surrogates.Atan(), **options(firing))
    assert (spikes.dtype, after.dtype) == (dtype, torch.float32)
    assert torch.equal(spikes.float(), wanted[0])
    assert torch.equal(after, wanted[1])
    weight = torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape).to(dtype)
    got = torch.autograd.grad((spikes * weight).sum(), tensors)
    full = torch.autograd.grad((wanted[0] * weight.float()).sum(), same)
    assert got[0].dtype == dtype
    assert largest_difference([part.float() for part in got], list(full)) < COMPACT


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    from spikeport.neurons.kernels import bfloat16_cpu, formulas_cpu  # noqa: F401 - registers what the kernel calls

    values = torch.cat([torch.randn(4000), torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3e38])])
    values = torch.cat([values, (values.view(torch.int32) | 0x8000).view(torch.float32)])  # halfway between two
    current = values.reshape(1, 1, -1)
    beta, threshold, membrane = torch.tensor(1.0), torch.tensor(1.0), torch.zeros(1, values.numel())
    plan = ("none", False, False, False, True, True)
    saved = torch.ops.spikeport.leaky(current, membrane, beta, threshold, 0, 1.0, 1.0, *plan)[2]
    wanted = (values - 1).to(torch.bfloat16)
    assert torch.equal(saved.flatten().isnan(), wanted.isnan())
    assert torch.equal(saved.flatten().nan_to_num(7.0), wanted.nan_to_num(7.0))


def test_a_gradient_that_stays_away_is_zero() -> None:
    for which in (0, 1):
        tensors = inputs(9)
        got = leaky(*tensors, surrogates.Atan())[which].sum()
        wanted = leaky_reference(*tensors, surrogates.Atan(), FIRINGS[0])[which].sum()
        assert largest_difference(*(list(torch.autograd.grad(loss, tensors)) for loss in (got, wanted))) < CLOSE


@pytest.mark.parametrize("late", [False, True])
def test_splitting_time_changes_neither_spikes_nor_gradients(late: bool) -> None:
    tensors = inputs(9)
    whole, end = leaky(*tensors, surrogates.Atan(), late_reset=late)
    first, middle = leaky(tensors[0][:4], *tensors[1:], surrogates.Atan(), late_reset=late)
    rest, last = leaky(tensors[0][4:], middle, *tensors[2:], surrogates.Atan(), late_reset=late)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert torch.equal(last, end)
    got, wanted = gradients((torch.cat([first, rest]), last), tensors), gradients((whole, end), tensors)
    assert largest_difference(got, wanted) < CLOSE


class Mine(surrogates.Surrogate):
    """A user's own: it has no number, so the reference kernel runs."""

    def derivative(self, u: Tensor) -> Tensor:
        return 1 / (1 + u.square())


class MyAtan(surrogates.Atan):
    """A formula of its own under a known name's number would be ignored by the kernels."""

    def derivative(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)


def test_a_surrogate_of_your_own_runs_on_the_reference() -> None:
    tensors = inputs(9)
    assert Mine.kernel_id is None
    got, wanted = (run(*tensors, Mine()) for run in (leaky, lambda *parts: leaky_reference(*parts, FIRINGS[0])))
    assert all(map(torch.equal, gradients(got, tensors), gradients(wanted, tensors)))
    spikes, _ = leaky(*tensors, MyAtan())
    assert torch.autograd.grad(spikes.sum(), tensors[0])[0].count_nonzero() == 0


def test_infinite_and_invalid_currents_pass_as_in_the_reference() -> None:
    current = torch.tensor([1.0, float("inf"), -float("inf"), float("nan"), 3e38]).reshape(1, 1, 5).repeat(3, 1, 1)
    for firing in FIRINGS:
        arguments = (current, torch.zeros(1, 5), torch.tensor(0.9), torch.tensor(1.0), surrogates.Atan())
        got, wanted = leaky(*arguments, **options(firing)), leaky_reference(*arguments, firing)
        assert torch.equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[1].numpy(), wanted[1].numpy())
