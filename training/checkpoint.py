"""One file holds the whole state of a training run: tensors in safetensors, everything else as JSON in its header.

It is written beside its place and renamed, so that a run that is killed leaves the file before or the file after.
A sha256 over both parts is checked on reading; nothing in the file can run.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from .._check import CorruptFileError, SpikeportError
from ..networks.file import MAX_HEADER_BYTES, atomic_write

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = "checkpoint 1"
_TENSOR, _INTEGER_KEYS = "$tensor", "$integer keys"  # how a tensor, and a dict of an optimiser, stand in the JSON
_DAMAGED = (safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError)


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> None:
    """Write ``state`` atomically: nested dicts (keys: str or int), lists, numbers, texts, None and tensors.

    Raises SpikeportError for anything else in it, and where the file cannot be written; what was there then stays.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_pack(state, "", tensors), allow_nan=True, sort_keys=True)
    if len(structure) > MAX_HEADER_BYTES // 2:
        raise SpikeportError(f"the state has {len(structure)} bytes besides its tensors; keep large things in tensors")
    metadata = {"spikeport": FORMAT, "structure": structure, "sha256": _digest(structure, tensors)}
    content = save(tensors, metadata)
    try:
        with atomic_write(Path(path)) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise SpikeportError(f"cannot write {path}: {error.strerror or error}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote.

    Raises CorruptFileError for a file that is damaged or something else, SpikeportError where there is none.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return _parse(content)
    except _DAMAGED as error:
        raise CorruptFileError(
            f"{path} is no valid checkpoint ({str(error)[:300]}); begin the training anew, or give another file."
        ) from None


def _parse(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    if size > min(len(content) - 8, MAX_HEADER_BYTES):
        raise ValueError("the header is longer than the file, or than any training needs")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    if set(metadata) != {"spikeport", "structure", "sha256"} or metadata["spikeport"] != FORMAT:
        raise ValueError(f"its header does not say {FORMAT!r}")
    tensors = load(content)
    if _digest(metadata["structure"], tensors) != metadata["sha256"]:
        raise ValueError("its content does not match its sha256: it was damaged or changed")
    state: dict[str, Any] = _unpack(json.loads(metadata["structure"]), tensors)
    return state


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` as JSON; its tensors go into ``tensors``, named by their place."""
    if isinstance(value, Tensor):
        # a copy of its own: safetensors refuses tensors that share memory, and tied weights do
        tensors[place] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: place}
    if isinstance(value, Mapping):
        packed = {str(key): _pack(each, f"{place}/{key}", tensors) for key, each in value.items()}
        return {_INTEGER_KEYS: packed} if any(isinstance(key, int) for key in value) else packed
    if isinstance(value, list | tuple):
        return [_pack(each, f"{place}/{index}", tensors) for index, each in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpikeportError(f"a checkpoint cannot hold {place} of type {type(value).__name__}; give numbers and tensors.")


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _INTEGER_KEYS in value:
        return {int(key): _unpack(each, tensors) for key, each in value[_INTEGER_KEYS].items()}
    return {key: _unpack(each, tensors) for key, each in value.items()}


def _digest(structure: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
