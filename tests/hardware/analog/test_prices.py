"""Counts and prices of arrays: every number can be counted by hand, and what has no price has no total."""

from dataclasses import replace

import pytest

from spikeport import SpikeportError
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.prices import (
    LayerReads,
    analog_area,
    analog_bill,
    analog_counts,
    analog_prices,
    price_schemes,
)

CROSSBAR = Crossbar(load_device("ideal"), tile_rows=128, tile_columns=64, slices=2, adc_bits=8)
LAYER = LayerReads("fc", columns=100, rows=300, reads=10, active_rows=450)


def test_counts_are_what_a_hand_counts() -> None:
    assert analog_counts([LAYER], CROSSBAR, neuron_updates=7) == {
        "device_read": 450 * 100 * 2 * 2,
        "adc_conversion": 10 * 100 * 3 * 2,
        "dac_pulse": 450 * 2 * 2,
        "partial_sum": 10 * 100 * 3 * 2,
        "neuron_update": 7,
        "multiply_accumulate": 10 * 100 * 300,
    }


def test_inputs_of_several_bits_are_as_many_reads() -> None:
    one, eight = (analog_counts([replace(LAYER, pulses=p)], CROSSBAR, neuron_updates=7) for p in (1, 8))
    for term in ("device_read", "adc_conversion", "dac_pulse", "partial_sum"):
        assert eight[term] == 8 * one[term]
    assert eight["multiply_accumulate"] == one["multiply_accumulate"]


def test_every_row_has_a_source_and_every_term_of_a_scheme_at_most_one_price() -> None:
    rows = analog_prices()
    assert len({(row.scheme, row.quantity, row.term) for row in rows}) == len(rows)
    assert all(len(row.source) > 20 for row in rows)


@pytest.mark.parametrize("scheme", price_schemes())
def test_a_bill_is_the_sum_of_its_terms_a_sample(scheme: str) -> None:
    bill = analog_bill([LAYER, LAYER], CROSSBAR, scheme, samples=5, neuron_updates=1000)
    assert bill.unpriced == ()
    assert bill.total == pytest.approx(sum(t.count * t.price.value for t in bill.terms if t.price) / 5)
    assert bill.to_json()["total"] == bill.total
    twice = analog_bill([LAYER, LAYER], CROSSBAR, scheme, samples=10, neuron_updates=1000)
    assert twice.total == pytest.approx((bill.total or 0) / 2)


def test_figures_that_hold_everything_are_not_added_to_their_parts() -> None:
    bill = analog_bill([LAYER], CROSSBAR, "hermes", samples=1, neuron_updates=0)
    assert {term.term for term in bill.terms} == {"multiply_accumulate", "neuron_update"}


@pytest.mark.parametrize("scheme", price_schemes())
def test_another_converter_has_no_price_and_the_bill_no_total(scheme: str) -> None:
    bill = analog_bill([LAYER], replace(CROSSBAR, adc_bits=6), scheme, samples=1, neuron_updates=1)
    assert bill.total is None
    assert bill.unpriced in (("adc_conversion",), ("multiply_accumulate",))


def test_silence_costs_conversions_only() -> None:
    silent = replace(LAYER, active_rows=0)
    terms = {t.term: t.count for t in analog_bill([silent], CROSSBAR, "isaac", samples=1, neuron_updates=0).terms}
    assert terms["device_read"] == terms["dac_pulse"] == 0
    assert terms["adc_conversion"] > 0


def test_area_counts_devices_converters_and_drivers() -> None:
    area = analog_area([LAYER], CROSSBAR, "isaac")
    assert {term.term: term.count for term in area.terms} == {
        "device": 100 * 300 * 4,
        "adc": 3 * 2 * 2,
        "row_driver": 300 * 2 * 2,
    }
    assert area.total is not None
    assert analog_area([LAYER], CROSSBAR, "hermes").total is None


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(SpikeportError, match="choose one of hermes, isaac"):
        analog_bill([LAYER], CROSSBAR, "nonsuch", samples=1, neuron_updates=0)
