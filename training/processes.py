"""Processes: one or several on this machine, or as torchrun started them."""

import os
import tempfile
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import multiprocessing

from .. import _check
from .._check import BackendUnavailable, RangeError, SpikeportError
from .checkpoint import load_checkpoint
from .loop import CHECKPOINT, Plan, Progress, evaluate, fit
from .settings import OptimizerSettings, TrainingSettings
from .step import Samples, Task, check_task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["make_fabric", "measure", "train"]


def make_fabric(settings: TrainingSettings) -> "Fabric":
    """Return Fabric for the settings.

    Several processes are spawned, never forked: the threads of compiled kernels do not survive a fork.
    Raises BackendUnavailable without Lightning Fabric or the accelerator, RangeError for several machines that nobody
    has started.
    """
    try:
        fabric = import_module("lightning_fabric")
    except ImportError as error:
        raise BackendUnavailable("training needs Lightning Fabric: pip install spikeport[train].") from error
    started = "LOCAL_RANK" in os.environ
    if settings.nodes > 1 and not started:
        raise RangeError(
            f"nodes is {settings.nodes}, but this process was started alone; start it on each machine with torchrun "
            f"--nnodes={settings.nodes} --nproc-per-node={settings.devices}."
        )
    several = settings.nodes * settings.devices > 1
    strategy = ("ddp" if started else "ddp_spawn") if several else "auto"
    try:
        made: Fabric = fabric.Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=strategy,
            precision=settings.precision,
        )
    except (ValueError, RuntimeError) as error:  # Fabric's way to say that a device is not there
        raise BackendUnavailable(f"Lightning Fabric refuses these settings: {error}") from error
    return made


def train(
    task: Task,
    settings: TrainingSettings | None = None,
    optimizer: OptimizerSettings | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the task's network; it ends with the weights of the epoch that was best on the validation samples.

    folder: keeps ``checkpoint.safetensors`` and TensorBoard's curves; None keeps nothing.
    resume: go on from the folder's checkpoint where there is one; on a CPU the result is bit for bit that of a run that
    was not interrupted (with as many threads and processes).
    progress: called with a stage and its share done; with several processes it must be picklable.
    Returns best (epoch from 1, accuracy, loss), history (one entry an epoch), notes (such as silent layers), steps, n.
    Raises RangeError, with step and layer, where a value is no longer finite, and for labels out of range; ShapeError
    for a network with another output; CorruptFileError for a damaged checkpoint.
    """
    settings, optimizer = settings or TrainingSettings(), optimizer or OptimizerSettings()
    place = None if folder is None else Path(folder)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        if not resume and (place / CHECKPOINT).exists():
            raise SpikeportError(f"{place} holds a training already; resume it, or give another folder.")
        for unfinished in place.glob(f".{CHECKPOINT}.partial-*"):  # a run was killed while it wrote
            unfinished.unlink(missing_ok=True)
    check_task(task)
    fabric = make_fabric(settings)
    plan = Plan(settings, optimizer, place, resume, progress)
    if fabric.strategy.launcher is None or "LOCAL_RANK" in os.environ:
        fabric.launch()
        return fit(fabric, task, plan)
    return _spawn(fabric, task, plan)


def measure(task: Task, samples: Samples, settings: TrainingSettings | None = None) -> dict[str, Any]:
    """Return accuracy, loss, n and rates (spikes a unit and step, by layer) of the task's network on ``samples``.

    In this process, on one device.
    """
    settings = replace(settings or TrainingSettings(), devices=1, nodes=1)
    fabric = make_fabric(settings)
    network = fabric.setup(task.network)
    accuracy, loss, rates = evaluate(fabric, network, task, samples, settings.batch_size)
    return {"accuracy": accuracy, "loss": loss, "n": len(samples), "rates": rates}


def _spawn(fabric: "Fabric", task: Task, plan: Plan) -> dict[str, Any]:
    """Train in new processes; the weights come back in the checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        plan = plan if plan.folder else plan._replace(folder=Path(temporary), settings=_without_board(plan.settings))
        try:
            result: dict[str, Any] = fabric.launch(_InNewProcess(task, plan))
        except multiprocessing.ProcessRaisedException as error:  # type: ignore[attr-defined]
            raise _as_ours(str(error)) from error
        best = load_checkpoint(plan.folder / CHECKPOINT)["best"]  # type: ignore[operator]
        task.network.load_state_dict(best["network"])
        task.network.eval()
        return result


class _InNewProcess:
    """What a spawned process runs."""

    def __init__(self, task: Task, plan: Plan) -> None:
        self.task, self.plan = task, plan

    def __call__(self, fabric: "Fabric") -> dict[str, Any]:
        # the network came through memory that all processes share; each needs weights of its own
        return fit(fabric, replace(self.task, network=deepcopy(self.task.network)), self.plan)


def _without_board(settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, tensorboard=False)


def _as_ours(trace: str) -> SpikeportError:
    """The error that a process printed, as the class that it was."""
    name, _, message = trace.strip().splitlines()[-1].partition(": ")
    kind = getattr(_check, name.rpartition(".")[2], None)
    if isinstance(kind, type) and issubclass(kind, SpikeportError):
        return kind(message)
    return SpikeportError(f"a training process failed: {trace.strip()[-2000:]}")
