"""Lava processes for integer networks: a whole batch at once, "Loihi-2 style fixed point", bit for bit.

Populations and connections alternate, as in Lava's own library, and each connection adds one step.  So every process
has its own start: the step of Lava at which the first step of the network reaches it.  Messages are int32, (units,
batch).  Sums may leave 32 bits on the way and come back: only their ends are proven.

This folder holds nothing else than the worker, as Lava imports every file that lies beside its processes.  Python 3.10.
"""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from scipy.sparse import csr_matrix

UNITY = 4096  # a decay of 12 bits
SIGN = 23  # the highest bit of a state; those above it follow it


class Clock:
    """The steps of one process.  A network of period p takes p steps of Lava for each of its own.

    ``shared[0]`` counts the batches; Lava's own ``time_step`` goes on from one to the next.
    """

    def __init__(self, parameters: Any) -> None:
        self.shared = np.load(parameters["clock"], mmap_mode="r")
        self.first, self.period = parameters["start"], parameters["period"]
        self.batch, self.count = -1, 0

    def tick(self) -> tuple[bool, int | None]:
        """Return whether a batch begins, and the network's step, or None where this process has to wait."""
        batch = int(self.shared[0])
        begins = batch != self.batch
        if begins:
            self.batch, self.count = batch, 0
        step, rest = divmod(self.count - self.first, self.period)
        self.count += 1
        return begins, step if step >= 0 and rest == 0 else None


class Source(AbstractProcess):
    """The quantised input: the same at every step, or a sequence."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.s_out = OutPort(shape=(fields["size"], fields["batch"]))


class Connection(AbstractProcess):
    """a_out = matrix @ what came ``lag`` steps ago; a lag of 1 is that of Lava's own connections."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        rows, columns = fields["shape"]
        self.s_in = InPort(shape=(columns, fields["batch"]))
        self.a_out = OutPort(shape=(rows, fields["batch"]))


