"""What a memory device does: its range of conductance, and how it is written, drifts and is read.

Conductances are in microsiemens; ``x`` below is a conductance divided by the largest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite

import torch
from torch import Tensor

from ..._check import RangeError

__all__ = ["Device"]

_SMALLEST = 1e-7  # of the largest conductance: below it a logarithm says nothing


@dataclass(frozen=True)
class Device:
    """A memory device.  What is left out does not happen: only the two conductances must be given.

    levels: conductances that can be aimed at, evenly spaced; None: any.
    write_us: coefficients c of the spread that writing leaves, sigma = sum_i c_i x^i in microsiemens.
    write_iterations, write_tolerance_us: a device further from its target than the tolerance is written again,
    up to so many times in all.
    stuck_on, stuck_off: shares of devices that stay at the largest or smallest conductance.
    drift_mean, drift_spread: (slope, offset, low, high) of the drift coefficient's mean and deviation,
    clamp(slope * ln x + offset, low, high); g(t) = g ((t + start) / start)^-nu with nu = |mean + spread * N(0, 1)|.
    retention: instead of drift, (seconds, coefficients) with the spread around the target at those times only.
    flicker: (share, exponent, floor, cap) of 1/f noise since writing: its deviation is g * q sqrt(ln((t + r) / 2r))
    with q = min(share / max(x^exponent, floor), cap), t counted from the end of writing plus drift_start_s, and
    r = read_time_s.  What is faster than read_window_s is drawn anew at every read, the rest stays.
    read_noise_us: deviation of a device at every read, on top.
    wire_ohm: resistance of the wire from one device to the next, along rows and columns.

    Raises RangeError that names every value that makes no sense.
    """

    name: str
    g_min_us: float
    g_max_us: float
    levels: int | None = None
    write_us: tuple[float, ...] = ()
    write_iterations: int = 1
    write_tolerance_us: float | None = None
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    drift_mean: tuple[float, ...] = ()
    drift_spread: tuple[float, ...] = ()
    drift_start_s: float = 0.0
    retention: tuple[tuple[float, tuple[float, ...]], ...] = ()
    flicker: tuple[float, ...] = ()
    read_time_s: float = 0.0
    read_window_s: float = 0.0
    read_noise_us: float = 0.0
    wire_ohm: float = 0.0
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problems = [*_number_problems(self), *_law_problems(self)]
        if problems:
            raise RangeError(f"the device {self.name!r} makes no sense: {'; '.join(problems)}.")

    @property
    def range_us(self) -> float:
        """What a weight can use of the conductance."""
        return self.g_max_us - self.g_min_us

    @property
    def times_s(self) -> tuple[float, ...] | None:
        """The only times after writing that the device's data speak of; None: any."""
        return tuple(time for time, _ in self.retention) or None

    def check_time(self, time_s: float) -> float:
        """Return the time after writing in seconds, or raise RangeError where the device's model says nothing of it."""
        if not (isfinite(time_s) and time_s >= 0):
            raise RangeError(f"the time is {time_s} s; it counts from the end of writing and must be 0 or more.")
        if self.times_s is not None and time_s not in self.times_s:
            known = ", ".join(f"{time:g} s" for time in self.times_s)
            raise RangeError(
                f"the device {self.name!r} is known at {known} after writing only, not at {time_s:g} s; "
                "choose one of them."
            )
        return float(time_s)

    def relative(self, conductance: Tensor) -> Tensor:
        """x = g / g_max, above zero."""
        return (conductance.abs() / self.g_max_us).clamp(min=_SMALLEST)


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """sum_i c_i x^i."""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _numbers(value: object) -> list[int | float]:
    """All numbers in a value, however deep in tuples."""
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int | float) else []


def _number_problems(device: Device) -> list[str]:
    problems = []
    for entry in fields(device):
        value = getattr(device, entry.name)
        if any(isinstance(v, bool) or not isfinite(v) for v in _numbers(value)):
            problems.append(f"{entry.name} is {value}, which is no finite number")
        elif isinstance(value, int | float) and value < 0:
            problems.append(f"{entry.name} is {value}, below 0")
    if not device.g_max_us > device.g_min_us:
        problems.append(f"g_max is {device.g_max_us} uS, not above g_min, {device.g_min_us} uS")
    if device.levels is not None and device.levels < 2:
        problems.append(f"levels is {device.levels}; two at least are needed")
    if device.write_iterations < 1:
        problems.append(f"write_iterations is {device.write_iterations}; a device is written once at least")
    if device.write_tolerance_us == 0:
        problems.append("write_tolerance is 0 uS, which no device reaches")
    if not device.stuck_on + device.stuck_off <= 1:
        problems.append(f"stuck_on and stuck_off are {device.stuck_on} and {device.stuck_off}, more than all devices")
    return problems


def _law_problems(device: Device) -> list[str]:
    problems = []
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    for name, spread in (("write", device.write_us), *((f"retention at {t:g} s", c) for t, c in device.retention)):
        if bool((polynomial(spread, x) < 0).any()):
            problems.append(f"{name} gives a spread below 0 between g = 0 and g_max")
    for name in ("drift_mean", "drift_spread", "flicker"):
        law = getattr(device, name)
        if law and len(law) != 4:
            problems.append(f"{name} has {len(law)} numbers; 4 were wanted")
        elif law and name != "flicker" and not 0 <= law[2] <= law[3]:
            problems.append(f"{name} is held between {law[2]} and {law[3]}")
        elif law and name == "flicker" and not (min(law) >= 0 and law[2] > 0):
            problems.append(f"flicker is {law}; its numbers are 0 or more, and its floor above 0")
    if device.drift_mean and not device.drift_start_s > 0:
        problems.append("drift_mean needs drift_start above 0 s")
    if device.drift_spread and not device.drift_mean:
        problems.append("drift_spread needs drift_mean")
    if device.flicker and not device.read_time_s > 0:
        problems.append("flicker needs read_time above 0 s")
    if device.retention and (device.drift_mean or device.write_us):
        problems.append("retention stands for writing and drift; leave out write and drift_mean, or retention")
    times = [time for time, _ in device.retention]
    if times != sorted(set(times)) or any(time <= 0 for time in times):
        problems.append(f"retention is given at {times} s; the times must grow, from above 0")
    return problems
