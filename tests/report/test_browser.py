"""The page in a real browser: it loads nothing, logs nothing, overflows nowhere, and shows the JSON's numbers."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spikeport.report import render_report

pytestmark = pytest.mark.needs("chromium")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
UNITS = {
    "": 1.0,
    "%": 0.01,
    "points": 0.01,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "×": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}

# What sticks out of the page, other than in a box that scrolls.
OUTSIDE = """width => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll *') && !e.closest('svg *') && e.getClientRects().length)
    .filter(e => { const r = e.getBoundingClientRect(); return r.left < -0.5 || r.right > width + 0.5 })
    .map(e => e.tagName + '.' + e.className)"""


class Shown(NamedTuple):
    """A page in the browser, with what happened while it loaded."""

    page: Any
    address: str
    requests: list[str]
    messages: list[str]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    context = browser.new_context()

    def open_page(report: dict[str, Any], width: int = 1400, scheme: str = "light") -> Shown:
        file = tmp_path / "report.html"
        file.write_text(render_report(report), encoding="utf-8")
        page, shown = context.new_page(), Shown(None, file.as_uri(), [], [])
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.on("request", lambda request: shown.requests.append(request.url))
        page.on("console", lambda message: shown.messages.append(message.text))
        page.on("pageerror", lambda error: shown.messages.append(str(error)))
        page.goto(shown.address, wait_until="load")
        return shown._replace(page=page)

    yield open_page
    context.close()


def _at(report: Any, path: str) -> Any:
    """Return the value at a path such as ``evaluate.layers[3].within["1.0"]``."""
    for name, index, quoted in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]", path):
        key = name or (json.loads(quoted) if quoted else int(index))
        report = report.get(key) if isinstance(report, dict) else report[key]
    return report


def _assert_shown(text: str, value: float | None) -> None:
    """The text says the value, to half a unit of its last digit."""
    if value is None:
        assert text == "–"
        return
    found = re.fullmatch(r"([+-]?[\d,]+(?:\.(\d+))?(?:e([+-]\d+))?)\s*([%×kMGT]?|points|s|min|h|d)", text)
    assert found, f"{text!r} is no number"
    unit = UNITS[found[4]]
    last = 10.0 ** (int(found[3] or 0) - len(found[2] or "")) * unit
    assert abs(float(found[1].replace(",", "")) * unit - value) <= 0.5000001 * last, (text, value)


@pytest.mark.parametrize("evaluate", [True, False])
def test_the_page_loads_only_itself_and_logs_nothing(show, make_report, evaluate):
    shown = show(make_report(evaluate=evaluate))
    assert shown.requests == [shown.address]
    assert shown.messages == []
    assert shown.page.locator("svg.plot:visible").count() == (8 if evaluate else 3)


@pytest.mark.parametrize("evaluate", [True, False])
def test_the_numbers_shown_equal_the_json(show, make_report, evaluate):
    report = make_report(evaluate=evaluate)
    shown = show(report).page.eval_on_selector_all(
        "[data-key]", "all => all.map(e => [e.dataset.key, e.dataset.value, e.textContent])"
    )
    assert len(shown) > 100
    for key, value, text in shown:
        assert json.loads(value) == _at(report, key), key
        _assert_shown(text, _at(report, key))
    keys = {key for key, _, _ in shown}
    wanted = ['convert.steps_within["1.0"]', "convert.layers[5].dead_fraction", "convert.ann_output_max_error"]
    if evaluate:
        wanted += [f"evaluate.early_exit.{key}" for key in report["evaluate"]["early_exit"] if key[-4:] != "ci95"]
        wanted.remove("evaluate.early_exit.policy")
        wanted += ["evaluate.early_exit.accuracy_ci95[0]", "evaluate.early_exit.speedup_steps_ci95[1]", "evaluate.n"]
        wanted += ["evaluate.oracle.accuracy", "evaluate.oracle.mean_steps"]
    assert set(wanted) <= keys


@pytest.mark.parametrize("case", ["finetuned", "searched"])
def test_finetuning_and_search_are_shown_as_the_json_says(show, make_finetuned, make_searched, case):
    report = {"finetuned": make_finetuned, "searched": make_searched}[case]()
    shown = show(report)
    assert shown.requests == [shown.address]
    assert shown.messages == []
    assert shown.page.locator("svg.plot:visible").count() == 9
    found = shown.page.eval_on_selector_all(
        "[data-key]", "all => all.map(e => [e.dataset.key, e.dataset.value, e.textContent])"
    )
    for key, value, text in found:
        assert json.loads(value) == _at(report, key), key
        _assert_shown(text, _at(report, key))
    part = "convert.finetune." if case == "finetuned" else "convert.search."
    assert sum(key.startswith(part) for key, _, _ in found) >= 12


@pytest.mark.parametrize("case", ["whole", "bare", "one", "long", "finetuned", "searched"])
def test_nothing_overflows_the_width(show, make_report, make_finetuned, make_searched, case):
    report = {
        "whole": make_report,
        "bare": lambda: make_report(evaluate=False),
        "one": lambda: make_report(1, 1),
        "long": lambda: make_report(64, 30),
        "finetuned": make_finetuned,
        "searched": make_searched,
    }[case]()
    if case == "long":
        report["convert"]["model"] = "m" * 300
        report["convert"]["layers"][0]["name"] = "n" * 300
        report["convert"]["notes"] = ["w" * 500]
        report["convert"]["files"] = {"f" * 200: "v" * 300}
        report["evaluate"]["data"] = "d" * 300
    page = show(report).page
    page.eval_on_selector_all("details", "all => all.forEach(e => { e.open = true })")
    for width in (320, 400, 600, 800, 1000, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE, width) == [], width


@pytest.mark.parametrize("width", [400, 1400])
def test_text_in_pictures_can_be_read_and_stays_inside(show, make_report, width):
    page = show(make_report(), width).page
    sizes, outside = page.evaluate(
        """() => {
            const texts = [...document.querySelectorAll('svg.plot')].filter(s => s.getClientRects().length)
                .flatMap(s => [...s.querySelectorAll('text')].map(t => [s.getBoundingClientRect(), t]));
            const scale = t => { const m = t.getScreenCTM(); return Math.hypot(m.a, m.b) };
            return [
                texts.map(([, t]) => parseFloat(getComputedStyle(t).fontSize) * scale(t)),
                texts.filter(([box, t]) => { const r = t.getBoundingClientRect();
                    return r.left < box.left - 6 || r.right > box.right + 6 }).map(([, t]) => t.textContent)]
        }"""
    )
    assert len(sizes) > 60
    assert min(sizes) >= 8.5
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(show, make_report, scheme):
    colours = show(make_report(), scheme=scheme).page.evaluate(
        """() => { const s = getComputedStyle(document.documentElement);
            return Object.fromEntries(['--page', '--card', '--ink', '--faint', '--fixed', '--exit', '--ann', '--oracle',
                '--bad'].map(k => [k, s.getPropertyValue(k).trim()])) }"""
    )

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for ground in ("--page", "--card"):
        for front in ("--ink", "--faint", "--fixed", "--exit", "--ann", "--oracle", "--bad"):
            low, high = sorted((luminance(colours[ground]), luminance(colours[front])))
            needed = 4.5 if front in ("--ink", "--faint") else 3.0
            assert (high + 0.05) / (low + 0.05) >= needed, (ground, front)


def test_a_hostile_name_runs_nothing_and_is_shown_as_it_is(show, make_report):
    report = make_report()
    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    report["convert"]["layers"][0]["name"] = report["convert"]["model"] = hostile
    report["evaluate"]["figures"]["raster"]["layer"] = hostile
    shown = show(report)
    assert shown.page.locator("h1").inner_text() == hostile
    assert shown.page.locator("table.layers tbody th bdi").first.inner_text() == hostile
    assert "owned'" in shown.page.title()
    assert shown.page.title() != "owned"
    assert shown.requests == [shown.address]
    assert shown.messages == []


def test_the_tables_and_folds_can_be_reached_by_keyboard(show, make_report):
    page = show(make_report()).page
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + ' ' + (document.activeElement.role || '')"))
    assert {"SUMMARY ", "DIV region"} <= reached
