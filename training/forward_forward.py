"""Learning through hardware that cannot be differentiated: forward-forward with a local loss in every layer.

A layer is an unknown physical map, which is only ever run forwards, and a digital matrix behind it, which learns from
what the map gave.  No error travels back through a map or from one layer to the one before it.
Source: Momeni et al., Backpropagation-free training of deep physical neural networks, Science 2023 (arXiv 2304.11042);
the loss is that of Lee and Song, SymBa, arXiv 2303.08418.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, softplus

from .._check import RangeError, ShapeError, SpikeportError, require_in_range

__all__ = ["ForwardForward", "ForwardForwardSettings", "Physical", "fit_forward_forward"]


class Physical:
    """A map that is run and never differentiated: r = map(z), (samples, inputs) to (samples, outputs).

    map: any callable on tensors, such as an analog tile, a driver of an instrument, or NumPy in disguise.  It is handed
    a tensor without history and runs with gradients switched off.  An input that wants a gradient is refused: behind
    the map it would be a zero that looks like learning.
    reads: samples that went through so far.
    Raises SpikeportError for an input that wants a gradient or an output that carries one, ShapeError or RangeError
    for an output that is no finite (samples, outputs).

    >>> squares = Physical(lambda z: (z @ torch.ones(3, 2)) ** 2)
    >>> squares(torch.ones(1, 3)).tolist()
    [[9.0, 9.0]]
    """

    def __init__(self, physical_map: Callable[[Tensor], Tensor]) -> None:
        self._map = physical_map
        self.reads = 0

    def __call__(self, z: Tensor) -> Tensor:
        """Run the map on a batch."""
        if z.requires_grad:
            raise SpikeportError(
                "a physical map was given a tensor that wants a gradient, but it cannot be differentiated; detach the "
                "tensor, and train each layer by its own loss."
            )
        with torch.no_grad():
            result = self._map(z.detach().clone())
        if not isinstance(result, Tensor) or result.ndim != 2 or len(result) != len(z):
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ShapeError(f"the physical map made {shape} of {tuple(z.shape)}; (samples, outputs) was wanted.")
        if result.requires_grad:
            raise SpikeportError("the physical map returned a tensor with a gradient; it must run forwards only.")
        if not bool(torch.isfinite(result).all()):
            raise RangeError("the physical map returned values that are not finite; lower its input or its gain.")
        self.reads += len(z)
        return result


class ForwardForwardSettings(NamedTuple):
    """epochs: passes over the samples; contrast: θ of the loss; learning_rate: Adam's; seed: of all that is drawn.

    label_strength: the length of the class beside a sample of length 1, in the input of the first layer.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    contrast: float = 4.0
    label_strength: float = 1.0
    seed: int = 0


