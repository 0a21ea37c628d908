"""A network that was trained with spikes, made ready for the same command: evaluate, exit early, report."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from .._check import RangeError, SpikeportError
from ..conversion.chain_import import import_chain
from ..conversion.layers import layer_rows
from ..conversion.module_import import state_sha256
from ..data import Dataset
from ..hardware.program import IntegerProgram
from ..networks.graph import Graph
from ..networks.outputs import outputs_of
from .convert import LAYER_SAMPLES, Converted, ExitData, accuracy_rows, informed, require_labels
from .engines import engine_of
from .integer import input_range, integer_part
from .recordings import Framing

__all__ = ["finished", "trained_network"]

_WITHOUT_CONVERSION: Mapping[str, Any] = {  # the rest of a conversion's report
    "method": "trained with spikes",
    "method_reason": "surrogate gradients; there is no analog network to convert",
    "candidates": [],
    "spikes": "binary",
    "readout_ramp": 0,
    "n_choose": 0,
    "labels": "true",
    "unsupported": [],
    "notes": [],
    "ann_output_max_error": None,
}


def trained_network(
    network: nn.Module,
    held_out: Dataset,
    *,
    timesteps: int,
    trained_on: np.ndarray,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    framing: Framing | None = None,
) -> Converted:
    """Return what ``write_folder`` writes for a network (see ``import_chain``) that sees the same sample at every step.

    framing: it sees recordings instead, made so of events; a sample is (time, *features).
    held_out: labelled samples that trained no weight; they calibrate when to stop, and are never evaluated on.
    trained_on: (n,) hashes of the samples that it was trained on, which are refused in an evaluation too.
    about: what the report should say besides, such as the model's name.
    Raises UnsupportedError for layers that no Graph holds, SpikeportError without labels, RangeError for bad ones.
    """
    require_calibration(held_out, timesteps)
    graph = import_chain(network, held_out.x.shape[1 if framing is None else 2 :])
    graph = graph if framing is None else informed(graph, framing.to_json())
    said = {"name": type(network).__name__, "sha256": state_sha256(network), "method": "trained with spikes"}
    return finished(graph, held_out, said, timesteps=timesteps, trained_on=trained_on, seed=seed, about=about)


def finished(
    network: Graph | IntegerProgram,
    held_out: Dataset,
    source: Mapping[str, str],
    *,
    timesteps: int,
    trained_on: np.ndarray,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Converted:
    """What ``write_folder`` writes for a spiking network that comes from no analog one.

    source: its ``name``, ``sha256`` and ``method`` (where its weights come from).  An IntegerProgram is taken as it is.
    Raises what ``trained_network`` raises.
    """
    require_calibration(held_out, timesteps)
    assert held_out.y is not None  # noqa: S101 - for the type checker: just required
    graph = network.graph if isinstance(network, IntegerProgram) else network
    require_labels("the held-out labels", held_out.y, graph.shapes[graph.output.name][0])
    information = {
        "preprocessing": held_out.preprocessing.to_json(),
        "seed": seed,
        "source": {"name": source["name"], "sha256": source["sha256"]},
        "conversion": {"method": source["method"], "timesteps": timesteps, "spikes": "binary"},
        "input_range": input_range(held_out.x),
    }
    graph = informed(graph, information)
    given = IntegerProgram.of(graph) if isinstance(network, IntegerProgram) else None
    engine = engine_of(graph if given is None else given, max_steps=timesteps)
    outputs = outputs_of(engine, graph.shapes[graph.output.name], held_out.x, timesteps)
    exit_data = ExitData(
        outputs.numpy(),
        held_out.y.astype(np.int64),
        outputs[-1].argmax(1).numpy(),
        held_out.hashes,
        np.unique(np.concatenate([trained_on, held_out.hashes])),
    )
    integer, about_integer, integer_outputs = integer_part(graph, held_out.x, held_out.y, exit_data.outputs, given)
    exit_data = replace(exit_data, integer_outputs=integer_outputs)
    report = {
        "model": source["name"],
        "source_sha256": source["sha256"],
        "timesteps": timesteps,
        "seed": seed,
        "integer": about_integer,
        "n_fit": len(trained_on),
        "n_exit": len(held_out.x),
        **_WITHOUT_CONVERSION,
        "method": source["method"],
        **accuracy_rows(outputs, held_out.y, None),
        "layers": layer_rows(
            graph, None, held_out.x[:LAYER_SAMPLES], timesteps, engine=engine_of(graph, max_steps=timesteps)
        ),
        **(about or {}),
    }
    return Converted(graph, None, exit_data, report, integer)


def require_calibration(held_out: Dataset, timesteps: int) -> None:
    """Raise RangeError for senseless steps, SpikeportError for samples without labels."""
    if not 1 <= timesteps <= 4096:
        raise RangeError(f"timesteps is {timesteps}; choose 1 to 4096")
    if held_out.y is None:
        raise SpikeportError(f"{held_out.name} has no labels; the time to stop is calibrated on labelled samples")
