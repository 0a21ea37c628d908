"""What the page may show: finite numbers, printable strings, and every value with its place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport import CorruptFileError, RangeError
from spikeport.report.charts import wilson
from spikeport.report.markup import count, factor, percent, plain, steps
from spikeport.report.reading import Part, cleaned, read


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite_is_refused_by_its_place(bad):
    with pytest.raises(RangeError, match=r"convert\.layers\[1\]\.rate_error"):
        read({"convert": {"layers": [{}, {"rate_error": bad}]}})


@pytest.mark.parametrize("report", [{}, {"convert": None}, {"convert": []}, {"evaluate": {}}])
def test_a_report_without_a_conversion_is_refused(report):
    with pytest.raises(CorruptFileError, match="spikeport convert"):
        read(report)


@pytest.mark.parametrize("part", ["convert", "evaluate"])
def test_an_accuracy_in_percent_is_refused(part):
    with pytest.raises(RangeError, match="ann_accuracy"):
        read({"convert": {}, part: {"ann_accuracy": 97.2}})


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(CorruptFileError, match="object"):
        cleaned({"a": [object()]})


def test_a_hostile_depth_is_refused():
    deep: object = 0
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(CorruptFileError, match="levels deep"):
        cleaned(deep)


@given(st.text())
def test_cleaned_text_can_be_written_and_holds_no_control_character(text):
    written = str(cleaned(text))
    written.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\n\t" for c in written)
    assert cleaned(written) == written


@pytest.mark.parametrize(("value", "ask"), [("3", "number"), (True, "number"), ({}, "each"), ([], "named")])
def test_another_type_than_wanted_is_refused(value, ask):
    with pytest.raises(CorruptFileError, match="wanted"):
        getattr(Part(value, "here"), ask)()


def test_what_is_absent_reads_as_null_at_any_depth():
    missing = Part({})["evaluate"]["layers"][3]["threshold"]["mean"]
    assert missing == Part(None, "evaluate.layers[3].threshold.mean")
    assert missing.number() is None
    assert missing.each() == missing.named() == missing.numbers() == []


def test_a_key_that_is_no_name_is_quoted_in_its_place():
    assert Part({"1.0": 7, 'a"b': 8}, "within")["1.0"].path == 'within["1.0"]'


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(share, n):
    low, high = wilson(share, n)
    assert -1e-12 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1 + 1e-12


def test_the_interval_shrinks_with_more_samples():
    widths = [high - low for low, high in (wilson(0.9, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (percent, 1.0, "100.0%"),
        (percent, 0.0, "0.0%"),
        (steps, 32, "32"),
        (steps, 1e4, "10,000"),
        (steps, 2.356, "2.36"),
        (factor, 1.0, "1.00×"),
        (count, 0.0, "0"),
        (count, 9999, "9,999"),
        (count, 12.5, "12.5"),
        (count, 10000, "10.0k"),
        (count, 999_950, "1.00M"),
        (count, 1.234e6, "1.23M"),
        (count, 4.2e12, "4.20T"),
        (plain, 3.5762787e-07, "3.576e-07"),
    ],
)
def test_how_numbers_are_written(form, value, text):
    assert form(value).replace("\u202f", "") == text
