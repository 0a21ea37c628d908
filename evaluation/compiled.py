"""Export a network that decides early as three programs with explicit state, and run them by a small host loop.

start: x -> constants and fresh state.  step: constants and state -> cumulative output and new state.  head: output,
steps done and the rule's memory -> label, whether to stop, confidence and memory.  A program has no branches: which
samples go on is for the host (``host.py``, which needs nothing of ours and is written beside the programs).
Source: splitting a dynamic network into plain programs and a host: Chen et al. 2023, "Dynamic Neural Network is All You
Need to Compile" (DyCL), arXiv 2307.04963; there by rewriting its source, here from the Graph.
"""

import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from .._check import CorruptFileError, RangeError, SpikeportError, UnsupportedError
from ..inference import AnyRule, Decisions, LookingBack, ask
from ..inference.checks import require_samples
from ..networks.graph import Graph
from ..networks.programs import StartProgram, StepsProgram
from . import host
from .recordings import refuse_recordings
from .swap import replace_folder

__all__ = ["FORMATS", "CompiledNetwork", "ExitHead", "export_programs"]

FORMATS = ("pt2", "onnx")
PROGRAMS = ("start", "step", "head")
TRACED = 3  # samples of the example batch: 1 could be taken for a size that never changes
OPSET = 20
ABOUT = "programs.json"


class ExitHead(nn.Module):
    """``label, stops, confidence, memory = head(output, done, memory)`` for one step of an exit rule.

    output: (N, classes); done: int64 (N,), steps before this one; memory: float64 (N, width).
    """

    def __init__(self, rule: AnyRule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, output: Tensor, done: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The answer after this step, and whether it is the last."""
        block = output.unsqueeze(0)
        stops, after = ask(self.rule, block, done, memory)
        label, confidence = output.argmax(-1), self.rule.confidence(output)
        return label, stops[0] & (done >= self.rule.min_steps - 1), confidence, memory + 0 if after is None else after


def export_programs(
    graph: Graph, rule: AnyRule, folder: Path, *, to: str, max_steps: int, steps: int = 1, overwrite: bool = False
) -> dict[str, Any]:
    """Write start, step and head, ``programs.json`` and ``host.py`` into a new folder; returns what programs.json says.

    to: "pt2" (torch.export) or "onnx".  max_steps: after which everyone answers.  steps: of one call of the step
    program; a decided sample still computes the rest of them.
    Raises SpikeportError for another format and a folder that is there, RangeError for steps out of range,
    UnsupportedError for what no program can hold.
    """
    if to not in FORMATS:
        raise SpikeportError(f"programs cannot be written as {to!r}; choose one of {', '.join(FORMATS)}")
    if not rule.min_steps <= max_steps:
        raise RangeError(f"the rule stops at step {rule.min_steps} or later, but the programs end after {max_steps}")
    if not 1 <= steps <= max_steps:
        raise RangeError(f"a call would run {steps} steps, but the network runs 1 to {max_steps}")
    refuse_recordings(graph, "an export as programs")
    _require_free(folder, overwrite=overwrite)
    start, step = StartProgram(graph).eval(), StepsProgram(graph, steps=steps).eval()
    shape, classes = graph.shapes[graph.input.name], graph.shapes[graph.output.name][0]
    width = rule.remembers(classes) if isinstance(rule, LookingBack) else 0
    example = torch.zeros(TRACED, *shape)
    done, memory = torch.zeros(TRACED, dtype=torch.int64), torch.zeros(TRACED, width, dtype=torch.float64)
    given: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "start": (start, (example,)),
        "step": (step, start(example)),
        "head": (ExitHead(rule).eval(), (torch.ones(TRACED, classes), done, memory)),
    }
    made = {name: _exported(name, program, arguments) for name, (program, arguments) in given.items()}
    about = {
        "spikeport": __version__, "format": to, "max_steps": max_steps, "steps": steps, "constants": start.constants,
        "remembers": width, "input": list(shape), "classes": classes, "rule": str(rule),
        "preprocessing": graph.information.get("preprocessing"),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.partial-", dir=folder.parent) as partial:
        new = Path(partial) / folder.name
        new.mkdir()
        for name, program in made.items():
            _write(program, new / f"{name}.{to}", to)
        (new / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(host.__file__, new / "host.py")
        replace_folder(new, folder)
    return about


def _require_free(folder: Path, *, overwrite: bool) -> None:
    if not folder.parent.is_dir():
        raise SpikeportError(f"{folder} cannot be made, because {folder.parent} is no folder; make it first.")
    if folder.exists() and not overwrite:
        raise SpikeportError(f"{folder} is there already; choose another folder, or pass --overwrite to replace it.")
    if not folder.exists():
        return
    if not (folder / ABOUT).is_file():
        raise SpikeportError(f"{folder} holds no programs, so it is not replaced; choose another folder.")
    own = {ABOUT, "host.py", *(f"{name}.{to}" for name in PROGRAMS for to in FORMATS)}
    if foreign := sorted(entry.name for entry in folder.iterdir() if entry.name not in own):
        raise SpikeportError(
            f"{folder} holds what no export wrote ({', '.join(foreign[:5])}), so it is not replaced; "
            f"choose another folder."
        )


def _exported(name: str, program: nn.Module, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """The program for a batch of any size."""
    shapes: Any = tuple({0: torch.export.Dim.DYNAMIC} for _ in example)
    try:
        with torch.no_grad():
            return torch.export.export(
                program, example, dynamic_shapes={"values": shapes} if name == "step" else shapes, strict=False
            )
    except Exception as error:
        _pass_on_interrupts(error)
        raise UnsupportedError("no program can be made", [f"{name}: {_reason(error)}"]) from error


def _write(program: torch.export.ExportedProgram, path: Path, to: str) -> None:
    if to == "pt2":
        torch.export.save(program, path)
        return
    try:
        with _quiet_exporter():
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        if made is None:
            raise ValueError("nothing was made")
        made.save(path, external_data=False)
    except Exception as error:
        _pass_on_interrupts(error)
        raise UnsupportedError(
            "no ONNX program can be made", [f"{path.stem}: {_reason(error)} (remedy: --to pt2)"]
        ) from error


def _pass_on_interrupts(error: BaseException) -> None:
    """Raise KeyboardInterrupt where the exporter has wrapped one in an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt) or "KeyboardInterrupt" in str(cause):
            raise KeyboardInterrupt from error
        cause = cause.__cause__ or cause.__context__


