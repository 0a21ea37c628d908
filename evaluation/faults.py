"""Faults as the command line writes them, and a run of an integer network with faults."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._check import CorruptFileError, RangeError, SpikeportError
from ..data import Dataset
from ..hardware.faults import faulty_program
from ..hardware.program import IntegerProgram
from ..networks.faults import Faults
from ..networks.stored_faults import Injected, faulty_graph
from ..networks.transient import transient_of
from .engines import Network
from .run import backend_named, run_on

__all__ = [
    "decided_labels",
    "described",
    "parse_faults",
    "run_with_faults",
    "runner",
    "with_stored_faults",
]

_TARGETS = tuple(field.name for field in fields(Faults) if field.name != "layers")


def parse_faults(text: str) -> Faults:
    """Read ``weights:1e-4,dropped_spikes:0.01,layers:conv1+fc1``, or a .toml file with the same names.

    Raises RangeError for what is no rate between 0 and 1, SpikeportError for unknown or repeated targets and for a file
    that cannot be read, CorruptFileError for one that is no TOML.

    >>> parse_faults("weights:1e-4, layers:conv1+fc1")
    Faults(weights=0.0001, ..., layers=('conv1', 'fc1'))
    """
    if text.endswith(".toml"):
        return _from_table(_table(Path(text)), text)
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, value = (piece.strip() for piece in part.partition(":"))
        if not colon or not value:
            raise RangeError(f"{part!r} is no fault; write target:rate, such as weights:1e-4, or give a .toml file")
        if name in given:
            raise SpikeportError(f"{name} is given twice in {text!r}; give one rate")
        given[name] = value.split("+") if name == "layers" else _rate(name, value)
    return _from_table(given, text)


def run_with_faults(
    backend: str, program: IntegerProgram, data: Dataset, faults: Faults, *, seed: int, **asked: Any
) -> dict[str, Any]:
    """``run_on`` with faults in what the network stores and during the run; the JSON gains ``faults``.

    asked: the options of ``run_on``.  Raises what ``faulty_program``, ``backend_named`` and ``run_on`` raise.
    """
    place = backend_named(backend, faults=faults, seed=seed)
    hurt, injected = faulty_program(program, faults, seed=seed)
    transient = transient_of(hurt.graph, faults, seed)
    result = run_on(place, hurt, data, transient=transient, **asked)
    return {**result, "faults": described(faults, seed, injected)}


def described(faults: Faults, seed: int, injected: Injected) -> dict[str, Any]:
    """What was asked for and what was hit, as JSON."""
    return {"rates": faults.to_json(), "seed": seed, **injected.to_json()}


def with_stored_faults(network: Network, faults: Faults, *, seed: int) -> tuple[Network, Injected]:
    """``faulty_program`` of an integer network, or ``faulty_graph`` of a float one."""
    if isinstance(network, IntegerProgram):
        return faulty_program(network, faults, seed=seed)
    return faulty_graph(network, faults, seed=seed)


def decided_labels(output: Tensor) -> Tensor:
    """The class of each sample, (n,), from an output (n, classes) in which faults may have left no numbers.

    NaN counts as 0, and infinity as the largest number of its sign; of equal ones the first class wins.

    >>> decided_labels(torch.tensor([[float("nan"), -1.0], [0.5, float("inf")]])).tolist()
    [0, 1]
    """
    return torch.nan_to_num(output, nan=0.0).argmax(-1)


def runner(backend: str, faults: Faults | None, *, seed: int) -> Callable[..., dict[str, Any]]:
    """``run_on`` on a backend, or ``run_with_faults``: a function of the program, the data and ``run_on``'s options.

    Raises SpikeportError for an unknown backend, before any work.
    """
    plain = backend_named(backend)
    if faults is None:
        return partial(run_on, plain)
    return partial(run_with_faults, backend, faults=faults, seed=seed)


def _rate(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RangeError(f"the rate of {name} is {value!r}; a number between 0 and 1 was wanted") from None


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is no TOML ({error}); write lines such as weights = 1e-4") from None


def _from_table(given: Mapping[str, Any], where: str) -> Faults:
    unknown = [name for name in given if name not in (*_TARGETS, "layers")]
    if unknown:
        raise SpikeportError(f"{', '.join(unknown)} can have no faults; choose among {', '.join(_TARGETS)} and layers")
    layers = given.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(name, str) and name.strip() for name in layers):
        raise SpikeportError(f"layers is {layers!r}; names such as layers:conv1+fc1 (a list in a file) were wanted")
    faults = Faults(**{**given, "layers": tuple(name.strip() for name in layers)})
    if not faults.stored and not faults.transient:
        raise RangeError(
            f"{where!r} asks for no fault (every rate is 0, or there is none); "
            f"choose among {', '.join(_TARGETS)}, such as weights:1e-4"
        )
    return faults
