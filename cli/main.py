"""The command ``spikeport``: what it is made of, and how it ends."""

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from .. import __version__
from .._check import SpikeportError
from .backend import backend
from .convert import convert
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate, report
from .exchange import export_network, import_network
from .finetune import finetune
from .inspect import inspect
from .output import error_line, error_object, print_json
from .run import run_backend
from .train import train

__all__ = ["app", "main", "run"]

USAGE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the shell's numbers: 128 + the signal's
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, wherever typer keeps it

app = typer.Typer(
    name="spikeport",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (doctor, inspect, convert, finetune, train, evaluate, report, demo):
    app.command()(_command)
app.add_typer(backend, name="backend")
app.command("run")(run_backend)
app.command("import")(import_network)
app.command("export")(export_network)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def spikeport(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a trained artificial network to a spiking one that decides early.

    Exit codes: 0 all is well, 2 bad input, 3 accuracy below --min-accuracy, 4 an operator that cannot be converted,
    5 a backend that is not available or failed, 130 interrupted, 141 the reader of a pipe went away.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with ``arguments`` (those of the process by default) and end with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code; an error is one line on stderr, and an object on stdout with --json."""
    command = typer.main.get_command(app)
    as_json = "--json" in arguments
    try:
        with _quiet(), _terminated_as_interrupted():
            # not command.main(), which would handle Ctrl-C in its own way
            with command.make_context("spikeport", arguments or ["--help"]) as context:
                command.invoke(context)
            sys.stdout.flush()
        return 0
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stdout = None  # so that Python does not try to flush it again
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return _failed(SpikeportError("interrupted"), INTERRUPTED, as_json, "Interrupted")
    except SpikeportError as error:
        return _failed(error, error.exit_code, as_json)
    except _CLICK_ERROR as error:
        return _failed(SpikeportError(_usage_message(error)), USAGE, as_json, "UsageError")
    except MemoryError:
        return _failed(SpikeportError("out of memory; use fewer samples (--limit)."), USAGE, as_json, "MemoryError")
    except OSError as error:
        message = f"{error.filename or 'the system'}: {error.strerror or error}"
        return _failed(SpikeportError(message), USAGE, as_json, "OSError")
    except RuntimeError as error:  # torch says so when memory runs out
        if "can't allocate memory" not in str(error):
            raise
        return _failed(SpikeportError("out of memory; use fewer samples (--limit)."), USAGE, as_json, "MemoryError")


def _failed(error: SpikeportError, code: int, as_json: bool, kind: str | None = None) -> int:
    error_line(str(error))
    if as_json:
        print_json({"error": {**error_object(error), **({"kind": kind} if kind else {})}})
    return code


def _usage_message(error: Exception) -> str:
    message: str = getattr(error, "format_message", lambda: str(error))()
    context: Any = getattr(error, "ctx", None)
    return f"{message} Try: {context.command_path} --help" if context is not None else message


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of the libraries off the screen; ``python -W`` brings them back."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that no unfinished folder is left.

    Python drops what is raised inside a callback of the interpreter; the command then still ends as interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        if came:
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
