"""Lava's interpreter: a Python 3.10 with lava-nc, in an environment of its own.

Candidates are run, not only looked up: a launcher can exist and still fail.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..._check import BackendUnavailable

__all__ = ["LAVA_PACKAGES", "find_lava_python", "install_lava", "lava_home", "python310"]

LAVA_PACKAGES = ("lava-nc==0.10.0", "numpy<2")
VARIABLE = "SPIKEPORT_LAVA_PYTHON"
SYSTEM = ("/usr/bin/python3.10", "/usr/local/bin/python3.10", "/opt/homebrew/bin/python3.10")
_PLACES = (
    ".pyenv/versions/3.10*/bin/python",
    ".local/share/uv/python/cpython-3.10*/bin/python",
    "miniconda3/envs/*/bin/python",
    "anaconda3/envs/*/bin/python",
)
_IS_310 = "import sys; sys.exit(sys.version_info[:2] != (3, 10))"
_HAS_LAVA = "import sys, lava.magma; sys.exit(sys.version_info[:2] != (3, 10))"
_SECONDS = 60.0  # for an interpreter to answer
_INSTALL_SECONDS = 1800.0
_REMEDIES = (
    f"run `spikeport backend install lava`, or set {VARIABLE} to a Python 3.10 with lava-nc, "
    "or install a Python 3.10 first (a system package, pyenv, conda, or `uv python install 3.10`; "
    "UV_PYTHON_INSTALL_MIRROR names another place to load it from)"
)


def lava_home() -> Path:
    """The environment that ``install_lava`` makes."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "spikeport" / "lava310"


def find_lava_python() -> str:
    """An interpreter of Python 3.10 that has Lava; raises BackendUnavailable that says what to do.

    The order: the variable SPIKEPORT_LAVA_PYTHON, our own environment, then every Python 3.10 that is found.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if _works(given, _HAS_LAVA):
            return given
        raise BackendUnavailable(f"{VARIABLE} names {given}, which is no Python 3.10 with lava-nc; {_REMEDIES}")
    paths = [str(_python_of(lava_home())), *candidates()]
    for path in paths:
        if _works(path, _HAS_LAVA):
            return path
    without = next((path for path in paths if _works(path, _IS_310)), None)
    seen = f"{without} is one, without Lava" if without else "and no other works with Lava"
    raise BackendUnavailable(f"no Python 3.10 with Lava was found ({seen}); {_REMEDIES}")


def python310() -> str:
    """A Python 3.10 to make an environment from; raises BackendUnavailable."""
    for path in candidates():
        if _works(path, _IS_310):
            return path
    raise BackendUnavailable(f"no Python 3.10 that works was found, and Lava runs on no other; {_REMEDIES}")


def candidates() -> Iterator[str]:
    """Paths that may be a Python 3.10, each once; none has been run yet."""
    found = [os.environ.get(VARIABLE), shutil.which("python3.10"), *SYSTEM]
    for pattern in _PLACES:
        found += sorted(map(str, Path.home().glob(pattern)))
    yield from dict.fromkeys(path for path in found if path and Path(path).is_file())


def install_lava(*, python: str | None = None) -> str:
    """Make the environment ``lava_home()`` anew and return its interpreter.  Loads packages from the network.

    python: a Python 3.10 to make it from; else one that is found, else one that uv finds or loads.
    Raises BackendUnavailable with what went wrong.
    """
    home = lava_home()
    base = python or _found_or_loaded()
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([base, "-m", "venv", "--clear", str(home)])
    own = str(_python_of(home))
    _run([own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *LAVA_PACKAGES])
    _runs.cache_clear()
    if not _works(own, _HAS_LAVA):
        raise BackendUnavailable(
            f"Lava was installed in {home}, but cannot be imported there; see `{own} -c 'import lava'`"
        )
    return own


def _found_or_loaded() -> str:
    try:
        return python310()
    except BackendUnavailable:
        uv = shutil.which("uv")
        if uv is None:
            raise
        _run([uv, "python", "install", "3.10"])
        _runs.cache_clear()
        return python310()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"{' '.join(command)} failed: {error}; {_REMEDIES}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise BackendUnavailable(f"{' '.join(command)} failed: {' '.join(lines)}; {_REMEDIES}")


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _works(path: str, code: str) -> bool:
    return _runs(path, code, Path(path).stat().st_mtime_ns if Path(path).is_file() else 0)


@cache
def _runs(path: str, code: str, changed: int) -> bool:
    """Whether the interpreter runs the code; ``changed`` makes a new file a new question."""
    try:
        done = subprocess.run([path, "-I", "-c", code], capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
