"""Training in levels: what is held out, that the spiking network says what the one in levels says, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeport import RangeError, SpikeportError
from spikeport.conversion.methods import Recipe
from spikeport.conversion.source import analog_output
from spikeport.conversion.spiking import spiking
from spikeport.conversion.thresholds import Trained
from spikeport.data import Dataset, content_hashes, load_data
from spikeport.evaluation.evaluate import evaluate_network
from spikeport.evaluation.finetune import Finetuning, finetune_network, folder_source
from spikeport.evaluation.folder import write_folder
from spikeport.evaluation.spike_tuning import SpikeTuning
from spikeport.networks.outputs import outputs_over_time
from spikeport.training.settings import OptimizerSettings, TrainingSettings

QUICK = Finetuning(
    4,
    TrainingSettings(epochs=2, batch_size=32, accelerator="cpu", tensorboard=False),
    OptimizerSettings(learning_rate=2e-3),
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", part="calibration").take(np.arange(700))


@pytest.fixture(scope="module")
def made(digits, data: Dataset):
    return finetune_network(digits.source, data, QUICK)


def test_it_learns_and_reports_both_networks_on_samples_that_chose_nothing(made) -> None:
    about = made.report["finetune"]
    assert about["levels"] == 4
    assert about["n"] == made.report["n"] == made.report["n_exit"]
    assert about["quantised_accuracy"] == made.report["ann_accuracy"]
    assert about["quantised_accuracy"] > 0.85
    assert len(about["epochs"]) == 2
    assert made.report["timesteps"] == 4
    assert [row["source"] for row in made.report["layers"]] == ["ReLU in 4 levels"] * len(made.report["layers"])


def test_the_first_layer_says_exactly_what_the_levels_say(made, data: Dataset) -> None:
    graph = made.analog
    assert graph is not None
    first = graph.of_operator("activation")[0].name
    found: dict[str, torch.Tensor] = {}
    outputs_over_time(graph, data.x[:40], 1, observe=lambda _: lambda name, x: found.update({name: x[0]}))
    wanted = found[first]
    total = torch.zeros(())

    def count(name: str, values: torch.Tensor) -> None:
        nonlocal total
        total = total + values.sum(0) if name == first else total

    neuron = made.spiking.by_name[first]
    outputs_over_time(made.spiking, data.x[:40], 4, observe=lambda _: count)
    if not neuron.arrays["bias"].any():  # a bias correction would move it
        theta = torch.from_numpy(neuron.arrays["threshold"].copy()).view(-1, 1, 1)
        # where a current lies in the middle between two levels the last bit decides
        assert float(((theta * total / 4 - wanted).abs() > 1e-5).double().mean()) < 1e-3


def test_a_burst_of_as_many_spikes_says_in_one_step_what_the_levels_say(made, data: Dataset) -> None:
    graph = made.analog
    assert graph is not None
    x = data.x[:100]
    spiking_graph = spiking(graph, Trained().thresholds(graph, x, 1), "burst:4")
    said = outputs_over_time(spiking_graph, x, 1)[0].numpy()
    wanted = analog_output(graph, x)
    assert float((np.abs(said - wanted) > 1e-3).any(1).mean()) < 0.05  # halves that the last bit decides


def test_the_spikes_themselves_are_trained_on_and_the_better_network_is_kept(digits, data: Dataset) -> None:
    plain = replace(QUICK, levels=2)
    before = finetune_network(digits.source, data, plain, method=Recipe(Trained()))
    after = finetune_network(digits.source, data, replace(plain, spikes=SpikeTuning(4, 2e-3)), method=Recipe(Trained()))
    about = after.report["finetune"]["spikes"]
    assert about["kept"]
    assert about["validation_accuracy"][1] >= about["validation_accuracy"][0]
    assert after.report["method"] == "trained + bias correction + training of the spikes"
    right = []
    for made in (before, after):
        labels = outputs_over_time(made.spiking, data.x, 1)[0].argmax(1).numpy()
        right.append(float((labels == data.y).mean()))
    assert right[1] > right[0] + 0.01
    for node in after.spiking.of_operator("neuron"):  # where it fires is still what conversion said
        np.testing.assert_array_equal(node.arrays["threshold"], before.spiking.by_name[node.name].arrays["threshold"])


def test_a_network_that_gets_worse_is_not_kept(digits, data: Dataset) -> None:
    how = replace(QUICK, spikes=SpikeTuning(1, 10.0))
    made = finetune_network(digits.source, data, how, method=Recipe(Trained()))
    assert not made.report["finetune"]["spikes"]["kept"]
    assert made.report["method"] == "trained + bias correction"
    assert made.report["accuracy_by_step"][-1] > 0.8


def test_samples_that_trained_are_refused_in_an_evaluation(made, data: Dataset) -> None:
    for rows in (slice(0, 5), slice(300, 305)):
        with pytest.raises(RangeError, match="calibration"):
            evaluate_network(made.spiking, made.analog, made.exit, data.take(np.arange(700)[rows]), timing=False)


def test_more_levels_come_nearer_to_the_network_it_began_with(digits, data: Dataset) -> None:
    still = replace(QUICK, training=replace(QUICK.training, epochs=1), optimizer=OptimizerSettings(learning_rate=0.0))
    errors = []
    for levels in (2, 16):
        graph = finetune_network(digits.source, data, replace(still, levels=levels), method=Recipe(Trained())).analog
        assert graph is not None
        wanted = analog_output(digits.source.graph, data.x[:60])
        errors.append(float(np.abs(analog_output(graph, data.x[:60]) - wanted).mean()))
    assert errors[1] < errors[0] / 2


def test_a_folder_can_be_trained_on(made, digits, data: Dataset, tmp_path, render) -> None:
    write_folder(tmp_path / "made", made, render)
    source, preprocessing, (features, classes) = folder_source(tmp_path / "made")
    assert (features, classes, preprocessing) == (data.x.shape[1:], 10, data.preprocessing)
    again = finetune_network(source, data, QUICK, timesteps=2)
    assert again.report["timesteps"] == 2
    assert again.report["finetune"]["source_accuracy"] == made.report["ann_accuracy"]


def test_bad_data_are_refused(digits, data: Dataset) -> None:
    with pytest.raises(SpikeportError, match="no labels"):
        finetune_network(digits.source, replace(data, y=None), QUICK)
    with pytest.raises(RangeError, match="at least 50"):
        finetune_network(digits.source, data.take(np.arange(100)), QUICK)
    copies = np.repeat(data.x[:20], 30, 0)
    labels = np.repeat(data.y[:20], 30)
    same = replace(data, x=copies, y=labels, hashes=content_hashes(copies))
    with pytest.raises(RangeError, match="different ones"):
        finetune_network(digits.source, same, QUICK)
    with pytest.raises(RangeError, match="differential"):
        finetune_network(digits.source, data, QUICK, code="differential")
    with pytest.raises(RangeError, match="65 steps cannot be trained"):
        finetune_network(digits.source, data, replace(QUICK, spikes=SpikeTuning(1)), timesteps=65)
    with pytest.raises(RangeError, match="levels is 0"):
        finetune_network(digits.source, data, replace(QUICK, levels=0))
