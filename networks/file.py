"""One file holds a Graph: arrays in safetensors, the structure as JSON in the header's metadata.

A sha256 over structure and arrays is checked on loading, so a damaged file is always refused; nothing in it can run.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
from safetensors.numpy import load, save

from .._check import CorruptFileError, SpikeportError
from .graph import MAX_NODES, Edge, Graph, Node

FORMAT = 2
MAX_BYTES = 1 << 32
MAX_HEADER_BYTES = 1 << 24  # safetensors itself allows 100 MB, which takes too long to parse and refuse
_ENTRY = {"name", "operator", "inputs", "attributes", "arrays"}
_PARSE_ERRORS = (  # SpikeportError is a ValueError
    safetensors.SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it is flushed to disk and renamed, else removed."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.partial-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def save_graph(graph: Graph, path: str | Path) -> str:
    """Write the graph atomically and return its sha256.

    Raises SpikeportError when the file cannot be written (a full disk, a missing folder); then nothing is left behind.
    """
    try:
        structure = json.dumps(structure_of(graph), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpikeportError(f"the information of the graph is no JSON: {error}") from None
    arrays = {f"{node.name}/{key}": array for node in graph.nodes for key, array in node.arrays.items()}
    digest = _digest(structure, arrays)
    metadata = {"spikeport": str(FORMAT), "structure": structure, "sha256": digest}
    size = len(json.dumps(metadata)) + sum(len(name) + array.nbytes for name, array in arrays.items())
    if len(structure) > MAX_HEADER_BYTES // 2 or size > MAX_BYTES:
        raise SpikeportError(f"the graph is too large for one file ({size} bytes); split the network")
    content = _with_sorted_header(save(arrays, metadata))
    try:
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
    return digest


def _with_sorted_header(content: bytes) -> bytes:
    """The same file with its header in a fixed order (safetensors shuffles it): equal graphs give equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # the arrays stay aligned
    return b"".join([len(header).to_bytes(8, "little"), header, memoryview(content)[8 + size :]])


def load_graph(path: str | Path) -> Graph:
    """Read and check a graph: size, hash, fields, references, shapes and finiteness.

    Raises CorruptFileError for anything that ``save_graph`` did not write, SpikeportError if there is no such file.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise SpikeportError(f"{path} is no file; name the network file inside it")
        if path.stat().st_size > MAX_BYTES:
            raise CorruptFileError(f"{path} has {path.stat().st_size} bytes; a graph has at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return _parse(content)
    except CorruptFileError as error:
        reason = str(error)[:500]  # a hostile file may choose what stands there
        raise CorruptFileError(
            f"{path} is no valid spikeport network: {reason}. Make it again with `spikeport convert`."
        ) from None


def _parse(content: bytes) -> Graph:
    try:
        metadata = _metadata(content)
        arrays = load(content)
    except _PARSE_ERRORS as error:
        raise CorruptFileError(f"it does not parse as safetensors ({error})") from None
    if metadata.get("spikeport") != str(FORMAT) or set(metadata) != {"spikeport", "structure", "sha256"}:
        raise CorruptFileError(f"its header names format {metadata.get('spikeport')!r}, but {FORMAT} is read here")
    if _digest(metadata["structure"], arrays) != metadata["sha256"]:
        raise CorruptFileError("its content does not match its sha256 (it was damaged or changed)")
    try:
        structure = json.loads(metadata["structure"], parse_constant=_refuse_constant)
        return Graph.of(nodes_of(structure, arrays), structure["information"])
    except _PARSE_ERRORS as error:
        raise CorruptFileError(f"its structure is not valid ({type(error).__name__}: {error})") from None


def _metadata(content: bytes) -> Mapping[str, str]:
    size = int.from_bytes(content[:8], "little")
    if size > min(len(content) - 8, MAX_HEADER_BYTES):
        raise ValueError("the header is longer than the file, or than any network needs")
    found: dict[str, str] = json.loads(content[8 : 8 + size].decode("utf-8"))["__metadata__"]
    for value in found.values():
        value.encode("utf-8")  # half a surrogate pair can be escaped in JSON, but not hashed
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that a graph can hold")


def structure_of(graph: Graph) -> dict[str, Any]:
    """All of a graph but its arrays, as JSON."""
    nodes = [
        {
            "name": node.name,
            "operator": node.operator,
            "inputs": [[edge.source, edge.delay] for edge in node.inputs],
            "attributes": dict(node.attributes),
            "arrays": sorted(node.arrays),
        }
        for node in graph.nodes
    ]
    return {"nodes": nodes, "information": dict(graph.information)}


def nodes_of(structure: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Node]:
    """The nodes of ``structure_of``, not checked yet; arrays by "node/array"."""
    if set(structure) != {"nodes", "information"} or not isinstance(structure["information"], dict):
        raise CorruptFileError("a structure has nodes and information, and nothing else")
    if len(structure["nodes"]) > MAX_NODES:
        raise CorruptFileError(f"{len(structure['nodes'])} nodes; a graph has at most {MAX_NODES}")
    for array in arrays.values():
        array.setflags(write=False)
    nodes, used = [], set[str]()
    for entry in structure["nodes"]:
        if set(entry) != _ENTRY:
            raise CorruptFileError(f"a node has the entries {sorted(entry)}, but {sorted(_ENTRY)} were wanted")
        keys = {key: f"{entry['name']}/{key}" for key in entry["arrays"]}
        used.update(keys.values())
        attributes = {key: tuple(v) if isinstance(v, list) else v for key, v in entry["attributes"].items()}
        edges = tuple(Edge(source, delay) for source, delay in entry["inputs"])
        held = {key: arrays[place] for key, place in keys.items()}
        nodes.append(Node(entry["name"], entry["operator"], edges, attributes, held))
    if used != set(arrays):
        raise CorruptFileError(f"arrays that no node owns: {sorted(set(arrays) - used)[:5]}")
    return nodes


def _digest(structure: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
