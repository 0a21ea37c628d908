"""``spikeport doctor``: what is installed, what can run, and why the rest cannot."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from .. import __version__
from .._check import BackendUnavailable
from . import options
from .output import finish, rows

__all__ = ["doctor"]

PACKAGES = (
    *("torch", "numpy", "numba", "safetensors", "onnx", "typer", "rich", "scikit-learn", "matplotlib"),
    *("onnxruntime", "snntorch", "brian2", "nir", "h5py", "aihwkit", "lightning-fabric", "tensorboard", "pyyaml"),
)
_SECONDS = 60  # for a candidate to answer


class Part(NamedTuple):
    """Something that this machine may lack.  why: where it is, or what to do to get it."""

    name: str
    available: bool
    why: str


def doctor(as_json: options.Json = False) -> None:
    """Show what is installed and what can run.

    Versions, threads, optional packages and backends, with the reason why one cannot run.
    """
    facts = _facts()
    parts = [
        _cuda(),
        _module(
            "ONNX Runtime", "onnxruntime", "'spikeport[dev]'", "runs the source of an ONNX import; else onnx itself"
        ),
        _module("Brian2", "brian2", "'spikeport[brian2]'", "simulator"),
        _module(
            "aihwkit",
            "aihwkit",
            "--no-deps aihwkit",
            "runs networks on IBM's analog tiles (--executor aihwkit), and checks our models of devices",
        ),
        _lava(),
    ]
    result = {**facts, "parts": [part._asdict() for part in parts]}
    pairs = [(key.replace("_", " "), value) for key, value in facts.items() if not isinstance(value, dict)]
    shown: list[Any] = [
        rows("spikeport", pairs),
        rows("Packages", [(name, found or "not installed") for name, found in facts["packages"].items()]),
        rows("Optional parts", [(part.name, f"{'yes' if part.available else 'no'}: {part.why}") for part in parts]),
    ]
    finish(result, shown, as_json)


def _facts() -> dict[str, Any]:
    import torch
    from numba import config

    return {
        "spikeport": __version__,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "platform": sys.platform,
        "processors": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "numba_threads": getattr(config, "NUMBA_NUM_THREADS", None),
        "numba_threading_layer": getattr(config, "THREADING_LAYER", None),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda() -> Part:
    import torch

    if torch.cuda.is_available():
        return Part("CUDA", True, torch.cuda.get_device_name())
    built = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
    return Part("CUDA", False, f"{built}; everything runs on the processor")


def _module(name: str, module: str, install: str, purpose: str) -> Part:
    """A package counts when a fresh Python can import it: some are installed and broken."""
    found = _version(module)
    if found is None:
        return Part(name, False, f"{purpose}; not installed: pip install {install}")
    failure = _failure([sys.executable, "-W", "ignore", "-c", f"import {module}"])
    return Part(name, not failure, f"{purpose}; {f'{found} fails: {failure}' if failure else found}")


def _lava() -> Part:
    """Lava runs in a Python 3.10 of its own; candidates are run, as a launcher can exist and still not work."""
    from ..hardware.lava.install import find_lava_python

    try:
        return Part("Lava", True, f"neuromorphic simulator; in {find_lava_python()}")
    except BackendUnavailable as error:
        return Part("Lava", False, f"neuromorphic simulator; {error}")


def _failure(command: list[str]) -> str:
    """The last thing that the command says when it fails, or nothing when it works."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"it ends with {done.returncode}")
