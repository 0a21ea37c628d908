"""What the command prints: one JSON object on stdout for programs, or tables; notes and progress go to stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .._check import SpikeportError

__all__ = [
    "error_line",
    "error_object",
    "faults_text",
    "finish",
    "note",
    "percent",
    "print_json",
    "progress_bar",
    "rows",
    "table",
]


def finish(result: Mapping[str, Any], shown: Sequence[Any], as_json: bool, error: SpikeportError | None = None) -> None:
    """Print the result of a command; where it is also an error, say so and end with the error's exit code."""
    if as_json:
        print_json(result if error is None else {**result, "error": error_object(error)})
    else:
        show(*shown)
    if error is not None:
        error_line(str(error))
        raise typer.Exit(error.exit_code)


def error_object(error: SpikeportError) -> dict[str, Any]:
    """What ``--json`` says of an error."""
    return {"kind": type(error).__name__, "message": str(error), "problems": list(getattr(error, "problems", ()))}


def print_json(value: Mapping[str, Any]) -> None:
    """Write the one JSON object of this command."""
    sys.stdout.write(json.dumps(value, allow_nan=False, indent=1) + "\n")


def show(*parts: Any) -> None:
    """Print tables and lines for people."""
    console = Console(file=sys.stdout)
    for part in parts:
        if isinstance(part, Table):
            console.print(part)
        else:
            console.print(Text(printable(str(part))), soft_wrap=True)


def note(message: str) -> None:
    """Print a line for people that belongs to no result."""
    Console(file=sys.stderr).print(Text.assemble(("note: ", "cyan"), printable(message)), soft_wrap=True)


def error_line(message: str) -> None:
    """Print the one line of an error."""
    Console(file=sys.stderr).print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)


def printable(text: str) -> str:
    """One line without control characters: names come from files that nobody has vouched for.

    >>> printable("a\\nb\\x1b[2J")
    'a b�[2J'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def table(title: str, columns: Sequence[str], body: Sequence[Sequence[Any]]) -> Table:
    """A table whose first column is text and whose others are numbers; None shows as a dash."""
    made = Table(title=Text(printable(title)), title_justify="left", title_style="bold", header_style="")
    for index, column in enumerate(columns):
        made.add_column(Text(column), justify="right" if index else "left")
    for row in body:
        made.add_row(*(Text("–" if cell is None else printable(str(cell))) for cell in row))
    return made


def rows(title: str, pairs: Sequence[tuple[str, Any]]) -> Table:
    """Names and values below each other, those that are None left out."""
    made = Table(title=Text(printable(title)), title_justify="left", title_style="bold", show_header=False)
    made.add_column()
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(Text(name), Text(printable(str(value))))
    return made


def percent(share: float | None, interval: Sequence[float] | None = None, n: int | None = None) -> str | None:
    """A share as percent, with its 95 % interval and its number of samples.

    >>> percent(0.975, (0.953, 0.987), 360)
    '97.50 % (95.30 to 98.70, n = 360)'
    """
    if share is None:
        return None
    inside = [f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"] if interval else []
    inside += [f"n = {n}"] if n is not None else []
    return f"{100 * share:.2f} %" + (f" ({', '.join(inside)})" if inside else "")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Give ``progress(stage, done)``, done from 0 to 1, which moves one bar for each stage (on a terminal only)."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, Any] = {}

    def progress(stage: str, done: float) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=1.0)
        bar.update(tasks[stage], completed=done)

    with bar:
        yield progress


def epochs_of(count: int) -> str:
    """As many epochs, in words.

    >>> epochs_of(1), epochs_of(3)
    ('1 epoch', '3 epochs')
    """
    return f"{count} epoch{'' if count == 1 else 's'}"


def faults_text(faults: Mapping[str, Any] | None) -> str | None:
    """What a run with faults was asked for and what was hit; None without."""
    if faults is None:
        return None
    rates = ", ".join(
        f"{name} {'+'.join(rate) if name == 'layers' else rate}" for name, rate in faults["rates"].items()
    )
    hit = [f"{number:,} of {faults['bits'][name]:,} bits of {name}" for name, number in faults["changed"].items()]
    hit += [f"{sum(faults['dead'].values()):,} dead units"] if faults["dead"] else []
    return f"{rates} (seed {faults['seed']}){': ' if hit else ''}{', '.join(hit)}"
