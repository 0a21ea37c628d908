"""The same question to another's simulator: a network on chips of aihwkit's torch tiles, one after the other."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError, UnsupportedError
from ..data import Dataset, refuse_shared
from ..hardware.analog.aihwkit_tiles import AihwkitEngine
from ..inference import AnyRule, decide
from ..networks.graph import Graph
from ..networks.outputs import outputs_of
from .analog import AnalogDesign, device_of, spread
from .convert import Progress, require_labels
from .evaluate import policy_name
from .recordings import framing_of

__all__ = ["run_on_aihwkit"]


def run_on_aihwkit(
    graph: Graph,
    design: AnalogDesign,
    data: Dataset,
    *,
    steps: int,
    rule: AnyRule,
    shared: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all samples on ``design.instances`` chips of aihwkit's torch tiles, in real numbers, and decide by ``rule``.

    The result has the keys of ``run_on_chips`` that need no look into the chips.  Chip i has the seed design.seed + i.
    shared: hashes of samples that must not be among ``data`` (the calibration's).
    Raises BackendUnavailable without aihwkit, UnsupportedError for recordings and for what its tiles lack, RangeError
    for steps that the rule cannot meet, SpikeportError without labels.
    """
    if framing_of(graph) is not None:
        raise UnsupportedError("aihwkit's tiles run here on constant inputs only", ["the network takes recordings"])
    if not rule.min_steps <= steps:
        raise RangeError(f"{steps} steps were asked for; the rule needs {rule.min_steps} at least")
    if shared is not None:
        refuse_shared(data.hashes, shared)
    if data.y is None:
        raise SpikeportError(f"{data.name} has no labels, so chips cannot be compared; add labels")
    classes = graph.shapes[graph.output.name]
    require_labels("the labels", data.y, classes[0])
    tell, began = progress or (lambda stage, done: None), time.perf_counter()
    labels, chips, decided, fixed = torch.from_numpy(data.y), [], [], []
    for chip in range(design.instances):
        tell("run on aihwkit", chip / design.instances)
        engine = AihwkitEngine(
            graph, design.crossbar, time_s=design.time_s, seed=design.seed + chip, max_steps=steps
        )  # fmt: skip
        outputs: Tensor = outputs_of(engine, classes, data.x, steps)
        decisions = decide(rule, outputs)
        chips.append((decisions.label == labels).double().mean())
        fixed.append((outputs.argmax(-1) == labels).double().mean(1))
        decided.append(decisions.steps.double().mean())
    accuracy, by_step = spread(torch.stack(chips)), torch.stack(fixed)
    return {
        "backend": "aihwkit",
        "data": data.name,
        "n": len(data),
        "timesteps": steps,
        "accuracy": accuracy["mean"],
        "accuracy_ci95": accuracy["ci95"],
        "policy": policy_name(rule),
        "rule": str(rule),
        "mean_steps": float(torch.stack(decided).mean()),
        "device": device_of(design.crossbar),
        "time_seconds": design.time_s,
        "instances": design.instances,
        "seed": design.seed,
        "accuracy_over_chips": accuracy,
        "all_steps": spread(by_step[:, -1]),
        "accuracy_by_step": by_step.mean(0).tolist(),
        "seconds": time.perf_counter() - began,
    }
