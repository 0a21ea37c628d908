"""``spikeport train``: settings in, a folder and a table out; it resumes, and refuses by name."""

from pathlib import Path

import numpy as np
import pytest

from spikeport.training.loop import CHECKPOINT

CONFIG = """
[data]
limit = 200
test = "digits"
[encoder]
steps = 3
[training]
epochs = {epochs}
tensorboard = false
accelerator = "cpu"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.format(epochs=1), encoding="utf-8")
    return path


def test_it_trains_and_goes_on(command, config: Path, tmp_path: Path) -> None:
    first = command("train", config, "-o", "run", "--json")
    assert first.code == 0, first.err
    assert (tmp_path / "run" / CHECKPOINT).is_file()
    assert set(first.json) >= {"best", "history", "notes", "steps", "test", "parameters"}
    assert "resume" in command("train", config, "-o", "run").error
    config.write_text(CONFIG.format(epochs=2), encoding="utf-8")
    second = command("train", config, "-o", "run", "--resume", "--json")
    assert second.json["history"][:1] == first.json["history"]
    assert len(second.json["history"]) == 2


def test_the_trained_network_is_evaluated_as_a_converted_one(command, config: Path) -> None:
    trained = command("train", config, "-o", "run", "--json").json
    assert trained["network"] == "run/network"
    evaluated = command("evaluate", "run/network", "--data", "digits", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["n"] == 360
    whole = command("evaluate", "run/network", "--data", "digits", "--limit", "200", "--json").json
    assert whole["accuracy_by_step"][-1] == pytest.approx(trained["test"]["accuracy"])


def test_a_network_that_sees_other_samples_each_step_is_told_to_have_no_folder(command, config: Path) -> None:
    config.write_text(CONFIG.format(epochs=1).replace("steps = 3", 'steps = 3\nkind = "rate"'), encoding="utf-8")
    trained = command("train", config, "-o", "run", "--json").json
    assert trained["network"] is None
    assert "no network folder" in trained["notes"][-1]
    assert not Path("run/network").exists()


def test_another_network_is_not_resumed(command, config: Path) -> None:
    assert command("train", config, "-o", "run", "--json").code == 0
    again = CONFIG.format(epochs=2)
    for changed in (again + "[network]\nbeta = 0.3\n", again.replace("steps = 3", "steps = 5")):
        config.write_text(changed, encoding="utf-8")
        done = command("train", config, "-o", "run", "--resume")
        assert done.code == 2
        assert "another training" in done.error


def test_test_data_are_looked_at_before_the_work(command, config: Path) -> None:
    x, y = np.zeros((20, 8, 8), np.float32), np.arange(20) % 10
    np.savez("small.npz", x=x[:, :5], y=y)
    np.savez("odd.npz", x=x, y=y + 5)
    for spec, said in (("nope.npz", "nope.npz"), ("small.npz", "shape"), ("odd.npz", "labels")):
        config.write_text(CONFIG.format(epochs=1).replace('test = "digits"', f'test = "{spec}"'), encoding="utf-8")
        done = command("train", config, "-o", "run")
        assert done.code == 2
        assert said in done.error
        assert not Path("run").exists()


def test_people_get_a_table(command, config: Path) -> None:
    shown = command("train", config, "-o", "run")
    assert shown.code == 0, shown.err
    for text in ("validation accuracy", "test accuracy", "best epoch", "layers.2"):
        assert text in shown.out


def test_an_accuracy_that_is_too_low_ends_with_3(command, config: Path) -> None:
    missed = command("train", config, "-o", "run", "--min-accuracy", "1.0")
    assert missed.code == 3
    assert "test accuracy" in missed.error


def test_a_wrong_key_is_refused_by_name(command, config: Path) -> None:
    config.write_text("[training]\nepoch = 1\n", encoding="utf-8")
    refused = command("train", config, "-o", "run")
    assert refused.code == 2
    assert "did you mean 'epochs'" in refused.error
    assert not Path("run").exists()


def test_a_silent_layer_is_noted(command, config: Path) -> None:
    silent = CONFIG.format(epochs=1) + "[network]\nthreshold = 1000.0\n"
    config.write_text(silent, encoding="utf-8")
    told = command("train", config, "-o", "run")
    assert told.code == 0
    assert "note: layer layers.2 fired no spike" in " ".join(told.err.split())


def test_a_damaged_checkpoint_is_refused(command, config: Path, tmp_path: Path) -> None:
    command("train", config, "-o", "run")
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1])
    refused = command("train", config, "-o", "run", "--resume")
    assert refused.code == 2
    assert "no valid checkpoint" in refused.error
