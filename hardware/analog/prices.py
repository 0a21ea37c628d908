"""Counts of what arrays did, and what a scheme of cited prices makes of them: energy by terms, area by parts.

Counts are exact.  A term without a price leaves the bill without a total.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from ..._check import CorruptFileError, SpikeportError
from .crossbar import Crossbar
from .mapping import cut_rows

__all__ = [
    "AnalogBill",
    "AnalogPrice",
    "AnalogTerm",
    "LayerReads",
    "analog_area",
    "analog_bill",
    "analog_counts",
    "analog_prices",
    "price_schemes",
]

_FILE = Path(__file__).parent / "prices.toml"
_UNITS = {"energy": "pJ", "area": "um2"}
_TERMS = {
    "energy": ("device_read", "adc_conversion", "dac_pulse", "partial_sum", "neuron_update", "multiply_accumulate"),
    "area": ("device", "adc", "row_driver"),
}
_ALL = "multiply_accumulate"  # the term of figures that hold everything
_COLUMNS_OF_AN_ADC = 128


@dataclass(frozen=True)
class AnalogPrice:
    """What one of a term costs.  adc_bits: the only converter of which the figure speaks; None: any."""

    scheme: str
    quantity: str
    term: str
    value: float
    unit: str
    evidence: str
    scope: str
    source: str
    adc_bits: int | None = None


@dataclass(frozen=True)
class LayerReads:
    """What one layer's arrays did, summed over all samples.

    columns, rows: outputs and inputs of the weight matrix (of a convolution, of one place).
    reads: matrix-vector products (places of a convolution times steps times samples).
    active_rows: inputs other than 0, summed over the reads; pulses: bits that such an input needs (1 for spikes).
    """

    name: str
    columns: int
    rows: int
    reads: int
    active_rows: int
    pulses: int = 1
    groups_of_rows: int = 1

    def arrays(self, crossbar: Crossbar) -> tuple[int, int]:
        """Blocks of rows, and blocks of columns, that the weights take on such arrays (once for each slice)."""
        blocks = len(cut_rows(self.rows, crossbar.tile_rows, self.groups_of_rows))
        return blocks, ceil(self.columns / crossbar.tile_columns)


@dataclass(frozen=True)
class AnalogTerm:
    """One line of a bill.  price None: no source says what it costs."""

    term: str
    count: int
    price: AnalogPrice | None

    @property
    def cost(self) -> float | None:
        """count * price, in the price's unit."""
        return None if self.price is None else self.count * self.price.value


@dataclass(frozen=True)
class AnalogBill:
    """Terms and their sum, for each of ``per`` (samples; 1 for a chip)."""

    scheme: str
    unit: str
    per: int
    terms: tuple[AnalogTerm, ...]

    @property
    def total(self) -> float | None:
        """The sum for each, or None where a term that happened has no price."""
        costs = [term.cost for term in self.terms if term.count]
        return None if None in costs else sum(cost for cost in costs if cost is not None) / self.per

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms that happened and have no price."""
        return tuple(term.term for term in self.terms if term.count and term.price is None)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for each of ``per``."""
        terms = [
            {
                "term": term.term,
                "count": term.count / self.per,
                "cost": None if term.cost is None else term.cost / self.per,
                "evidence": None if term.price is None else term.price.evidence,
                "source": None if term.price is None else term.price.source,
            }
            for term in self.terms
        ]
        return {
            "scheme": self.scheme,
            "unit": self.unit,
            "terms": terms,
            "total": self.total,
            "unpriced": list(self.unpriced),
        }


def price_schemes() -> list[str]:
    """The schemes of prices.

    >>> price_schemes()
    ['hermes', 'isaac']
    """
    return sorted({row.scheme for row in analog_prices()})


