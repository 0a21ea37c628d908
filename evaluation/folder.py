"""The folder that a conversion leaves: both networks, what calibrates the exit, and the report.

It is written whole or not at all: into ``DIR.partial-*`` beside it, flushed to disk, and then renamed.  Where an old
one is replaced the two swap their names in one step, so that there is a whole folder at every moment.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from .._check import CorruptFileError, SpikeportError
from ..data import Preprocessing
from ..hardware.program import IntegerProgram
from ..networks.file import atomic_write, load_graph, save_graph
from ..networks.graph import Graph
from .convert import Converted, ExitData
from .exit_file import read_exit, write_exit
from .integer import INTEGER, lowered
from .swap import replace_folder, sync

NETWORK, ANN, EXIT, REPORT, PAGE = (
    "network.safetensors",
    "ann.safetensors",
    "exit_calibration.npz",
    "report.json",
    "report.html",
)
FILES = (NETWORK, INTEGER, ANN, EXIT, REPORT, PAGE)
HASHED = (NETWORK, INTEGER, ANN, EXIT)  # report.json holds their sha256, and one over itself
NEEDED = (NETWORK, EXIT)  # a network trained with spikes comes from no other; some have no integer form
LONGEST_NAME = 255 - len(".partial-") - 16  # bytes; what is written first has a longer one
PARTIAL = re.compile(r".*\.partial-[0-9a-f]{16}")
_MAX_REPORT_BYTES = 1 << 26

Render = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Conversion:
    """What a conversion folder holds.  report: ``convert``, and ``evaluate`` once it has been evaluated."""

    spiking: Graph
    analog: Graph | None
    exit: ExitData
    report: Mapping[str, Any]
    integer: IntegerProgram | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], int]:
        """The shape of one sample, and the number of classes."""
        return self.spiking.shapes[self.spiking.input.name], self.spiking.shapes[self.spiking.output.name][0]

    @property
    def preprocessing(self) -> Preprocessing:
        """What the calibration data went through; raises CorruptFileError where the network does not say."""
        return Preprocessing.from_json(self.spiking.information.get("preprocessing"))


def require_free(path: Path, *, overwrite: bool) -> None:
    """Raise SpikeportError if a folder cannot be written at ``path``; to be called before the long work.

    What is replaced must be a folder that holds nothing but the files of a conversion.
    """
    path = _real(path)
    if not path.name or not path.parent.is_dir():
        raise SpikeportError(f"{path} cannot be made, because {path.parent} is no folder; make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise SpikeportError(
            f"{path} cannot be made, because {path.parent} may not be written to; choose another place."
        )
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise SpikeportError(f"the folder's name has more than {LONGEST_NAME} bytes; choose a shorter one.")
    if not path.exists():
        return
    if not overwrite:
        raise SpikeportError(f"{path} is there already; choose another folder, or pass --overwrite to replace it.")
    if not path.is_dir():
        raise SpikeportError(f"{path} is no folder, so it is not replaced; choose another place.")
    if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in FILES):
        raise SpikeportError(
            f"{path} holds what no conversion wrote ({', '.join(foreign[:5])}), so it is not replaced; "
            f"choose another folder."
        )


def require_writable(path: Path) -> None:
    """Raise SpikeportError if the report in a folder cannot be written anew; to be called before the long work."""
    if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
        raise SpikeportError(f"{path} may not be written to, so a result cannot be kept there; copy it first.")


def write_folder(
    path: str | Path,
    converted: Converted,
    render: Render,
    *,
    evaluation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the folder and return its report, which then names the files with their sha256.

    render: makes the page of a report.  evaluation: what ``evaluate_network`` gave, where it is known already.
    On an error, a full disk and Ctrl-C nothing is left, and what was there stays.
    Raises SpikeportError, and says what to do.
    """
    path = _real(Path(path))
    require_free(path, overwrite=overwrite)
    with _errors_of_the_disk(path), _partial(path) as partial:
        save_graph(converted.spiking, partial / NETWORK)
        if converted.analog is not None:
            save_graph(converted.analog, partial / ANN)
        if converted.integer is not None:
            converted.integer.save(partial / INTEGER)
        _write(partial / EXIT, lambda file: write_exit(converted.exit, file))
        written = [name for name in HASHED if (partial / name).is_file()]
        files = {name: hashlib.sha256((partial / name).read_bytes()).hexdigest() for name in written}
        report: dict[str, Any] = {"spikeport": __version__, "convert": {**converted.report, "files": files}}
        if evaluation is not None:
            report["evaluate"] = dict(evaluation)
        _write_report(partial, report, render)
        sync(partial)
        replace_folder(partial, path)
    return report


def update_report(path: str | Path, report: Mapping[str, Any], render: Render) -> None:
    """Write another report into a folder that is there, and its page: each file whole or not at all."""
    path = Path(path)
    with _errors_of_the_disk(path):
        _write_report(path, report, render)


