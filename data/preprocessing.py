"""What the network sees of an array: scale, mean, standard deviation and the order of the axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from .._check import CorruptFileError, RangeError, ShapeError, SpikeportError
from .arrays import read_samples

__all__ = ["Layout", "Preprocessing", "parse_numbers", "parse_scale"]

Layout = Literal["NCHW", "NHWC"]

_CHUNK_ELEMENTS = 1 << 22  # the float64 work copy stays under 32 MiB


def parse_scale(text: str) -> float:
    """Read a number or a fraction; raises RangeError on anything else.

    >>> parse_scale("1/255") == 1 / 255
    True
    >>> parse_scale("0.5")
    0.5
    """
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError) as error:
        raise RangeError(f"{text!r} is not a number or a fraction; write for example 0.5 or 1/255.") from error
    if not math.isfinite(value):
        raise RangeError(f"{text!r} is {value}, but a finite number is needed.")
    return value


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read numbers or fractions that are separated by commas: one for all channels, or one a channel.

    >>> parse_numbers("0.25,1/2")
    (0.25, 0.5)
    """
    return tuple(parse_scale(part) for part in text.split(","))


@dataclass(frozen=True)
class Preprocessing:
    """The network sees ``(x * scale - mean) / std``, per channel, with the channel axis first.

    mean, std: one entry for all channels, or one a channel; in units of the scaled value.
    layout: where the source keeps its channels: ``"NCHW"`` (first) or ``"NHWC"`` (last).
    Raises RangeError for a value that makes no sense, ShapeError where mean and std disagree in length.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        object.__setattr__(self, "scale", _finite("scale", (self.scale,))[0])
        if self.scale == 0:
            raise RangeError("scale is 0, which makes every sample the same; give the factor of x, such as 1/255.")
        if min(self.std) <= 0:
            raise RangeError(f"std is {self.std}, but each entry must be above 0.")
        if len({1, len(self.mean), len(self.std)}) > 2:
            raise ShapeError(
                f"mean has {len(self.mean)} entries and std has {len(self.std)}; give each one, or one a channel."
            )
        if self.layout not in get_args(Layout):
            raise RangeError(f"layout is {self.layout!r}, but it must be one of {', '.join(get_args(Layout))}.")

    @classmethod
    def parse(cls, scale: str = "1", mean: str = "0", std: str = "1", layout: str = "NCHW") -> Self:
        """Make one from what a command line holds.

        >>> Preprocessing.parse("1/4", mean="0.5,0.25").mean
        (0.5, 0.25)
        """
        return cls(parse_scale(scale), parse_numbers(mean), parse_numbers(std), cast(Layout, layout.upper()))

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``json`` can write; ``from_json`` is the inverse."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std), "layout": self.layout}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Make one from ``to_json``'s result; raises CorruptFileError where it is anything else.

        >>> p = Preprocessing(1 / 255, mean=(0.5,))
        >>> Preprocessing.from_json(p.to_json()) == p
        True
        """
        wanted = {"scale", "mean", "std", "layout"}
        if not isinstance(value, Mapping) or set(value) != wanted:
            raise CorruptFileError(
                f"preprocessing is {value!r}, but an object with {', '.join(sorted(wanted))} is needed."
            )
        try:
            return cls(**value)
        except SpikeportError as error:
            raise CorruptFileError(f"preprocessing is {value!r}, which cannot be: {error}") from error

    def apply(self, array: object, features: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return what the network sees of ``array``: float32, contiguous, (N, \\*features).

        array: (N, ...) numbers. (N, H, W) gets a channel axis; an NHWC source is turned to NCHW.
        features: the network's input shape without the batch. The result then has it: flat and unflat samples of
        equal size are reshaped (in NCHW order), axes of length one come and go, and a network that itself
        takes the channels last gets them so.
        Raises ShapeError where the shapes cannot meet, RangeError on empty or non-finite data.

        >>> Preprocessing(scale=0.5, layout="NHWC").apply(np.ones((2, 8, 9, 3))).shape
        (2, 3, 8, 9)
        """
        raw = read_samples(array)
        wanted = None if features is None else tuple(features)
        view, axis = _arrange(raw, self.layout, wanted)
        shape = _target(raw.shape[1:], view.shape[1:], wanted, self.layout)
        return self._scaled(view, axis).reshape(len(raw), *shape)

    def _scaled(self, view: NDArray[Any], axis: int) -> NDArray[np.float32]:
        channels = view.shape[axis]
        for name, entries in (("mean", self.mean), ("std", self.std)):
            if len(entries) not in (1, channels):
                raise ShapeError(
                    f"{name} has {len(entries)} entries, but the data have {channels} channel(s) in layout "
                    f"{self.layout}; give 1 or {channels}, or another --layout."
                )
        spread = [1] * view.ndim
        spread[axis] = -1
        mean, std = (np.array(entries, np.float64).reshape(spread) for entries in (self.mean, self.std))
        result = np.empty(view.shape, np.float32)
        step = max(1, _CHUNK_ELEMENTS * len(view) // view.size)
        for start in range(0, len(view), step):
            part = result[start : start + step]
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused just below, by name
                part[...] = (view[start : start + step].astype(np.float64) * self.scale - mean) / std
            finite = np.isfinite(part).reshape(len(part), -1).all(axis=1)
            if not finite.all():
                raise RangeError(
                    f"sample {start + int(np.argmin(finite))} holds NaN, infinity or a value that is too large for "
                    f"float32 after (x * scale - mean) / std; clean the data, or check scale and std."
                )
        return result


def _finite(name: str, values: object) -> tuple[float, ...]:
    """Return ``values`` as finite floats, or raise RangeError."""
    if isinstance(values, str):
        raise RangeError(f"{name} is {values!r}, but numbers are needed.")
    try:
        numbers = tuple(float(value) for value in cast(Sequence[float], values))
    except (TypeError, ValueError, OverflowError) as error:
        raise RangeError(f"{name} is {values!r}, but numbers are needed.") from error
    if not numbers or not all(math.isfinite(value) for value in numbers):
        raise RangeError(f"{name} is {values!r}, but at least one number, all of them finite, is needed.")
    return numbers


def _arrange(raw: NDArray[Any], layout: Layout, wanted: tuple[int, ...] | None) -> tuple[NDArray[Any], int]:
    """Return a view of ``raw`` with its axes in the network's order, and the axis of the channels in it."""
    if raw.ndim == 2 and wanted is not None and len(wanted) > 1 and raw.shape[1] == math.prod(wanted):
        if layout == "NHWC":
            raise ShapeError(
                f"x has flat samples of {raw.shape[1]} values in layout NHWC, and the network takes {wanted}: the "
                f"order of the axes is unknown; store x as (N, height, width, channels), or choose --layout NCHW."
            )
        return raw.reshape(len(raw), *wanted), 1
    if raw.ndim == 3 and (wanted is None or len(wanted) != 2):
        return raw[:, np.newaxis], 1
    if layout == "NHWC":
        turned = np.moveaxis(raw, -1, 1)
        if raw.shape[1:] == wanted != turned.shape[1:]:  # the network itself takes the channels last
            return raw, raw.ndim - 1
        return turned, 1
    return raw, 1


def _target(
    came: tuple[int, ...], seen: tuple[int, ...], wanted: tuple[int, ...] | None, layout: Layout
) -> tuple[int, ...]:
    """Return the shape that samples of shape ``seen`` take for a network that wants ``wanted``, or raise ShapeError."""
    if wanted is None or seen == wanted:
        return seen
    one_is_flat = min(len(seen), len(wanted)) == 1
    same_axes = [length for length in seen if length != 1] == [length for length in wanted if length != 1]
    if math.prod(seen) == math.prod(wanted) and (one_is_flat or same_axes):
        return wanted
    other = "NHWC" if layout == "NCHW" else "NCHW"
    swapped = (came[-1], *came[:-1]) if other == "NHWC" else came
    remedy = f"--layout {other} would fit." if swapped == wanted else "Give data of that shape, or another --layout."
    taken = "" if seen == came else f" (taken as {seen} in layout {layout})"
    raise ShapeError(f"x has samples of shape {came}{taken}, but the network takes {wanted}. {remedy}")
