"""Surrogate gradients equal those of the same names in snnTorch, and the formulas of SpikingJelly and norse."""

import math

import pytest
import torch
from torch import Tensor

from spikeport import RangeError
from spikeport.neurons import surrogates

U = torch.tensor([-3.0, -1.0, -0.5, -0.01, 0.0, 0.01, 0.5, 1.0, 3.0], dtype=torch.float64)
EVERY = [
    surrogates.Atan(),
    surrogates.FastSigmoid(),
    surrogates.SuperSpike(),
    surrogates.Sigmoid(),
    surrogates.Triangular(),
    surrogates.Gaussian(),
    surrogates.StraightThrough(),
]


def gradient(spike: object, u: Tensor) -> Tensor:
    u = u.clone().requires_grad_()
    return torch.autograd.grad(spike(u).sum(), u)[0]


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize(
    ("ours", "name", "options"),
    [
        (surrogates.Atan(alpha=2.0), "atan", {"alpha": 2.0}),
        (surrogates.Atan(alpha=0.7), "atan", {"alpha": 0.7}),
        (surrogates.FastSigmoid(slope=25.0), "fast_sigmoid", {"slope": 25.0}),
        (surrogates.Sigmoid(slope=25.0), "sigmoid", {"slope": 25.0}),
        (surrogates.Sigmoid(slope=4.0), "sigmoid", {"slope": 4.0}),
        (surrogates.StraightThrough(), "straight_through_estimator", {}),
    ],
    ids=str,
)
def test_values_equal_snntorch(ours: surrogates.Surrogate, name: str, options: dict) -> None:
    import snntorch

    theirs = getattr(snntorch.surrogate, name)(**options)
    torch.testing.assert_close(gradient(ours.spike, U), gradient(theirs, U))
    assert torch.equal(ours.spike(U, strict=True).float(), theirs(U))


@pytest.mark.needs("snntorch")
def test_snntorch_s_triangular_is_another_function() -> None:
    """Known difference: theirs is +threshold below the threshold and -threshold from there on."""
    import snntorch

    assert gradient(snntorch.surrogate.triangular(1.0), U).tolist() == [1.0] * 4 + [-1.0] * 5
    assert surrogates.Triangular().derivative(U).tolist() == [0, 0, 0.5, 0.99, 1, 0.99, 0.5, 0, 0]


def test_values_equal_the_formulas_of_the_other_frameworks() -> None:
    """SpikingJelly's Sigmoid, PiecewiseQuadratic and Erf; norse's superspike."""
    alpha = 4.0
    logistic = torch.sigmoid(alpha * U)
    torch.testing.assert_close(surrogates.Sigmoid(alpha).derivative(U), alpha * logistic * (1 - logistic))
    quadratic = torch.where(U.abs() > 1 / alpha, torch.zeros_like(U), -(alpha**2) * U.abs() + alpha)
    torch.testing.assert_close(surrogates.Triangular(1 / alpha, alpha).derivative(U), quadratic)
    erf = alpha / math.sqrt(math.pi) * torch.exp(-((alpha * U) ** 2))
    torch.testing.assert_close(surrogates.Gaussian(1 / (alpha * math.sqrt(2))).derivative(U), erf)
    torch.testing.assert_close(surrogates.SuperSpike(100.0).derivative(U), 1 / (100 * U.abs() + 1) ** 2)


@pytest.mark.parametrize("surrogate", EVERY, ids=lambda surrogate: type(surrogate).__name__)
def test_a_spike_is_a_step_with_the_surrogate_s_gradient(surrogate: surrogates.Surrogate) -> None:
    assert surrogate.spike(U).tolist() == [0.0] * 4 + [1.0] * 5
    assert surrogate.spike(U, strict=True).tolist() == [0.0] * 5 + [1.0] * 4
    assert torch.equal(gradient(surrogate.spike, U), surrogate.derivative(U))
    assert torch.equal(surrogate.derivative(U), surrogate.derivative(-U)), "even"
    assert surrogate.derivative(torch.tensor([1e30, -1e30])).isfinite().all()


def test_a_scale_must_be_a_number_above_0() -> None:
    for make in (surrogates.Atan, surrogates.FastSigmoid, surrogates.Gaussian, surrogates.StraightThrough):
        for value in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(RangeError, match="above 0"):
                make(value)


def test_a_class_of_your_own_must_say_its_derivative() -> None:
    class Empty(surrogates.Surrogate):
        pass

    with pytest.raises(NotImplementedError, match="derivative"):
        Empty().derivative(U)
