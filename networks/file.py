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
from .graph import Edge, Graph, Node

FORMAT = 1
MAX_BYTES = 1 << 32


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
    structure = json.dumps(_structure(graph), allow_nan=False, sort_keys=True)
    arrays = {f"{node.name}/{key}": array for node in graph.nodes for key, array in node.arrays.items()}
    digest = _digest(structure, arrays)
    content = save(arrays, {"spikeport": str(FORMAT), "structure": structure, "sha256": digest})
    try:
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error
    return digest


def load_graph(path: str | Path) -> Graph:
    """Read and check a graph: size, hash, fields, references, shapes and finiteness.

    Raises CorruptFileError for anything that ``save_graph`` did not write, SpikeportError if there is no such file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CorruptFileError(f"{path} has {path.stat().st_size} bytes; a graph has at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return _parse(content)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path} is no valid spikeport network: {error}. Make it again with `spikeport convert`.") from None


def _parse(content: bytes) -> Graph:
    try:
        metadata = _metadata(content)
        arrays = load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise CorruptFileError(f"it does not parse as safetensors ({error})") from None
    if metadata.get("spikeport") != str(FORMAT) or {"structure", "sha256"} - set(metadata):
        raise CorruptFileError(f"its header names format {metadata.get('spikeport')!r}, but {FORMAT} is read here")
    if _digest(metadata["structure"], arrays) != metadata["sha256"]:
        raise CorruptFileError("its content does not match its sha256 (it was damaged or changed)")
    try:
        structure = json.loads(metadata["structure"], parse_constant=_refuse_constant)
        return Graph.of(_nodes(structure, arrays), structure["information"])
    except (SpikeportError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"its structure is not valid ({type(error).__name__}: {error})") from None


def _metadata(content: bytes) -> Mapping[str, str]:
    size = int.from_bytes(content[:8], "little")
    if size > len(content) - 8:
        raise ValueError("the header is longer than the file")
    header = json.loads(content[8 : 8 + size])
    found = header["__metadata__"]
    if not all(isinstance(value, str) for value in found.values()):
        raise TypeError("the metadata are not text")
    return dict(found)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that a graph can hold")


def _structure(graph: Graph) -> dict[str, Any]:
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


def _nodes(structure: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Node]:
    nodes, used = [], set()
    for entry in structure["nodes"]:
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
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
