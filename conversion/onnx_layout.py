"""ONNX operators that move, pick or join elements, and the dense layers: reshapes, Pad, Slice, Concat, MatMul, Gemm."""

from math import prod

import numpy as np

from .._check import CorruptFileError, ShapeError, UnsupportedError
from .onnx_batch import LOSES_BATCH, Moved, reshaped, settled, transposed
from .onnx_builder import Selection, Shape, Value
from .onnx_call import Call

MAX_PICKING = 1 << 22  # weights of a convolution that only picks elements


def _to_shape(call: Call, full: Shape) -> Value | Moved:
    """The value with the axes ``full``; it is an ordinary one where the first of them is the batch."""
    item, batch = call.moved(), call.builder.batch
    if not full or prod(full) != prod(item.full(batch)):
        raise UnsupportedError(LOSES_BATCH)
    if isinstance(call.item(0), Value) and full[0] == batch and len(full) > 1:
        return call.builder.reshaped(call.value(), full[1:], call.name)
    return settled(call.builder, reshaped(call.builder, item, full, call.name), call.name)


def shape(call: Call) -> np.ndarray:
    """The axes of a value, the batch with its stand-in."""
    end = call.attributes.get("end")
    return np.array(call.full(), np.int64)[call.integer("start", 0) : None if end is None else call.integer("end", 0)]


def size(call: Call) -> np.ndarray:
    """The number of elements of a value."""
    return np.array(prod(call.full()), np.int64)


def flatten(call: Call) -> Value | Moved:
    """All axes from ``axis`` on become one."""
    full = call.full()
    axis = call.integer("axis", 1)
    if not -len(full) <= axis <= len(full):
        raise CorruptFileError(f"axis {axis} does not exist in a tensor of {len(full)} axes")
    axis = axis + len(full) if axis < 0 else axis
    return _to_shape(call, (prod(full[:axis]), prod(full[axis:])))


def reshape(call: Call) -> Value | Moved:
    """To a constant shape, in which 0 copies an axis and -1 takes what is left."""
    full = call.full()
    wanted = list(call.constant_integers(1, "shape") or ())
    if not call.integer("allowzero", 0):
        wanted = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(wanted)]
    if wanted.count(-1) > 1 or min(wanted, default=1) < -1 or 0 in wanted:
        raise CorruptFileError(f"its shape is {wanted}")
    if -1 in wanted:
        known = -prod(wanted)
        wanted[wanted.index(-1)] = prod(full) // known
    return _to_shape(call, tuple(wanted))


def squeeze(call: Call) -> Value | Moved:
    """Without some axes of length 1."""
    full, axes = call.full(), call.axes(1)
    if axes is None and call.builder.batch == 1:
        raise UnsupportedError("it removes the batch axis of a batch of 1; name the axes that it shall remove")
    gone = {i for i, size in enumerate(full) if size == 1} if axes is None else {_place(a, len(full)) for a in axes}
    if 0 in gone and isinstance(call.item(0), Value):
        raise UnsupportedError(LOSES_BATCH)
    if any(full[axis] != 1 for axis in gone):
        raise CorruptFileError(f"it removes axes that are longer than 1 from {full}")
    return _to_shape(call, tuple(size for axis, size in enumerate(full) if axis not in gone))


