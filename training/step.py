"""One step of the optimiser: a batch in parts and over processes, whose gradient is that of the whole batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError
from .losses import Loss, check_targets
from .watch import recorded_spikes

if TYPE_CHECKING:  # it takes seconds to import, and Python may lack it
    from lightning_fabric import Fabric

__all__ = ["Batch", "Encode", "Samples", "Task", "add_gradients", "check_task", "forward", "share_of"]

Encode = Callable[[Tensor], Tensor]
Penalty = Callable[[dict[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Samples:
    """Samples in memory: x (N, \\*features) of any type of number, y (N,) class numbers."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> "Samples":
        """Return the samples at ``index``, in that order."""
        return Samples(self.x[index], self.y[index])


class Batch(NamedTuple):
    """What a batch came to: the sum of the samples' losses, the number of right decisions, and of samples."""

    loss: Tensor
    right: Tensor
    samples: int


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    network: y, state = network(x), x (time, batch, \\*features), y (time, batch, classes).
    encode: (batch, \\*features of x) to (time, batch, \\*features), float.
    augment: random changes of training samples, before they are encoded.
    validation: chooses the best epoch; never give the test set.
    """

    network: nn.Module
    train: Samples
    validation: Samples
    encode: Encode
    loss: Loss
    penalties: Sequence[Penalty] = ()
    augment: Callable[[Tensor], Tensor] | None = None
    information: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, samples in (("train", self.train), ("validation", self.validation)):
            if not len(samples) or samples.y.shape != samples.x.shape[:1] or samples.y.is_floating_point():
                raise ShapeError(
                    f"{name} has x of shape {tuple(samples.x.shape)} and y of shape {tuple(samples.y.shape)} and type "
                    f"{samples.y.dtype}, but at least one sample and one class number each are wanted."
                )
        if self.train.x.shape[1:] != self.validation.x.shape[1:]:
            raise ShapeError(
                f"the samples of train have shape {tuple(self.train.x.shape[1:])}, but those of validation "
                f"{tuple(self.validation.x.shape[1:])}; give both in one form."
            )


def share_of(fabric: "Fabric", index: Tensor) -> Tensor:
    """The part of a batch that this process takes."""
    return index[fabric.global_rank :: fabric.world_size]


def forward(network: nn.Module, x: Tensor) -> Tensor:
    """The output of encoded samples, (time, batch, classes)."""
    like = next((each for each in network.parameters() if each.is_floating_point()), None)
    answer = network(x if like is None else x.to(like.dtype))
    if not isinstance(answer, tuple) or not isinstance(answer[0], Tensor):
        raise ShapeError(
            f"the network returned {type(answer).__name__}, but `output, state` is wanted; put its layers in a Chain."
        )
    return answer[0]


def add_gradients(fabric: "Fabric", network: nn.Module, task: Task, batch: Samples, index: Tensor, parts: int) -> Batch:
    """Add the gradient of the loss over the whole batch to that of the network's parameters.

    batch: the samples at this process's share of ``index``; parts: it is taken in so many, one after the other.
    Each part weighs as many samples as it has, so neither parts nor processes change the gradient, but for
    rounding, layers that look at a whole batch (batch norm) and penalties that are no mean over samples.
    """
    world, total = fabric.world_size, len(index)
    parts = min(parts, total // world)
    loss_sum, right = torch.zeros((), device=fabric.device), torch.zeros((), device=fabric.device)
    module = getattr(network, "module", network)
    chunks = torch.arange(len(batch)).tensor_split(parts)
    for number, chunk in enumerate(chunks):
        part = Samples(fabric.to_device(batch.x[chunk]), fabric.to_device(batch.y[chunk]))
        x = task.encode(part.x if task.augment is None else task.augment(part.x))
        with fabric.no_backward_sync(network, enabled=number < parts - 1):  # type: ignore[arg-type]
            with recorded_spikes(module, wanted=bool(task.penalties)) as spikes:
                output = forward(network, x)
            loss = task.loss(output, part.y)
            # a penalty is of the activity, and its gradient goes through all of it
            whole = loss + sum(penalty(spikes) for penalty in task.penalties)
            # processes are averaged, parts are added
            fabric.backward(whole * (len(part.x) * world / total))
        loss_sum += loss.detach() * len(part.x)
        right += (task.loss.scores(output.detach()).argmax(1) == part.y).sum()
    return Batch(loss_sum, right, len(batch))


@torch.no_grad()
def check_task(task: Task) -> int:
    """Run one sample through; return the number of classes.

    Raises ShapeError for an output that is none, RangeError for a label that the network has no output for.
    """
    was_training = task.network.training
    parameter = next(task.network.parameters(), None)
    x = task.encode(task.train.x[:1])
    output = forward(task.network.eval(), x if parameter is None else x.to(parameter.device))
    task.network.train(was_training)
    if output.ndim != 3 or output.shape[1] != 1:
        raise ShapeError(
            f"for one sample the network gave an output of shape {tuple(output.shape)}, but (time, 1, classes) "
            f"was wanted; end it with a flat layer of one unit a class."
        )
    for name, samples in (("train", task.train), ("validation", task.validation)):
        try:
            check_targets(output.cpu().expand(-1, len(samples.y), -1), samples.y.cpu())
        except RangeError as error:
            raise RangeError(f"{name}: {error}") from None
    return output.shape[2]
