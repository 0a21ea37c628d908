from dataclasses import replace

import numpy as np
import pytest

from spikeport import CorruptFileError, SpikeportError
from spikeport.hardware.chips import chip_names, load_chip, prices
from spikeport.hardware.mapping import map_to_chip
from spikeport.hardware.stages import stages


@pytest.mark.parametrize("name", chip_names())
def test_each_chip_maps_every_network(name, program):
    found = map_to_chip(program, load_chip(name))
    placed = {stage.name: stage.size for stage in stages(program) if stage.kind in ("neuron", "filter", "max")}
    assert {layer.name: layer.neurons for layer in found.layers} == placed
    for layer in found.layers:
        assert layer.cores * layer.neurons_per_core >= layer.neurons
        assert layer.neurons_per_core <= found.chip.core.neurons
    assert found.cores == sum(layer.cores for layer in found.layers)
    assert found.to_json()["fits"] == (not found.violations)


def test_small_cores_need_more_of_them_and_hold_their_limits(program):
    chip = load_chip("generic")
    roomy = map_to_chip(program, chip)
    tight = replace(chip, core=replace(chip.core, neurons=3, in_axons=20, out_axons=40, synapse_bits=4000))
    found = map_to_chip(program, tight)
    assert found.cores > roomy.cores
    for layer in found.layers:
        if not any(said.startswith(layer.name) for said in found.violations):
            assert layer.in_axons <= 20
            assert layer.out_axons <= 40
            assert layer.synapse_bits <= 4000


def test_axons_are_those_of_a_plain_count(program):
    """One neuron a core: inputs of a neuron are the inputs of its core."""
    chip = load_chip("generic")
    found = map_to_chip(program, replace(chip, core=replace(chip.core, neurons=1)))
    for stage in stages(program):
        if stage.kind == "neuron":
            wanted = max(sum(int((p.matrix[[row]] != 0).sum()) for p in stage.projections) for row in range(stage.size))
            layer = next(layer for layer in found.layers if layer.name == stage.name)
            assert layer.in_axons == wanted
            bits = chip.limits.weight_bits + 1 + chip.limits.index_bits
            assert layer.synapse_bits == wanted * bits


def test_what_does_not_fit_is_said_with_the_way_out(program):
    chip = load_chip("loihi1")
    said = map_to_chip(program, chip).violations
    kinds = {node.attributes["reset"] for node in program.neurons}
    assert any("reset subtract" in text for text in said) == ("subtract" in kinds)
    codes = {node.attributes["code"] for node in program.neurons}
    assert any("spikes, the chip has binary" in text for text in said) == (codes != {"binary"})
    one = replace(chip, core=replace(chip.core, in_axons=1, count=1))
    assert any("split the layer" in text for text in map_to_chip(program, one).violations)
    assert any("use" in text and "chips" in text for text in map_to_chip(program, one).violations)


def test_a_chip_of_ones_own(tmp_path):
    text = (chips := load_chip("loihi2")).title
    path = tmp_path / "mine.toml"
    source = "\n".join(
        [
            f'title = "{text}"',
            "approximate = false",
            "[core]",
            *(f"{k} = {v}" for k, v in vars(chips.core).items()),
            "[limits]",
            *(f"{k} = {list(v) if isinstance(v, tuple) else v}" for k, v in vars(chips.limits).items()),
        ]
    )
    path.write_text(source)
    assert load_chip(path) == replace(chips, name="mine", approximate=False)
    for bad in ("neurons = 8192", "delay = 63"):
        path.write_text(source.replace(bad, bad.split("=")[0] + "= -1"))
        with pytest.raises(CorruptFileError, match="describes no chip"):
            load_chip(path)
    senseless = {
        "approximate = false": 'approximate = "no"',
        "weight_bits = 8": "weight_bits = 0",
        "threshold_bits = 17": "threshold_bits = 99999999999",
        "bias_bits = 13": "bias_bits = 0",
        f"count = {chips.core.count}": 'count = ["x"]',
        "resets = ['subtract'": "resets = ['subtrct'",
        f"spikes = {list(chips.limits.spikes)}": "spikes = 3",
    }
    for line, bad in senseless.items():
        assert line in source
        path.write_text(source.replace(line, bad))
        with pytest.raises(CorruptFileError, match=f"describes no chip .*{bad.split(' = ')[0]} is"):
            load_chip(path)
    path.write_text(source.replace("neurons = 8192", "neutrons = 8192"))
    with pytest.raises(CorruptFileError, match="needs exactly"):
        load_chip(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFileError):
        load_chip(path)


@pytest.mark.parametrize("name", ["loihi9", "prices", "../prices", "nowhere.toml"])
def test_chips_that_are_not_there(name):
    with pytest.raises(SpikeportError, match="there is no chip"):
        load_chip(name)


def test_every_price_has_a_source_and_no_term_has_two():
    rows = prices()
    assert len({(row.chip, row.term) for row in rows}) == len(rows)
    for chip in {row.chip for row in rows}:
        scopes = {row.scope for row in rows if row.chip == chip}
        assert len(scopes) == 1, f"{chip} mixes figures that hold everything with single terms"
    assert np.all([len(row.source) > 20 for row in rows])
