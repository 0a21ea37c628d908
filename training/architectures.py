"""Networks from a list of words, such as ``["conv 32 3x3", "norm", "leaky", "pool 2", "flatten", "linear 10"]``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._check import RangeError, SpikeportError
from ..networks.chain import Chain
from ..neurons import (
    Atan,
    FastSigmoid,
    Gaussian,
    IntegrateAndFire,
    Leaky,
    LeakyIntegrator,
    RecurrentLeaky,
    Sigmoid,
    StraightThrough,
    SuperSpike,
    Surrogate,
    Triangular,
)
from .fields import unknown_key
from .settings import NetworkSettings

__all__ = ["build_network", "make_surrogate"]

Shape = tuple[int, ...]
Maker = Callable[[list[str], Shape, NetworkSettings], nn.Module]
_SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "atan": Atan,
    "fast_sigmoid": FastSigmoid,
    "gaussian": Gaussian,
    "sigmoid": Sigmoid,
    "straight_through": StraightThrough,
    "super_spike": SuperSpike,
    "triangular": Triangular,
}


def make_surrogate(settings: NetworkSettings) -> Surrogate:
    """Return the surrogate that the settings name, with their scale in its first field."""
    kind = _SURROGATES[settings.surrogate]
    return kind(settings.surrogate_scale) if settings.surrogate_scale else kind()


def build_network(settings: NetworkSettings, features: Shape) -> Chain:
    """Return the chain of ``settings.layers`` for samples of the shape ``features`` (without batch and time).

    Raises RangeError for a word that is no layer (and names the nearest) or numbers that it does not take, and
    SpikeportError where a layer does not fit what comes before.

    >>> settings = NetworkSettings(layers=("conv 4 3x3", "leaky", "pool 2", "flatten", "linear 10"))
    >>> chain = build_network(settings, (1, 8, 8))
    >>> chain(torch.zeros(5, 2, 1, 8, 8))[0].shape
    torch.Size([5, 2, 10])
    """
    layers: list[nn.Module] = []
    x = torch.zeros(2, 1, *features)  # two steps, so that what comes next knows its shape
    for number, words in enumerate(settings.layers, 1):
        layer = _make(words, tuple(x.shape[2:]), settings, number)
        try:
            with torch.no_grad():
                x = Chain(layer).eval()(x)[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise SpikeportError(
                f"layer {number}, {words!r}, does not take samples of shape {tuple(x.shape[2:])}: {error}"
            ) from None
        layers.append(layer.train())
    return Chain(*layers)


def _make(words: str, shape: Shape, settings: NetworkSettings, number: int) -> nn.Module:
    if not isinstance(words, str):
        raise RangeError(f'layer {number} is {words!r}, but words are wanted, such as "linear 128".')
    kind, *rest = words.split() or [""]
    if kind not in _MAKERS:
        raise RangeError(f"layer {number} is {words!r}: {unknown_key(kind, list(_MAKERS))}.")
    try:
        if len(rest) not in _WORDS[kind] or any(word.startswith("-") for word in rest):
            raise ValueError
        return _MAKERS[kind](rest, shape, settings)
    except SpikeportError:
        raise
    except RuntimeError as error:
        raise RangeError(f"layer {number}, {words!r}, cannot be made: {str(error).splitlines()[0]}") from None
    except (ValueError, IndexError, OverflowError, TypeError):
        raise RangeError(
            f"layer {number} is {words!r}, but {_FORMS[kind]} is wanted, for samples of {shape}."
        ) from None


def _convolution(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    """Conv OUT KxK [stride S]: padded, so that a stride of 1 keeps the size."""
    rows, columns = map(int, rest[1].split("x"))
    if rest[2:] and rest[2] != "stride":
        raise ValueError
    stride = int(rest[3]) if rest[2:] else 1
    if min(rows, columns, stride) < 1:
        raise ValueError
    return nn.Conv2d(shape[0], int(rest[0]), (rows, columns), stride, padding=(rows // 2, columns // 2))


def _linear(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    (width,) = rest
    (inputs,) = shape  # else flatten is missing
    return nn.Linear(inputs, int(width))


def _norm(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    return nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])


def _options(settings: NetworkSettings) -> dict[str, Any]:
    return {
        "reset": settings.reset,
        "detach_reset": settings.detach_reset,
        "surrogate": make_surrogate(settings),
    }


def _beta(rest: list[str], settings: NetworkSettings) -> float:
    return float(rest[0]) if rest else settings.beta


def _leaky(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    beta = _beta(rest, settings)
    return Leaky(beta, settings.threshold, learn_beta=settings.learn_beta, **_options(settings))


def _integrate(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    return IntegrateAndFire(settings.threshold, **_options(settings))


def _recurrent(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    (units,) = shape
    beta = _beta(rest, settings)
    back = nn.Linear(units, units)
    return RecurrentLeaky(back, beta, settings.threshold, learn_beta=settings.learn_beta, **_options(settings))


def _integrator(rest: list[str], shape: Shape, settings: NetworkSettings) -> nn.Module:
    return LeakyIntegrator(_beta(rest, settings), learn_beta=settings.learn_beta)


_MAKERS: dict[str, Maker] = {
    "conv": _convolution,
    "linear": _linear,
    "norm": _norm,
    "leaky": _leaky,
    "integrate": _integrate,
    "recurrent": _recurrent,
    "integrator": _integrator,
    "pool": lambda rest, shape, settings: nn.MaxPool2d(int(rest[0])),
    "average": lambda rest, shape, settings: nn.AvgPool2d(int(rest[0])),
    "flatten": lambda rest, shape, settings: nn.Flatten(),
    "dropout": lambda rest, shape, settings: nn.Dropout(float(rest[0])),
}
_WORDS: dict[str, tuple[int, ...]] = {
    "conv": (2, 4), "linear": (1,), "norm": (0,), "leaky": (0, 1), "integrate": (0,), "recurrent": (0, 1),
    "integrator": (0, 1), "pool": (1,), "average": (1,), "flatten": (0,), "dropout": (1,),
}  # fmt: skip
"""How many words may follow the first."""
_FORMS = {
    "conv": 'conv OUTPUTS ROWSxCOLUMNS [stride N], such as "conv 32 3x3"',
    "linear": 'linear OUTPUTS, such as "linear 128", after "flatten"',
    "norm": "norm",
    "leaky": 'leaky [BETA], such as "leaky 0.9"',
    "integrate": "integrate",
    "recurrent": "recurrent [BETA] of flat samples",
    "integrator": "integrator [BETA]",
    "pool": "pool PIXELS",
    "average": "average PIXELS",
    "flatten": "flatten",
    "dropout": "dropout SHARE",
}
