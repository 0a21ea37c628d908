"""The ranges of column converters, fitted on calibration samples."""

import numpy as np
import torch
from torch import Tensor

from ..._check import SpikeportError
from ..program import IntegerProgram
from .chips import Chips
from .engine import AnalogEngine, on_all, with_ranges
from .integer import AnalogIntegerEngine

__all__ = ["fit_converters"]


def fit_converters(
    chips: Chips, x: Tensor | np.ndarray, *, steps: int, program: IntegerProgram | None = None, constant: bool = True
) -> Chips:
    """The chips with converters that just hold what the samples x give within ``steps`` steps, column by column.

    x: (n, *features), or (steps, n, *features) with ``constant=False``: calibration samples, never those of an
    evaluation.  program: of an integer network.  The layers run without converters meanwhile, so the ranges of late
    layers do not depend on those of early ones.
    Raises SpikeportError for no samples.
    """
    samples = torch.as_tensor(x)
    if not samples.shape[0 if constant else 1]:
        raise SpikeportError("there are no samples to fit converters on; give one at least")
    engine: AnalogEngine | AnalogIntegerEngine
    if program is None:
        engine = AnalogEngine(chips, max_steps=steps, constant_input=constant, watch=True)
    else:
        engine = AnalogIntegerEngine(program, chips, max_steps=steps, constant_input=constant, watch=True)
    folded = on_all(samples, chips.instances) if constant else torch.cat([samples] * chips.instances, 1)
    state = engine.start(folded) if constant else engine.initial_state(folded.shape[1])
    done = 0
    while done < steps:
        size = min(engine.chunk, steps - done)
        _, state = engine.advance(folded if constant else folded[done : done + size], state, size)
        done += size
    return with_ranges(chips, engine.reader.synapses)
