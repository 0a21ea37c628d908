"""A network that was trained with spikes goes through evaluate and report as a converted one does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from spikeport import RangeError, SpikeportError, load_data, render_report
from spikeport.cli.main import app
from spikeport.data import Dataset
from spikeport.evaluation.folder import read_folder, write_folder
from spikeport.evaluation.trained import trained_network
from spikeport.networks import Chain
from spikeport.neurons import Leaky, LeakyIntegrator

STEPS = 8


@pytest.fixture(scope="module")
def parts() -> tuple[Chain, Dataset, np.ndarray]:
    """A small network, the samples that it was not trained on, and the hashes of those that it was."""
    torch.manual_seed(0)
    network = Chain(nn.Flatten(), nn.Linear(64, 48), Leaky(0.9), nn.Linear(48, 10), LeakyIntegrator(0.9))
    held = load_data("digits", part="calibration")
    x, y = torch.from_numpy(held.x), torch.from_numpy(held.y)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(40):
        output = network(x[:1000].expand(STEPS, *x[:1000].shape))[0].mean(0)
        loss = nn.functional.cross_entropy(output, y[:1000])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rest = Dataset(held.x[1000:], held.y[1000:], held.hashes[1000:], held.name, held.preprocessing)
    return network.eval(), rest, held.hashes[:1000]


@pytest.fixture(scope="module")
def folder(parts: tuple[Chain, Dataset, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, held_out, hashes = parts
    place = tmp_path_factory.mktemp("trained") / "network"
    write_folder(place, trained_network(network, held_out, timesteps=STEPS, trained_on=hashes), render_report)
    return place


def test_the_command_evaluates_it_and_exits_early(folder: Path, parts: tuple[Chain, Dataset, np.ndarray]) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(folder), "--data", "digits", "--no-timing", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["ann_accuracy"] is None
    assert found["accuracy_by_step"][-1] > 0.85
    assert found["early_exit"]["mean_steps"] < STEPS
    assert found["early_exit"]["engine_mismatches"] == 0
    x = torch.from_numpy(load_data("digits", part="evaluation").x)
    answers = parts[0](x.expand(STEPS, *x.shape))[0].sum(0).argmax(1).numpy()
    right = float((answers == load_data("digits", part="evaluation").y).mean())
    assert found["accuracy_by_step"][-1] == pytest.approx(right, abs=0.006), "as the Python network decides"


def test_people_get_a_table_and_a_page(folder: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(folder), "--data", "digits", "--no-timing"])
    assert done.exit_code == 0, done.output
    assert "mean steps to a decision" in done.output
    page = (folder / "report.html").read_text()
    assert "trained with spikes" in page
    assert "NaN" not in page


def test_the_folder_reads_back_without_an_analog_network(folder: Path) -> None:
    held = read_folder(folder)
    assert held.analog is None
    assert not (folder / "ann.safetensors").exists()
    assert all(row["rate_correlation"] is None for row in held.report["convert"]["layers"])


def test_what_it_was_trained_on_is_refused_as_data(folder: Path, parts: tuple[Chain, Dataset, np.ndarray]) -> None:
    from spikeport import evaluate_network

    held, every = read_folder(folder), load_data("digits", part="calibration")
    with pytest.raises(RangeError):
        evaluate_network(held.spiking, None, held.exit, every, timing=False)


def test_labels_are_needed(folder: Path, parts: tuple[Chain, Dataset, np.ndarray]) -> None:
    from spikeport import evaluate_network

    network, held_out, hashes = parts
    bare = Dataset(held_out.x, None, held_out.hashes, held_out.name, held_out.preprocessing)
    with pytest.raises(SpikeportError, match="labels"):
        trained_network(network, bare, timesteps=STEPS, trained_on=hashes)
    held, data = read_folder(folder), load_data("digits", part="evaluation")
    with pytest.raises(SpikeportError, match="labels"):
        evaluate_network(
            held.spiking,
            None,
            held.exit,
            Dataset(data.x, None, data.hashes, data.name, data.preprocessing),
            timing=False,
        )