@cache
def analog_prices() -> tuple[AnalogPrice, ...]:
    """All rows of the table; raises CorruptFileError for one that makes no sense."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    rows = tuple(AnalogPrice(**row) for row in table["row"])
    for row in rows:
        sound = row.term in _TERMS.get(row.quantity, ()) and row.unit == _UNITS[row.quantity] and row.value > 0
        known = row.evidence in ("measured", "simulated", "derived", "proxy") and row.scope in ("term", "all")
        if not (sound and known and row.source):
            raise CorruptFileError(f"the price {row} makes no sense; mend the table")
    return rows


def analog_counts(layers: Sequence[LayerReads], crossbar: Crossbar, *, neuron_updates: int) -> dict[str, int]:
    """How often each term of the energy happened.

    device_read: devices on active rows, two a weight and slice (of inputs of several bits: as if all were 1).
    adc_conversion: every column pair of every array and slice at every read.  dac_pulse: a row's pulses, to every array
    that it crosses.  partial_sum: additions that make one output of all conversions.
    multiply_accumulate: weights at every read, active or not.
    """
    counts = dict.fromkeys(_TERMS["energy"], 0)
    for layer in layers:
        blocks, across = layer.arrays(crossbar)
        conversions = layer.reads * layer.columns * blocks * crossbar.slices
        counts["device_read"] += layer.active_rows * layer.pulses * layer.columns * 2 * crossbar.slices
        counts["adc_conversion"] += conversions * layer.pulses
        counts["dac_pulse"] += layer.active_rows * layer.pulses * across * crossbar.slices
        counts["partial_sum"] += conversions * layer.pulses
        counts["multiply_accumulate"] += layer.reads * layer.columns * layer.rows
    return counts | {"neuron_update": neuron_updates}


def analog_bill(
    layers: Sequence[LayerReads], crossbar: Crossbar, scheme: str, *, samples: int, neuron_updates: int
) -> AnalogBill:
    """The energy of what the arrays did, in pJ a sample.

    A scheme whose figures hold everything has two terms: multiply-accumulates, and the neurons beside the arrays.
    Raises SpikeportError for a scheme that is not known.
    """
    counts = analog_counts(layers, crossbar, neuron_updates=neuron_updates)
    whole = any(row.scope == "all" for row in _rows(scheme, "energy").values())
    wanted = (_ALL, "neuron_update") if whole else tuple(term for term in _TERMS["energy"] if term != _ALL)
    return AnalogBill(
        scheme, "pJ", samples, _priced({term: counts[term] for term in wanted}, crossbar, scheme, "energy")
    )


def analog_area(layers: Sequence[LayerReads], crossbar: Crossbar, scheme: str) -> AnalogBill:
    """The area of the devices, the converters (one for 128 columns, as the source has it) and the rows' drivers.

    Without routing, buffers and neurons.  Raises SpikeportError for a scheme that is not known.
    """
    counts = dict.fromkeys(_TERMS["area"], 0)
    for layer in layers:
        blocks, across = layer.arrays(crossbar)
        counts["device"] += layer.columns * layer.rows * 2 * crossbar.slices
        widest = min(layer.columns, crossbar.tile_columns)
        counts["adc"] += blocks * across * crossbar.slices * ceil(widest / _COLUMNS_OF_AN_ADC)
        counts["row_driver"] += layer.rows * across * crossbar.slices
    return AnalogBill(scheme, "um2", 1, _priced(counts, crossbar, scheme, "area"))


def _rows(scheme: str, quantity: str) -> dict[str, AnalogPrice]:
    if scheme not in price_schemes():
        raise SpikeportError(f"there is no scheme of prices {scheme!r}; choose one of {', '.join(price_schemes())}")
    return {row.term: row for row in analog_prices() if row.scheme == scheme and row.quantity == quantity}


def _priced(counts: Mapping[str, int], crossbar: Crossbar, scheme: str, quantity: str) -> tuple[AnalogTerm, ...]:
    rows = _rows(scheme, quantity)
    lines = []
    for term, count in counts.items():
        row = rows.get(term)
        fits = row is not None and row.adc_bits in (None, crossbar.adc_bits)
        lines.append(AnalogTerm(term, count, row if fits else None))
    return tuple(lines)
