"""The derivatives of the surrogates in numba, on a row at a time; and the small parts that its kernels share."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["ONE", "ZERO", "Floats", "derivative", "inlined", "part", "rational"]

ZERO, ONE = np.float32(0), np.float32(1)

Floats = npt.NDArray[Any]  # float32, or uint16 for bfloat16

# A part of a kernel: division by zero gives infinity and not an exception; Python cannot call it, which halves the time
# that it takes to compile.  An inlined one is compiled with each kernel that it is in, which takes less again.
_OPTIONS: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
part = numba.njit(error_model="numpy", **_OPTIONS)
inlined = numba.njit(error_model="numpy", inline="always")


@inlined
def _exponential(y: Floats, bits: Floats, p: Floats) -> None:
    """p = exp(-y) for y >= 0, to about 1e-7: a polynomial times a power of 2, which vectorises as a call does not."""
    for f in range(len(p)):
        x = -min(y[f], np.float32(87.0))
        n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
        bits[f] = np.uint32((np.int32(n) + np.int32(127)) << np.int32(23))
    power = bits.view(np.float32)
    for f in range(len(p)):
        x = -min(y[f], np.float32(87.0))
        n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
        x = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
        q = np.float32(1.9875691500e-4)
        q = q * x + np.float32(1.3981999507e-3)
        q = q * x + np.float32(8.3334519073e-3)
        q = q * x + np.float32(4.1665795894e-2)
        q = q * x + np.float32(1.6666665459e-1)
        q = q * x + np.float32(5.0000001201e-1)
        p[f] = (q * x * x + x + ONE) * power[f]


@inlined
def rational(d: np.float32, formula: int, height: np.float32, sharpness: np.float32) -> np.float32:
    """The derivative for the formulas in ``leaky_plan_cpu.RATIONAL``; the compiler makes a loop of each formula."""
    y = sharpness * abs(d)
    if formula == 0:  # arctangent
        return height / (ONE + y * y)
    if formula == 1:  # fast sigmoid, SuperSpike
        return height / ((ONE + y) * (ONE + y))
    if formula == 3:  # triangle
        return height * max(ZERO, ONE - y)
    return height  # straight through


@inlined
def derivative(d: Floats, formula: int, height: np.float32, sharpness: np.float32, bits: Floats, p: Floats) -> None:
    """p = the surrogate's derivative at d; the formulas are numbered by ``Surrogate.kernel_id``."""
    if formula == 2 or formula == 4:  # sigmoid, Gaussian
        share = ONE if formula == 2 else ZERO
        for f in range(len(p)):
            p[f] = sharpness * abs(d[f]) * (ONE if formula == 2 else abs(d[f]))
        _exponential(p, bits, p)
        for f in range(len(p)):
            p[f] = height * p[f] / ((ONE + share * p[f]) * (ONE + share * p[f]))
    else:
        for f in range(len(p)):
            p[f] = rational(d[f], formula, height, sharpness)
