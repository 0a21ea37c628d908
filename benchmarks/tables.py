"""The tables of README and of docs/results.md, each between two marks: <!-- name --> and <!-- /name -->."""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]

__all__ = ["PAGES", "marks", "put_table"]


def marks(name: str) -> tuple[str, str]:
    """Where a table begins and ends.

    >>> marks("speed")
    ('<!-- speed -->', '<!-- /speed -->')
    """
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def put_table(name: str, body: str) -> None:
    """Replace what lies between the marks, the page written whole or not at all; ends the run where none has them."""
    first, last = marks(name)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if first in text and last in text:
            partial = page.with_suffix(".partial")
            before, after = text.split(first, 1)[0], text.split(last, 1)[1]
            partial.write_text(f"{before}{first}\n{body}\n{last}{after}", encoding="utf-8")
            partial.replace(page)
            return
    sys.exit(f"no page has the marks {first} and {last}; {', '.join(page.name for page in PAGES)} were looked at")


def chosen(rules: dict[str, Any]) -> dict[str, Any]:
    """Of a row of exit_rules.json: the rule that was chosen on the exit split, where one was."""
    held: dict[str, Any] = rules.get("auto") or rules["confidence"]
    return held
