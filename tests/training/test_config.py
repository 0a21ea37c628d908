"""Settings: what a file says is checked field by field, and refused by name with what was meant or wanted."""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from spikeport import RangeError, SpikeportError
from spikeport.training.config import Config, make_loss, make_penalties, read_config
from spikeport.training.losses import SnnTorchLoss, TemporalEfficient
from spikeport.training.penalties import RateBounds, SpikeSparsity
from spikeport.training.settings import LossSettings, TrainingSettings

SECTIONS = list(get_type_hints(Config).items())
FIELDS = [(name, kind, field) for name, kind in SECTIONS for field in dataclasses.fields(kind)]


def write(folder: Path, text: str, name: str = "c.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "")) == Config()
    assert read_config(write(tmp_path, "", "c.yaml")) == Config()


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml = '[training]\nepochs = 3\n[optimizer]\nlearning_rate = 1\n[network]\nlayers = ["flatten", "linear 4"]\n'
    yaml = "training:\n  epochs: 3\noptimizer: {learning_rate: 1}\nnetwork:\n  layers: [flatten, linear 4]\n"
    config = read_config(write(tmp_path, toml))
    assert config == read_config(write(tmp_path, yaml, "c.yml"))
    assert config.training.epochs == 3
    assert config.optimizer.learning_rate == 1.0
    assert config.network.layers == ("flatten", "linear 4")


@pytest.mark.parametrize(("section", "kind", "field"), FIELDS, ids=lambda value: getattr(value, "name", None))
def test_every_field_has_a_meaning_and_refuses_another_type(
    section: str, kind: type, field: "dataclasses.Field[Any]"
) -> None:
    assert len(field.metadata["meaning"]) > 4
    with pytest.raises(RangeError, match=rf"\[{section}\] {field.name} is .* wanted"):
        Config.of({section: {field.name: {"no": "value"}}})


BOUNDED = [
    each for each in FIELDS if each[2].metadata["high"] < float("inf") or each[2].metadata["low"] > float("-inf")
]


@pytest.mark.parametrize(("section", "kind", "field"), BOUNDED, ids=lambda value: getattr(value, "name", None))
def test_every_number_has_bounds_that_hold(section: str, kind: type, field: "dataclasses.Field[Any]") -> None:
    low, high = field.metadata["low"], field.metadata["high"]
    assert low <= field.default <= high
    outside = [type(field.default)(low - 1)] + ([type(field.default)(high * 2 + 1)] if high < float("inf") else [])
    outside += [float("nan")] if isinstance(field.default, float) else []
    for value in outside:
        with pytest.raises(RangeError, match=rf"{field.name} is .* wanted"):
            Config.of({section: {field.name: value}})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[training]\nepoch = 3", "did you mean 'epochs'"),
        ("[trainig]\nepochs = 3", "did you mean 'training'"),
        ("[optimizer]\nlr = 0.1\nmomentun = 0.9", "did you mean 'momentum'"),
        ("[loss]\nxyz = 1", "there is kind, gain"),
        ("training = 3", "a table of settings"),
        ('[optimizer]\nkind = "adamm"', "Did you mean 'adam"),
        ('[network]\nreset = "subtrakt"', "Did you mean 'subtract'"),
        ("[training]\nepochs = 3.0", "a whole number"),
        ("[training]\nepochs = true", "a whole number"),
        ("[training]\ntensorboard = 1", "true or false"),
        ('[data]\ntrain = ["digits"]', "a text"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path: Path, text: str, wanted: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RangeError, match=wanted) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("c.toml", "[training\n", "no TOML"),
        ("c.toml", "[a]\n[a]\n", "no TOML"),
        ("c.yaml", "training: {epochs: 1", "no YAML"),
        ("c.yaml", "training: {epochs: 1, epochs: 2}", "twice"),
        ("c.yaml", "- 1\n- 2", "sections are wanted"),
        ("c.yaml", "!!python/object/apply:os.getcwd []", "no YAML"),
        ("c.json", "{}", "ending"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str, wanted: str) -> None:
    with pytest.raises(SpikeportError, match=wanted):
        read_config(write(tmp_path, text, name))
    with pytest.raises(SpikeportError, match="cannot read"):
        read_config(tmp_path / "absent.toml")


def test_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(RangeError, match="epochs is 0, but 1 to 1000000"):
        TrainingSettings(epochs=0)
    assert dataclasses.replace(TrainingSettings(), epochs=2).epochs == 2


def test_losses_and_penalties_are_made_as_named() -> None:
    assert make_loss(LossSettings(kind="temporal_efficient", weight=0.1)) == TemporalEfficient(weight=0.1)
    assert make_penalties(LossSettings(sparsity=0.1, rate_weight=2.0)) == (SpikeSparsity(0.1), RateBounds(weight=2.0))
    assert make_penalties(LossSettings()) == ()
    with pytest.raises(RangeError, match="did you mean 'temporal_efficient'"):
        make_loss(LossSettings(kind="temporal_efficent"))


@pytest.mark.needs("snntorch")
def test_a_loss_of_snntorch_is_found_by_its_name() -> None:
    assert make_loss(LossSettings(kind="snntorch.ce_rate_loss")) == SnnTorchLoss("ce_rate_loss")
