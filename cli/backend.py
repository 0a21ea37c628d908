"""``spikeport backend``: get what a backend needs and does not come with spikeport."""

from enum import StrEnum
from typing import Annotated

import typer

from . import options
from .output import finish, note, rows

__all__ = ["backend", "install"]

backend = typer.Typer(help="Get what a backend needs.", rich_markup_mode=None)


class Installable(StrEnum):
    """Backends that ``install`` knows; the others are extras of the package."""

    LAVA = "lava"


@backend.callback()
def _group() -> None:
    """Get what a backend needs."""


@backend.command()
def install(
    name: Annotated[Installable, typer.Argument(metavar="lava", help="The backend.", show_default=False)],
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PATH", help="The Python 3.10 to use; else one is found, else uv loads one."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make the private environment that a backend runs in; loads packages from the network.

    Lava needs a Python 3.10 of its own.  SPIKEPORT_LAVA_PYTHON names another one that has Lava already.
    """
    from ..hardware.lava.install import LAVA_PACKAGES, install_lava

    note(f"installing {', '.join(LAVA_PACKAGES)}; this takes a minute or two")
    interpreter = install_lava(python=python)
    result = {"backend": str(name), "python": interpreter, "packages": list(LAVA_PACKAGES)}
    finish(result, [rows("Installed", [("backend", name), ("python", interpreter)])], as_json)
