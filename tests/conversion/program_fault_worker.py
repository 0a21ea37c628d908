"""Reads file names from stdin, opens each as a trusted program, compares its import with the program itself.

A process of its own, with a limit on memory, that answers with one line of JSON a file.
"""

import json
import resource
import sys
import time
import traceback

MEMORY = 12 << 30


def outcome(path: str) -> dict[str, object]:
    """What became of one file: "refused" with a typed error, "equal" to the program, "unlike" it, or a "traceback"."""
    import numpy as np

    from spikeport import SpikeportError
    from spikeport.conversion.open import open_model
    from spikeport.conversion.source import check_source

    try:
        source = open_model(path, allow_code=True)
        shape = source.graph.shapes[source.graph.input.name]
        error = check_source(source, np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32))
    except SpikeportError as error:
        return {"result": "refused", "error": type(error).__name__, "text": str(error)}
    except BaseException:  # noqa: BLE001 - the law is that there is none
        return {"result": "traceback", "text": traceback.format_exc()}
    return {"result": "equal" if np.isfinite(error) else "unlike", "text": str(error)}


if __name__ == "__main__":
    import torch

    import spikeport.conversion.open
    import spikeport.conversion.source  # noqa: F401 - the imports are no part of what is timed

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        begin = time.perf_counter()
        found = outcome(line.strip())
        print(json.dumps({**found, "seconds": time.perf_counter() - begin}), flush=True)
