"""Front ends that run code: ``.pt2`` programs and Python factories with their weights in safetensors.

Both need the user's trust, given as ``allow_code=True``.  ``torch.export.load`` falls back to full unpickling and
evaluates the symbol expressions in the file, so a hostile ``.pt2`` runs whatever its maker likes; a factory is code.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from .._check import CorruptFileError, RangeError, ShapeError, SpikeportError, UnsupportedError, call_named
from .module_import import EXAMPLE_BATCH, import_module, quiet, source_of_program
from .source import Source

WITHOUT_TRUST = "ONNX files, and spikeport's own networks in safetensors, need no such trust"


def import_program(path: str | Path, *, allow_code: bool = False) -> Source:
    """Read a program that ``torch.export.save`` wrote; its input shape comes from the program itself.

    A program with a fixed batch is run, for comparison, in batches of that size.
    Raises SpikeportError without ``allow_code``, CorruptFileError for a file that is no such program,
    UnsupportedError that lists what is not covered, RangeError for NaN or infinity in the weights.
    """
    path = Path(path)
    if not allow_code:
        raise SpikeportError(
            f"{path} is a torch.export program, and loading one can run code that its maker put into it (unpickling, "
            f"and evaluation of symbol expressions); pass --allow-code if you trust it. {WITHOUT_TRUST}."
        )
    content = _read(path)
    program = _load(path)
    _check_weights(program, path)
    batch, shape = _input(program, path)
    run = _runner(program, batch)
    if batch is None:  # the handlers read plain sizes, so the open axis is fixed to one that is hardly a feature size
        program = _with_batch(program, (EXAMPLE_BATCH, *shape), path)
    with quiet():
        program = program.run_decompositions({})
    return source_of_program(program, path.name, run, hashlib.sha256(content).hexdigest(), "pt2")


def import_factory(
    spec: str, weights: str | Path | None, input_shape: Sequence[int], *, allow_code: bool = False
) -> Source:
    """Read the ``nn.Module`` that ``package.module:factory`` returns, with the weights of a safetensors file.

    The names in the file must be exactly those of the module's ``state_dict``.  input_shape: without the batch.
    Raises SpikeportError without ``allow_code`` or where the factory fails, ShapeError where weights are missing,
    left over or of another shape, CorruptFileError for a damaged file, and what ``import_module`` raises.
    """
    if not allow_code:
        raise SpikeportError(
            f"{spec} names a Python factory, and calling it runs its code; pass --allow-code if you trust it. "
            f"{WITHOUT_TRUST}."
        )
    module = call_named(spec, "an nn.Module")
    if not isinstance(module, nn.Module):
        raise SpikeportError(f"{spec} returned a {type(module).__name__}, but an nn.Module was wanted.")
    if weights is not None:
        load_weights(module, Path(weights))
    source = import_module(module, input_shape, name=spec)
    if weights is not None:
        return source
    note = f"no --weights were given, so the network has those that {spec} gave it"
    return Source(source.name, source.graph, source.run, source.sha256, (*source.notes, note), source.finish)


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the tensors of a safetensors file into the module; names and shapes must be exactly the module's."""
    import safetensors
    from safetensors.torch import load

    try:
        tensors = load(_read(path))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, SpikeportError):
            raise
        raise CorruptFileError(f"{path} is damaged, incomplete or no safetensors file ({error}).") from None
    wanted = module.state_dict()
    unread = ".num_batches_tracked"  # batch norm counts its training batches; many files leave that out
    problems = [f"missing: {name}" for name in wanted if name not in tensors and not f".{name}".endswith(unread)]
    problems += [f"unexpected: {name}" for name in tensors if name not in wanted]
    problems += [
        f"{name}: {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    if problems:
        raise ShapeError(f"the weights in {path} do not fit the factory's module: {'; '.join(problems)}.")
    module.load_state_dict(tensors, strict=False)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise SpikeportError(f"{path} is no file")
        return path.read_bytes()
    except OSError as error:
        raise SpikeportError(f"cannot read {path}: {error.strerror or error}") from None


def _load(path: Path) -> ExportedProgram:
    try:
        with quiet():
            program = torch.export.load(path)
    except (Exception, SystemExit) as error:
        raise CorruptFileError(
            f"{path} is damaged, or no program that torch {torch.__version__} reads: {_first_line(error)}; "
            f"save it again with torch.export.save"
        ) from error
    if any(value.device.type != "cpu" for value in program.state_dict.values()):
        raise UnsupportedError(f"{path} holds a network on another device than the CPU", ["export model.cpu()"])
    return program


def _check_weights(program: ExportedProgram, path: Path) -> None:
    held: dict[str, Any] = {**program.state_dict, **program.constants}
    double = [name for name, value in program.state_dict.items() if value.dtype == torch.float64]
    if double:
        raise UnsupportedError(f"{path} holds float64 weights ({double[0]}, ...)", ["export model.float()"])
    bad = [name for name, value in held.items() if isinstance(value, Tensor) and not torch.isfinite(value).all()]
    if bad:
        raise RangeError(f"these weights of {path} hold NaN or infinity: {bad}; repair or retrain the network")


def _input(program: ExportedProgram, path: Path) -> tuple[int | None, tuple[int, ...]]:
    """Batch (None where it is open) and feature shape of the one input."""
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(names) != 1 or len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim < 2:
        raise UnsupportedError(f"{path} takes {len(names)} inputs; export it with one tensor (batch, *features)")
    returned = program.call_spec.out_spec
    if returned is not None and not returned.is_leaf():
        raise UnsupportedError(f"{path} returns a {returned.type.__name__}; export a network that returns one tensor")
    if values[0].dtype != torch.float32:
        raise UnsupportedError(f"{path} takes {values[0].dtype}; export the network in float32, with float32 inputs")
    batch, *features = values[0].shape
    if any(not isinstance(size, int) for size in features):
        raise UnsupportedError(f"{path} leaves feature axes open: {features}; export it with only the batch dynamic")
    return (batch if isinstance(batch, int) else None), tuple(features)


def _with_batch(program: ExportedProgram, shape: Sequence[int], path: Path) -> ExportedProgram:
    try:
        with quiet():
            return torch.export.export(program.module(), (torch.rand(*shape),))
    except Exception as error:
        raise UnsupportedError(f"{path} does not take a batch of {shape[0]}", [_first_line(error)]) from error


def _runner(program: ExportedProgram, batch: int | None) -> Any:
    """The program itself as a function of (n, *features); a fixed batch is filled up with copies and cut again."""
    module = program.module()

    def run(x: np.ndarray) -> np.ndarray:
        whole = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        with torch.inference_mode():
            if batch is None:
                return np.asarray(module(whole).numpy())
            missing = -len(whole) % batch
            filled = torch.cat([whole, whole[-1:].expand(missing, *whole.shape[1:])])
            return torch.cat([module(part) for part in filled.split(batch)])[: len(whole)].numpy()

    return run


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
