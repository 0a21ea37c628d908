"""One ONNX node as its handler sees it: typed attributes, and inputs that are values of the network or constants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._check import CorruptFileError, RangeError, UnsupportedError
from .onnx_batch import LOSES_BATCH, Moved, moved
from .onnx_builder import Builder, Shape, Value

Item = Value | Moved | np.ndarray
MASKED = -1e30  # for what attention must not see: a graph holds no infinity


@dataclass(frozen=True)
class Call:
    """A node of the ONNX graph, with what its inputs turned out to be (None: left out)."""

    name: str
    operator: str
    opset: int
    inputs: Sequence[Item | None]
    input_names: Sequence[str]
    outputs: int
    attributes: dict[str, Any]
    builder: Builder

    def item(self, index: int) -> Item | None:
        """An input, or None where it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int = 0) -> Value:
        """An input that the network computes."""
        found = self.item(index)
        if isinstance(found, Value):
            return found
        if isinstance(found, Moved):
            raise UnsupportedError(LOSES_BATCH)
        raise UnsupportedError(f"its input {index} is a constant; fold it into the layer before exporting")

    def moved(self, index: int = 0) -> Moved:
        """An input that the network computes, wherever its batch axis is."""
        found = self.item(index)
        return found if isinstance(found, Moved) else moved(self.value(index), self.builder.batch)

    def full(self, index: int = 0) -> Shape:
        """The shape of an input that the network computes, the batch with its stand-in."""
        return self.moved(index).full(self.builder.batch)

    def plain(self, index: int = 0) -> Value:
        """An input that the network computes, its axes written out in ONNX's order."""
        return self.builder.plain(self.value(index), self.name)

    def constant(self, index: int, what: str) -> np.ndarray | None:
        """An optional input that must be known while importing."""
        found = self.item(index)
        if isinstance(found, Value | Moved):
            raise UnsupportedError(f"its {what} is computed by the network; export it with a constant {what}")
        return found

    def weights(self, index: int, what: str) -> np.ndarray:
        """A required constant input as finite float32."""
        found = self.constant(index, what)
        if found is None:
            raise CorruptFileError(f"its {what} is missing")
        with np.errstate(over="ignore", invalid="ignore"):
            weights = np.asarray(found).astype(np.float32)
        if not np.isfinite(weights).all():
            raise RangeError(f"tensor {self.input_names[index]} holds NaN or infinity; repair the source network")
        return weights

    def mask(self, index: int) -> np.ndarray:
        """A constant to be added, in which minus infinity (or the lowest float) hides what softmax must not see."""
        found = self.constant(index, "constant")
        if found is None or found.dtype.kind != "f" or not (found < MASKED).any():
            return self.weights(index, "constant")
        finite: np.ndarray = np.maximum(found, MASKED).astype(np.float32)  # NaN stays NaN
        if not np.isfinite(finite).all():
            raise RangeError(f"tensor {self.input_names[index]} holds NaN or infinity; repair the source network")
        return finite

    def scalar(self, index: int, what: str) -> float | None:
        """An optional constant of one element; infinity is allowed, NaN is not."""
        found = self.constant(index, what)
        if found is None:
            return None
        if found.size != 1:
            raise UnsupportedError(f"its {what} has {found.size} elements; one was wanted")
        return self._not_nan(float(found.ravel()[0]), what)

    def number(self, key: str, default: float) -> float:
        """An attribute of type float."""
        found = self.attributes.get(key, default)
        if not isinstance(found, int | float):
            raise CorruptFileError(f"its attribute {key} is {found!r}, not a number")
        return self._not_nan(float(found), key)

    @staticmethod
    def _not_nan(number: float, what: str) -> float:
        if np.isnan(number):
            raise RangeError(f"its {what} is NaN; repair the source network")
        return number

    def integer(self, key: str, default: int) -> int:
        """An attribute of type int."""
        found = self.attributes.get(key, default)
        if type(found) is not int:
            raise CorruptFileError(f"its attribute {key} is {found!r}, not an integer")
        return found

    def integers(self, key: str, length: int, default: int) -> tuple[int, ...]:
        """An attribute of ``length`` ints, all ``default`` where it is left out."""
        found = self.optional_integers(key)
        found = (default,) * length if found is None else found
        if len(found) != length:
            raise CorruptFileError(f"its attribute {key} is {list(found)}, but {length} numbers were wanted")
        return found

    def optional_integers(self, key: str) -> tuple[int, ...] | None:
        """An attribute that is a list of ints, or None where it is left out."""
        found = self.attributes.get(key)
        if found is None:
            return None
        if not isinstance(found, Sequence) or not all(type(item) is int for item in found):
            raise CorruptFileError(f"its attribute {key} is {found!r}, not a list of integers")
        return tuple(found)

    def constant_integers(self, index: int, what: str) -> tuple[int, ...] | None:
        """An optional constant input that is a list of integers."""
        found = self.constant(index, what)
        if found is None:
            return None
        if found.dtype.kind not in "iu" or found.size > 64:
            raise CorruptFileError(f"its {what} is no short list of integers")
        return tuple(int(item) for item in found.ravel())

    def text(self, key: str, default: str) -> str:
        """An attribute that is text."""
        found = self.attributes.get(key, default)
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found)

    def axes(self, index: int) -> tuple[int, ...] | None:
        """Axes as an attribute or, since opset 13 or 18, as an input."""
        found = self.optional_integers("axes")
        return self.constant_integers(index, "axes") if found is None else found

    def axis(self, axis: int, rank: int) -> int:
        """A feature axis (0 is the first after the batch) of a value of ``rank`` features.

        Raises UnsupportedError for the batch axis.
        """
        if not -(rank + 1) <= axis <= rank:
            raise CorruptFileError(f"axis {axis} does not exist in a tensor of {rank + 1} axes")
        if axis % (rank + 1) == 0:
            raise UnsupportedError("it works along the batch axis; export a network that treats every sample alone")
        return axis % (rank + 1) - 1
