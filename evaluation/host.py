"""The host loop of exported programs: run a step, ask the exit head, keep who is undecided.  It needs no spikeport.

A folder of ``spikeport export DIR FOLDER --to onnx`` (or pt2) holds three programs and this file:

    python host.py FOLDER samples.npy      # JSON: labels, steps, confidence

samples.npy: float32 (N, *features), preprocessed as the network sees them.  ONNX programs need onnxruntime, pt2
programs torch (which may run code of the file: trust where it comes from).
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[Any]
Run = Callable[[Sequence[Any]], Arrays]


def open_onnx(path: Path) -> Run:
    """A program as a function of arrays, run by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))


def open_pt2(path: Path) -> Run:
    """A program as a function of arrays, run by PyTorch."""
    import torch

    program = torch.export.load(path).module()

    def run(arrays: Sequence[Any]) -> Arrays:
        with torch.inference_mode():
            given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
            return [part.numpy() for part in program(*given)]

    return run


def open_folder(folder: Path) -> tuple[dict[str, Any], Run, Run, Run]:
    """What the folder says of itself, and its three programs: start, step, head."""
    about = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
    opened = open_onnx if about["format"] == "onnx" else open_pt2
    start, step, head = (opened(folder / f"{name}.{about['format']}") for name in ("start", "step", "head"))
    return about, start, step, head


def decide(about: dict[str, Any], start: Run, step: Run, head: Run, x: Any) -> tuple[Any, Any, Any]:
    """Label and steps (int64) and confidence (float64) of one batch x (N, *features); decided samples leave it."""
    n, limit, constants = len(x), about["max_steps"], about["constants"]
    if not np.isfinite(x).all():
        raise ValueError("the samples hold NaN or infinity")
    labels, steps, sure = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    values, left = start([np.asarray(x, np.float32)]), np.arange(n)
    memory, done = np.zeros((n, about["remembers"])), 0
    while len(left):
        outputs, *state = step(values)
        values = [*values[:constants], *state]
        for entry in range(len(outputs)):
            output, done = outputs[entry], done + 1
            if not np.isfinite(output).all():
                raise ValueError("the output holds NaN or infinity; look for such values in the input")
            label, stops, confidence, memory = head([output, np.full(len(left), done - 1), memory])
            stops = stops | (done >= limit)
            who = left[stops]
            labels[who], steps[who], sure[who] = label[stops], done, confidence[stops]
            keep = ~stops
            if not keep.all():
                left, memory, outputs = left[keep], memory[keep], outputs[:, keep]
                values = [value[keep] for value in values]
            if not len(left):
                break
    return labels, steps, sure


def main(arguments: Sequence[str]) -> None:
    """Decide the samples of a file and print what came out."""
    folder, samples = Path(arguments[0]), np.load(arguments[1], allow_pickle=False)
    about, start, step, head = open_folder(folder)
    size = int(arguments[2]) if len(arguments) > 2 else 64
    parts = [decide(about, start, step, head, samples[i : i + size]) for i in range(0, len(samples), size)]
    names = ("labels", "steps", "confidence")
    columns = [np.concatenate(column).tolist() for column in zip(*parts, strict=True)]
    json.dump(dict(zip(names, columns, strict=True)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
