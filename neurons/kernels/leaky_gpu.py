# ruff: noqa: PLR0913 - one argument a buffer
"""Leaky integrate-and-fire on an NVIDIA GPU: one pass over memory in each direction (Triton).

A program holds the state of a block of columns (sample and feature) in registers while time runs in a loop, so that
nothing is compiled for another length of time or batch; the next step's values are loaded before this one's are used.
The formulas are those of ``leaky_cpu``.  Products and sums are not fused, so spikes equal the reference's.
"""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .leaky_reference import Firing
from .leaky_steps import Formula

__all__ = ["AVAILABLE", "backward_triton", "forward_triton"]

AVAILABLE = find_spec("triton") is not None  # a CPU build of torch comes without it
BLOCK = 256  # columns a program; the kernels are bound by memory, and this many fill the loads of four warps

if AVAILABLE:
    import triton
    import triton.language as tl
else:
    tl = SimpleNamespace(constexpr=None)  # enough to define the functions, which are then never called


def _compiled(function: Any) -> Any:
    return triton.jit(do_not_specialize=["steps", "features"])(function) if AVAILABLE else function


@_compiled
def _derivative(d, height, sharpness, FORMULA: tl.constexpr):  # type: ignore[no-untyped-def]
    """The surrogate's derivative at d, by ``Surrogate.kernel_id``."""
    y = sharpness * tl.abs(d)
    if FORMULA == 0:
        p = height / (1.0 + y * y)
    elif FORMULA == 1:
        p = height / ((1.0 + y) * (1.0 + y))
    elif FORMULA == 2:
        power = tl.exp(-y)
        p = height * power / ((1.0 + power) * (1.0 + power))
    elif FORMULA == 3:
        p = height * tl.maximum(1.0 - y, 0.0)
    elif FORMULA == 4:
        p = height * tl.exp(-y * tl.abs(d))
    else:
        p = height + 0.0 * y
    return p


