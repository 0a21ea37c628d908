"""The rules of the house: who may import whom, what ships, how large a file may be, and that docstrings are true."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import spikeport

pytestmark = pytest.mark.needs("git")

ROOT = Path(__file__).resolve().parent.parent
NOT_SHIPPED = {"tests", "docs", "examples", "benchmarks"}
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
DYNAMIC_IMPORT = r"""(.*\.)?(import_module|__import__)\(['"](\.|spikeport).*"""

# folder -> the other folders that it may import; all may import _check
MAY_IMPORT = {
    "neurons": set(),
    "networks": {"neurons"},
    "training": {"networks", "neurons"},
    "inference": set(),
    "conversion": {"networks", "neurons"},
    "hardware": {"networks", "neurons"},
    "evaluation": {"neurons", "networks", "training", "inference", "conversion", "hardware", "data"},
    "data": set(),
    "report": set(),
    "cli": {"neurons", "networks", "training", "inference", "conversion", "hardware", "evaluation", "data", "report"},
    "_check": set(),
}


def tracked(*patterns: str) -> list[Path]:
    """Files of the project that match, relative to its root: what git knows, or will once it is added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in map(Path, listing.split("\0")) if path.name and (ROOT / path).is_file()]


@cache
def python_files() -> list[Path]:
    return tracked("*.py")


@cache
def shipped_files() -> list[Path]:
    return [path for path in python_files() if path.parts[0] not in NOT_SHIPPED]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def package_data() -> list[tuple[str, str]]:
    return [(package, pattern) for package, patterns in settings()["package-data"].items() for pattern in patterns]


def imported(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name, seen from the package ("neurons.leaky"), of each import of our own, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*path.parts[:-1]][: len(path.parts) - node.level] + (node.module.split(".") if node.module else [])
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] == "spikeport")
        elif isinstance(node, ast.Call) and re.fullmatch(DYNAMIC_IMPORT, ast.unparse(node)):
            yield node.lineno, ast.unparse(node)


def import_faults(path: Path, tree: ast.Module) -> list[str]:
    here = path.parts[0].removesuffix(".py")
    if here not in MAY_IMPORT:
        return [f"{path}: {here} has no row in the table"]
    allowed = MAY_IMPORT[here] | {here, "_check", "__version__"}
    faults = []
    for line, name in imported(path, tree):
        target = name.split(".")[0]
        if target == "spikeport" or "(" in name:
            faults.append(f"{path}:{line} {name}: inside the package imports are relative and written out")
        elif target not in allowed:
            faults.append(f"{path}:{line} {here} imports {target}; it may import {sorted(allowed - {'__version__'})}")
    return faults


def test_files_import_only_what_the_table_allows() -> None:
    paths = [path for path in shipped_files() if path != Path("__init__.py")]
    assert [fault for path in paths for fault in import_faults(path, parse(path))] == []


@pytest.mark.parametrize(
    "source",
    [
        "from ..networks import graph",
        "from .. import networks",
        "from .. import Graph",
        "def f():\n    from ..networks.graph import Graph",
        "import spikeport.networks",
        "from spikeport import networks",
        "importlib.import_module('..networks', __package__)",
    ],
)
def test_the_table_refuses_every_way_to_import(source: str) -> None:
    assert import_faults(Path("inference/rules.py"), ast.parse(source)) != []


@pytest.mark.parametrize(
    "source",
    ["from .. import __version__, _check", "from . import scores", "import torch", "import_module('torch.fx')"],
)
def test_the_table_lets_the_rest_pass(source: str) -> None:
    assert import_faults(Path("inference/rules.py"), ast.parse(source)) == []


def test_packages_are_the_folders() -> None:
    folders = {path.parent.as_posix() for path in shipped_files() if path.name == "__init__.py"}
    wanted = {"spikeport" if folder == "." else f"spikeport.{folder.replace('/', '.')}" for folder in folders}
    assert set(settings()["packages"]) == wanted
    data = {
        file for package, pattern in package_data() for file in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    homeless = {path for path in shipped_files() if path.parent.as_posix() not in folders and ROOT / path not in data}
    assert homeless == set(), "these lie in a folder without __init__.py and would not ship"


def test_package_data_names_files_that_exist() -> None:
    for package, pattern in package_data():
        assert list(ROOT.joinpath(*package.split(".")[1:]).glob(pattern)), f"{package}: {pattern}"


def test_the_root_holds_only_its_own_modules() -> None:
    assert {path.name for path in python_files() if len(path.parts) == 1} == {"__init__.py", "_check.py"}
    assert (ROOT / "py.typed").is_file()
    link = ROOT / ".types" / "spikeport"
    assert link.is_symlink()
    assert link.readlink() == Path("..")


def test_tests_are_no_package_and_skip_only_for_a_part_that_is_absent() -> None:
    tests = [path for path in python_files() if path.parts[0] == "tests"]
    assert not [path for path in tests if path.name == "__init__.py"]
    skips = [
        f"{path}:{node.lineno}"
        for path in tests
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "importorskip"}
    ]
    allowed = [place for place in skips if place.startswith("tests/conftest.py")]
    assert skips == allowed, "use @pytest.mark.needs(part); see tests/conftest.py"


def test_files_and_functions_stay_small() -> None:
    long = []
    for path in python_files():
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES_OF_A_FILE:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def test_public_names_are_the_lazy_table_and_load() -> None:
    block = next(node for node in parse(Path("__init__.py")).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {(alias.name, node.module) for node in imports for alias in node.names}
    assert typed == set(spikeport._HOME.items())
    assert sorted(spikeport.__all__) == sorted([*spikeport._HOME, "__version__"])
    for name in spikeport.__all__:
        assert getattr(spikeport, name) is not None
    with pytest.raises(AttributeError, match="offers"):
        spikeport.no_such_name  # noqa: B018 - the access is the test


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, spikeport; print(*{'torch', 'numpy', 'onnx', 'matplotlib', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_docstring_examples_run() -> None:
    names = {module.name for module in pkgutil.walk_packages(spikeport.__path__, "spikeport.")}
    names = {name for name in names if name.split(".")[1] not in NOT_SHIPPED and not name.endswith("__main__")}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcomes = {
        name: doctest.testmod(importlib.import_module(name), optionflags=flags)
        for name in ["spikeport", *sorted(names)]
    }
    assert [name for name, outcome in outcomes.items() if outcome.failed] == [], "the captured output says more"
    assert sum(outcome.attempted for outcome in outcomes.values()) > 0


# Written in pieces, so that this file does not match itself.
FORBIDDEN = [
    r"\bissue" + r"\s*#?\d",
    r"\b(pull request|PR)" + r"\s*#\d",
    "/work" + "/",
    "/root" + "/",
    "/home" + r"/\w",
    "/opt" + r"/(wheels|pypi)",
    "/tmp/bash" + "_jobs",
    "pypi" + r"\.org",
    "python" + r"hosted\.",
    r"https?://[^\s\"')]*" + "(simple/|whl/)",
    r"\bTO" + r"DO\b",
    r"\bFIX" + r"ME\b",
]


def test_no_file_names_a_machine_or_a_ticket() -> None:
    found = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            text = content.decode("utf-8")
            found += [f"{path}: {match.group()}" for pattern in FORBIDDEN for match in re.finditer(pattern, text)]
    assert found == []