class ForwardForward(nn.Module):
    """Layers h = ReLU(W f(z) + b), z the unit vector of the layer before; the class is an input, 1 of ``classes``.

    Goodness of a layer: the mean of h².  Decision: the class with which the goodness of all layers adds up to most,
    so that a decision costs as many reads of each map as there are classes.
    maps: one `Physical` a layer; the first takes inputs + classes values, each next ``width``.  Each is read once here,
    to see how many values it gives.
    The input of the first layer is the unit vector of (x / |x|, label_strength · one_hot(class)).
    Raises RangeError without a map or with fewer than two classes.
    """

    def __init__(
        self,
        maps: Sequence[Physical],
        inputs: int,
        classes: int,
        width: int,
        *,
        label_strength: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not maps or not all(isinstance(each, Physical) for each in maps):
            raise RangeError("forward-forward needs a Physical map for each layer, one at least; wrap your callable.")
        for name, value, least in (("inputs", inputs, 1), ("classes", classes, 2), ("width", width, 1)):
            require_in_range(name, value, least, 10**6)
        require_in_range("label_strength", label_strength, 1e-6, 1e6)
        self.maps, self.classes, self.label_strength = tuple(maps), classes, label_strength
        sizes = [inputs + classes, *[width] * (len(maps) - 1)]
        given = [each(torch.full((1, n), n**-0.5)).shape[1] for each, n in zip(maps, sizes, strict=True)]
        self.digital = nn.ModuleList(_digital(n, width, generator) for n in given)

    def labelled(self, x: Tensor, labels: Tensor) -> Tensor:
        """Put a class to each sample (samples, inputs): unit vectors (samples, inputs + classes)."""
        if x.ndim != 2 or labels.shape != x.shape[:1] or labels.is_floating_point():
            raise ShapeError(
                f"samples of shape {tuple(x.shape)} and labels of shape {tuple(labels.shape)} ({labels.dtype}) do not "
                "fit; (samples, inputs) and one class number a sample were wanted."
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise RangeError(f"the labels go to {int(labels.max())}, but there are {self.classes} classes, from 0.")
        tag = one_hot(labels, self.classes).to(x.dtype) * self.label_strength
        return normalize(torch.cat([normalize(x, dim=1), tag], 1), dim=1)

    def layer(self, index: int, z: Tensor) -> Tensor:
        """One layer: h of its input z; only its own matrix has a gradient."""
        h: Tensor = torch.relu(self.digital[index](self.maps[index](z)))
        return h

    def goodness(self, x: Tensor, labels: Tensor) -> Tensor:
        """The goodness of all layers added up, (samples,)."""
        with torch.no_grad():
            z, total = self.labelled(x, labels), torch.zeros(len(x))
            for index in range(len(self.maps)):
                h = self.layer(index, z)
                total, z = total + h.square().mean(1), normalize(h, dim=1)
        return total

    def predict(self, x: Tensor) -> Tensor:
        """Try every class on samples (samples, inputs) and return the best of each, (samples,)."""
        tried = [self.goodness(x, torch.full((len(x),), each)) for each in range(self.classes)]
        return torch.stack(tried, 1).argmax(1)

    def train_batch(self, x: Tensor, right: Tensor, wrong: Tensor, contrast: float) -> list[Tensor]:
        """Two passes forwards, with the right class and with a wrong one; returns each layer's own loss.

        L = mean softplus(−θ (g⁺ − g⁻)), g⁺ and g⁻ the goodness of the layer in both passes.
        """
        positive, negative = self.labelled(x, right), self.labelled(x, wrong)
        losses = []
        for index in range(len(self.maps)):
            good, bad = self.layer(index, positive), self.layer(index, negative)
            losses.append(softplus(-contrast * (good.square().mean(1) - bad.square().mean(1))).mean())
            positive, negative = normalize(good.detach(), dim=1), normalize(bad.detach(), dim=1)
        return losses


def fit_forward_forward(
    maps: Sequence[Physical],
    x: Tensor,
    labels: Tensor,
    classes: int,
    width: int,
    settings: ForwardForwardSettings | None = None,
) -> ForwardForward:
    """Train a `ForwardForward` on samples (samples, inputs) with labels (samples,); wrong classes are drawn anew.

    Every layer has an optimizer of its own, so that what one learns depends on the layers before it, never on those
    behind it.
    """
    settings = settings or ForwardForwardSettings()
    require_in_range("epochs", settings.epochs, 1, 10**6)
    require_in_range("batch_size", settings.batch_size, 1, 10**9)
    require_in_range("contrast", settings.contrast, 1e-6, 1e6)
    generator = torch.Generator().manual_seed(settings.seed)
    strength = settings.label_strength
    made = ForwardForward(maps, x.shape[-1], classes, width, label_strength=strength, generator=generator)
    made.labelled(x, labels)  # refuses what does not fit before anything is read
    optimizers = [torch.optim.Adam(each.parameters(), lr=settings.learning_rate) for each in made.digital]
    for _ in range(settings.epochs):
        order = torch.randperm(len(x), generator=generator)
        shift = torch.randint(1, classes, (len(x),), generator=generator)
        wrong = (labels + shift) % classes
        for index in order.split(settings.batch_size):
            losses = made.train_batch(x[index], labels[index], wrong[index], settings.contrast)
            for optimizer, loss in zip(optimizers, losses, strict=True):
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
    return made.requires_grad_(False)


def _digital(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A matrix with the first weights that keep the size of ReLU's outputs (He et al. 2015)."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) * (2 / inputs) ** 0.5)
        layer.bias.zero_()
    return layer
