# ruff: noqa: PLR0913 - one argument a buffer
"""The kernels of ``leaky_cpu`` on all cores: their own file, as a process with one thread need not compile them."""

import numba

from .cpu import _compiled
from .formulas_cpu import Floats
from .leaky_cpu import leaky_backward, leaky_backward_plain, leaky_forward

__all__ = ["leaky_backward_plain_threads", "leaky_backward_threads", "leaky_forward_threads"]


@_compiled
def leaky_forward_threads(
    parts: int,
    tasks: int,
    steps: int,
    batch: int,
    current: Floats,
    membrane: Floats,
    after: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    spikes: Floats,
    saved: Floats,
) -> None:
    """As ``leaky_forward`` does all ``tasks``."""
    for part in numba.prange(parts):
        leaky_forward(
            tasks * part // parts,
            tasks * (part + 1) // parts,
            steps,
            batch,
            current,
            membrane,
            after,
            beta,
            threshold,
            factors,
            spikes,
            saved,
        )


@_compiled
def leaky_backward_threads(
    parts: int,
    tasks: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    membrane: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
    to_beta: Floats,
    to_threshold: Floats,
) -> None:
    """As ``leaky_backward`` does all ``tasks``."""
    for part in numba.prange(parts):
        leaky_backward(
            tasks * part // parts,
            tasks * (part + 1) // parts,
            steps,
            batch,
            to_spikes,
            to_after,
            saved,
            membrane,
            beta,
            threshold,
            factors,
            formula,
            to_current,
            to_membrane,
            to_beta,
            to_threshold,
        )


@_compiled
def leaky_backward_plain_threads(
    parts: int,
    tasks: int,
    steps: int,
    batch: int,
    to_spikes: Floats,
    to_after: Floats,
    saved: Floats,
    beta: Floats,
    threshold: Floats,
    factors: Floats,
    formula: int,
    to_current: Floats,
    to_membrane: Floats,
) -> None:
    """As ``leaky_backward_plain`` does all ``tasks``."""
    for part in numba.prange(parts):
        leaky_backward_plain(
            tasks * part // parts,
            tasks * (part + 1) // parts,
            steps,
            batch,
            to_spikes,
            to_after,
            saved,
            beta,
            threshold,
            factors,
            formula,
            to_current,
            to_membrane,
        )
