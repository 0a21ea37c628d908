"""What the loop promises: it learns, keeps the best epoch, and stops by name where numbers or labels go wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport import RangeError, ShapeError
from spikeport.data import Sequence
from spikeport.networks.chain import Chain
from spikeport.neurons import Leaky, LeakyIntegrator, LearnableDelays
from spikeport.training.checkpoint import load_checkpoint
from spikeport.training.loop import CHECKPOINT
from spikeport.training.losses import RateCrossEntropy
from spikeport.training.penalties import RateBounds, SpikeSparsity
from spikeport.training.processes import measure, train
from spikeport.training.settings import OptimizerSettings, TrainingSettings
from spikeport.training.step import Samples, Task
from spikeport.training.watch import recorded_spikes, spiking_layers

MakeTask, MakeSettings = Callable[..., Task], Callable[..., TrainingSettings]


def test_it_learns_and_measures(make_task: MakeTask, make_settings: MakeSettings, fast: OptimizerSettings) -> None:
    task, shown = make_task(), []
    result = train(task, make_settings(), fast, progress=lambda stage, done: shown.append(done))
    assert result["best"]["accuracy"] > 0.9
    assert result["history"][-1]["train_loss"] < result["history"][0]["train_loss"]
    assert shown == sorted(shown)
    assert shown[-1] == 1.0
    assert result["steps"] == 18
    measured = measure(task, task.validation, make_settings())
    assert measured["accuracy"] == result["best"]["accuracy"]
    assert measured["n"] == 40


def test_the_network_ends_with_the_weights_of_the_best_epoch(
    make_task: MakeTask, make_settings: MakeSettings, tmp_path: Path
) -> None:
    task = make_task()
    wild = OptimizerSettings(learning_rate=1.0, schedule="constant", warmup_share=0.0)
    result = train(task, make_settings(epochs=6), wild, folder=tmp_path)
    accuracies = [entry["validation_accuracy"] for entry in result["history"]]
    assert result["best"]["accuracy"] == max(accuracies)
    assert accuracies[result["best"]["epoch"] - 1] == max(accuracies)
    assert measure(task, task.validation, make_settings())["accuracy"] == max(accuracies)
    saved = load_checkpoint(tmp_path / CHECKPOINT)
    assert not torch.equal(saved["network"]["first.weight"], saved["best"]["network"]["first.weight"])
    assert torch.equal(saved["best"]["network"]["first.weight"], task.network.state_dict()["first.weight"])


def test_one_seed_gives_one_network(make_task: MakeTask, make_settings: MakeSettings) -> None:
    weights = []
    for seed in (5, 5, 6):
        task = make_task()
        train(task, make_settings(seed=seed, epochs=1))
        weights.append(task.network.state_dict()["first.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_curves_are_written(make_task: MakeTask, make_settings: MakeSettings, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(make_task(), make_settings(tensorboard=True), folder=tmp_path)
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    wanted = {"loss/step", "learning rate", "train/loss", "validation/accuracy", "rate/hidden"}
    assert wanted <= set(curves.Tags()["scalars"])
    assert len(curves.Scalars("validation/accuracy")) == 3


class Faulty(nn.Module):
    """Gives NaN from its third call in training on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x * float("nan") if self.calls >= 3 else x


def test_a_value_that_is_not_finite_stops_it_with_layer_and_step(
    make_task: MakeTask, make_settings: MakeSettings, tmp_path: Path
) -> None:
    task = make_task()
    task.network.dropout = Faulty()
    with pytest.raises(RangeError, match=r"step 3 \(epoch 1\): layer dropout \(Faulty\) is not finite") as caught:
        train(task, make_settings(checkpoint_steps=2), folder=tmp_path)
    assert "learning_rate" in str(caught.value)
    saved = load_checkpoint(tmp_path / CHECKPOINT)
    assert saved["position"]["step"] == 2
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


def test_infinite_input_is_named(make_task: MakeTask, make_settings: MakeSettings) -> None:
    task = make_task()
    task.train.x[7, 0] = float("inf")
    with pytest.raises(RangeError, match="the input is not finite"):
        train(task, make_settings())


def test_an_infinite_gradient_is_named(make_task: MakeTask, make_settings: MakeSettings) -> None:
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * float("inf")

    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Root.apply(x)

    task = make_task()
    task.network.dropout = Steep()
    with pytest.raises(RangeError, match=r"step 1 \(epoch 1\): the gradient of (hidden|first)"):
        train(task, make_settings())