def unsqueeze(call: Call) -> Value | Moved:
    """With more axes of length 1."""
    full, axes = call.full(), call.axes(1) or ()
    rank = len(full) + len(axes)
    new = {_place(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise CorruptFileError(f"it names an axis twice: {axes}")
    sizes = iter(full)
    return _to_shape(call, tuple(1 if axis in new else next(sizes) for axis in range(rank)))


def _place(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise CorruptFileError(f"axis {axis} does not exist in a tensor of {rank} axes")
    return axis % rank


def expand(call: Call) -> Value | Moved:
    """Covered where it changes nothing."""
    full, wanted = call.full(), call.constant_integers(1, "shape") or ()
    if len(wanted) > len(full) or any(
        size not in (1, own) for size, own in zip(wanted[::-1], full[::-1], strict=False)
    ):
        raise UnsupportedError("it repeats values of the network; let Add or Mul broadcast instead")
    item = call.item(0)
    return item if isinstance(item, Moved) else call.value()


def transpose(call: Call) -> Value | Moved:
    """Axes in another order; nothing is computed until the order matters."""
    rank = len(call.full())
    permutation = call.optional_integers("perm") or tuple(reversed(range(rank)))
    if sorted(permutation) != list(range(rank)):
        raise CorruptFileError(f"its perm {permutation} is no permutation of {rank} axes")
    if isinstance(call.item(0), Value) and permutation[0] == 0:
        return call.value().permuted([axis - 1 for axis in permutation[1:]])
    return settled(call.builder, transposed(call.moved(), permutation), call.name)


STRUCTURE = {
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}


def concat(call: Call) -> Value:
    """Values joined along a feature axis; a constant among them (a class token) is the same for every sample."""
    builder = call.builder
    values = {index: call.value(index) for index, item in enumerate(call.inputs) if not isinstance(item, np.ndarray)}
    if len({value.order for value in values.values()}) > 1:
        values = {index: builder.plain(value, call.name) for index, value in values.items()}
    first = next(iter(values.values()))
    axis = call.axis(call.integer("axis", 1), len(first.shape))
    nodes = [
        values[index].node if index in values else _constant(call, index, first) for index in range(len(call.inputs))
    ]
    return builder.view(builder.emit(call.name, "concat", nodes, axis=first.order[axis]), first.order)


def _constant(call: Call, index: int, like: Value) -> str:
    """A node that gives a constant to every sample, its axes in the Graph's order of ``like``."""
    array = call.weights(index, "constant")
    if array.ndim != len(like.shape) + 1 or len(array) != call.builder.batch:
        raise UnsupportedError(
            f"its input {index} is a constant of {array.shape}; let it follow the number of samples, as with "
            "token.expand(x.shape[0], -1, -1)"
        )
    if not (array == array[:1]).all():
        raise UnsupportedError("its constant differs between the samples of a batch; export with a dynamic batch")
    inner = array[0].transpose(np.argsort(like.order))
    return call.builder.emit(f"{call.name}.constant", "constant", [like.node], arrays={"value": inner}).node


def pad(call: Call) -> Value:
    """A constant around the data; channels of zeros around picked channels join the picking."""
    value, builder = call.value(), call.builder
    if call.text("mode", "constant") != "constant":
        raise UnsupportedError(f"its mode is {call.text('mode', '')!r}; pad with a constant")
    before, after, filling = _widths(call, len(value.shape))
    if not any(before) and not any(after):
        return value
    if min(*before, *after) < 0:
        raise UnsupportedError("its pads are negative; crop with Slice instead")
    inner = {value.order[axis]: (before[axis], after[axis]) for axis in range(len(before))}
    picked = builder.selections.get(value.node)
    if picked is not None and filling == 0 and not any(sum(inner[axis]) for axis in inner if axis):
        low, high = inner[0]
        joined = Selection(picked.source, picked.axes, picked.channels_before + low, picked.channels_after + high)
        return builder.view(_picked(call, call.name, joined), value.order)
    pairs = [inner[axis] for axis in range(len(before))]
    made = builder.emit(
        call.name,
        "pad",
        [value.node],
        value=filling,
        before=tuple(p[0] for p in pairs),
        after=tuple(p[1] for p in pairs),
    )
    return builder.view(made, value.order)


def _widths(call: Call, rank: int) -> tuple[Shape, Shape, float]:
    """Padding before and after each feature axis, and the constant."""
    if call.opset < 11:
        pads: tuple[int, ...] | None = call.optional_integers("pads")
        filling: float | None = call.number("value", 0.0)
        axes = None
    else:
        pads, filling, axes = (
            call.constant_integers(1, "pads"),
            call.scalar(2, "value"),
            call.constant_integers(3, "axes"),
        )
    named = list(range(rank + 1)) if axes is None else [axis % (rank + 1) for axis in axes]
    if pads is None or len(pads) != 2 * len(named):
        raise CorruptFileError(f"its pads {pads} do not fit {len(named)} axes")
    before, after = [0] * (rank + 1), [0] * (rank + 1)
    for position, axis in enumerate(named):
        before[axis], after[axis] = pads[position], pads[position + len(named)]
    if before[0] or after[0]:
        raise UnsupportedError(LOSES_BATCH)
    return tuple(before[1:]), tuple(after[1:]), filling or 0.0


def slice_(call: Call) -> Value:
    """Every ``step``-th element along some axes."""
    if call.opset < 10:
        starts, ends = call.optional_integers("starts"), call.optional_integers("ends")
        axes, steps = call.optional_integers("axes"), None
    else:
        starts, ends = call.constant_integers(1, "starts"), call.constant_integers(2, "ends")
        axes, steps = call.constant_integers(3, "axes"), call.constant_integers(4, "steps")
    starts, ends = starts or (), ends or ()
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise CorruptFileError(f"it has starts {starts}, ends {ends}, axes {axes} and steps {steps}")
    value = call.value()
    full = (call.builder.batch, *value.shape)
    picks = {axis: (0, 1, size) for axis, size in enumerate(value.shape)}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise UnsupportedError(f"its step is {step}; only steps forward are covered")
        if not -len(full) <= axis < len(full):
            raise CorruptFileError(f"axis {axis} does not exist in a tensor of {len(full)} axes")
        chosen = range(*slice(start, end, step).indices(full[axis]))
        if len(chosen) == full[axis]:
            continue
        if not chosen:
            raise ShapeError(f"it takes nothing from an axis of length {full[axis]}")
        picks[call.axis(axis, len(value.shape))] = (chosen.start, step, len(chosen))
    return pick(call, call.name, [picks[axis] for axis in range(len(value.shape))])


def split(call: Call) -> list[Value]:
    """Parts of a value along one axis."""
    value = call.value()
    axis = call.axis(call.integer("axis", 0), len(value.shape))
    sizes = call.optional_integers("split") or call.constant_integers(1, "split")
    length = value.shape[axis]
    if sizes is None:
        share = -(-length // call.outputs)
        sizes = tuple(max(min(share, length - share * part), 0) for part in range(call.outputs))
    if sum(sizes) != length or min(sizes) < 1 or len(sizes) != call.outputs:
        raise CorruptFileError(f"its parts {sizes} do not make up an axis of {length}")
    parts = []
    for index, size in enumerate(sizes):
        picks = [(0, 1, other) for other in value.shape]
        picks[axis] = (sum(sizes[:index]), 1, size)
        parts.append(pick(call, f"{call.name}.{index}", picks))
    return parts


def pick(call: Call, name: str, picks: list[tuple[int, int, int]]) -> Value:
    """Elements of the value by (start, step, count) along each axis: a fixed convolution that picks them."""
    value, builder = call.value(), call.builder
    if all(count == size for (_, _, count), size in zip(picks, value.shape, strict=True)):
        return value
    inner = tuple(picks[value.order.index(axis)] for axis in range(len(picks)))
    source, earlier = value.node, builder.selections.get(value.node)
    if earlier is not None and not earlier.channels_before and not earlier.channels_after:
        source = earlier.source
        pairs = zip(earlier.axes, inner, strict=True)
        inner = tuple(
            (start + skip * step, step * further, count) for (start, step, _), (skip, further, count) in pairs
        )
    return builder.view(_picked(call, name, Selection(source, inner)), value.order)


def _picked(call: Call, name: str, selection: Selection) -> Value:
    """Emit a selection: a one-hot linear layer, or a one-hot convolution with as many groups as channels if it can."""
    builder, shape = call.builder, call.builder.shapes[selection.source]
    if len(shape) > 3:
        return builder.sliced(name, selection)
    (start, step, count), *space = selection.axes
    channels = selection.channels_before + count + selection.channels_after
    kernel = tuple(
        max(first + 1, size - by * many + 1) for (first, by, many), size in zip(space, shape[1:], strict=True)
    )
    depthwise = channels == count == shape[0]
    taken = 1 if depthwise else shape[0]
    if channels * taken * prod(kernel) > MAX_PICKING:
        if channels == count:
            return builder.sliced(name, selection)
        raise UnsupportedError(
            f"picking {channels} of {shape[0]} channels this way needs too many weights; use a convolution"
        )
    weight = np.zeros((channels, taken, *kernel), np.float32)
    place = tuple(first for first, _, _ in space)
    for index in range(count):
        weight[(selection.channels_before + index, 0 if depthwise else start + index * step, *place)] = 1.0
    if not space:
        made = builder.emit(name, "linear", [selection.source], arrays={"weight": weight})
    else:
        made = builder.emit(
            name,
            f"conv{len(space)}d",
            [selection.source],
            arrays={"weight": weight},
            stride=tuple(by for _, by, _ in space),
            padding=(0,) * len(space),
            dilation=(1,) * len(space),
            groups=shape[0] if depthwise else 1,
        )
    builder.selections[made.node] = selection
    return made


def matmul(call: Call) -> Value:
    """A value times a constant matrix, or times another value."""
    if isinstance(call.item(0), np.ndarray):
        raise UnsupportedError("a constant times a value is not covered; swap the two")
    if isinstance(call.item(1), Value):
        first, second = call.plain(0), call.plain(1)
        if len(first.shape) < 2 or first.shape[:-2] != second.shape[:-2] or len(first.shape) != len(second.shape):
            raise UnsupportedError(
                f"a product of {first.shape} and {second.shape}, which repeats one of them; make all axes but two equal"
            )
        return call.builder.emit(call.name, "matmul", [first.node, second.node])
    value, matrix = call.plain(), call.weights(1, "matrix")
    if matrix.ndim != 2:
        raise UnsupportedError(f"its matrix has {matrix.ndim} axes; two were wanted")
    return call.builder.emit(call.name, "linear", [value.node], arrays={"weight": matrix.T})


def gemm(call: Call) -> Value:
    """Y = alpha x B + beta C, with constant B and C."""
    if isinstance(call.item(0), Value) and len(call.value().shape) != 1:
        raise ShapeError(f"a Gemm does not fit an input of {call.value().shape}")
    return dense(call)


def dense(call: Call) -> Value:
    """Gemm over the last axis, whatever stands before it."""
    if isinstance(call.item(0), np.ndarray) or call.integer("transA", 0):
        raise UnsupportedError("the value of the network must come first and not transposed; swap the two factors")
    value, matrix = call.plain(), call.weights(1, "matrix")
    if matrix.ndim != 2:
        raise ShapeError(f"a matrix {matrix.shape} does not fit an input of {value.shape}")
    weight = (matrix if call.integer("transB", 0) else matrix.T) * np.float32(call.number("alpha", 1.0))
    arrays = {"weight": weight}
    if call.item(2) is not None:
        bias = call.weights(2, "bias") * np.float32(call.number("beta", 1.0))
        rows = np.broadcast_to(bias, (call.builder.batch, len(weight)))
        if not (rows == rows[:1]).all():
            raise UnsupportedError(
                "its bias differs between the samples of a batch; export with a batch of 1 or a dynamic one"
            )
        arrays["bias"] = rows[0]
    return call.builder.emit(call.name, "linear", [value.node], arrays=arrays)
