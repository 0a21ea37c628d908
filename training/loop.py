"""The training loop: epochs of steps, a validation after each, the best epoch kept, everything saved on the way."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from .._check import RangeError
from ..neurons.learnable_delays import LearnableDelays
from .board import Board
from .checkpoint import load_checkpoint, save_checkpoint
from .optimizers import learning_rate, make_optimizer
from .randomness import deterministic, seed_everything
from .settings import OptimizerSettings, TrainingSettings
from .state import Best, Position, fingerprint, order_of, require_same, restore_state, state_of
from .step import Samples, Task, add_gradients, forward, share_of
from .watch import Activity, find_not_finite
from .weight_noise import noisy_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["CHECKPOINT", "Plan", "Progress", "fit"]

CHECKPOINT = "checkpoint.safetensors"
Progress = Callable[[str, float], None]


class Plan(NamedTuple):
    """How a task is trained, and where it is kept. folder: None keeps nothing."""

    settings: TrainingSettings
    optimizer: OptimizerSettings
    folder: Path | None = None
    resume: bool = False
    progress: Progress | None = None


def fit(fabric: "Fabric", task: Task, plan: Plan) -> dict[str, Any]:
    """Train in this process, one of those that ``fabric`` knows; the network ends with the best epoch's weights.

    Returns the history and the best epoch, as JSON.
    """
    with deterministic(plan.settings.deterministic):
        run = _Run(fabric, task, plan)
        try:
            return run.fit()
        finally:
            run.board.close()


class _Run:
    """A training run in one process."""

    def __init__(self, fabric: "Fabric", task: Task, plan: Plan) -> None:
        self.fabric, self.task, self.plan, self.settings = fabric, task, plan, plan.settings
        seed_everything(self.settings.seed, fabric.global_rank)
        if self.settings.channels_last:
            task.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._learns_delays = any(isinstance(module, LearnableDelays) for module in task.network.modules())
        self.fingerprint = fingerprint(task, self.settings, plan.optimizer, fabric.world_size)
        self.network: Any
        self.optimizer: Any
        self.network, self.optimizer = fabric.setup(task.network, make_optimizer(task.network, plan.optimizer))
        self.history: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.position, self.best = Position(self._order(0)), Best()
        if plan.resume and plan.folder is not None and (plan.folder / CHECKPOINT).exists():
            self._restore(plan.folder / CHECKPOINT)
        curves = plan.folder if self.settings.tensorboard and fabric.is_global_zero else None
        self.board = Board(curves and curves / "tensorboard", self.position.step)

    def _order(self, epoch: int) -> Tensor:
        return order_of(epoch, len(self.task.train), self.settings.seed)

    @property
    def batches(self) -> int:
        """Steps of an epoch; the last may be smaller, but has a sample for each process."""
        n, size = len(self.task.train), self.settings.batch_size
        return n // size + (n % size >= self.fabric.world_size)

    def fit(self) -> dict[str, Any]:
        if self.settings.batch_size < self.fabric.world_size or not self.batches:
            raise RangeError(
                f"batch_size is {self.settings.batch_size} for {len(self.task.train)} samples and "
                f"{self.fabric.world_size} processes; each process needs a sample of each batch."
            )
        while self.position.epoch < self.settings.epochs:
            self._epoch()
        self.network.load_state_dict(self.best.network)
        self.network.eval()
        best = {"epoch": self.best.epoch + 1, "accuracy": self.best.accuracy, "loss": self.best.loss}
        steps = self.position.step
        return {"best": best, "history": self.history, "notes": self.notes, "steps": steps, "n": self._sizes()}

    def _sizes(self) -> dict[str, int]:
        return {"train": len(self.task.train), "validation": len(self.task.validation)}

    def _epoch(self) -> None:
        position, size = self.position, self.settings.batch_size
        self.network.train()
        self._anneal()
        while position.batch < self.batches:
            self._step(position.order[position.batch * size : (position.batch + 1) * size].long())
            position.batch += 1
            position.step += 1
            self._show()
            every = self.settings.checkpoint_steps
            if every and position.step % every == 0 and position.batch < self.batches:
                self._save()
        self._end_epoch()
        self._save()

    def _anneal(self) -> None:
        """Narrow the windows of learned delays within ``anneal_share`` of the epochs; round them in the last."""
        progress = self.position.epoch / max(self.settings.anneal_share * (self.settings.epochs - 1), 1e-9)
        for module in self.network.modules():
            if isinstance(module, LearnableDelays):
                module.anneal(min(progress, 1.0))
                module.settled.fill_(self._settled)  # a run that goes on for more epochs learns them again

    @property
    def _settled(self) -> bool:
        """Whether delays have to be whole in this epoch."""
        return self.position.epoch + 1 > self.settings.epochs * (1 - self.settings.settle_share)

    @property
    def _may_be_best(self) -> bool:
        """Whether the weights of this epoch may be kept: not where its delays are still to be rounded."""
        whole = self._settled or not (self.settings.settle_share and self._learns_delays)
        return whole and self.position.epoch + 1 >= min(self.settings.first_best, self.settings.epochs)

    def _step(self, index: Tensor) -> None:
        steps = self.settings.epochs * self.batches
        rate = learning_rate(self.plan.optimizer, self.position.step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0 if group.get("delays") and self._settled else rate * group["factor"]
        share = self.task.train.take(share_of(self.fabric, index))
        noise, seed = self.settings.weight_noise, (self.settings.seed << 32) + self.position.step
        with noisy_weights(self.network, noise, seed=seed):
            batch = add_gradients(self.fabric, self.network, self.task, share, index, self.settings.accumulate)
        self._clip(batch.loss, share)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss, right, samples = self._sum(torch.stack([batch.loss, batch.right, batch.right.new_tensor(batch.samples)]))
        self.position.loss_sum += loss
        self.position.right += int(right)
        self.position.samples += int(samples)
        self.board.step(self.position.step, {"loss/step": loss / samples, "learning rate": rate})

    def _sum(self, values: Tensor) -> list[float]:
        """Add up over processes."""
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values.double(), reduce_op="sum")  # type: ignore[assignment]
        summed: list[float] = values.tolist()
        return summed

    def _clip(self, loss: Tensor, share: Samples) -> None:
        """Shorten the gradient to the longest that is allowed, unless it or the loss is not finite."""
        longest = self.settings.clip_norm or math.inf
        if self.settings.precision == "16-mixed":  # has steps with infinite gradients, which its scaler leaves out
            self._require_finite([loss], loss, share)
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=longest, error_if_nonfinite=False)
            return
        held = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in held])
        self._require_finite([loss, norm], loss, share)
        if longest < math.inf:
            clip_grads_with_norm_(held, longest, norm)

    def _require_finite(self, watched: list[Tensor], loss: Tensor, share: Samples) -> None:
        finite = torch.stack([torch.isfinite(each) for each in watched]).all()
        if self._sum(torch.stack([~finite]).float())[0] == 0:
            return
        x = self.fabric.to_device(share.x)
        place = find_not_finite(self.network.module, self.task.encode(x)) or "the loss"
        position = self.position
        raise RangeError(
            f"training stopped at step {position.step + 1} (epoch {position.epoch + 1}): {place} is not finite "
            f"(loss {float(loss) / len(share):g}). Lower learning_rate or clip_norm, or look at the data; "
            f"the last checkpoint is from before."
        )

    def _end_epoch(self) -> None:
        position = self.position
        accuracy, loss, rates = self._validate()
        entry: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "train_loss": position.loss_sum / position.samples,
            "train_accuracy": position.right / position.samples,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "rates": rates,
        }
        self.history.append(entry)
        self._note_dead_layers(rates)
        named = {f"rate/{name}": rate for name, rate in rates.items()}
        curves = {key.replace("_", "/"): value for key, value in entry.items() if key not in ("epoch", "rates")}
        self.board.epoch(position.step, {**curves, **named})
        if self._may_be_best and (accuracy, -loss) > (self.best.accuracy, -self.best.loss):
            weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.best = Best(weights, position.epoch, accuracy, loss)
        self.position = Position(self._order(position.epoch + 1), position.epoch + 1, step=position.step)

    @torch.no_grad()
    def _validate(self) -> tuple[float, float, dict[str, float]]:
        """Accuracy, loss and each layer's rate on the validation samples."""
        task = self.task
        accuracy, loss, rates = evaluate(self.fabric, self.network, task, task.validation, self.settings.batch_size)
        return accuracy, loss, rates

    def _note_dead_layers(self, rates: dict[str, float]) -> None:
        for name, rate in rates.items():
            text = (
                f"layer {name} fired no spike in the validation of an epoch, so nothing behind it can learn: "
                f"raise the input or the weights, lower its threshold, or set rate_weight in [loss]."
            )
            if rate == 0 and text not in self.notes:
                self.notes.append(text)
                if self.fabric.is_global_zero:
                    warnings.warn(text, RuntimeWarning, stacklevel=6)

    def _show(self) -> None:
        if self.plan.progress is not None and self.fabric.is_global_zero:
            self.plan.progress("training", self.position.step / (self.settings.epochs * self.batches))

    def _save(self) -> None:
        if self.plan.folder is None:
            return
        state = state_of(self.fabric, self.network, self.optimizer, self.position, self.best)
        if self.fabric.is_global_zero:
            kept = {"history": self.history, "notes": self.notes, "fingerprint": self.fingerprint}
            save_checkpoint({**state, **kept, "information": self.task.information}, self.plan.folder / CHECKPOINT)

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path)
        require_same(state["fingerprint"], self.fingerprint)
        self.position, self.best = restore_state(self.fabric, self.network, self.optimizer, state)
        self.history, self.notes = state["history"], state["notes"]


@torch.no_grad()
def evaluate(
    fabric: "Fabric", network: nn.Module, task: Task, samples: Samples, batch_size: int
) -> tuple[float, float, dict[str, float]]:
    """Accuracy, loss and each spiking layer's rate (spikes a unit and step), over all processes."""
    network.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=fabric.device)
    mine = share_of(fabric, torch.arange(len(samples)))
    module = getattr(network, "module", network)
    with Activity(module) as activity:
        for index in mine.split(batch_size):
            x, y = fabric.to_device(samples.x[index]), fabric.to_device(samples.y[index])
            output = forward(network, task.encode(x))
            right = (task.loss.scores(output).argmax(1) == y).sum()
            totals += torch.stack(
                [task.loss(output, y).double() * len(y), right.double(), right.new_tensor(len(y)).double()]
            )
    if fabric.world_size > 1:
        totals = fabric.all_reduce(totals, reduce_op="sum")  # type: ignore[assignment]
        for name in activity.sums:
            activity.sums[name] = fabric.all_reduce(activity.sums[name], reduce_op="sum")  # type: ignore[assignment]
    loss, right_total, n = totals.tolist()
    return right_total / n, loss / n, activity.rates()
