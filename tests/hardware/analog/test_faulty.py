"""Faults during a run on crossbars: each chip has its own, the first those of the digital engines."""

import numpy as np
import pytest
import torch

from spikeport.hardware.analog.chips import program_network
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.engine import on_all
from spikeport.hardware.analog.faulty import FaultyAnalogEngine, FaultyAnalogIntegerEngine
from spikeport.hardware.analog.integer import program_integers
from spikeport.hardware.faulty_engine import FaultyIntegerEngine
from spikeport.networks.faults import Faults
from spikeport.networks.faulty_engine import FaultyEngine
from spikeport.networks.transient import Transient

STEPS = 8
HIT = Faults(dropped_spikes=0.2, state=0.002)
IDEAL = Crossbar(load_device("ideal"), scale="power_of_two")


def outputs(engine, x: torch.Tensor, chunks=(STEPS,)) -> torch.Tensor:
    state, found, done = engine.start(x) if engine.constant_input else engine.initial_state(x.shape[1]), [], 0
    for steps in chunks:
        block = x if engine.constant_input else x[done : done + steps]
        output, state = engine.advance(block, state, steps)
        found.append(output)
        done += steps
    return torch.cat(found)


def test_the_first_ideal_chip_is_the_digital_engine(program, samples) -> None:
    x, transient = torch.from_numpy(samples), Transient(program.graph, HIT, 3)
    chips = program_integers(program, IDEAL, instances=2, seed=0).at(0.0)
    found = outputs(FaultyAnalogIntegerEngine(program, chips, transient), on_all(x, 2))
    wanted = outputs(FaultyIntegerEngine(program, transient), x)
    assert torch.equal(found[:, : len(x)], wanted)
    assert not torch.equal(found[:, len(x) :], wanted), "the second chip is hit elsewhere"


@pytest.mark.parametrize("program", ["binary", "signed", "leak"], indirect=True)
def test_recordings_too(program) -> None:
    shape = program.graph.shapes[program.graph.input.name]
    x = torch.from_numpy(np.random.default_rng(1).uniform(-2, 2, (STEPS, 3, *shape)).astype(np.float32))
    transient = Transient(program.graph, HIT, 0)
    chips = program_integers(program, IDEAL, instances=2, seed=0).at(0.0)
    engine = FaultyAnalogIntegerEngine(program, chips, transient, constant_input=False)
    both = x.repeat(1, 2, *([1] * (x.ndim - 2)))
    wanted = outputs(FaultyIntegerEngine(program, transient, constant_input=False), x)
    found = outputs(engine, both)
    assert torch.equal(found[:, :3], wanted)
    assert not torch.equal(found[:, 3:], wanted)
    torch.testing.assert_close(outputs(engine, both, (3, 5)), found, rtol=0, atol=0)


def test_splitting_time_and_the_batch_changes_nothing(graph, samples) -> None:
    x = torch.from_numpy(samples)
    chips = program_network(graph, Crossbar(load_device("pcm")), instances=1, seed=4).at(100.0)
    transient = Transient(graph, Faults(dropped_spikes=0.2), 0)
    engine = FaultyAnalogEngine(chips, transient, max_steps=STEPS)
    whole = outputs(engine, x)
    torch.testing.assert_close(outputs(engine, x, (1, 4, 3)), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs(engine, x[2:5]), whole[:, 2:5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("graph", ["binary", "leak"], indirect=True)
def test_real_networks_lose_the_spikes_that_the_float_engine_loses(graph, samples) -> None:
    x, transient = torch.from_numpy(samples), Transient(graph, Faults(dropped_spikes=1.0), 0)
    chips = program_network(graph, IDEAL, instances=2, seed=4).at(0.0)
    found = outputs(FaultyAnalogEngine(chips, transient, max_steps=STEPS), on_all(x, 2))
    wanted = outputs(FaultyEngine(transient, max_steps=STEPS), x)
    torch.testing.assert_close(found, wanted.repeat(1, 2, 1), rtol=1e-4, atol=1e-4)
