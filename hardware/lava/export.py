"""An integer network for people who want to go on in Lava by themselves: one ``.npz`` of populations and matrices."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..._check import SpikeportError
from ...networks.file import atomic_write
from ..program import IntegerProgram
from ..stages import stages

__all__ = ["export_lava"]


def export_lava(program: IntegerProgram, path: str | Path) -> None:
    """Write the populations of a program, each with its arrays, its bias and a sparse matrix for each source and delay.

    ``np.load(path)`` gives ``structure`` (JSON: name, kind, shape, attributes and projections of each population, in
    order, the scale of input and output) and the arrays that it names; matrices are CSR (``data``, ``indices``,
    ``indptr``).  Weights are whole: hand w over as 2 w with ``weight_exp = -1``, as Lava's Dense keeps even ones only.
    Raises SpikeportError where the file cannot be written or has another name than ``.npz``.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise SpikeportError(f"{path} would hold arrays; give it a name that ends in .npz")
    arrays: dict[str, np.ndarray] = {}
    populations: list[dict[str, Any]] = []
    for number, stage in enumerate(stages(program)):
        wires = []
        for index, projection in enumerate(stage.projections):
            key = f"{number}.{index}"
            for part in ("data", "indices", "indptr"):
                arrays[f"{key}.{part}"] = getattr(projection.matrix, part)
            wires.append({"source": projection.source, "delay": projection.delay, "matrix": key})
        own = {**stage.arrays, "bias": stage.bias}
        arrays |= {f"{number}.{key}": value for key, value in own.items()}
        populations.append(
            {
                "name": stage.name,
                "kind": stage.kind,
                "shape": list(stage.shape),
                "projections": wires,
                "attributes": dict(stage.attributes),
                "arrays": {key: f"{number}.{key}" for key in own},
            }
        )
    structure = {
        "populations": populations,
        "input": {"scale": program.input.scale, "low": program.input.low, "high": program.input.high},
        "output_scale": program.output_scale,
        "steps": program.steps,
    }
    content = io.BytesIO()
    text = np.frombuffer(json.dumps(structure).encode(), np.uint8)
    np.savez_compressed(content, structure=text, **arrays)  # type: ignore[arg-type]
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
