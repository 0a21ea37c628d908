"""A linear probe is the minimum of its loss, whatever the scale of the features."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.training.probe import fit_probe


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    return torch.randn(90, 5, generator=generator) + 0.7 * torch.nn.functional.one_hot(y, 5), y


def test_it_is_the_logistic_regression_of_scikit_learn() -> None:
    x, y = samples()
    probe = fit_probe(x, y, decay=0.1)
    scaled = ((x - probe.mean) / probe.scale).numpy()
    oracle = LogisticRegression(C=1 / (0.1 * len(y)), max_iter=1000).fit(scaled, y.numpy())
    assert_close(probe.scores(x).softmax(1), torch.from_numpy(oracle.predict_proba(scaled)).float(), atol=1e-3, rtol=0)


def test_the_scale_of_a_feature_changes_nothing() -> None:
    x, y = samples()
    scaled = x * torch.tensor([1.0, 1000.0, 0.01, 5.0, 7.0]) + 3
    assert_close(fit_probe(scaled, y).scores(scaled), fit_probe(x, y).scores(x), atol=0.02, rtol=0.02)


def test_a_constant_feature_does_no_harm() -> None:
    x, y = samples()
    x[:, 2] = 4.0
    assert bool(torch.isfinite(fit_probe(x, y).scores(x)).all())


def test_bad_input_is_refused() -> None:
    x, y = samples()
    with pytest.raises(ShapeError, match="features have shape"):
        fit_probe(x, y[:5])
    with pytest.raises(ShapeError):
        fit_probe(x, y.float())
    with pytest.raises(RangeError, match="finite"):
        fit_probe(x * float("nan"), y)
    with pytest.raises(RangeError, match="two classes"):
        fit_probe(x, torch.zeros(90, dtype=torch.int64))
