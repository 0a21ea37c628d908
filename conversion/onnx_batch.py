"""Values whose batch axis is not in front, or lies in one axis with others: where the samples are is kept in mind.

``nn.MultiheadAttention`` puts the tokens first and folds the heads into the batch; shifted windows do the same with the
windows.  Nothing mixes samples as long as every operator treats them alike, so such a value is a ``Value`` with the
batch in front, and a note of which of its axes ONNX sees where.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .._check import UnsupportedError
from .onnx_builder import Builder, Shape, Value

BATCH = -1
LOSES_BATCH = "it mixes samples of the batch, or removes the batch axis; keep the batch as the first axis"

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Moved:
    """A tensor whose axis i is made of ``groups[i]``: feature axes of ``value`` in ascending order, and ``BATCH``.

    Of a batch of one sample the place cannot be seen, so that ``BATCH`` is in no group.
    """

    value: Value
    groups: Groups

    def full(self, batch: int) -> Shape:
        """The shape that ONNX sees."""
        return tuple(
            prod(batch if part == BATCH else self.value.shape[part] for part in group) for group in self.groups
        )


def moved(value: Value, batch: int) -> Moved:
    """An ordinary value with the place of its batch written out."""
    return Moved(value, (((BATCH,) if batch > 1 else ()), *((axis,) for axis in range(len(value.shape)))))


def transposed(item: Moved, permutation: Sequence[int]) -> Moved:
    """Axis i of the result is axis ``permutation[i]``."""
    groups = [item.groups[axis] for axis in permutation]
    order = [part for group in groups for part in group if part != BATCH]
    return Moved(item.value.permuted(order), _numbered(groups))


def _numbered(groups: Sequence[Sequence[int]]) -> Groups:
    """The same with feature axes counted from 0."""
    numbers = iter(range(sum(len(group) for group in groups)))
    return tuple(tuple(part if part == BATCH else next(numbers) for part in group) for group in groups)


def reshaped(builder: Builder, item: Moved, full: Shape, name: str) -> Moved:
    """Row-major to another shape.  Raises UnsupportedError where a sample would not stay whole."""
    try:
        return _regrouped(builder, item, full, name)
    except UnsupportedError:  # axes that cannot be cut where the new ones begin are joined first
        order = [part for group in item.groups for part in group]
        place = order.index(BATCH) if BATCH in order else 0
        sizes = (prod(item.value.shape[:place]), prod(item.value.shape[place:]))
        joined = ((0,), (BATCH,), (1,)) if BATCH in order else ((0,), (1,))
        return _regrouped(builder, Moved(builder.reshaped(item.value, sizes, name), joined), full, name)


def _regrouped(builder: Builder, item: Moved, full: Shape, name: str) -> Moved:
    left = [
        (part, builder.batch if part == BATCH else item.value.shape[part]) for group in item.groups for part in group
    ][::-1]
    groups: list[list[int]] = []
    sizes: list[int] = []
    for length in full:
        groups.append([])
        while length > 1 or (left and left[-1][1] == 1 and not groups[-1]):
            if not left:
                raise UnsupportedError(LOSES_BATCH)
            part, size = left.pop()
            if length % size == 0:
                length //= size
            elif size % length == 0 and part != BATCH:
                left.append((part, size // length))
                size, length = length, 1
            else:
                raise UnsupportedError(LOSES_BATCH)
            groups[-1].append(BATCH if part == BATCH else len(sizes))
            sizes += [] if part == BATCH else [size]
    if any(size > 1 for _, size in left):
        raise UnsupportedError(LOSES_BATCH)
    return Moved(_shaped(builder, item.value, tuple(sizes), name), tuple(tuple(group) for group in groups))


def _shaped(builder: Builder, value: Value, shape: Shape, name: str) -> Value:
    return value if value.shape == shape else builder.reshaped(value, shape, f"{name}.shape")


def normal(builder: Builder, item: Moved, name: str) -> Moved:
    """The same value with exactly one feature axis for each axis that holds no samples."""
    groups: list[list[int]] = []
    sizes: list[int] = []
    for group in item.groups:
        parts = [(part, 1 if part == BATCH else item.value.shape[part]) for part in group]
        if BATCH not in group:
            parts = [(0, prod(size for _, size in parts))]
        groups.append([])
        for part, size in parts:
            groups[-1].append(BATCH if part == BATCH else len(sizes))
            sizes += [] if part == BATCH else [size]
    return Moved(_shaped(builder, item.value, tuple(sizes), name), tuple(tuple(group) for group in groups))


def settled(builder: Builder, item: Moved, name: str) -> Value | Moved:
    """An ordinary value again if the first axis is the batch and nothing else."""
    full = item.full(builder.batch)
    first = item.groups[0] if item.groups else ()
    if len(full) < 2 or full[0] != builder.batch or (BATCH in first) != (builder.batch > 1):
        return item
    return _shaped(builder, item.value, full[1:], name)
