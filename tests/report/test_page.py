"""The page as text: complete, escaped, the same every time, and honest about what is missing."""

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from matplotlib.figure import Figure

from spikeport import CorruptFileError, RangeError
from spikeport.report import render_report

HOSTILE = (
    "<script>alert(1)</script> \"><img src=x onerror='alert(1)'> </title></style></svg><script>alert(1)</script> "
    "--><!-- $\\frac{a}{$ & 'quoted' \u202edesrever \x00\x1b[31m \ud800 日本語"
)


class Tags(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]


def _replaced(value: Any, text: str) -> Any:
    """Return the report with every string and every key of ``files`` replaced by the hostile one."""
    if isinstance(value, dict):
        return {key if key != "network.safetensors" else text: _replaced(v, text) for key, v in value.items()}
    if isinstance(value, list):
        return [_replaced(v, text) for v in value]
    return text if isinstance(value, str) else value


def test_a_hostile_string_changes_no_tag_and_no_attribute_name(make_report):
    tame = make_report()
    written = render_report(_replaced(tame, HOSTILE))
    written.encode("utf-8")
    page = Tags(written)
    wanted = Tags(render_report(_replaced(tame, "tame")))
    assert page.tags == wanted.tags
    assert [key for key, _ in page.attributes] == [key for key, _ in wanted.attributes]
    assert "script" not in page.tags


def test_the_same_report_gives_the_same_bytes(make_report):
    assert render_report(make_report()) == render_report(copy.deepcopy(make_report()))


def test_the_report_is_left_as_it_was(make_report):
    report = make_report()
    render_report(report)
    assert report == make_report()