def _reason(error: Exception) -> str:
    """The last cause of an exporter's error, in one line without the colours of its terminal."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(cause)).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}"


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep its own deprecations, and what it says of packages that it does not need, off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


class CompiledNetwork:
    """The programs of a folder, run by the host loop.  pt2 files can run code: load only what you trust.

    Raises CorruptFileError for a folder that is not whole.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.about, self._start, self._step, self._head = host.open_folder(folder)
            self.input, self.format = tuple(self.about["input"]), str(self.about["format"])
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise CorruptFileError(f"{folder} holds no whole programs ({error}); run spikeport export again.") from None

    def decide(self, x: Tensor, *, batch_size: int = 64) -> Decisions:
        """Label, steps and confidence of every sample of x (N, *features), batch by batch.

        Raises ShapeError for an empty x, RangeError for another shape and for NaN.
        """
        require_samples(x, batch_size)
        if tuple(x.shape[1:]) != self.input:
            raise RangeError(f"the samples have the shape {tuple(x.shape[1:])}, but the programs take {self.input}.")
        parts = []
        for first in range(0, len(x), batch_size):
            try:
                parts.append(self._decide(x[first : first + batch_size].numpy()))
            except ValueError as error:
                raise RangeError(f"samples from {first} on: {error}.") from None
        return Decisions(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)))

    def _decide(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        return host.decide(self.about, self._start, self._step, self._head, x)
