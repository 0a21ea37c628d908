"""The worker: runs networks in Lava for a client that speaks through one socket.  Python 3.10, NumPy and Lava only.

A message is a length (4 bytes, little endian), a JSON header and the bytes of its arrays, in the order of
``header["arrays"]``; an array with a ``file`` lies as .npy in the scratch folder instead.  Nothing is ever unpickled.

    hello   sent first: python, lava, numpy, scipy, protocol
    load    a network as populations and connections, of our own processes or of Lava's
    start   fresh states for a batch
    advance so many steps; answers with what was recorded
    close   ends
    beat    sent every now and then, whatever else goes on
    error   sent instead of an answer, and then the worker ends
"""

import json
import multiprocessing
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

PROTOCOL = 1
RAW_BYTES = 1 << 20  # larger arrays go through files
DTYPES = ("|i1", "|u1", "<i2", "<i4", "<i8")
PARENT_DEATH = 1  # PR_SET_PDEATHSIG
RUN_FILES = ("clock-", "ring-", "input-", "hits-")

Header = dict[str, Any]
Arrays = dict[str, np.ndarray]


class Wire:
    """Messages over a socket."""

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self.connection, self.folder = connection, folder
        self.lock = threading.Lock()
        self.files = 0

    def send(self, header: Header, arrays: Arrays) -> None:
        """Send a message."""
        listed, raw = [], []
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            entry: Header = {"name": name, "dtype": array.dtype.str, "shape": array.shape}
            if array.nbytes > RAW_BYTES:
                self.files += 1
                entry["file"] = f"answer-{self.files}.npy"
                np.save(self.folder / entry["file"], array)
            else:
                raw.append(array.tobytes())
            listed.append(entry)
        text = json.dumps({**header, "arrays": listed}).encode()
        with self.lock:
            self.connection.sendall(struct.pack("<I", len(text)) + text + b"".join(raw))

    def receive(self) -> tuple[Header, Arrays]:
        """The next message; raises EOFError where the client is gone."""
        header = json.loads(self.read(struct.unpack("<I", self.read(4))[0]))
        arrays = {}
        for entry in header["arrays"]:
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"no arrays of {entry['dtype']}")
            if "file" in entry:
                path = self.folder / Path(entry["file"]).name
                arrays[entry["name"]] = np.load(path, mmap_mode="r", allow_pickle=False)
                path.unlink()  # the map stays
            else:
                dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
                content = self.read(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
                arrays[entry["name"]] = np.frombuffer(content, dtype).reshape(shape)
        return header, arrays

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        parts = []
        while count:
            part = self.connection.recv(min(count, RAW_BYTES))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send_error(self, kind: str, message: str) -> None:
        """Say why there will be no answer."""
        self.send({"op": "error", "kind": kind, "message": message}, {})


class Heart(threading.Thread):
    """Beats, and ends the worker where one of Lava's processes has died: Lava itself would wait for it for ever."""

    def __init__(self, wire: Wire, seconds: float) -> None:
        super().__init__(daemon=True)
        self.wire, self.seconds = wire, seconds
        self.watched: tuple[int, ...] = ()

    def run(self) -> None:
        """Beat until the worker ends."""
        while True:
            time.sleep(self.seconds)
            dead = [pid for pid in self.watched if not is_alive(pid)]
            if dead:
                self.wire.send_error("ProcessDied", f"a process of Lava died (pid {dead[0]})")
                os._exit(3)
            self.wire.send({"op": "beat"}, {})


def is_alive(pid: int) -> bool:
    """False for a process that is gone or only waits to be collected; True where the system does not tell."""
    if not Path("/proc/self").exists():
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def die_with_parent() -> None:
    """Let the system kill this process when the one that started it dies (Linux); a stopped one too."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def name_shared_memory(token: str) -> None:
    """Let all shared memory of this process and of those that it forks carry the token, so that it can be found."""
    from multiprocessing import shared_memory

    prefix = f"/{token}-"
    vars(shared_memory)["_SHM_NAME_PREFIX"] = prefix
    vars(shared_memory)["_SHM_SAFE_NAME_LENGTH"] = len(prefix) + 16


def limit_memory(megabytes: int) -> None:
    """Bound the address space of this process and of those that it forks; 0 for no bound."""
    if megabytes:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def versions() -> dict[str, Any]:
    """What runs here; a broken installation fails here."""
    from importlib.metadata import version

    import lava.magma.core.process.process  # noqa: F401
    from lava.utils import loihi

    found = {name: version(package) for name, package in (("lava", "lava-nc"), ("numpy", "numpy"), ("scipy", "scipy"))}
    return {
        "python": sys.version.split()[0],
        **found,
        "loihi": loihi.is_installed(),
        "protocol": PROTOCOL,
        "pid": os.getpid(),
    }


class Network:
    """The network in Lava: made anew by each ``load``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Any] = []
        self.pids: tuple[int, ...] = ()
        self.loaded = self.batch = self.done = self.ran = 0
        self.header: Header = {}
        self.rings: Arrays = {}
        self.places: dict[str, int] = {}

    def load(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Build and compile; Lava forks a process for each of its own."""
        from lava.magma.core.run_configs import Loihi2SimCfg

        self.stop()
        self.header, self.rings, self.loaded = header, {}, self.loaded + 1
        self.clock = self.create(f"clock-{self.loaded}.npy", "<i8", (1,))
        self.clock[0] = self.batch = 0
        self.processes = self.stock(header, arrays) if header["stock"] else self.batched(header, arrays)
        configuration = hardware_configuration() if header.get("hardware") else Loihi2SimCfg(select_tag="fixed_pt")
        # a channel keeps as many messages as asked for in shared memory, 64 by default; in step two are enough
        self.processes[0].create_runtime(run_cfg=configuration, compile_config={"pypy_channel_size": 2})
        self.pids = tuple(child.pid for child in multiprocessing.active_children() if child.pid)
        return {"processes": len(self.processes), "pids": self.pids}, {}

    def create(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array in a file of the scratch folder, shared with Lava's processes."""
        from numpy.lib.format import open_memmap

        made: np.ndarray = open_memmap(self.folder / name, "w+", np.dtype(dtype), shape)  # type: ignore[no-untyped-call]
        return made

    def timing(self, entry: Header) -> Header:
        """What a Clock needs."""
        path = self.folder / f"clock-{self.loaded}.npy"
        return {"clock": str(path), "start": entry.get("start", 0), "period": self.header["period"]}

    def ring(self, entry: Header, shape: tuple[int, ...]) -> Header:
        """A file of the last values of a population, if it is recorded."""
        if not entry.get("depth"):
            return {}
        name = f"ring-{self.loaded}-{len(self.rings)}.npy"
        self.rings[entry["name"]] = self.create(name, entry["dtype"], (entry["depth"], *shape))
        return {"ring": str(self.folder / name)}

    def batched(self, header: Header, arrays: Arrays) -> list[Any]:
        """Our own processes."""
        import processes

        kinds = {"input": processes.Source, "neuron": processes.Neurons, "filter": processes.Filters}
        kinds |= {"max": processes.Maxima, "output": processes.Readout}
        batch, made, connections = header["batch"], {}, []
        self.places = {entry["name"]: place for place, entry in enumerate(header["populations"])}
        for entry in header["populations"]:
            own = {key: arrays[name] for key, name in entry["arrays"].items()}
            place = self.places[entry["name"]]
            more = {"folder": str(self.folder), "place": place, "batch": batch, **self.timing(entry)}
            more |= self.ring(entry, (entry["size"], batch))
            made[entry["name"]] = kinds[entry["kind"]](**{**entry, **own, **more})
        for entry in header["connections"]:
            own = {key: arrays[name] for key, name in entry["arrays"].items()}
            shape = tuple(entry["shape"])
            between = processes.Connection(shape=shape, lag=entry["lag"], batch=batch, **own, **self.timing(entry))
            made[entry["source"]].s_out.connect(between.s_in)
            between.a_out.connect(made[entry["target"]].a_in)
            connections.append(between)
        return [*made.values(), *connections]

    def stock(self, header: Header, arrays: Arrays) -> list[Any]:
        """Lava's own processes, a copy of the network for each sample; only the recorders are ours."""
        import processes
        from lava.proc.io.source import RingBuffer
        from lava.proc.lif.process import LIF

        made, connections, recorders = {}, [], []
        for entry in header["populations"]:
            shape = (entry.get("size"),)
            if entry["kind"] == "source":
                made[entry["name"]] = RingBuffer(data=np.array(arrays[entry["data"]]))
            elif entry["kind"] == "neuron":
                made[entry["name"]] = LIF(shape=shape, vth=entry["vth"], du=4095, dv=0)
            if entry.get("depth"):
                more = {**self.timing(entry), **self.ring(entry, shape), "bias": np.zeros(shape, np.int32)}
                recorders.append(processes.Readout(size=entry["size"], batch=None, **more))
                if entry["kind"] == "neuron":
                    made[entry["name"]].s_out.connect(recorders[-1].a_in)
                else:
                    made[entry["name"]] = recorders[-1]
        for entry in header["connections"]:
            between = stock_connection(entry, arrays)
            made[entry["source"]].s_out.connect(between.s_in)
            between.a_out.connect(made[entry["target"]].a_in)
            connections.append(between)
        return [*made.values(), *connections]

    def start(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Fresh states: the processes see that a batch begins when they next look at the clock."""
        old = [*self.folder.glob(f"input-{self.batch}.npy"), *self.folder.glob(f"hits-{self.batch}-*")]
        self.batch += 1
        if arrays:
            np.save(self.folder / f"input-{self.batch}.npy", arrays["input"])
        for kind in ("dropped", "flipped"):
            for number, name in enumerate(header.get(kind, [])):
                path = f"hits-{self.batch}-{self.places[name]}-{kind}.npy"
                np.save(self.folder / path, arrays[f"{kind}.{number}"])
        self.clock[0] = self.batch
        self.done = self.ran = 0
        for gone in old:
            gone.unlink()
        return {}, {}

    def advance(self, header: Header, arrays: Arrays) -> tuple[Header, Arrays]:
        """Run, a window at a time: as much as the rings hold."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in header["record"]}
        left, window = header["steps"], self.header["window"]
        while left:
            self.advance_window(min(window, left), found)
            left -= min(window, left)
        return {}, {name: np.stack(values) for name, values in found.items()}

    def advance_window(self, steps: int, found: dict[str, list[np.ndarray]]) -> None:
        """Run until the last population has done the steps, and copy what was recorded."""
        from lava.magma.core.run_conditions import RunSteps

        self.done += steps
        wanted = self.header["period"] * (self.done - 1) + self.header["last"] + 1
        if wanted > self.ran:
            self.processes[0].run(RunSteps(num_steps=wanted - self.ran))
            self.ran = wanted
        for name, values in found.items():
            ring = self.rings[name]
            values += [ring[step % len(ring)].copy() for step in range(self.done - steps, self.done)]

    def stop(self) -> None:
        """End the processes of the last network; only ever called in good health."""
        if self.processes:
            self.processes[0].stop()
            self.processes = []
        for path in self.folder.iterdir():
            if path.name.startswith(RUN_FILES):
                path.unlink()


def stock_connection(entry: Header, arrays: Arrays) -> Any:
    """Lava's Sparse, or its DelaySparse where more than one step lies between."""
    from lava.proc.sparse.process import DelaySparse, Sparse
    from scipy.sparse import csr_matrix

    parts = tuple(arrays[entry["arrays"][part]] for part in ("data", "indices", "indptr"))
    weights = csr_matrix(parts, shape=tuple(entry["shape"]))
    fields = {"weights": weights, "weight_exp": entry["weight_exp"], "num_message_bits": entry["message_bits"]}
    if entry["lag"] == 1:
        return Sparse(**fields)
    delays = weights.astype(int)  # Lava takes no other type
    delays.data[:] = entry["lag"] - 1
    return DelaySparse(**fields, delays=delays, max_delay=entry["lag"] - 1)


def hardware_configuration() -> Any:
    """How to run on a chip: Intel's extension offers it, and nothing else does.  Not tested, for want of a chip."""
    from lava.magma.core.run_configs import Loihi2HwCfg

    return Loihi2HwCfg(select_sub_proc_model=True)


def serve(wire: Wire, heart: Heart) -> None:
    """Answer until the client closes or goes away."""
    network = Network(wire.folder)
    operations = {"load": network.load, "start": network.start, "advance": network.advance}
    while True:
        header, arrays = wire.receive()
        if header["op"] == "close":
            wire.send({"op": "closed", "id": header["id"]}, {})
            return
        if header["op"] == "load":
            heart.watched = ()
        answer, found = operations[header["op"]](header, arrays)
        heart.watched = network.pids
        wire.send({"op": "done", "id": header["id"], **answer}, found)


def main(arguments: list[str]) -> None:
    """worker.py SOCKET FOLDER TOKEN BEAT_SECONDS MEGABYTES."""
    descriptor, folder, token, seconds, megabytes = arguments
    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)
    name_shared_memory(token)
    limit_memory(int(megabytes))
    wire = Wire(socket.socket(fileno=int(descriptor)), Path(folder))
    heart = Heart(wire, float(seconds))
    heart.start()
    try:
        wire.send({"op": "hello", **versions()}, {})
        serve(wire, heart)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the client is gone
    except BaseException as failure:  # noqa: BLE001 - whatever it is, the client has to know
        traceback.print_exc()
        wire.send_error(type(failure).__name__, str(failure))
        os._exit(1)
    os._exit(0)  # not through Lava, whose ending can hang; who started this worker ends its processes


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main(sys.argv[1:])
