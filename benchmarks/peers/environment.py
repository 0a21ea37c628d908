"""Make the environment in which SpikingJelly runs beside spikeport, and print its interpreter.

python benchmarks/peers/environment.py [FOLDER]

SpikingJelly asks for torchvision and torchaudio, which its conversion never imports and which can be present and
broken beside a CPU build of torch; so it is installed without its dependencies, and the few that are needed are added.
The default folder is in the user's cache.  A folder made for the same packages is used again as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["default_folder", "ensure"]

PEER = "spikingjelly==2.0.0"
NEEDED = ("torch==2.13.0", "numpy<2.4", "tqdm", "loguru", "requests", "safetensors", "onnx")
PROBE = (
    "import sys, onnx, safetensors.torch, spikingjelly.activation_based.ann2snn; sys.exit('torchvision' in sys.modules)"
)


def default_folder() -> Path:
    """Where the environment lies unless a folder is given: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "spikeport" / "peers" / PEER.replace("==", "-")


def ensure(folder: Path) -> Path:
    """Make the environment unless it is there, and return its interpreter.

    A folder is taken for an environment only if a whole run of this function marked it so; any other folder that is not
    empty is left alone, unless it holds the rest of a run that was cut short.
    """
    folder = folder.expanduser().absolute()
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    mark, wanted = folder / "spikeport-peer.txt", "\n".join((PEER, *NEEDED))
    if mark.is_file() and mark.read_text() == wanted:
        return interpreter
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise SystemExit(f"{folder} holds something else; name an empty or absent folder for the environment.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.write_text("unfinished")
    for command in _commands(folder, interpreter):
        subprocess.run(command, check=True, env=_variables(), stdout=sys.stderr)
    mark.write_text(wanted)
    return interpreter


def _commands(folder: Path, interpreter: Path) -> Sequence[Sequence[str]]:
    place, python = str(folder), str(interpreter)
    if uv := shutil.which("uv"):
        create = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, place]
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        create = [sys.executable, "-m", "venv", place]
        install = [python, "-m", "pip", "install", "--quiet"]
    return create, [*install, *NEEDED], [*install, "--no-deps", PEER], [python, "-c", PROBE]


def _variables() -> dict[str, str]:
    """The environment variables, with pip's folder of wheels handed on to uv, which reads a name of its own."""
    variables = dict(os.environ)
    if wheels := variables.get("PIP_FIND_LINKS"):
        variables.setdefault("UV_FIND_LINKS", wheels)
    return variables


def main() -> None:
    """Make the environment that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=default_folder(), help="default: %(default)s")
    print(ensure(parser.parse_args().folder))


if __name__ == "__main__":
    main()
