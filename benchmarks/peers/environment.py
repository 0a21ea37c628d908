"""Make an environment in which peers run beside spikeport, and print its interpreter.

python benchmarks/peers/environment.py [--kind recipes|layers] [--folder FOLDER]

recipes: SpikingJelly alone, for its conversion recipes.  layers: every framework of the benchmarks of layers in one
process, with what spikeport needs; the benchmark finds spikeport through PYTHONPATH.
The peers ask for torchvision, torchaudio and others that what we run never imports and that can be present and broken
beside a CPU build of torch; so they are installed without their dependencies, and the few that are needed are added.
The default folder is in the user's cache.  A folder made for the same packages is used again as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KINDS", "default_folder", "ensure"]

_TORCH = ("torch==2.13.0", "numpy<2.4")


@dataclass(frozen=True)
class Kind:
    """What an environment holds: peers without their dependencies, what they need, and an import that must work."""

    peers: tuple[str, ...]
    needed: tuple[str, ...]
    probe: str


KINDS = {
    "recipes": Kind(
        ("spikingjelly==2.0.0",),
        (*_TORCH, "tqdm", "loguru", "requests", "safetensors", "onnx"),
        "import sys, onnx, safetensors.torch, spikingjelly.activation_based.ann2snn; "
        "sys.exit('torchvision' in sys.modules)",
    ),
    "layers": Kind(
        ("spikingjelly==2.0.0", "norse==1.1.0", "sinabs==3.1.3", "snntorch==1.0.0", "nir", "nirtorch"),
        (*_TORCH, "numba>=0.61", "h5py", "safetensors", "tqdm", "loguru", "requests", "networkx", "pbr", "matplotlib"),
        "import spikingjelly.activation_based.neuron, snntorch, numba",
    ),
}


def default_folder(kind: str = "recipes") -> Path:
    """Where the environment lies unless a folder is given: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    name = KINDS["recipes"].peers[0].replace("==", "-") if kind == "recipes" else kind
    return (Path(cache) if cache else Path.home() / ".cache") / "spikeport" / "peers" / name


def ensure(folder: Path, kind: str = "recipes") -> Path:
    """Make the environment unless it is there, and return its interpreter.

    A folder is taken for an environment only if a whole run of this function marked it so; any other folder that is not
    empty is left alone, unless it holds the rest of a run that was cut short.
    """
    folder = folder.expanduser().absolute()
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    mark, wanted = folder / "spikeport-peer.txt", "\n".join((*KINDS[kind].peers, *KINDS[kind].needed))
    if mark.is_file() and mark.read_text() == wanted:
        return interpreter
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise SystemExit(f"{folder} holds something else; name an empty or absent folder for the environment.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.write_text("unfinished")
    for command in _commands(folder, interpreter, KINDS[kind]):
        subprocess.run(command, check=True, env=_variables(), stdout=sys.stderr)
    mark.write_text(wanted)
    return interpreter


def _commands(folder: Path, interpreter: Path, kind: Kind) -> Sequence[Sequence[str]]:
    place, python = str(folder), str(interpreter)
    if uv := shutil.which("uv"):
        create = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, place]
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        create = [sys.executable, "-m", "venv", place]
        install = [python, "-m", "pip", "install", "--quiet"]
    return create, [*install, *kind.needed], [*install, "--no-deps", *kind.peers], [python, "-c", kind.probe]


def _variables() -> dict[str, str]:
    """The environment variables, with pip's folder of wheels handed on to uv, which reads a name of its own."""
    variables = dict(os.environ)
    if wheels := variables.get("PIP_FIND_LINKS"):
        variables.setdefault("UV_FIND_LINKS", wheels)
    return variables


def main() -> None:
    """Make the environment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), default="recipes", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="default: in the user's cache")
    options = parser.parse_args()
    print(ensure(options.folder or default_folder(options.kind), options.kind))


if __name__ == "__main__":
    main()