@pytest.mark.parametrize("evaluate", [True, False])
def test_ids_are_unique_and_every_reference_has_one(make_report, evaluate):
    page = Tags(render_report(make_report(evaluate=evaluate)))
    ids = [value for key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    references = [ref for key, value in page.attributes for ref in re.findall(r"url\(#([^)]+)\)", value)]
    references += [value[1:] for key, value in page.attributes if key == "href" and value.startswith("#")]
    references += [ref for key, value in page.attributes if key == "aria-labelledby" for ref in value.split()]
    assert references
    assert set(references) <= set(ids)


def test_the_page_names_no_address_to_load_from(make_report):
    page = Tags(render_report(make_report()))
    loaded = {value for key, value in page.attributes if key in ("src", "href", "action", "data") and value[:1] != "#"}
    assert loaded == {"data:,"}
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert any(value.startswith("default-src 'none'") for key, value in page.attributes if key == "content")


def test_every_picture_has_a_name_for_screen_readers(make_report):
    page = render_report(make_report())
    pictures = re.findall(r"<svg [^>]*>(?:<title id=\"([^\"]+)\">[^<]+</title><desc[^>]*>[^<]+</desc>)?", page)
    assert len(pictures) == 9
    assert all(pictures)
    assert page.count('role="img"') == 9


def test_what_the_page_must_show(make_report):
    page = render_report(make_report())
    for wanted in (
        "Accuracy over time", "When samples are decided", "Accuracy against operations", "oracle – unreachable",
        "Oracle – unreachable", "Agreement with the ANN", "Dead and saturated units", "Spikes of one sample",
        "It loses the least", "did not converge", "A softmax at the end", "9f2c41c0" * 8, "early exit", "95 % interval",
    ):  # fmt: skip
        assert wanted in page, wanted


def test_without_an_evaluation_the_page_says_how_to_make_one(make_report):
    page = render_report(make_report(evaluate=False))
    assert "spikeport evaluate DIR --data DATA" in page
    assert "When samples are decided" not in page
    assert "spikeport evaluate" not in render_report(make_report())


def test_without_labels_the_page_speaks_of_agreement(make_report):
    report = make_report()
    report["evaluate"]["labels"] = "ann"
    page = render_report(report)
    assert "Agreement with the ANN, early exit" in page
    assert "samples without labels" in page
    assert "oracle" in page
    assert "Accuracy, early exit" not in page


@pytest.mark.parametrize(
    ("rounding", "kept", "said"),
    [
        ("nearest", True, "</span> bits; biases keep the mean currents<"),
        ("nearest", False, "</span> bits<"),
        ("fitted", True, "</span> bits, rounded to fit what arrives<"),
    ],
)
def test_how_weights_became_whole_is_said(make_report, rounding, kept, said):
    report = make_report()
    report["convert"]["integer"] |= {"rounding": rounding, "means_kept": kept}
    assert said in render_report(report)


def test_a_fixed_policy_is_not_called_early_exit(make_report):
    report = make_report()
    report["evaluate"]["early_exit"]["policy"] = "fixed:8"
    page = render_report(report)
    assert "Accuracy, fixed:8" in page
    assert "With <bdi>fixed:8</bdi> it needs" in page


@pytest.mark.parametrize(("steps", "layers"), [(1, 1), (2, 1), (64, 100), (8, 0)])
def test_any_number_of_steps_and_layers_renders(make_report, steps, layers):
    page = render_report(make_report(steps, layers))
    assert page.count('class="index"') == layers
    assert len(page) < 1_000_000


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of everything in a report, parts and numbers alike."""
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        return [place, *(found for key, child in inside for found in _places(child, (*place, key)))]
    return [place]


@pytest.mark.parametrize("part", ["convert", "evaluate"])
def test_anything_may_be_null_and_is_left_out(make_report, monkeypatch, part):
    monkeypatch.setattr("spikeport.report.pictures.draw", lambda paint, **_: str(paint(Figure())))  # paints, no SVG
    for place in _places(make_report(2, 1)[part])[1:]:
        if "times" in place[:-2] or any(isinstance(key, int) and key > 1 for key in place):
            continue  # one of a long list is like the next
        report = {"convert": {}, part: make_report(2, 1)[part]}
        around: Any = report[part]
        for key in place[:-1]:
            around = around[key]
        around[place[-1]] = None
        assert "</html>" in render_report(report), place


def test_a_spike_at_no_time_is_refused(make_report):
    report = make_report(4, 1)
    report["evaluate"]["figures"]["raster"]["times"][0] = [None]
    with pytest.raises(RangeError, match="count steps from 1"):
        render_report(report)


def test_layers_without_any_measurement_render(make_report):
    report = make_report(4, 3)
    for layer in report["convert"]["layers"]:
        layer.update({key: None for key in layer if key not in ("name", "source", "became")})
    page = render_report(report)
    assert 'data-key="convert.layers[2].rate_correlation" data-value="null"' in page


def test_a_conversion_alone_and_empty_renders():
    assert "Not evaluated yet" in render_report({"spikeport": "0.1.0", "convert": {}})
    assert render_report({"convert": {}, "evaluate": {}})


def test_nan_is_refused(make_report):
    report = make_report()
    report["evaluate"]["accuracy_by_step"][3] = float("nan")
    with pytest.raises(RangeError, match=r"evaluate\.accuracy_by_step\[3\]"):
        render_report(report)


@pytest.mark.parametrize("at", [0, 33])
def test_a_spike_outside_of_the_run_is_refused(make_report, at):
    report = make_report(32)
    report["evaluate"]["figures"]["raster"]["times"][2].append(at)
    with pytest.raises(RangeError, match=r"times\[2\].*count steps from 1"):
        render_report(report)


@pytest.mark.parametrize(
    ("key", "value"), [("layers", "three"), ("ann_accuracy", "high"), ("steps_within", []), ("notes", {}), ("n", [])]
)
def test_a_part_of_another_type_is_refused_by_name(make_report, key, value):
    report = make_report(4, 2, evaluate=False)
    report["convert"][key] = value
    with pytest.raises(CorruptFileError, match=key):
        render_report(report)


def test_matplotlib_is_left_as_the_caller_set_it(make_report):
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 7.0, "svg.fonttype": "path", "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        page = render_report(make_report())
        assert dict(matplotlib.rcParams) == before
    assert page == render_report(make_report())
