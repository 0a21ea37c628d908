"""Put the page together: one file, no network, no script."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from .choices import finetuning, search
from .hardware import hardware
from .headlines import cards, lead
from .markup import name
from .pictures import cost_pictures, inner_pictures, time_pictures
from .reading import Part, read
from .robustness import robustness
from .tables import conversion, layers, oracle, sources, step_by_step

__all__ = ["render_report"]

# The page can load nothing and run nothing, whatever a name in it tries.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_report(report: Mapping[str, object]) -> str:
    """Return the HTML page of a report.

    report: what ``report.json`` holds: ``convert``, and ``evaluate`` once the network has been evaluated; without
    it the page says how to.  Shares lie between 0 and 1, steps count from 1, null means not measured.
    Every number on the page carries its place in the JSON (``data-key``) and its exact value (``data-value``).
    The same report gives the same bytes.
    Raises RangeError for NaN, infinity or an accuracy outside of 0 to 1, CorruptFileError for a report whose parts are
    missing or of another type.

    >>> page = render_report({"spikeport": "0.1.0", "convert": {"model": "<b>.onnx", "timesteps": 8}})
    >>> "<b>" in page, "&lt;b&gt;.onnx" in page
    (False, True)
    """
    root = read(report)
    convert, evaluate = root["convert"], root["evaluate"]
    model = convert["model"].text() or "network"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(model)} – spikeport report</title>"
        f"<style>{_style()}</style></head>\n<body>"
        f'<header><p class="brand">spikeport <span>report</span></p><h1>{name(model)}</h1>'
        f'<p class="lead">{lead(convert, evaluate)}</p></header>\n'
        f"<main>{cards(convert, evaluate)}\n{_sections(root)}</main>\n"
        f"<footer><p>Written by spikeport {name(root['spikeport'].text())}. Intervals are 95\u202f%. "
        "Thresholds were set on other samples than the ones reported.</p></footer></body></html>\n"
    )


def _sections(root: Part) -> str:
    convert, evaluate = root["convert"], root["evaluate"]
    time = time_pictures(convert, evaluate) + ([] if evaluate else [_invitation()])
    cost, exit_rule = cost_pictures(evaluate), oracle(evaluate)
    on_chip, under_attack = hardware(convert, root["run"]), robustness(evaluate["robustness"])
    trained, looked = finetuning(convert), search(convert)
    return "\n".join(
        (
            _section("Accuracy over time", _grid(time) + step_by_step(convert, evaluate)),
            _section("What a decision costs", _grid(cost) + exit_rule) if cost or exit_rule else "",
            _section("Under attack", under_attack) if under_attack else "",
            _section("Inside the network", _grid(inner_pictures(convert, evaluate)) + layers(convert)),
            _section("On hardware", on_chip) if on_chip else "",
            _section("Finetuning", trained) if trained else "",
            _section("Search", looked) if looked else "",
            _section("Conversion", conversion(convert)),
            _section("Sources", sources(root)),
        )
    )


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def _grid(cards_: list[str]) -> str:
    return f'<div class="grid">{"".join(cards_)}</div>' if cards_ else ""


def _invitation() -> str:
    return (
        '<div class="card invitation"><h3>Not evaluated yet</h3><p>These numbers come from held-out calibration '
        "samples. To see early exit, its speed-up and its cost on data of your own, run</p>"
        "<pre><code>spikeport evaluate DIR --data DATA</code></pre>"
        "<p>where DIR is the folder of this page, and DATA is <code>digits</code> or <code>file.npz</code>.</p></div>"
    )


def _style() -> str:
    return (files(__package__) / "page.css").read_text(encoding="utf-8")
