"""Front end for ``torch.nn.Module``, as it is, through ``torch.export``.

Functional and shared activations, residual sums and reshapes are read from the exported ATen graph, so nothing has to
be rewritten as a module; what is not covered is listed, all of it, in one UnsupportedError.
"""

import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from .._check import RangeError, SpikeportError, UnsupportedError
from ..networks.graph import Graph, make_node
from .aten import HANDLERS, Importer
from .attention import with_plain_attention
from .source import Source

EXAMPLE_BATCH = 3  # a batch size that is hardly ever a feature size, so that a wrong axis shows
MOST_COLOURS = 4  # of an image whose channels are last


def import_module(module: nn.Module, input_shape: Sequence[int], *, name: str | None = None) -> Source:
    """Read a module that maps (batch, *input_shape) to (batch, classes); the module is left as it is.

    The copy that is read is in eval mode: dropout is gone and batch norm uses its statistics.
    Raises UnsupportedError that lists every operator that is not covered, RangeError for NaN or infinite weights.
    """
    name = name or type(module).__name__
    frozen = _copied(module, name)
    _check_weights(frozen)
    example = torch.rand(EXAMPLE_BATCH, *input_shape, generator=torch.Generator().manual_seed(0))
    program = _export(with_plain_attention(copy.deepcopy(frozen)), example, name)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), quiet():
            return np.asarray(frozen(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))).numpy())

    source = source_of_program(program, name, run, state_sha256(frozen), "torch.nn.Module")
    _require_samples_apart(run, example.numpy(), name)
    return source


def _copied(module: nn.Module, name: str) -> nn.Module:
    """A copy in eval mode, in float32 on the CPU."""
    computed = [  # what hooks compute anew at each call (weight norm), which torch does not copy
        (part.__dict__, key, value)
        for part in module.modules()
        for key, value in part.__dict__.items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    try:
        for held, key, value in computed:
            held[key] = value.detach()
        return copy.deepcopy(module).eval().to(device="cpu", dtype=torch.float32)
    except Exception as error:
        raise SpikeportError(
            f"{name} cannot be copied to the CPU in float32 ({type(error).__name__}: {error}); "
            "hand over a plain float module whose weights have values"
        ) from error
    finally:
        for held, key, value in computed:
            held[key] = value


def _require_samples_apart(run: Any, x: np.ndarray, name: str) -> None:
    """Raise UnsupportedError where a sample's output depends on how many there are."""
    try:
        whole, fewer = run(x), run(x[:-1])
    except Exception as error:
        raise UnsupportedError(
            f"{name} takes no other batch than {len(x)}", [f"{type(error).__name__}: {error}"]
        ) from error
    if whole[:-1].shape != fewer.shape or not np.allclose(whole[:-1], fewer, rtol=1e-3, atol=1e-4):
        raise UnsupportedError(
            f"{name} treats batches of different sizes differently",
            ["a sample's output must not depend on the others, nor on x.shape[0]"],
        )


def state_sha256(module: nn.Module) -> str:
    """A hash over names, types, shapes and values of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().numpy()
        digest.update(f"{key}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check_weights(module: nn.Module) -> None:
    empty = [key for key, value in module.state_dict().items() if is_lazy(value)]
    if empty:
        raise SpikeportError(f"these weights have no values yet: {empty}; call the module once on an example first")
    packed = [key for key, value in module.state_dict().items() if not isinstance(value, Tensor)]
    if packed:
        raise UnsupportedError(f"these weights are packed, not tensors: {packed[:5]}", ["convert the float network"])
    bad = [key for key, value in module.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise RangeError(f"these weights hold NaN or infinity: {bad}; repair or retrain the network")


def _export(module: nn.Module, example: Tensor, name: str) -> ExportedProgram:
    try:
        with torch.no_grad(), quiet():
            output = module(example)
    except Exception as error:
        last = example.ndim == 4 and example.shape[3] <= MOST_COLOURS < example.shape[1]
        hint = "; are the channels last? Then say layout NHWC (--layout NHWC)" if last else ""
        raise SpikeportError(f"{name} fails on an input of shape {tuple(example.shape)}: {error}{hint}") from error
    if not isinstance(output, Tensor):
        raise UnsupportedError(f"{name} must return one tensor, but it returns {type(output).__name__}")
    try:
        with quiet():
            program: ExportedProgram = torch.export.export(module, (example,)).run_decompositions({})
            return program
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"{name} cannot be traced by torch.export",
            [f"{reason} (remedy: make the control flow independent of the data)"],
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's warnings and dumps, and what a module prints, off the screen; errors still come through."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def source_of_program(program: ExportedProgram, name: str, run: Any, sha256: str, kind: str) -> Source:
    """The Source of an exported program with one input and one output tensor."""
    constants = _constants(program)
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1 or len(program.graph_signature.user_outputs) != 1:
        raise UnsupportedError(f"{name} must have one input and one output tensor, but it has {len(inputs)} inputs")
    importer = Importer(constants)
    for fx_node in program.graph.nodes:
        if fx_node.op == "placeholder" and fx_node.name == inputs[0]:
            importer.add_input(fx_node)
        elif fx_node.op == "call_function":
            _take(importer, fx_node)
        elif fx_node.op == "output":
            result = fx_node.args[0][0]
    if importer.problems:
        count = len(importer.problems)
        raise UnsupportedError(f"cannot convert {count} operator{'s' * (count > 1)} of {name}", importer.problems)
    nodes = [*importer.nodes, make_node("output", "output", [importer.value(result)])]
    graph = Graph.of(nodes, {"source": {"name": name, "kind": kind, "sha256": sha256}})
    return Source(name, graph, run, sha256, tuple(importer.notes), importer.finish)


def _constants(program: ExportedProgram) -> dict[str, Tensor]:
    signature = program.graph_signature
    held: dict[str, Any] = {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {key: held[target].detach() for key, target in names.items()}


def _take(importer: Importer, fx_node: Any) -> None:
    """Import one call, or note why it cannot be."""
    if importer.fold(fx_node):
        return
    target = str(fx_node.target).rsplit(".", 1)[0] if "aten." in str(fx_node.target) else str(fx_node.target)
    handler = HANDLERS.get(target)
    if handler is None:
        importer.refuse(fx_node, importer.remedy(target))
        return
    try:
        handler(importer, fx_node, *importer.arguments(fx_node))
    except UnsupportedError as error:
        importer.refuse(fx_node, str(error))
    except (
        AttributeError,
        IndexError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # a form of the call that no handler foresaw
        importer.refuse(fx_node, f"this form is not supported ({type(error).__name__}: {error})")
