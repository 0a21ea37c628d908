"""Integer networks on crossbars, behind the protocol of backends: whole weights, whole currents, digital membranes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._check import SpikeportError, UnsupportedError
from ...networks.engine import NetworkState, Observer
from ...networks.graph import Node
from ..backend import Recording, Session
from ..forms import forms
from ..program import IntegerProgram
from ..torch_engine import IntegerEngine
from .chips import Chips, ProgrammedNetwork, program_network
from .crossbar import Crossbar
from .engine import Listener, Reader, on_all
from .synapse import require_mappable

__all__ = ["AnalogBackend", "AnalogIntegerEngine", "AnalogSession", "program_integers"]


def program_integers(program: IntegerProgram, crossbar: Crossbar, *, instances: int, seed: int) -> ProgrammedNetwork:
    """Write the whole weights of an integer network into chips; see ``program_network``.

    With ``scale="power_of_two"``, an ideal device and unlimited converters the arrays hold them without any error.
    """
    found, _ = forms(program, 0)
    return program_network(program.graph, crossbar, instances=instances, seed=seed, forms=found)


class AnalogIntegerEngine(IntegerEngine):
    """Runs an IntegerProgram whose weights are on crossbars; currents are rounded to whole numbers when they are read.

    Batches and their outputs are as those of ``AnalogEngine``.
    """

    def __init__(
        self,
        program: IntegerProgram,
        chips: Chips,
        *,
        max_steps: int | None = None,
        chunk: int = 4,
        constant_input: bool = True,
        watch: bool = False,
        listen: Listener | None = None,
    ) -> None:
        self.reader = Reader(chips, whole=True, watch=watch, listen=listen)
        super().__init__(
            program,
            max_steps=max_steps,
            chunk=chunk,
            constant_input=constant_input,
            largest_byte=0,
            varying=self.reader.varying(program.graph),
            fuse=not chips.corrections and listen is None,
        )
        self.can_refill = chips.instances == 1

    def initial_state(self, batch: int) -> NetworkState:
        """The state before the first step, for inputs that come as a sequence."""
        return self.reader.fresh(super().initial_state(batch), batch)

    @torch.inference_mode()
    def start(self, x: Tensor, observe: Observer | None = None) -> NetworkState:
        """The state of fresh samples with the constant analog input x (instances * n, *features)."""
        self.reader.begin(x)
        return self.reader.fresh(super().start(x, observe), len(x), x)

    def _advance_chunk(
        self, x: Tensor, state: NetworkState, steps: int, observe: Observer | None
    ) -> tuple[Tensor, NetworkState]:
        age = state.nodes[self.graph.output.name][1]
        state = self.reader.enter(x, state, age, steps, constant=self.constant_input)
        return super()._advance_chunk(x, state, steps, observe)

    def _read(self, node: Node, values: Mapping[str, Tensor], edges: Mapping[str, Tensor], steps: int) -> list[Tensor]:
        found = super()._read(node, values, edges, steps)
        return [self.reader.corrected(node, found[0]).round()] if self.reader.corrects(node) else found

    def _folded(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self.reader.synapses:
            return self.reader.read(node.name, inputs[0]).to(self._dtype(node.name))
        return super()._folded(node, inputs)


class AnalogSession(Session):
    """One batch on all chips; ``start`` takes a new one.

    A recording holds instances * n samples: all samples on the first chip, then all on the second.
    """

    def __init__(self, program: IntegerProgram, chips: Chips) -> None:
        self.program, self.chips = program, chips
        self._engines: dict[bool, AnalogIntegerEngine] = {}
        self._running: tuple[AnalogIntegerEngine, Tensor, Any] | None = None
        self._done = 0

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""
        self.program.require_input(x, steps=1 if constant else len(x), constant=constant)
        if constant not in self._engines:
            self._engines[constant] = AnalogIntegerEngine(self.program, self.chips, constant_input=constant)
        engine, samples = self._engines[constant], torch.from_numpy(np.ascontiguousarray(x))
        samples = on_all(samples, self.chips.instances) if constant else samples.repeat(
            1, self.chips.instances, *([1] * (samples.ndim - 2))
        )  # fmt: skip
        self._running = engine, samples, engine.start(samples) if constant else engine.initial_state(samples.shape[1])
        self._done = 0

    def advance(self, steps: int, *, record: Sequence[str] = ()) -> Recording:
        """Run the next steps of all samples; raises RangeError beyond the steps that the program is proven for."""
        if self._running is None:
            raise SpikeportError("nothing is running; call start first")
        engine, x, state = self._running
        constant, reached = engine.constant_input, self._done + steps
        block = x if constant else x[self._done : reached]
        self.program.require_input(block.numpy(), steps=reached if constant else steps, constant=constant)
        seen: dict[str, list[Tensor]] = {name: [] for name in (*record, self.program.graph.output.name)}

        def observe(name: str, values: Tensor) -> None:
            if name in seen:
                seen[name].append(values.to(torch.int64))

        _, state = engine.advance(block, state, steps, observe)
        self._running, self._done = (engine, x, state), reached
        found = {name: torch.cat(parts).numpy() for name, parts in seen.items()}
        return Recording(found[self.program.graph.output.name], {name: found[name] for name in record})

    def report(self) -> dict[str, Any]:
        """The device, its age, the chips, and what their converters did."""
        meters = [m for e in self._engines.values() for s in e.reader.synapses.values() for m in s.meters]
        return {
            "backend": "analog", "device": self.chips.crossbar.device.name, "time_seconds": self.chips.time_s,
            "instances": self.chips.instances, "version": torch.__version__, "threads": torch.get_num_threads(),
            "conversions": sum(m.conversions for m in meters), "saturated": sum(m.saturated for m in meters),
        }  # fmt: skip

    def close(self) -> None:
        """Free everything; may be called twice."""
        self._engines.clear()
        self._running = None


class AnalogBackend:
    """Integer networks on crossbars of a device, some time after they were written.

    >>> from .device_file import load_device
    >>> AnalogBackend(Crossbar(load_device("ideal"), scale="power_of_two")).name
    'analog'
    """

    name = "analog"

    def __init__(self, crossbar: Crossbar, *, time_s: float = 0.0, instances: int = 1, seed: int = 0) -> None:
        self.crossbar, self.time_s, self.instances, self.seed = crossbar, time_s, instances, seed

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Layers that no array holds, and values that no float holds."""
        try:
            forms(program, 0)
            require_mappable(program.graph, self.crossbar.tile_rows)
        except UnsupportedError as error:
            return [str(error)]
        return []

    def available(self) -> None:
        """PyTorch is a part of spikeport."""

    def compile(self, program: IntegerProgram) -> AnalogSession:
        """Write the weights; raises RangeError for a time that the device does not know, and no instances."""
        programmed = program_integers(program, self.crossbar, instances=self.instances, seed=self.seed)
        return AnalogSession(program, programmed.at(self.time_s))