def test_a_silent_layer_is_warned_of_once(make_task: MakeTask, make_settings: MakeSettings) -> None:
    task = make_task()
    with torch.no_grad():
        task.network.first.weight.zero_()
        task.network.first.bias.fill_(-1.0)
    with pytest.warns(RuntimeWarning, match="layer hidden fired no spike") as warned:
        result = train(task, make_settings())
    assert len(warned) == 1
    assert len(result["notes"]) == 1
    assert result["history"][0]["rates"]["hidden"] == 0.0


def test_a_penalty_quiets_the_hidden_layer(
    make_task: MakeTask, make_settings: MakeSettings, fast: OptimizerSettings
) -> None:
    rates = []
    for penalties in ((), (SpikeSparsity(0.05),), (RateBounds(0.0, 0.01, 100.0),)):
        result = train(make_task(penalties=penalties), make_settings(), fast)
        rates.append(result["history"][-1]["rates"]["hidden"])
    assert max(rates[1:]) < 0.7 * rates[0]


def test_penalties_see_hidden_layers_only(make_task: MakeTask) -> None:
    network = make_task().network
    assert list(spiking_layers(network)) == ["hidden"]
    ends_with_spikes = nn.Sequential(network.first, network.hidden)
    for module, wanted in ((network, ["hidden"]), (ends_with_spikes, [])):
        with recorded_spikes(module) as spikes:
            module(torch.zeros(2, 3, 12))
        assert list(spikes) == wanted


@pytest.mark.parametrize(
    ("changes", "error", "wanted"),
    [
        ({"train": Samples(torch.zeros(4, 12), torch.tensor([0, 1, 2, 3]))}, RangeError, "train: .* 3 outputs"),
        ({"validation": Samples(torch.zeros(2, 12), torch.tensor([0, -1]))}, RangeError, "validation: .*from -1"),
        ({"encode": lambda x: x}, ShapeError, "."),
        ({"network": nn.Linear(12, 3)}, ShapeError, "output, state"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(
    make_task: MakeTask, make_settings: MakeSettings, changes: dict[str, Any], error: type[Exception], wanted: str
) -> None:
    with pytest.raises(error, match=wanted):
        train(make_task(**changes), make_settings())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(0, 12), torch.zeros(0, dtype=torch.long)),
        (torch.zeros(4, 12), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(4, 12), torch.zeros(4)),
        (torch.zeros(4, 11), torch.zeros(4, dtype=torch.long)),
    ],
)
def test_samples_that_do_not_fit_are_refused(make_task: MakeTask, x: Tensor, y: Tensor) -> None:
    with pytest.raises(ShapeError):
        make_task(train=Samples(x, y))


def test_settings_that_leave_no_batch_are_refused(make_task: MakeTask, make_settings: MakeSettings) -> None:
    assert train(make_task(), make_settings(batch_size=1000, epochs=1))["steps"] == 1, "a smaller batch is one"
    network = make_task().network
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(RangeError, match="no parameter to train"):
        train(make_task(network=network), make_settings())


def test_delays_settle_before_the_end_and_stay(make_settings: MakeSettings, fast: OptimizerSettings) -> None:
    """What the best epoch was measured with is what freezing gives, bit for bit."""
    torch.manual_seed(0)
    x, y = (torch.rand(90, 12, 6) < 0.3).float(), torch.arange(90) % 2
    layer = LearnableDelays(6, 8, 5)
    layer.weight.data.abs_().mul_(3)  # so that its neurons fire
    network = Chain(layer, Leaky(beta=0.5), nn.Linear(8, 2), LeakyIntegrator(beta=1.0))
    task = Task(network, Samples(x[:60], y[:60]), Samples(x[60:], y[60:]), Sequence(), RateCrossEntropy())
    before = layer.delay.detach().clone()
    settings = make_settings(epochs=4, first_best=4, settle_share=0.25)
    train(task, settings, fast)
    assert bool(layer.settled)
    assert not torch.equal(layer.delay, before), "they learned in the epochs before"
    whole = Chain(layer.freeze(), *list(network.layers)[1:]).eval()
    assert torch.equal(network.eval()(Sequence()(x))[0], whole(Sequence()(x))[0])
    layer.delay.data.copy_(before)
    train(task, make_settings(epochs=2, settle_share=1.0), fast)
    assert torch.equal(layer.delay, before), "settled from the beginning"


def test_a_training_of_one_epoch_has_a_best_one(make_settings: MakeSettings) -> None:
    x, y = torch.ones(20, 6, 3), torch.arange(20) % 2
    network = Chain(LearnableDelays(3, 4, 2), nn.Linear(4, 2), LeakyIntegrator(beta=1.0))
    task = Task(network, Samples(x, y), Samples(x, y), Sequence(), RateCrossEntropy())
    assert train(task, make_settings(epochs=1))["best"]["epoch"] == 1
