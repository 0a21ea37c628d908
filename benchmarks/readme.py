"""README's tables, each between two marks that name it: <!-- name --> and <!-- /name -->."""

import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"

__all__ = ["README", "marks", "put_table"]


def marks(name: str) -> tuple[str, str]:
    """Where a table begins and ends.

    >>> marks("speed")
    ('<!-- speed -->', '<!-- /speed -->')
    """
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def put_table(name: str, body: str) -> None:
    """Replace what lies between the marks, the file written whole or not at all; ends the run where there are none."""
    first, last = marks(name)
    text = README.read_text(encoding="utf-8")
    if first not in text or last not in text:
        sys.exit(f"README needs the marks {first} and {last}")
    partial = README.with_suffix(".partial")
    partial.write_text(f"{text.split(first)[0]}{first}\n{body}\n{last}{text.split(last, 1)[1]}", encoding="utf-8")
    partial.replace(README)
