"""aihwkit's tiles as executor of a whole run: the digital network where nothing errs, and our chips' accuracy."""

from dataclasses import replace
from math import sqrt

import pytest
import torch

from spikeport import RangeError, SpikeportError, UnsupportedError
from spikeport.evaluation.aihwkit_run import run_on_aihwkit
from spikeport.evaluation.analog import AnalogDesign, run_on_chips
from spikeport.evaluation.chips import network_on_chips
from spikeport.inference import FixedSteps
from spikeport.networks.outputs import outputs_over_time

pytestmark = pytest.mark.needs("aihwkit")
STEPS = 8
DAY = 86400.0
FIXED = {"steps": STEPS, "rule": FixedSteps(STEPS)}


def test_ideal_tiles_decide_as_the_digital_network(digits) -> None:
    graph, data = digits.converted.spiking, digits.evaluation
    design = AnalogDesign.of("ideal", time_s=0, instances=1)
    design = replace(design, crossbar=replace(design.crossbar, scale="maximum"))
    result = run_on_aihwkit(graph, design, data, **FIXED)
    found = outputs_over_time(graph, data.x, STEPS).argmax(-1) == torch.from_numpy(data.y)
    assert result["accuracy_by_step"] == pytest.approx(found.double().mean(1).tolist(), abs=1.5 / len(data))
    assert (result["instances"], result["mean_steps"], result["accuracy_ci95"]) == (1, STEPS, None)


def test_chips_of_theirs_are_as_accurate_as_ours(digits) -> None:
    """A month after writing, without the part of the noise that is drawn at every read, which theirs lack."""
    graph, data = digits.converted.spiking, digits.evaluation
    design = AnalogDesign.of("pcm", time_s=30 * DAY, instances=6)
    theirs = run_on_aihwkit(graph, design, data, **FIXED)["all_steps"]
    crossbar = replace(design.crossbar, device=replace(design.crossbar.device, read_window_s=0.0))
    chips = network_on_chips(graph, crossbar, time_s=design.time_s, instances=6, seed=0)
    ours = run_on_chips(graph, chips, data, **FIXED)["all_steps"]
    error = sqrt((theirs["deviation"] ** 2 + ours["deviation"] ** 2) / 6)
    assert abs(theirs["mean"] - ours["mean"]) < 4 * error + 0.005
    assert ours["mean"] > 0.6


def test_what_cannot_be_run_is_refused(digits) -> None:
    graph, data = digits.converted.spiking, digits.evaluation
    design = AnalogDesign.of("pcm", time_s=DAY, instances=1)
    with pytest.raises(RangeError, match="the rule needs 8"):
        run_on_aihwkit(graph, design, data, steps=4, rule=FixedSteps(STEPS))
    with pytest.raises(SpikeportError, match="no labels"):
        run_on_aihwkit(graph, design, replace(data, y=None), **FIXED)
    whole = replace(design, crossbar=replace(design.crossbar, scale="power_of_two"))
    with pytest.raises(UnsupportedError, match="scale 'power_of_two'"):
        run_on_aihwkit(graph, whole, data, **FIXED)


def test_samples_that_calibrated_the_rule_are_refused(digits) -> None:
    design = AnalogDesign.of("pcm", time_s=DAY, instances=1)
    held = digits.converted
    with pytest.raises(SpikeportError, match="calibration"):
        run_on_aihwkit(held.spiking, design, digits.calibration, shared=held.exit.calibration_hashes, **FIXED)