class Population(AbstractProcess):
    """Sums what its connections bring."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.a_in = InPort(shape=(fields["slots"], fields["batch"]))
        self.s_out = OutPort(shape=(fields["size"], fields["batch"]))


class Neurons(Population):
    """v <- decay(v) + x + b; spikes; reset by subtraction (which Lava's own neurons lack), to zero or not at all."""


class Filters(Population):
    """i <- decay(i) + x."""


class Maxima(Population):
    """The maximum over windows of x."""


class Readout(AbstractProcess):
    """Writes down x + bias, (units, batch), or (units,) where ``batch`` is None."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.a_in = InPort(shape=(fields["size"],) if fields["batch"] is None else (fields["size"], fields["batch"]))


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySource(PyLoihiProcessModel):
    """Gives 0 after the end of a sequence, while the pipeline runs empty."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = Clock(proc_params)
        self.silence = np.zeros((proc_params["size"], proc_params["batch"]), np.int32)
        self.frames = self.silence[None]

    def run_spk(self) -> None:
        """One step."""
        begins, step = self.clock.tick()
        if begins:
            self.frames = np.load(Path(self.proc_params["folder"], f"input-{self.clock.batch}.npy"), mmap_mode="r")
        if step is not None and len(self.frames) == 1:
            step = 0
        self.s_out.send(self.silence if step is None or step >= len(self.frames) else self.frames[step])


@implements(proc=Connection, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyConnection(PyLoihiProcessModel):
    """What is due came in earlier, so it goes out first: a loop of connections does not wait for itself."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = Clock(proc_params)
        parts = tuple(proc_params[part] for part in ("data", "indices", "indptr"))
        self.matrix = csr_matrix(parts, shape=proc_params["shape"], copy=False)
        self.silence = np.zeros((proc_params["shape"][1], proc_params["batch"]), np.int32)
        self.line: deque[np.ndarray] = deque()

    def run_spk(self) -> None:
        """One step."""
        begins, _ = self.clock.tick()
        if begins:
            self.line = deque([self.silence] * self.proc_params["lag"])
        self.a_out.send(self.matrix @ self.line.popleft())
        self.line.append(self.s_in.recv())


class PyPopulation(PyLoihiProcessModel):
    """What populations share: the state is fresh where a batch begins, and 0 is given until their first step.

    Faults of the batch, if there are any, lie in files: rows step, sample, unit (and bit), in the order of the steps.
    """

    state = ""  # the name of what flipped bits are in
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = Clock(proc_params)
        self.shape = proc_params["size"], proc_params["batch"]
        self.given = np.zeros(self.shape, np.int32)
        ring = proc_params.get("ring")
        self.ring = None if ring is None else np.load(ring, mmap_mode="r+")

    def column(self, name: str) -> np.ndarray:
        """An array of the program, (units, 1)."""
        array: np.ndarray = self.proc_params[name].astype(np.int32)[:, None]
        return array

    def run_spk(self) -> None:
        """One step."""
        begins, step = self.clock.tick()
        x = self.a_in.recv()
        if begins:
            self.given = np.zeros(self.shape, np.int32)
            self.hits = {kind: self.load_hits(kind) for kind in ("dropped", "flipped")}
            self.begin()
        if step is not None:
            x += self.column("bias")
            self.given = self.value(x)
            self.suffer(step)
            if self.ring is not None:
                self.ring[step % len(self.ring)] = self.given
        self.s_out.send(self.given)

    def load_hits(self, kind: str) -> np.ndarray:
        """The faults of this batch."""
        path = Path(self.proc_params["folder"], f"hits-{self.clock.batch}-{self.proc_params['place']}-{kind}.npy")
        found: np.ndarray = np.load(path, mmap_mode="r") if path.exists() else np.zeros((4, 0), np.int32)
        return found

    def at(self, kind: str, step: int) -> np.ndarray:
        """Sample, unit (and bit) of the faults of this step."""
        first, last = np.searchsorted(self.hits[kind][0], (step, step + 1))
        return self.hits[kind][1:, first:last]

    def suffer(self, step: int) -> None:
        """Lose spikes of this step, and flip bits of the state that is left after it."""
        samples, units = self.at("dropped", step)[:2]
        self.given[units, samples] = 0
        samples, units, bits = self.at("flipped", step)
        if len(units):
            state = getattr(self, self.state).copy()
            patterns = np.where(bits == SIGN, -(1 << SIGN), 1 << bits).astype(state.dtype)
            np.bitwise_xor.at(state, (units, samples), patterns)
            setattr(self, self.state, state)

    def begin(self) -> None:
        """Take a fresh state."""

    def value(self, x: np.ndarray) -> np.ndarray:
        """What it gives for the sums x."""
        raise NotImplementedError


def decayed(v: np.ndarray, k: np.ndarray) -> np.ndarray:
    """sign(v) * ((|v| * k) >> 12)."""
    if (k == UNITY).all():
        return v.copy()
    found: np.ndarray = (np.sign(v) * ((np.abs(v).astype(np.int64) * k) >> 12)).astype(np.int32)
    return found


@implements(proc=Neurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNeurons(PyPopulation):
    """All arrays are those of the program."""

    state = "v"
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def begin(self) -> None:
        """Take the initial membranes."""
        self.v = np.repeat(self.column("initial"), self.shape[1], axis=1)
        self.count = np.zeros(self.shape, np.int32)

    def fire(self) -> np.ndarray:
        """The spikes of the membranes as they are; v > theta is v - 1 >= theta."""
        theta, code = self.column("theta"), self.proc_params["code"]
        over = self.v - 1 if self.proc_params["test"] == ">" else self.v
        if code == "graded":
            return np.asarray(np.clip(over // theta, 0, self.proc_params["levels"]))
        fired = over >= theta
        if code == "binary":
            return fired.astype(np.int32)
        back = ~fired & (self.v < 0) & (self.count > 0)
        return fired.astype(np.int32) - back.astype(np.int32)

    def value(self, x: np.ndarray) -> np.ndarray:
        """Integrate, test, reset."""
        late, reset, theta = self.proc_params["late"], self.proc_params["reset"], self.column("theta")
        taken = theta * self.fire() if late else 0
        self.v = decayed(self.v, self.column("k")) + x + self.column("b") - taken
        spikes = self.fire()
        if reset == "zero":
            self.v[spikes != 0] = 0
        elif reset == "subtract" and not late:
            self.v -= theta * spikes
        self.count += spikes
        return spikes


@implements(proc=Filters, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyFilters(PyPopulation):
    """A synaptic current gives itself."""

    state = "i"
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def begin(self) -> None:
        """No current."""
        self.i = np.zeros(self.shape, np.int32)

    def value(self, x: np.ndarray) -> np.ndarray:
        """The current."""
        self.i = decayed(self.i, self.column("k")) + x
        return self.i


@implements(proc=Maxima, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyMaxima(PyPopulation):
    """The windows (units, places) are indices into x."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def value(self, x: np.ndarray) -> np.ndarray:
        """The maxima."""
        windows = self.proc_params["windows"]
        found: np.ndarray = x[windows[:, 0]]
        for place in windows.T[1:]:
            np.maximum(found, x[place], out=found)
        return found


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyReadout(PyLoihiProcessModel):
    """The last values, in a file that the worker reads between two runs."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = Clock(proc_params)
        self.ring = np.load(proc_params["ring"], mmap_mode="r+")
        bias = proc_params["bias"].astype(np.int32)
        self.bias = bias if proc_params["batch"] is None else bias[:, None]

    def run_spk(self) -> None:
        """One step."""
        _, step = self.clock.tick()
        x = self.a_in.recv()
        if step is not None:
            self.ring[step % len(self.ring)] = x + self.bias