def read_folder(path: str | Path) -> Conversion:
    """Read and check a conversion folder.

    Raises SpikeportError where ``path`` is no such folder, CorruptFileError where one of its files is damaged, is
    another one than the report names, or does not fit the others.
    """
    path = _real(Path(path))
    _require_conversion(path)
    report = read_report(path)
    files = report["convert"].get("files")
    if not isinstance(files, dict) or not set(NEEDED) <= set(files) <= set(HASHED):
        raise CorruptFileError(
            f"{path / REPORT} does not name the files of the conversion; run spikeport convert again."
        )
    for name in files:
        try:
            found = hashlib.sha256((path / name).read_bytes()).hexdigest()
        except OSError as error:
            raise CorruptFileError(f"{path / name} cannot be read ({error.strerror}); convert again.") from None
        if found != files[name]:
            raise CorruptFileError(
                f"{path / name} is not the file that the conversion wrote (its sha256 differs from the report's): "
                f"it was damaged or replaced; run spikeport convert again."
            )
    spiking, analog = load_graph(path / NETWORK), load_graph(path / ANN) if ANN in files else None
    exit_data = read_exit(path / EXIT, spiking.shapes[spiking.output.name][0])
    if analog is not None and spiking.shapes[spiking.input.name] != analog.shapes[analog.input.name]:
        raise CorruptFileError(f"the two networks in {path} take different inputs; run spikeport convert again.")
    integer = IntegerProgram.load(path / INTEGER) if INTEGER in files else None
    return Conversion(spiking, analog, exit_data, report, integer)


def keep_integer(path: str | Path, held: Conversion, render: Render) -> IntegerProgram:
    """The integer network of a folder; one that has none yet gets it, made from the statistics of its calibration.

    Raises UnsupportedError for a network without integer form, SpikeportError for one without statistics.
    """
    if held.integer is not None:
        return held.integer
    program, path = lowered(held.spiking), Path(path)
    with _errors_of_the_disk(path):
        program.save(path / INTEGER)
    digest = hashlib.sha256((path / INTEGER).read_bytes()).hexdigest()
    about = {**held.report["convert"], "files": {**held.report["convert"]["files"], INTEGER: digest}}
    update_report(path, {**held.report, "convert": about}, render)
    return program


def read_report(path: str | Path) -> dict[str, Any]:
    """Read ``report.json`` of a conversion folder; raises CorruptFileError where it was damaged or changed."""
    path = _real(Path(path))
    _require_conversion(path)
    try:
        if (path / REPORT).stat().st_size > _MAX_REPORT_BYTES:
            raise CorruptFileError(f"{path / REPORT} is too large for a report.")
        report = json.loads((path / REPORT).read_text(encoding="utf-8"))
        checksum = report.pop("sha256")
        if not isinstance(report["convert"], dict) or checksum != _checksum(report):
            raise ValueError("its content does not match its sha256")
    except OSError as error:
        raise SpikeportError(f"cannot read {path / REPORT}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(
            f"{path / REPORT} is damaged or was changed ({error or type(error).__name__}); run spikeport convert again."
        ) from None
    return dict(report)


def left_behind(path: Path) -> list[Path]:
    """Unfinished folders beside ``path`` that runs left which were killed (or that another run is writing now)."""
    path = _real(path)
    if not path.parent.is_dir():
        return []
    return sorted(p for p in path.parent.glob(f"{_escaped(path.name)}.partial-*") if PARTIAL.fullmatch(p.name))


def _require_conversion(path: Path) -> None:
    if PARTIAL.fullmatch(path.name):
        raise SpikeportError(f"{path} is an unfinished folder that a killed run left; remove it and convert again.")
    if not path.is_dir():
        raise SpikeportError(f"{path} is no folder; give the one that spikeport convert wrote (-o).")
    if missing := [name for name in (*NEEDED, REPORT) if not (path / name).is_file()]:
        kind = CorruptFileError if any((path / name).is_file() for name in (*HASHED, REPORT)) else SpikeportError
        raise kind(f"{path} holds no whole conversion ({', '.join(missing)} missing); run spikeport convert again.")


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, which is gone at the end (renamed, or removed with all that is in it)."""
    partial = path.with_name(f"{path.name}.partial-{secrets.token_hex(8)}")
    try:
        partial.mkdir()
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _errors_of_the_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpikeportError(
            f"cannot write {path}: {error.strerror or error}; make room, or choose another place. Nothing was changed."
        ) from error


def _write(path: Path, write: Callable[[Any], object]) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _write_report(folder: Path, report: Mapping[str, Any], render: Render) -> None:
    page = render(report).encode()
    try:
        text = json.dumps({**report, "sha256": _checksum(report)}, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError) as error:
        raise SpikeportError(f"the report is no JSON: {error}") from error
    for name, content in ((REPORT, text), (PAGE, page)):
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)


def _checksum(report: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(report, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _real(path: Path) -> Path:
    """The place itself: what a link points to is replaced, not the link."""
    if not (path.is_symlink() or path.name in ("", ".", "..")):
        return path
    try:
        return path.resolve(strict=path.is_symlink() and not path.exists())
    except FileNotFoundError:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # as the version of Python has it
        raise SpikeportError(f"{path} is a link that leads to itself; remove it or choose another place.") from error


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
