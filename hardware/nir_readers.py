"""What other programs make of a NIR file: where each departs from the definition, and how to write so that it does not.

Read in the sources of snnTorch 1.0.0, Norse 1.1.0 and sinabs 3.1.3, and run (``benchmarks/nir_readers.py``).
"""

from typing import NamedTuple

import numpy as np

from .._check import SpikeportError

__all__ = ["READERS", "Reader", "reader_named"]

_NO_LEAK = 2.0**40  # steps: float32 sees a decay of exactly 1


class Reader(NamedTuple):
    """One program that reads NIR.

    dt: the only step it knows, in seconds, or None.  unit_resistance: it takes r of leaky neurons for 1, so r goes into
    the weights.  exponential: it decays by exp(-1 / tau) a step, tau in steps.  leaky_only: its neurons without leak
    are not NIR's, so they are written as leaky ones that lose nothing.  reset, test: what its neurons do.
    """

    dt: float | None
    unit_resistance: bool
    exponential: bool
    leaky_only: bool
    reset: str
    test: str

    def neuron(self, decay: np.ndarray | None, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(tau, r, factor of the weights before it) for v <- decay v + x; None for NIR's own neuron without leak.

        decay: of the whole shape; None without leak, as one value then.
        """
        if decay is None:
            if not self.leaky_only:
                return None
            tau = np.asarray(_NO_LEAK * (1.0 if self.exponential else dt))
            return tau, np.asarray(1.0 if self.exponential else _NO_LEAK), np.ones(())
        if self.exponential:
            tau = np.where(decay > 0, -1 / np.log(np.maximum(decay, 1e-30)), 1e-3)
            return tau, np.ones_like(tau), np.ones_like(tau)
        leak = 1 - decay
        strength = 1 / leak
        plain = np.ones_like(leak)
        return (dt / leak, plain, strength) if self.unit_resistance else (dt / leak, strength, plain)


READERS = {
    "snntorch": Reader(1e-4, False, False, True, "zero", ">"),
    "norse": Reader(None, True, False, False, "zero", ">"),
    "sinabs": Reader(1.0, False, True, True, "subtract", ">="),
}


def reader_named(name: str | None) -> Reader:
    """The reader of that name; without a name one that follows NIR's definition.  Raises SpikeportError for others."""
    if name is None:
        return Reader(None, False, False, False, "zero", ">")
    if name not in READERS:
        raise SpikeportError(f"there is no NIR reader {name!r}; choose one of {', '.join(READERS)}, or none")
    return READERS[name]
