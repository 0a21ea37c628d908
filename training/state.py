"""Where a training run stands: all that must be saved so that it goes on as if it had not stopped."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._check import SpikeportError
from .randomness import random_state, restore_random_state
from .settings import OptimizerSettings, TrainingSettings
from .step import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Best", "Position", "fingerprint", "order_of", "restore_state", "state_of"]

_MAY_CHANGE = {"epochs", "checkpoint_steps", "tensorboard", "accelerator"}


@dataclass
class Position:
    """The next batch of the order of an epoch, the steps taken, and the sums of the epoch so far."""

    order: Tensor
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    samples: int = 0


@dataclass
class Best:
    """The epoch with the best validation so far; its weights."""

    network: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = -1
    accuracy: float = -1.0
    loss: float = float("inf")


def order_of(epoch: int, samples: int, seed: int) -> Tensor:
    """The order of the samples in an epoch: of the seed and the epoch only, so that all processes agree."""
    generator = torch.Generator().manual_seed((seed << 24) + epoch)
    return torch.randperm(samples, generator=generator, dtype=torch.int32 if samples < 2**31 else torch.int64)


def fingerprint(task: Task, settings: TrainingSettings, optimizer: OptimizerSettings, processes: int) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    shapes = {name: list(value.shape) for name, value in task.network.state_dict().items()}
    data = {
        name: [*samples.x.shape, str(samples.x.dtype), float(samples.x.sum(dtype=torch.float64)), int(samples.y.sum())]
        for name, samples in (("train", task.train), ("validation", task.validation))
    }
    kept = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE}
    made_of = {"data": data, "network": shapes, "loss": repr((task.loss, *task.penalties)), "processes": processes}
    chosen = task.information.get("config", {})
    made_of["chosen"] = json.loads(json.dumps([chosen.get(section) for section in ("network", "encoder")]))
    made_of["samples"] = [re.sub(r"0x[0-9a-f]+", "", repr(part)) for part in (task.encode, task.augment)]
    return {**made_of, "settings": kept, "optimizer": asdict(optimizer)}


def state_of(
    fabric: "Fabric", network: nn.Module, optimizer: Optimizer, position: Position, best: Best
) -> dict[str, Any]:
    """Everything that changes in a run; every process must call it, as each has random generators of its own."""
    return {
        "network": dict(network.state_dict()),
        "optimizer": optimizer.state_dict(),
        "precision": dict(fabric.strategy.precision.state_dict()),
        "random": _gather(fabric, random_state()),
        "position": vars(position),
        "best": vars(best),
    }


def restore_state(
    fabric: "Fabric", network: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]
) -> tuple[Position, Best]:
    """Put everything back to what ``state_of`` returned."""
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    if state["precision"]:
        fabric.strategy.precision.load_state_dict(state["precision"])
    restore_random_state(state["random"][fabric.global_rank])
    return Position(**state["position"]), Best(**state["best"])


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise SpikeportError, with all differences, unless a checkpoint belongs to this training."""
    differences = []
    for part in wanted:
        if found.get(part) == wanted[part]:
            continue
        before, now = found.get(part), wanted[part]
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            differences += [f"{part}.{name} was {before.get(name)}, is {now.get(name)}" for name in names[:5]]
        else:
            differences.append(f"{part} was {before}, is {now}")
    if differences:
        raise SpikeportError(
            f"the checkpoint belongs to another training: {'; '.join(differences)}. "
            f"Resume with the settings and data that it began with, or begin in another folder."
        )


def _gather(fabric: "Fabric", value: Any) -> list[Any]:
    if fabric.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
