"""Networks on crossbars with faults during the run: spikes lost on their way, bits of digital membranes that flip.

Membranes are digital and one set of them belongs to each chip, so each chip is hit at other places.  The first chip is
hit where the digital engines are: on an ideal device it gives what they give.
"""

import numpy as np
import torch
from torch import Tensor

from ...networks.engine import NetworkState, Observer
from ...networks.fault_draws import named_key
from ...networks.faulty_engine import SAMPLES, FaultyEngine
from ...networks.transient import Transient
from ..faulty_engine import FaultyIntegerEngine
from ..program import IntegerProgram
from .chips import Chips
from .engine import AnalogEngine, Listener
from .integer import AnalogIntegerEngine

__all__ = ["FaultyAnalogEngine", "FaultyAnalogIntegerEngine"]


class FaultyAnalogEngine(FaultyEngine, AnalogEngine):
    """``AnalogEngine`` with faults during the run; the rest is as there and in ``FaultyEngine``."""

    def __init__(
        self,
        chips: Chips,
        transient: Transient,
        *,
        max_steps: int,
        chunk: int = 4,
        constant_input: bool = True,
        listen: Listener | None = None,
    ) -> None:
        AnalogEngine.__init__(
            self, chips, max_steps=max_steps, chunk=chunk, constant_input=constant_input, listen=listen
        )
        self.be_hit_by(transient)

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return _by_chip(super().initial_state(batch), self.reader.chips)

    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant input x (instances * n, *features)."""
        return _by_chip(super().start(x, observe), self.reader.chips)


class FaultyAnalogIntegerEngine(FaultyIntegerEngine, AnalogIntegerEngine):
    """``AnalogIntegerEngine`` with faults during the run; the rest is as there and in ``FaultyIntegerEngine``."""

    def __init__(
        self,
        program: IntegerProgram,
        chips: Chips,
        transient: Transient,
        *,
        max_steps: int | None = None,
        chunk: int = 4,
        constant_input: bool = True,
        listen: Listener | None = None,
    ) -> None:
        AnalogIntegerEngine.__init__(
            self, program, chips, max_steps=max_steps, chunk=chunk, constant_input=constant_input, listen=listen
        )
        self.be_hit_by(transient)

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return _by_chip(super().initial_state(batch), self.reader.chips)

    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant analog input x (instances * n, *features)."""
        return _by_chip(super().start(x, observe), self.reader.chips)


def _by_chip(state: NetworkState, chips: Chips) -> NetworkState:
    """The keys of the samples, with that of their chip mixed in; the first chip's is 0.

    An engine for constant inputs takes its first state, too, from ``initial_state``, and then gives it keys: so what
    counts is the call that comes last.
    """
    keys, age = state.nodes[SAMPLES]
    of_chip = np.array([named_key("chip", i) if i else np.uint64(0) for i in range(chips.instances)])
    spread = np.repeat(of_chip, len(keys) // chips.instances)
    found = torch.from_numpy((keys.numpy().view(np.uint64) ^ spread).view(np.int64))
    return state._replace(nodes={**state.nodes, SAMPLES: (found, age)})
