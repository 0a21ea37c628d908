"""The attacks on early exit on the page."""

from typing import Any

import pytest

from spikeport.report import render_report


def attacked(name: str, defence: str = "none", steps: float = 3.5) -> dict[str, Any]:
    return {
        "input": name, "defence": defence, "cap": 6, "accuracy": 0.9, "accuracy_ci95": [0.85, 0.94],
        "accuracy_full": 0.95, "answer_kept": 0.93, "wrong_only_early": 0.07, "mean_steps": steps,
        "mean_steps_ci95": [steps - 0.2, steps + 0.2],
    }  # fmt: skip


@pytest.fixture
def report(make_report) -> dict[str, Any]:
    found = make_report()
    rows = [
        attacked("clean", steps=2.25),
        attacked("delay", steps=7.75),
        attacked("delay", "cap"),
        attacked("<b>odd</b>"),
    ]
    found["evaluate"]["robustness"] = {
        "epsilon": 0.03, "n": 200, "iterations": 20, "seed": 0, "timesteps": 16, "rows": rows,
        "alarm": {"allowed_steps": 3.0, "limit": 9.0, "rang_after": {"clean": None, "delay": 13}},
    }  # fmt: skip
    return found


def test_every_attack_has_its_row_and_its_alarm(report) -> None:
    page = render_report(report)
    assert "Under attack" in page
    for wanted in ("7.75", "2.25", "at most ", "&lt;b&gt;odd", 'data-value="13"'):
        assert wanted in page
    assert "<b>odd" not in page


def test_without_an_attack_there_is_no_section(make_report) -> None:
    assert "Under attack" not in render_report(make_report())


def test_an_alarm_that_could_not_be_set_is_left_out(report) -> None:
    report["evaluate"]["robustness"]["alarm"] = {"refused": "3 samples do not say what is usual"}
    assert "Under attack" in render_report(report)
