"""The wheel that users get: built from what git knows, installed with its dependencies where nothing was before."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import spikeport

pytestmark = [pytest.mark.slow, pytest.mark.needs("git")]


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run without anything of the checkout in sight; what the command printed stands in the failure."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    arguments = list(map(str, command))
    done = subprocess.run(arguments, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy of the tracked files, in a folder whose name is no Python name."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "another-name 2.0"
    for name in run("git", "ls-files", "-z", cwd=root).stdout.split("\0"):
        source, target = root / name, copy / name
        if name and (source.is_file() or source.is_symlink()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist"]
    run(*build, ".", cwd=copy)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(root: Path, wheel: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    paths = [PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()]
    shipped = {path for path in paths if not path.parts[0].endswith(".dist-info")}
    listed = {
        PurePosixPath(*package.split("."), file.relative_to(root.joinpath(*package.split(".")[1:])).as_posix())
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for file in root.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    assert {".".join(path.parent.parts) for path in shipped - listed} == set(settings["packages"])
    assert {path for path in shipped if path.suffix != ".py"} <= listed <= shipped
    assert {path.name for path in paths if path.parts[0].endswith(".dist-info")} >= {"METADATA", "LICENSE"}


def test_the_installed_wheel_runs_the_demo(root: Path, wheel: Path, tmp_path: Path) -> None:
    environment, out = tmp_path / "environment", tmp_path / "out"
    run(root / ".ci" / "environment", "", wheel, cwd=tmp_path, SPIKEPORT_VENV=str(environment), PYTHON=sys.executable)
    where = run(environment / "bin" / "python", "-c", "import spikeport; print(spikeport.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(environment)

    run(environment / "bin" / "spikeport", "demo", "--out", out, cwd=tmp_path)

    assert {path.name for path in out.iterdir()} >= {
        "network.safetensors",
        "exit_calibration.npz",
        "report.json",
        "report.html",
    }
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["spikeport"] == spikeport.__version__
