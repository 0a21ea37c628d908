"""Linear readouts: one matrix on features that stay as they are, such as a reservoir's spike counts."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["LinearProbe", "fit_probe"]


class LinearProbe(NamedTuple):
    """Scores = ((features − mean) / scale) Wᵀ + b; evaluations: how often the loss was computed while fitting."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    evaluations: int

    def scores(self, features: Tensor) -> Tensor:
        """Map features (samples, features) to scores (samples, classes); the largest is the decision."""
        return ((features - self.mean) / self.scale) @ self.weight.T + self.bias

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of samples whose largest score is that of their label."""
        return float((self.scores(features).argmax(1) == labels).double().mean())


def fit_probe(features: Tensor, labels: Tensor, *, decay: float = 1e-3, iterations: int = 200) -> LinearProbe:
    """Fit a multinomial logistic regression: min over W, b of the mean CE + decay / 2 · |W|², by L-BFGS.

    features: (samples, features), each scaled to mean 0 and variance 1 by these samples (a constant one to 0);
    labels: (samples,) class numbers from 0; iterations: at most so many.  The problem is convex and starts at 0, so
    that no seed plays a part.
    Raises ShapeError where the two do not fit, RangeError for features that are not finite or a single class.

    >>> probe = fit_probe(torch.tensor([[0.0], [0.2], [0.8], [1.0]]), torch.tensor([0, 0, 1, 1]))
    >>> probe.accuracy(torch.tensor([[0.1], [0.9]]), torch.tensor([0, 1]))
    1.0
    """
    features = features.detach().float()
    _require_features(features, labels)
    require_in_range("decay", decay, 0.0, 1e6)
    require_in_range("iterations", iterations, 1, 10**6)
    classes = int(labels.max()) + 1
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    x = (features - mean) / scale
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")
    evaluations = 0

    def loss() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        value = cross_entropy(x @ weight.T + bias, labels.long()) + decay / 2 * weight.square().sum()
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return LinearProbe(weight.detach(), bias.detach(), mean, scale, evaluations)


def _require_features(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or labels.is_floating_point() or not len(labels):
        raise ShapeError(
            f"features have shape {tuple(features.shape)} and labels {tuple(labels.shape)} of {labels.dtype}; "
            "(samples, features) and one class number a sample were wanted."
        )
    if not bool(torch.isfinite(features).all()):
        raise RangeError("the features hold values that are not finite; a probe cannot be fitted to them.")
    if int(labels.min()) < 0 or len(labels.unique()) < 2:
        raise RangeError("the labels must be class numbers from 0, of two classes at least.")
