"""Reads file names from stdin, imports each as ONNX, compares it with ONNX Runtime, and answers with one line of JSON.

A process of its own, with a limit on memory: a crash, a hang or an explosion ends this process and not the tests.
"""

import json
import resource
import sys
import time
import traceback

MEMORY = 12 << 30


def outcome(path: str) -> dict[str, object]:
    """What became of one file: "refused" with a typed error, "equal" to ONNX Runtime, "unlike" it, or a "traceback"."""
    import numpy as np

    from spikeport import SpikeportError
    from spikeport.conversion.onnx_import import import_onnx
    from spikeport.conversion.source import TOLERANCE, analog_output

    try:
        source = import_onnx(path)
        shape = source.graph.shapes[source.graph.input.name]
        x = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
        wanted = np.asarray(source.run(x), np.float64)
        if not np.isfinite(wanted).all():
            return {"result": "refused", "error": "RangeError"}  # check_source refuses such a network
        got = np.asarray(source.finish(analog_output(source.graph, x)), np.float64)
    except SpikeportError as error:
        return {"result": "refused", "error": type(error).__name__, "text": str(error)}
    except BaseException:  # noqa: BLE001 - the law is that there is none
        return {"result": "traceback", "text": traceback.format_exc()}
    if got.size != wanted.size:
        return {"result": "unlike", "text": f"{got.shape} {wanted.shape}"}
    error = float(np.abs(got.reshape(wanted.shape) - wanted).max() / max(np.abs(wanted).max(), 1e-12))
    return {"result": "equal" if error <= TOLERANCE else "unlike", "text": str(error)}


if __name__ == "__main__":
    import onnxruntime  # noqa: F401 - the imports are no part of what is timed

    import spikeport.conversion.onnx_import  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        begin = time.perf_counter()
        found = outcome(line.strip())
        print(json.dumps({**found, "seconds": time.perf_counter() - begin}), flush=True)
