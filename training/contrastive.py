"""Two modalities into one space: linear projections, trained so that what belongs together points the same way."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["ContrastiveSettings", "Projections", "clip_loss", "fit_projections", "retrieval", "soft_clip_loss"]


def clip_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The contrastive loss of CLIP: each of a pair must find the other among the batch.

    L = ½ (CE(S, i) + CE(Sᵀ, i)), S[i, j] = cos(first[i], second[j]) / temperature;  first, second: (pairs, features).
    Every other pair of the batch counts as wrong, so that no two pairs should be of one class.
    Source: Radford et al., Learning transferable visual models from natural language supervision, ICML 2021.

    >>> clip_loss(torch.eye(3), torch.eye(3), 0.01).item() < 1e-6
    True
    """
    similarity = _similarity(first, second, temperature)
    own = torch.arange(len(similarity))
    return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2


def soft_clip_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """As `clip_loss`, but pairs that are alike within both modalities count as partly right.

    Targets: softmax of ½ (cos(first, first) + cos(second, second)) / temperature, which carries no gradient.
    """
    similarity = _similarity(first, second, temperature)
    with torch.no_grad():
        alike = (_similarity(first, first, temperature) + _similarity(second, second, temperature)) / 2
        target = alike.softmax(1)
    return (cross_entropy(similarity, target) + cross_entropy(similarity.T, target)) / 2


class ContrastiveSettings(NamedTuple):
    """width: of the common space; steps: batches, each of one pair a class; decay: AdamW's weight decay.

    soft: `soft_clip_loss` instead of `clip_loss`.
    """

    width: int = 64
    steps: int = 1000
    learning_rate: float = 2e-3
    decay: float = 0.1
    temperature: float = 0.2
    soft: bool = False
    seed: int = 0


class Projections(nn.Module):
    """Maps features of two modalities to unit vectors: normalize(W (x − mean) / scale + b), one (W, b) for each."""

    first_mean: Tensor
    first_scale: Tensor
    second_mean: Tensor
    second_scale: Tensor

    def __init__(self, first: Tensor, second: Tensor, width: int) -> None:
        super().__init__()
        for name, features in (("first", first), ("second", second)):
            scale = features.std(0, correction=0)
            self.register_buffer(f"{name}_mean", features.mean(0))
            self.register_buffer(f"{name}_scale", torch.where(scale > 0, scale, torch.ones_like(scale)))
        self.first, self.second = nn.Linear(first.shape[1], width), nn.Linear(second.shape[1], width)

    def of_first(self, features: Tensor) -> Tensor:
        """Features (samples, features) of the first modality as unit vectors (samples, width)."""
        return normalize(self.first((features - self.first_mean) / self.first_scale), dim=1)

    def of_second(self, features: Tensor) -> Tensor:
        """As `of_first`, of the second modality."""
        return normalize(self.second((features - self.second_mean) / self.second_scale), dim=1)


def fit_projections(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], settings: ContrastiveSettings | None = None
) -> Projections:
    """Train projections on pairs of samples of one class: each batch holds one pair of every class, drawn anew.

    first, second: (features (samples, features), labels (samples,)) of each modality, with the same classes.
    Raises ShapeError for features and labels that do not fit, RangeError where the two have different classes.
    """
    settings = settings or ContrastiveSettings()
    require_in_range("steps", settings.steps, 1, 10**7)
    require_in_range("width", settings.width, 1, 10**5)
    require_in_range("temperature", settings.temperature, 1e-4, 1e4)
    classes = _common_classes(first[1], second[1])
    for features, labels in (first, second):
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ShapeError(f"{tuple(features.shape)} features do not go with {tuple(labels.shape)} labels.")
    torch.manual_seed(settings.seed)
    made = Projections(first[0], second[0], settings.width)
    optimizer = torch.optim.AdamW(made.parameters(), lr=settings.learning_rate, weight_decay=settings.decay)
    loss = soft_clip_loss if settings.soft else clip_loss
    members = [[torch.where(labels == each)[0] for each in classes] for _, labels in (first, second)]
    for _ in range(settings.steps):
        drawn = [torch.stack([own[torch.randint(len(own), ())] for own in part]) for part in members]
        value = loss(made.of_first(first[0][drawn[0]]), made.of_second(second[0][drawn[1]]), settings.temperature)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    return made.requires_grad_(False)


def retrieval(query: tuple[Tensor, Tensor], gallery: tuple[Tensor, Tensor]) -> Tensor:
    """Whether the nearest of the gallery has the query's class: bool (queries,).

    query, gallery: (vectors (samples, width), labels (samples,)); nearest is the largest scalar product.  A gallery
    of k classes with as many samples each has the chance 1 / k.
    Raises RangeError where the gallery lacks a class that is asked for.
    """
    missing = sorted(set(query[1].tolist()) - set(gallery[1].tolist()))
    if missing:
        raise RangeError(f"the gallery holds nothing of the classes {missing}, so they cannot be found in it.")
    return gallery[1][(query[0] @ gallery[0].T).argmax(1)] == query[1]


def _similarity(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    if first.ndim != 2 or first.shape != second.shape:
        raise ShapeError(f"{tuple(first.shape)} and {tuple(second.shape)} make no pairs; give both (pairs, features).")
    return normalize(first, dim=1) @ normalize(second, dim=1).T / temperature


def _common_classes(first: Tensor, second: Tensor) -> list[int]:
    classes = sorted(set(first.tolist()))
    if classes != sorted(set(second.tolist())) or len(classes) < 2:
        raise RangeError(
            f"the first modality has the classes {classes} and the second {sorted(set(second.tolist()))}; both must "
            "have the same, two at least, so that pairs can be drawn."
        )
    return classes
