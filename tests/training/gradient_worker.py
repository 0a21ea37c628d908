"""Train one step of a small network in as many gloo processes as asked; `python gradient_worker.py N PARTS FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeport.neurons.leaky import Leaky
from spikeport.training.loop import Plan, fit
from spikeport.training.losses import TemporalEfficient
from spikeport.training.penalties import SpikeSparsity
from spikeport.training.processes import make_fabric, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task, add_gradients, share_of

BATCH = 37  # so that the shares of processes and parts differ in size


class Network(nn.Module):
    """Two layers of leaky neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(6, 20), Leaky(0.8, learn_beta=True)
        self.last, self.output = nn.Linear(20, 4), Leaky(0.8, learn_threshold=True)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Output and no state."""
        return self.output(self.last(self.hidden(self.first(x))[0]))[0], None


def direct(x: Tensor) -> Tensor:
    """The same values at each of five steps."""
    return x.expand(5, *x.shape)


def make_task() -> Task:
    """A task that is the same in every process."""
    torch.manual_seed(4)
    data = Samples(2 * torch.randn(BATCH, 6), torch.randint(4, (BATCH,)))
    return Task(Network(), data, data, direct, TemporalEfficient(0.2), (SpikeSparsity(1e-3),))


def gradients(fabric: Any, parts: int) -> dict[str, Tensor]:
    """The gradients of one batch, after they were averaged over processes."""
    task = make_task()
    network, _ = fabric.setup(task.network, torch.optim.SGD(task.network.parameters(), lr=0.1))
    index = torch.arange(BATCH)
    add_gradients(fabric, network, task, task.train.take(share_of(fabric, index)), index, parts)
    return {name: parameter.grad for name, parameter in network.module.named_parameters()}


def settings(processes: int, parts: int) -> TrainingSettings:
    """Three epochs of steps."""
    return TrainingSettings(
        epochs=3, batch_size=10, accumulate=parts, devices=processes, accelerator="cpu", tensorboard=False
    )


def work(fabric: Any, processes: int, parts: int, folder: str) -> None:
    """Write this process's gradients of one batch, then train and write its weights and history."""
    held = gradients(fabric, parts)
    task = make_task()
    result = fit(fabric, task, Plan(settings(processes, parts), OptimizerSettings(kind="sgd", learning_rate=0.1)))
    found = {"gradients": held, "network": task.network.state_dict(), "history": result["history"]}
    torch.save(found, f"{folder}/process-{fabric.global_rank}.pt")


def main(processes: int, parts: int, folder: Path) -> None:
    """Do so in as many processes."""
    fabric = make_fabric(settings(processes, parts))
    fabric.launch(work, processes, parts, str(folder))
    if processes > 1:  # the weights come back to the process that asked
        task = make_task()
        found = train(task, settings(processes, parts), OptimizerSettings(kind="sgd", learning_rate=0.1))
        torch.save({"network": task.network.state_dict(), "history": found["history"]}, folder / "trained.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
