"""The few pieces of HTML that every section is made of.  Whatever comes from outside is escaped here."""

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape

from .reading import Part

__all__ = [
    "count",
    "duration",
    "factor",
    "interval",
    "name",
    "num",
    "pairs",
    "percent",
    "percent_fine",
    "plain",
    "points",
    "span",
    "steps",
    "table",
]

Form = Callable[[float], str]
_LONGER = (("d", 86400), ("h", 3600), ("min", 60))


def percent(value: float) -> str:
    """Write a fraction in percent.

    >>> percent(0.9725)
    '97.2\\u202f%'
    """
    return f"{100 * value:.1f}\u202f%"


def percent_fine(value: float) -> str:
    """Write a fraction in percent with two decimals, for tables."""
    return f"{100 * value:.2f}\u202f%"


def duration(value: float) -> str:
    """Write seconds in the largest unit that is not longer."""
    unit, size = next(((unit, size) for unit, size in _LONGER if value >= size), ("s", 1))
    return f"{value / size:.3g}\u202f{unit}"


def points(value: float) -> str:
    """Write a difference of two fractions in points, with its sign."""
    return f"{100 * value:+.2f}\u202fpoints"


def plain(value: float) -> str:
    """Write a number with four significant digits."""
    return f"{value:.4g}"


def steps(value: float) -> str:
    """Write a number of time steps: whole ones as they are, means with two decimals.

    >>> steps(7.0), steps(2.355)
    ('7', '2.35')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def factor(value: float) -> str:
    """Write a ratio.

    >>> factor(2.414)
    '2.41×'
    """
    return f"{value:.2f}×"


def count(value: float) -> str:
    """Write how many, with thousands, millions and so on as k, M, G, T.

    >>> count(941), count(12345.6), count(2.5e9)
    ('941', '12.3\\u202fk', '2.50\\u202fG')
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        short = value / size
        if abs(short) >= (10 if letter == "k" else 0.9995):  # from there on, three digits round up to 1.00
            return f"{short:.{max(0, 3 - len(f'{abs(short):.0f}'))}f}\u202f{letter}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def num(part: Part, form: Form) -> str:
    """Return a number as text that carries its place in the JSON and its exact value.

    >>> num(Part(0.5, "evaluate.ann_accuracy"), percent)
    '<span class="num" data-key="evaluate.ann_accuracy" data-value="0.5">50.0\\u202f%</span>'
    """
    value = part.number()
    key = escape(part.path)
    if value is None:
        return f'<span class="num none" data-key="{key}" data-value="null" title="not measured">–</span>'
    return f'<span class="num" data-key="{key}" data-value="{escape(json.dumps(value))}">{form(value)}</span>'


def interval(part: Part, form: Form) -> str:
    """Return a 95 % interval as text, or nothing where there is none."""
    if not part:
        return ""
    return f'<span class="ci"><abbr title="95 % interval">95\u202f% CI</abbr> {span(part, form)}</span>'


def span(part: Part, form: Form) -> str:
    """Return the two ends of an interval as text, or a dash where there is none."""
    return f'<span class="span">{num(part[0], form)} – {num(part[1], form)}</span>' if part else "–"


def name(text: str) -> str:
    """Return a string from outside, escaped, and kept from turning its surroundings right to left.

    >>> name('<script>')
    '<bdi>&lt;script&gt;</bdi>'
    """
    return f"<bdi>{escape(text)}</bdi>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table in a box of its own that scrolls sideways; the first cell of a row is its header.

    caption, head: plain text.  rows: cells of finished HTML.
    """
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f'<table class="{escape(kind)}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms (plain text) and what they are (finished HTML)."""
    inside = "".join(f"<div><dt>{escape(term)}</dt><dd>{meaning}</dd></div>" for term, meaning in rows)
    return f'<dl class="pairs">{inside}</dl>'
