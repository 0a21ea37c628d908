"""The integer engine behind the protocol of backends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import SpikeportError, UnsupportedError
from ..networks.engine import NetworkState
from ..networks.faults import Faults
from ..networks.transient import Transient, transient_of
from .backend import Recording, Session
from .faulty_engine import FaultyIntegerEngine
from .forms import forms
from .int8 import largest_exact_input
from .program import IntegerProgram
from .torch_engine import IntegerEngine

__all__ = ["TorchBackend", "TorchSession"]


class TorchSession(Session):
    """One batch in the integer engine; ``start`` takes a new one."""

    def __init__(
        self, program: IntegerProgram, *, largest_byte: int | None = None, transient: Transient | None = None
    ) -> None:
        self.program, self._largest_byte, self._transient = program, largest_byte, transient
        self._engines: dict[bool, IntegerEngine] = {}
        self._running: tuple[IntegerEngine, Tensor, NetworkState] | None = None
        self._done = 0

    def start(self, x: np.ndarray, *, constant: bool = True) -> None:
        """Take fresh states for x (n, *features), or (steps, n, *features) with ``constant=False``; analog."""
        self.program.require_input(x, steps=1 if constant else len(x), constant=constant)
        if constant not in self._engines:
            self._engines[constant] = self._engine(constant)
        engine, samples = self._engines[constant], self._shown(torch.from_numpy(np.ascontiguousarray(x)), constant)
        self._running = engine, samples, engine.start(samples) if constant else engine.initial_state(samples.shape[1])
        self._done = 0

    def _shown(self, x: Tensor, constant: bool) -> Tensor:
        """What the engine is shown for the samples x."""
        return x

    def _engine(self, constant: bool) -> IntegerEngine:
        if self._transient is None:
            return IntegerEngine(self.program, constant_input=constant, largest_byte=self._largest_byte)
        return FaultyIntegerEngine(
            self.program, self._transient, constant_input=constant, largest_byte=self._largest_byte
        )

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
        found: Mapping[str, np.ndarray] = {name: torch.cat(parts).numpy() for name, parts in seen.items()}
        return Recording(found[self.program.graph.output.name], {name: found[name] for name in record})

    def report(self) -> dict[str, Any]:
        """The engine, its version and threads, and which synapses run in int8."""
        int8 = sorted(next(iter(self._engines.values())).int8) if self._engines else None
        return {
            "backend": "torch", "version": torch.__version__, "threads": torch.get_num_threads(),
            "largest_exact_byte": largest_exact_input() if self._largest_byte is None else self._largest_byte,
            "int8": int8,
        }  # fmt: skip

    def close(self) -> None:
        """Free everything; may be called twice."""
        self._engines.clear()
        self._running = None


class TorchBackend:
    """Integer networks on the CPU through PyTorch: always there, and exact.

    faults: those during the run, drawn from ``seed``.
    """

    name = "torch"

    def __init__(self, faults: Faults | None = None, *, seed: int = 0) -> None:
        self.faults, self.seed = faults, seed

    def unsupported(self, program: IntegerProgram) -> list[str]:
        """Values that no float holds; else nothing."""
        try:
            forms(program, 0)
        except UnsupportedError as error:
            return [str(error)]
        return []

    def available(self) -> None:
        """PyTorch is a part of spikeport."""

    def compile(self, program: IntegerProgram) -> TorchSession:
        """A session; raises UnsupportedError as ``compiled`` does."""
        return TorchSession(program, transient=transient_of(program.graph, self.faults, self.seed))
