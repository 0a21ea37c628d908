"""What all tests share: the parts that a machine may lack, and one thread for each worker.

A test that needs such a part says so: ``@pytest.mark.needs("chromium")``, or it takes a fixture that needs it
(`data_dir`, `chromium`).  Where the part is absent the test is skipped with the reason; where SPIKEPORT_REQUIRE lists
the part ("data,chromium") that skip is a failure, so that a run which claims to have tested a part has done so.
"""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ

os.environ.setdefault("MPLBACKEND", "Agg")
if IN_WORKER:  # one core each; processes that a test starts inherit it
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = "1"


def _find_data() -> Path | None:
    given = os.environ.get("SPIKEPORT_DATA")
    folder = Path(given).expanduser() if given else ROOT.parent / "shared" / "data"
    return folder.resolve() if (folder / "mnist.npz").is_file() else None


def _find_chromium() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return None
    for name in (os.environ.get("SPIKEPORT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name) if name else None
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def _find_module(name: str) -> Callable[[], object | None]:
    return lambda: importlib.util.find_spec(name)


def _find_git() -> bool | None:
    if shutil.which("git") is None:
        return None
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=False).returncode == 0 or None


def _find_tmpfs() -> list[str] | None:
    """The command in front of `sh -c "mount -t tmpfs ..."` that lets it work, in a namespace of its own."""
    command = ["unshare", "--map-root-user", "--mount"]
    if shutil.which(command[0]) is None:
        return None
    mount = ["mount", "-t", "tmpfs", "none", str(Path(__file__).parent)]
    return command if subprocess.run([*command, *mount], capture_output=True, check=False).returncode == 0 else None


def _find_gpu() -> bool | None:
    import torch

    return torch.cuda.is_available() or None


def _find_lava() -> str | None:
    from spikeport import BackendUnavailable
    from spikeport.hardware.lava.install import find_lava_python

    try:
        return find_lava_python()
    except BackendUnavailable:
        return None


def _find_compiler() -> str | None:
    return shutil.which("g++") if os.environ.get("SPIKEPORT_COMPILED") else None


def _find_int8() -> int | None:
    from spikeport.hardware.int8 import largest_exact_input

    return largest_exact_input() or None


# part -> (how it is found, how to get it)
PARTS: dict[str, tuple[Callable[[], object | None], str]] = {
    "brian2": (_find_module("brian2"), "pip install spikeport[brian2]"),
    "compiler": (_find_compiler, "set SPIKEPORT_COMPILED=1, with g++ and make: Brian2 then compiles for minutes"),
    "chromium": (_find_chromium, "install Chromium (or set SPIKEPORT_CHROMIUM) and playwright"),
    "data": (_find_data, "set SPIKEPORT_DATA to the folder that holds mnist.npz and the other data sets"),
    "git": (_find_git, "run the tests in a clone"),
    "gpu": (_find_gpu, "run on a machine with a CUDA device"),
    "int8": (_find_int8, "run on a CPU whose int8 kernels are exact (VNNI or AMX)"),
    "lava": (_find_lava, "spikeport backend install lava"),
    "neurobench": (_find_module("neurobench"), "pip install neurobench==2.3.0"),
    "nir": (_find_module("nir"), "pip install spikeport[nir]"),
    "aihwkit": (_find_module("aihwkit"), "pip install --no-deps aihwkit"),
    "nirtorch": (_find_module("nirtorch"), "pip install nirtorch (snnTorch's reader of NIR needs it)"),
    "norse": (_find_module("norse"), "pip install --no-deps norse nirtorch"),
    "sinabs": (_find_module("sinabs"), "pip install --no-deps sinabs nirtorch pbr"),
    "onnxruntime": (_find_module("onnxruntime"), "pip install spikeport[dev]"),
    "tmpfs": (_find_tmpfs, "allow user namespaces (util-linux's unshare), or run as root"),
    "snntorch": (_find_module("snntorch"), "pip install spikeport[dev]"),
    "triton": (_find_module("triton"), "install a build of torch for GPUs, or pip install triton"),
}


@cache
def find(part: str) -> object | None:
    """What stands for the part on this machine, or None."""
    return PARTS[part][0]()


def require(part: str) -> object:
    """Return the part; skip where it is absent, and fail there if SPIKEPORT_REQUIRE lists it."""
    if part not in PARTS:
        pytest.fail(f"no part is called {part!r}; tests/conftest.py knows {', '.join(PARTS)}", pytrace=False)
    found = find(part)
    if found is None:
        reason = f"needs {part}: {PARTS[part][1]}"
        if part in os.environ.get("SPIKEPORT_REQUIRE", "").split(","):
            pytest.fail(f"{reason} (SPIKEPORT_REQUIRE lists it)", pytrace=False)
        pytest.skip(reason)
    return found


def pytest_configure() -> None:
    """Give torch one thread in a worker, before any test has used it."""
    if IN_WORKER:
        import torch

        torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the parts that the test's marks name."""
    for mark in item.iter_markers("needs"):
        for part in mark.args:
            require(part)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data and models."""
    return Path(str(require("data")))


@pytest.fixture(scope="session")
def mounting() -> list[str]:
    """The command in front of `sh -c "mount -t tmpfs ..."`: what it starts has mounts of its own."""
    found = require("tmpfs")
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable, for playwright's ``executable_path``."""
    return str(require("chromium"))
