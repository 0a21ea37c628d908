"""Networks of other frameworks come in as a folder; a folder's network goes out to them."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .._check import SpikeportError
from ..data import Dataset
from ..hardware.brian_export import export_brian
from ..hardware.lava.export import export_lava
from ..hardware.lava_dl import import_lava_dl
from ..hardware.nir import export_nir, import_nir
from ..hardware.program import IntegerProgram
from ..networks.graph import Graph
from .convert import Converted
from .folder import Conversion
from .integer import lowered
from .trained import finished

__all__ = ["TARGETS", "export_network", "imported_network", "read_foreign"]


def read_foreign(path: Path, timesteps: int, *, dt: float | None = None) -> Graph | IntegerProgram:
    """Read a ``.nir`` file, or a ``.net`` file of lava-dl; raises SpikeportError for others, and what the two raise.

    dt: seconds of a step, of a ``.nir`` file only.
    """
    if not path.is_file():
        raise SpikeportError(f"there is no file {path}; give a .nir or a .net file")
    if path.suffix == ".nir":
        return import_nir(path, dt=dt)
    if dt is not None:
        raise SpikeportError(f"dt is {dt}, but {path} is no .nir file; leave it out")
    if path.suffix == ".net":
        return import_lava_dl(path, steps=timesteps)
    raise SpikeportError(f"{path} is neither a .nir nor a .net file (ONNX and torch networks go through convert)")


def imported_network(
    path: Path, network: Graph | IntegerProgram, calibration: Dataset, *, timesteps: int, seed: int = 0
) -> Converted:
    """The folder's content for an imported network; labelled calibration samples set when it may stop."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = {"name": path.name, "sha256": digest, "method": f"imported from {path.suffix.removeprefix('.')}"}
    nothing = np.zeros(0, calibration.hashes.dtype)
    about = {"method_reason": "its weights come as they are"}
    made = finished(network, calibration, source, timesteps=timesteps, trained_on=nothing, seed=seed, about=about)
    last = made.exit.outputs[-1]
    if (last == last[:, :1]).all():
        low, high = calibration.x.min(), calibration.x.max()
        whole = f" ({network.input.high} was wanted)" if isinstance(network, IntegerProgram) else ""
        raise SpikeportError(
            f"{path.name} says the same of every class after {timesteps} steps; its inputs go from {low:g} to "
            f"{high:g}{whole}: look at --scale, or give it more --timesteps"
        )
    return made


def _brian2(held: Conversion, path: Path) -> tuple[str, ...]:
    arrays = export_brian(held.integer or lowered(held.spiking), path)
    return (f"its arrays are in {arrays.name}, which belongs beside it",)


def _lava(held: Conversion, path: Path) -> tuple[str, ...]:
    export_lava(held.integer or lowered(held.spiking), path)
    return ()


_OTHERS: Mapping[str, Callable[[Conversion, Path], tuple[str, ...]]] = {"brian2": _brian2, "lava": _lava}
TARGETS = ("nir", *_OTHERS)


def export_network(
    held: Conversion, target: str, path: Path, *, reader: str | None = None, dt: float | None = None
) -> tuple[str, ...]:
    """Write the network of a folder for ``target`` and return what to know about it.

    reader: the program that a NIR file is for (see ``hardware.nir``); left out, any.  dt: seconds of its steps.
    Raises SpikeportError for another target, UnsupportedError that lists what has no form there.
    """
    if target not in TARGETS:
        raise SpikeportError(f"a network cannot go to {target!r}; choose one of {', '.join(TARGETS)}")
    if not path.parent.is_dir():
        raise SpikeportError(f"{path} cannot be made, because {path.parent} is no folder; make it first")
    return export_nir(held.spiking, path, reader=reader, dt=dt) if target == "nir" else _OTHERS[target](held, path)
