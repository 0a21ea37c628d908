"""Conductances of devices: as written, and as they are at some time after.

All tensors are (instances, slices, 2, columns, rows), in microsiemens; targets lack the instances.
"""

from collections.abc import Callable, Sequence
from math import log

import torch
from torch import Generator, Tensor

from .device import Device, polynomial
from .seeds import normal, uniform

__all__ = ["age", "read_variance", "stuck", "write"]

Streams = Callable[[str], Sequence[Generator]]


def write(device: Device, target: Tensor, streams: Streams) -> Tensor:
    """Write every device, again where it misses the tolerance, and return the conductances.

    g = max(target + sigma(target / g_max) N(0, 1), 0); stuck devices keep their own.
    """
    return _keep_stuck(device, _write(device, target, streams).clamp(min=0), streams)


def _write(device: Device, target: Tensor, streams: Streams) -> Tensor:
    """Before what lies below zero is cut off."""
    first = device.retention[0][1] if device.retention else device.write_us
    source = streams("write")
    if not first:
        return target.expand(len(source), *target.shape)
    spread = polynomial(first, target / device.g_max_us)
    written = target + spread * normal(target.shape, source, target)
    tolerance = device.write_tolerance_us
    for _ in range(device.write_iterations - 1 if tolerance is not None else 0):
        again = target + spread * normal(target.shape, source, target)
        missed = (written.clamp(min=0) - target).abs() > (tolerance or 0.0)
        written = torch.where(missed, again, written)
    return written


def stuck(device: Device, shape: Sequence[int], streams: Streams, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which devices stay at the largest conductance, and which at the smallest: two masks (instances, *shape)."""
    draw = uniform(shape, streams("stuck"), like)
    return draw < device.stuck_on, draw >= 1 - device.stuck_off


def age(device: Device, target: Tensor, written: Tensor, time_s: float, streams: Streams) -> Tensor:
    """The conductances some time after writing: drift, the spread that retention leaves, and slow 1/f noise.

    The drift coefficients and what retention adds belong to the devices (``streams``): the same array at two times
    is the same devices.  Source: Nandakumar et al. 2019 and Wan et al. 2022, as in aihwkit 1.1.0.
    """
    aged = written
    if device.retention:
        aged = _retain(device, target, time_s, streams)
    if device.drift_mean:
        nu = _coefficients(device, target, streams)
        aged = aged * ((time_s + device.drift_start_s) / device.drift_start_s) ** -nu
    if device.flicker:
        slow = (_flicker_power(device, time_s) - _fast_power(device, time_s)) ** 0.5
        aged = aged + aged * _flicker_share(device, written) * slow * normal(target.shape, streams("flicker"), target)
        aged = aged.clamp(min=0)
    return _keep_stuck(device, aged, streams)


def read_variance(device: Device, written: Tensor, aged: Tensor, time_s: float) -> Tensor | None:
    """Variance of each conductance from read to read, microsiemens squared; None for none."""
    fast = _fast_power(device, time_s) if device.flicker else 0.0
    if not (fast or device.read_noise_us):
        return None
    variance = torch.full_like(aged, device.read_noise_us**2)
    return variance + (aged * _flicker_share(device, written)) ** 2 * fast if fast else variance


def _coefficients(device: Device, target: Tensor, streams: Streams) -> Tensor:
    logarithm = device.relative(target).log()
    laws = [device.drift_mean, device.drift_spread or (0.0, 0.0, 0.0, 0.0)]
    mean, spread = ((slope * logarithm + offset).clamp(low, high) for slope, offset, low, high in laws)
    return (mean + spread * normal(target.shape, streams("drift"), target)).abs()


def _retain(device: Device, target: Tensor, time_s: float, streams: Streams) -> Tensor:
    """Spread that grows from the first time's to this time's: what is added is independent, what shrinks is scaled."""
    written = _write(device, target, streams)
    x = target / device.g_max_us
    first, now = (polynomial(dict(device.retention)[t], x) for t in (device.retention[0][0], time_s))
    if time_s == device.retention[0][0]:
        return written.clamp(min=0)
    kept = torch.where(first > now, now / first.clamp(min=1e-12), torch.ones_like(first))
    added = (now**2 - (kept * first) ** 2).clamp(min=0).sqrt()
    fresh = normal(target.shape, streams(f"retention at {time_s:g} s"), target)
    return (target + kept * (written - target) + added * fresh).clamp(min=0)


def _flicker_share(device: Device, written: Tensor) -> Tensor:
    share, exponent, floor, cap = device.flicker
    return (share / ((written.abs() / device.g_max_us) ** exponent).clamp(min=floor)).clamp(max=cap)


def _flicker_power(device: Device, time_s: float) -> float:
    """ln((t + r) / 2r), from the end of writing; 0 within one read."""
    return max(log((time_s + device.drift_start_s + device.read_time_s) / (2 * device.read_time_s)), 0.0)


def _fast_power(device: Device, time_s: float) -> float:
    """The part of it that is faster than the read window."""
    window = max(log((device.read_window_s + device.read_time_s) / (2 * device.read_time_s)), 0.0)
    return min(window, _flicker_power(device, time_s))


def _keep_stuck(device: Device, conductance: Tensor, streams: Streams) -> Tensor:
    if not (device.stuck_on or device.stuck_off):
        return conductance
    on, off = stuck(device, conductance.shape[1:], streams, conductance)
    return conductance.masked_fill(on, device.g_max_us).masked_fill(off, device.g_min_us)
