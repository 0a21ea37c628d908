"""Integer networks on crossbars, behind the protocol of backends: whole weights, whole currents, digital membranes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..._check import UnsupportedError
from ...networks.engine import NetworkState, Observer
from ...networks.graph import Node
from ..forms import forms
from ..program import IntegerProgram
from ..torch_backend import TorchSession
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


class AnalogSession(TorchSession):
    """One batch on all chips; ``start`` takes a new one.

    A recording holds instances * n samples: all samples on the first chip, then all on the second.
    """

    _engines: dict[bool, AnalogIntegerEngine]  # type: ignore[assignment]

    def __init__(self, program: IntegerProgram, chips: Chips) -> None:
        super().__init__(program)
        self.chips = chips

    def _engine(self, constant: bool) -> AnalogIntegerEngine:
        return AnalogIntegerEngine(self.program, self.chips, constant_input=constant)

    def _shown(self, x: Tensor, constant: bool) -> Tensor:
        """The samples once for each chip."""
        count = self.chips.instances
        return on_all(x, count) if constant else x.repeat(1, count, *([1] * (x.ndim - 2)))

    def report(self) -> dict[str, Any]:
        """The device, its age, the chips, and what their converters did."""
        meters = [m for e in self._engines.values() for s in e.reader.synapses.values() for m in s.meters]
        return {
            "backend": "analog", "device": self.chips.crossbar.device.name, "time_seconds": self.chips.time_s,
            "instances": self.chips.instances, "version": torch.__version__, "threads": torch.get_num_threads(),
            "conversions": sum(m.conversions for m in meters), "saturated": sum(m.saturated for m in meters),
        }  # fmt: skip


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
