"""Write docs/commands.md from the command itself: ``python docs/make_commands.py``."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from spikeport.cli.main import app, spikeport

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# The command

<!-- Written by docs/make_commands.py; a test compares the two. -->
"""


class Parameter(NamedTuple):
    """An argument (no names) or an option of a command."""

    names: tuple[str, ...]
    metavar: str
    meaning: str
    default: Any

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty


def text() -> str:
    """The page, from the functions behind the commands."""
    parts = [HEAD, _paragraphs(spikeport), ""]
    for name, function in _commands():
        parts += [f"## spikeport {name}", "", f"    {_usage(name, function)}", "", _paragraphs(function), ""]
        parts += [*_rows(function), ""]
    return "\n".join(parts)


def _commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Names and functions; the name of a group stands before that of its command."""
    groups = [("", app), *((f"{group.name} ", group.typer_instance) for group in app.registered_groups)]
    for prefix, group in groups:
        for command in group.registered_commands if group else ():
            if command.callback is not None:
                yield prefix + (command.name or command.callback.__name__), command.callback


def _parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, (given,) = hints[name].__origin__, hints[name].__metadata__
        choices = "|".join(kind) if isinstance(kind, type) and issubclass(kind, Enum) else "N"
        metavar = "" if kind is bool else given.metavar or choices
        names = (given.default, *(given.param_decls or ()))  # typer keeps the first one as if it were a default
        yield Parameter(tuple(n for n in names if isinstance(n, str)), metavar, given.help, parameter.default)


def _paragraphs(function: Callable[..., Any]) -> str:
    given = inspect.getdoc(function) or ""
    return "\n\n".join(textwrap.fill(part, 120) for part in given.split("\n\n"))


def _usage(name: str, function: Callable[..., Any]) -> str:
    required = [f"{p.names[0]} {p.metavar}" if p.names else p.metavar for p in _parameters(function) if p.required]
    return " ".join(["spikeport", name, *required, "[OPTIONS]"])


def _rows(function: Callable[..., Any]) -> Iterator[str]:
    yield "| option | meaning | default |"
    yield "|---|---|---|"
    for parameter in _parameters(function):
        names = ", ".join(f"`{name}`" for name in parameter.names)
        value = f"`{parameter.metavar}`".replace("|", "\\|") if parameter.metavar else ""
        yield f"| {f'{names} {value}'.strip()} | {parameter.meaning} | {_default(parameter)} |"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    said = parameter.default not in (None, "") and parameter.default is not False  # 0 is said, too
    return f"`{parameter.default}`" if said else ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
