"""Load every file of a folder, in one process: `python loading_worker.py FOLDER`.

Prints one JSON object: for each file the error's type (or "loaded") and seconds, and the growth of memory in MiB.
A file that takes more than 10 s ends the process.
"""

import faulthandler
import json
import resource
import sys
import time
from pathlib import Path

from spikeport.networks.file import load_graph


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcome(path: Path) -> tuple[str, str, float]:
    faulthandler.dump_traceback_later(10, exit=True)
    start = time.monotonic()
    try:
        load_graph(path)
    except Exception as error:  # noqa: BLE001 - the type is what is tested
        return type(error).__name__, str(error), time.monotonic() - start
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "loaded", "", time.monotonic() - start


before = memory()
found = {path.name: outcome(path) for path in sorted(Path(sys.argv[1]).iterdir())}
print(json.dumps({"files": found, "memory": memory() - before}))
