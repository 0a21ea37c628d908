"""Networks on many chips: what is measured, what fitting to the chips brings back, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from spikeport import RangeError, SpikeportError
from spikeport.data import Dataset
from spikeport.evaluation.analog import AnalogDesign, measure_on_chips, spread
from spikeport.evaluation.chips import chip_activity, chip_outputs, network_on_chips, reads_until
from spikeport.evaluation.engines import engine_of
from spikeport.evaluation.integer import lowered
from spikeport.evaluation.recalibrate import fit_corrections, recalibrate
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device import Device
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.energy import count
from spikeport.inference import FixedSteps
from spikeport.networks.activity import fan_out
from spikeport.networks.outputs import outputs_of

STEPS = 8


def some(data: Dataset, n: int) -> Dataset:
    return data.take(np.arange(n))


def drifting(factor: float = 0.6) -> Crossbar:
    """Every conductance falls to the same share: no noise, no compensation."""
    exponent = -np.log(factor) / np.log(11.0)
    law = (0.0, exponent, exponent, exponent)
    device = Device("falling", 0.0, 1.0, drift_mean=law, drift_spread=(0.0, 0.0, 0.0, 0.0), drift_start_s=1.0)
    return Crossbar(device, compensation=False)


@pytest.mark.parametrize("integer", [False, True])
def test_an_ideal_device_decides_as_the_network_does(digits, integer) -> None:
    network = lowered(digits.converted.spiking) if integer else digits.converted.spiking
    data = some(digits.evaluation, 40)
    chips = network_on_chips(
        network, Crossbar(load_device("ideal"), scale="power_of_two"), time_s=1.0, instances=2, seed=0
    )
    found = chip_outputs(network, chips, data.x, STEPS)
    wanted = outputs_of(engine_of(network, max_steps=STEPS), (10,), data.x, STEPS)
    torch.testing.assert_close(found, wanted[:, None].expand_as(found), rtol=1e-4, atol=1e-4)


def test_reads_are_counted_as_spikes_meet_them(digits) -> None:
    """Devices on active rows: for each spike, two for every synapse that it reaches."""
    program = lowered(digits.converted.spiking)
    data = some(digits.evaluation, 10)
    chips = network_on_chips(program, Crossbar(load_device("ideal")), time_s=1.0, instances=2, seed=0)
    activity = chip_activity(program, chips, data.x, STEPS)
    decided = torch.tensor([[3] * 10, [8] * 10])
    layers, updates = reads_until(program, chips, activity, decided)
    spikes: dict[str, Any] = {}

    def observe(name: str, values: torch.Tensor) -> None:
        if name in activity.spikes:
            spikes.setdefault(name, []).append(values.numpy())

    outputs_of(engine_of(program, max_steps=STEPS), (10,), data.x, STEPS, observe=lambda first: observe)
    seen = {name: np.concatenate(parts) for name, parts in spikes.items()}
    wanted = [count(program, seen, decided=np.full(10, steps)) for steps in (3, 8)]
    reading = [layer for layer in layers if layer.pulses == 1]
    reached = sum(layer.active_rows * layer.columns for layer in reading)
    plain = set(fan_out(program.graph)) and all(layer.pulses in (1, 8) for layer in layers)
    assert updates == sum(each.neuron_updates for each in wanted)
    assert not plain or reached == sum(each.accumulates for each in wanted)
    for name, found in activity.spikes.items():
        assert float(found[:, 0].sum()) == float(found[:, 1].sum()) == np.abs(seen[name]).sum()


def test_fitting_undoes_a_common_drift(digits) -> None:
    network, x = digits.converted.spiking, digits.calibration.x[:60]
    chips = network_on_chips(network, drifting(0.6), time_s=10.0, instances=2, seed=0)
    corrections = fit_corrections(network, chips, x, STEPS)
    for name, each in corrections.items():
        alive = each.gain != 1
        assert ((each.gain[alive] * 0.6 - 1).abs() < 0.02).all(), name
    data = some(digits.evaluation, 60)
    wanted = outputs_of(engine_of(network, max_steps=STEPS), (10,), data.x, STEPS)[-1].argmax(1)
    plain, fitted = (chip_outputs(network, each, data.x, STEPS)[-1].argmax(-1) for each in
                     (chips, chips.corrected(corrections)))  # fmt: skip
    assert (fitted == wanted).double().mean() > 0.97
    assert (fitted == wanted).sum() > (plain == wanted).sum()


def test_what_needs_no_fitting_stays_as_it_is(digits) -> None:
    network = digits.converted.spiking
    chips = network_on_chips(network, Crossbar(load_device("ideal")), time_s=1.0, instances=1, seed=0)
    for each in fit_corrections(network, chips, digits.calibration.x[:40], STEPS).values():
        assert ((each.gain - 1).abs() < 1e-3).all()
        assert (each.bias.abs() < 1e-3).all()


@pytest.mark.parametrize("integer", [False, True])
def test_a_run_on_noisy_chips_says_all_it_should(digits, integer) -> None:
    network = lowered(digits.converted.spiking) if integer else digits.converted.spiking
    design = AnalogDesign.of("pcm", time_s=86400.0, instances=3, adc_bits=8)
    data = some(digits.evaluation, 60)
    found = measure_on_chips(
        network, digits.converted.exit, data, design, calibration=some(digits.calibration, 150), max_loss=0.01
    )
    chips = found["accuracy_over_chips"]
    assert chips["lowest"] <= chips["mean"] <= chips["highest"]
    assert len(chips["by_chip"]) == found["instances"] == 3
    assert found["accuracy"] > 0.8
    assert 1 <= found["mean_steps"] <= STEPS == len(found["accuracy_by_step"])
    assert found["recalibrated"]["n_neurons"] + found["recalibrated"]["n_exit"] == 150
    assert found["converters"]["conversions"] > 0
    assert found["energy"]["early_exit"]["total"] < found["energy"]["all_steps"]["total"]
    assert 0 < found["energy"]["saving"] < 1
    steps = [point[0] for point in found["dynamic"]]
    assert steps == sorted(steps, reverse=True)
    assert found == measure_on_chips(
        network, digits.converted.exit, data, design, calibration=some(digits.calibration, 150), max_loss=0.01
    ) | {"seconds": found["seconds"]}


def test_the_spread_of_one_chip_has_no_interval() -> None:
    assert spread(torch.tensor([0.5]))["ci95"] is None
    assert spread(torch.tensor([0.5, 0.7]))["mean"] == pytest.approx(0.6)


def test_bad_input(digits) -> None:
    network, exit_data, data = digits.converted.spiking, digits.converted.exit, some(digits.evaluation, 30)
    design = AnalogDesign.of("pcm", time_s=1.0, instances=1)
    with pytest.raises(RangeError, match="0 instances"):
        AnalogDesign.of("pcm", time_s=1.0, instances=0)
    with pytest.raises(RangeError, match="known at"):
        AnalogDesign.of("reram", time_s=2592000.0)
    with pytest.raises(SpikeportError, match="no device 'mram'"):
        AnalogDesign.of("mram", time_s=1.0)
    with pytest.raises(RangeError, match="hand over calibration samples"):
        measure_on_chips(network, exit_data, data, AnalogDesign.of("pcm", time_s=1.0, adc_bits=6))
    with pytest.raises(RangeError, match="possible here"):
        measure_on_chips(network, exit_data, data, design, steps=99)
    with pytest.raises(SpikeportError, match="integer network"):
        measure_on_chips(network, exit_data, data, design, compare_with="reference")
    with pytest.raises(RangeError):  # calibration samples that are evaluated, too
        measure_on_chips(network, exit_data, data, design, calibration=data)
    chips = network_on_chips(network, design.crossbar, time_s=1.0, instances=1, seed=0)
    with pytest.raises(RangeError, match="20 at least"):
        recalibrate(network, chips, some(data, 5), steps=2)
    with pytest.raises(SpikeportError, match="no labels"):
        recalibrate(network, chips, Dataset(data.x, None, data.hashes, "none", data.preprocessing), steps=2)
    assert recalibrate(network, chips, data, steps=2, policy=FixedSteps(2)).rule == FixedSteps(2)
