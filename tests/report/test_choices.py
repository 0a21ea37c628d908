"""What finetuning and the search found, on the page."""

import re
from typing import Any

import pytest

from spikeport.report import render_report


@pytest.fixture
def finetuned(make_finetuned) -> dict[str, Any]:
    return make_finetuned()


@pytest.fixture
def searched(make_searched) -> dict[str, Any]:
    return make_searched()


def text(page: str) -> str:
    return re.sub(r"<[^>]+>", "", page)


def test_finetuning_shows_three_networks_its_epochs_and_its_samples(finetuned) -> None:
    page = render_report(finetuned)
    assert "<h2>Finetuning</h2>" in page
    for key in ("source_accuracy", "quantised_accuracy", "n", "n_train", "best_epoch", "validation_accuracy", "levels"):
        assert f'data-key="convert.finetune.{key}"' in page
    assert "96.12\u202f%" in page
    assert "95.68\u202f%" in page
    assert "-0.44\u202f%, 95\u202f% CI -1.12\u202f% – 0.21\u202f%" in text(page)
    assert "3, the best is number 2" in text(page)
    assert 'id="training"' in page


@pytest.mark.parametrize("kept", [True, False])
def test_finetuning_shows_how_the_spikes_were_trained(finetuned, kept: bool) -> None:
    assert "Epochs with spikes" not in render_report(finetuned)
    spikes = {"epochs": 4, "best_epoch": 3, "validation_accuracy": [0.6512, 0.6734], "kept": kept}
    finetuned["convert"]["finetune"]["spikes"] = spikes
    page = text(render_report(finetuned))
    assert "Epochs with spikes4, the best is number 3" in page
    assert "65.12\u202f%, 67.34\u202f%" in page
    assert ("kept as it was" in page) != kept


def test_the_search_shows_every_way_and_marks_the_chosen_one(searched) -> None:
    page = render_report(searched)
    about = searched["convert"]["search"]
    assert "<h2>Search</h2>" in page
    rows = re.findall(r"<tr>.*?</tr>", page[page.index("Ways that no other beats") :])
    ways = rows[1 : 1 + len(about["front"])]
    assert [("chosen" in row) for row in ways] == [way == about["chosen"] for way in about["front"]]
    for place in range(len(about["front"])):
        for key in ("steps", "accuracy", "operations"):
            assert f'data-key="convert.search.front[{place}].{key}"' in page
    assert "-0.49 points" in text(page)
    assert "Not graded:2" in page
    assert 'id="search"' in page


def test_a_target_that_was_not_reached_is_said(searched) -> None:
    assert "the most accurate way was taken" not in render_report(searched)
    searched["convert"]["search"]["reached"] = False
    assert "the most accurate way was taken" in render_report(searched)


def test_without_them_there_is_no_section(make_report) -> None:
    page = render_report(make_report())
    assert "<h2>Finetuning</h2>" not in page
    assert "<h2>Search</h2>" not in page


def test_what_is_not_measured_leaves_a_dash(searched, finetuned) -> None:
    searched["convert"]["search"]["front"][0]["accuracy"] = None
    searched["convert"]["search"]["ann_accuracy"] = None
    finetuned["convert"]["finetune"] = {"epochs": []}
    assert "<h2>Search</h2>" in render_report(searched)
    assert "<h2>Finetuning</h2>" in render_report(finetuned)


def test_a_hostile_code_stays_out_of_the_picture(searched) -> None:
    searched["convert"]["search"]["front"][0]["code"] = "<b>odd</b>:4"
    page = render_report(searched)
    assert "<b>odd" not in page
    assert all("odd" not in picture for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL))


def test_the_same_report_gives_the_same_bytes(make_searched, make_finetuned) -> None:
    assert render_report(make_searched()) == render_report(make_searched())
    assert render_report(make_finetuned()) == render_report(make_finetuned())