@_compiled
def _fired(d, STRICT: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.where(d > 0.0, 1.0, 0.0) if STRICT else tl.where(d >= 0.0, 1.0, 0.0)


@_compiled
def _forward(  # type: ignore[no-untyped-def]
    current,
    membrane,
    beta,
    threshold,
    spikes,
    after,
    saved,
    steps,
    columns,
    features,
    SUBTRACT: tl.constexpr,
    ZERO: tl.constexpr,
    LATE: tl.constexpr,
    STRICT: tl.constexpr,
    SAVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Run a block of columns through time; see ``leaky_reference`` for the order of operations."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    b = tl.load(beta + column % features, mask=inside, other=0.0)
    theta = tl.load(threshold + column % features, mask=inside, other=1.0)
    v = tl.load(membrane + column, mask=inside, other=0.0)
    r = _fired(v - theta, STRICT)
    place = column.to(tl.int64)
    x = tl.load(current + place, mask=inside, other=0.0).to(tl.float32)
    for t in range(steps):
        ahead = column + tl.minimum(t + 1, steps - 1).to(tl.int64) * columns  # at the end: the last step once more
        following = tl.load(current + ahead, mask=inside, other=0.0).to(tl.float32)
        if LATE and ZERO:
            v = (1.0 - r) * v
        u = b * v + x
        if LATE and SUBTRACT:
            u = u - r * theta
        d = u - theta
        r = _fired(d, STRICT)
        if SUBTRACT and not LATE:
            v = u - r * theta
        elif ZERO and not LATE:
            v = (1.0 - r) * u
        else:
            v = u
        tl.store(spikes + place, r, mask=inside)
        if SAVE:
            tl.store(saved + place, d, mask=inside)
        place += columns
        x = following
    tl.store(after + column, v, mask=inside)


@_compiled
def _back(  # type: ignore[no-untyped-def]
    d,
    ds,
    c,
    g,
    theta,
    height,
    sharpness,
    SUBTRACT: tl.constexpr,
    ZERO: tl.constexpr,
    LATE: tl.constexpr,
    STRICT: tl.constexpr,
    DETACH: tl.constexpr,
    FORMULA: tl.constexpr,
):
    """From c (gradient of v[t]) and g (of u[t + 1]): gradient of u[t]; what beta and the threshold get of this step."""
    s = _fired(d, STRICT)
    u = d + theta
    seen = g if LATE else c  # a late subtraction comes after the leak
    reach = ds
    to_threshold = 0.0 * d
    v = u
    du = c
    if SUBTRACT:
        to_threshold = s * seen
        if not LATE:
            v = u - s * theta
        if not DETACH:
            reach = ds - theta * seen
    if ZERO:
        v = (1.0 - s) * u
        du = (1.0 - s) * c
        if not DETACH:
            reach = ds - u * c
    through = _derivative(d, height, sharpness, FORMULA) * reach
    return du + through, g * v, to_threshold + through


@_compiled
def _backward(  # type: ignore[no-untyped-def]
    to_spikes, to_after, saved, membrane, beta, threshold, to_current, to_membrane, to_beta, to_threshold,
    steps, columns, features, height, sharpness,
    SUBTRACT: tl.constexpr, ZERO: tl.constexpr, LATE: tl.constexpr, STRICT: tl.constexpr, DETACH: tl.constexpr,
    FORMULA: tl.constexpr, PARAMETERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run a block of columns backwards; the first step back is apart, as a late reset by the last spike is to come."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    b = tl.load(beta + column % features, mask=inside, other=0.0)
    theta = tl.load(threshold + column % features, mask=inside, other=1.0)
    c = tl.load(to_after + column, mask=inside, other=0.0)
    g = tl.zeros([BLOCK], tl.float32)
    sum_b = tl.zeros([BLOCK], tl.float32)
    sum_t = tl.zeros([BLOCK], tl.float32)
    place = column.to(tl.int64) + (steps - 1).to(tl.int64) * columns
    d = tl.load(saved + place, mask=inside, other=0.0).to(tl.float32)
    ds = tl.load(to_spikes + place, mask=inside, other=0.0).to(tl.float32)
    for back in range(steps):
        ahead = column + tl.maximum(steps - 2 - back, 0).to(tl.int64) * columns
        next_d = tl.load(saved + ahead, mask=inside, other=0.0).to(tl.float32)
        next_ds = tl.load(to_spikes + ahead, mask=inside, other=0.0).to(tl.float32)
        du, part_b, part_t = _back(d, ds, c, g, theta, height, sharpness, SUBTRACT, ZERO, LATE, STRICT, DETACH, FORMULA)
        if LATE:
            plain, _, plain_t = _back(
                d, ds, c, g, theta, height, sharpness, False, False, LATE, STRICT, DETACH, FORMULA
            )
            du = tl.where(back == 0, plain, du)
            part_t = tl.where(back == 0, plain_t, part_t)
        sum_b += part_b
        sum_t -= part_t
        tl.store(to_current + place, du, mask=inside)
        g = du
        c = b * du
        d = next_d
        ds = next_ds
        place -= columns
    if LATE or PARAMETERS:
        start = tl.load(membrane + column, mask=inside, other=0.0)
        if LATE:
            c, part_b, part_t = _back(
                start - theta, 0.0 * c, c, g, theta, height, sharpness, SUBTRACT, ZERO, LATE, STRICT, DETACH, FORMULA
            )
            sum_b += part_b
            sum_t -= part_t
        else:
            sum_b += g * start
    tl.store(to_membrane + column, c, mask=inside)
    if PARAMETERS:
        tl.store(to_beta + column, sum_b, mask=inside)
        tl.store(to_threshold + column, sum_t, mask=inside)


def forward_triton(
    current: Tensor, membrane: Tensor, beta: Tensor, threshold: Tensor, firing: Firing, saved: Tensor
) -> tuple[Tensor, Tensor]:
    """Return spikes and new membrane; fill ``saved`` unless it is empty."""
    current = current.contiguous()
    spikes, after = torch.empty_like(current), torch.empty_like(membrane, memory_format=torch.contiguous_format)
    steps, columns, features = len(current), membrane.numel(), membrane.shape[1]
    if columns:
        with torch.cuda.device(current.device):
            _forward[(triton.cdiv(columns, BLOCK),)](
                current,
                membrane.contiguous(),
                *_each(beta, threshold, features),
                spikes,
                after,
                saved,
                steps,
                columns,
                features,
                **_switches(firing),
                SAVE=saved.numel() > 0,
                BLOCK=BLOCK,
                enable_fp_fusion=False,
            )
    return spikes, after


def backward_triton(
    to_spikes: Tensor,
    to_after: Tensor,
    saved: Tensor,
    membrane: Tensor,
    beta: Tensor,
    threshold: Tensor,
    firing: Firing,
    rule: Formula,
    parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of current, membrane, beta and threshold; the last two (batch, features), or (0, 0)."""
    to_spikes, to_after = to_spikes.contiguous(), to_after.contiguous()
    to_current, to_membrane = torch.empty_like(to_spikes), torch.empty_like(to_after)
    shape = to_after.shape if parameters else (0, 0)
    sums = to_after.new_empty(shape), to_after.new_empty(shape)
    columns, features = to_after.numel(), to_after.shape[1]
    formula, height, sharpness = rule
    if columns:
        with torch.cuda.device(to_spikes.device):
            _backward[(triton.cdiv(columns, BLOCK),)](
                to_spikes,
                to_after,
                saved,
                membrane.contiguous(),
                *_each(beta, threshold, features),
                to_current,
                to_membrane,
                *sums,
                len(saved),
                columns,
                features,
                height,
                sharpness,
                **_switches(firing),
                DETACH=firing.detach,
                FORMULA=formula,
                PARAMETERS=parameters,
                BLOCK=BLOCK,
                enable_fp_fusion=False,
            )
    return to_current, to_membrane, *sums


def _each(beta: Tensor, threshold: Tensor, features: int) -> tuple[Tensor, Tensor]:
    return beta.expand(features).contiguous(), threshold.expand(features).contiguous()


def _switches(firing: Firing) -> dict[str, bool]:
    return {
        "SUBTRACT": firing.reset == "subtract",
        "ZERO": firing.reset == "zero",
        "LATE": firing.late,
        "STRICT": firing.strict,
    }
