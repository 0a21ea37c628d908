"""Networks on crossbars: exact where the device is, noisy as it says where it is not, and never by way of the batch."""

import numpy as np
import pytest
import torch

from spikeport import RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.hardware.analog.chips import program_network
from spikeport.hardware.analog.crossbar import Crossbar
from spikeport.hardware.analog.device import Device
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.engine import AnalogEngine, on_all
from spikeport.hardware.analog.integer import AnalogBackend
from spikeport.hardware.analog.ranges import fit_converters
from spikeport.hardware.backend import Recording, compare, compiled, reference_recording
from spikeport.networks.engine import Engine
from spikeport.networks.graph import Graph, make_node

STEPS = 8


def chips(graph: Graph, device: str = "pcm", *, instances: int = 3, time_s: float = 100.0, **design):
    crossbar = Crossbar(load_device(device), **design)
    return program_network(graph, crossbar, instances=instances, seed=4).at(time_s)


def outputs(engine: Engine, x: torch.Tensor, chunks=(STEPS,), observe=None) -> torch.Tensor:
    state, found = engine.start(x), []
    for steps in chunks:
        output, state = engine.advance(x, state, steps, observe)
        found.append(output)
    return torch.cat(found)


def test_an_ideal_device_gives_the_reference_spike_for_spike(program, samples) -> None:
    backend = AnalogBackend(Crossbar(load_device("ideal"), scale="power_of_two"), instances=2)
    names = [node.name for node in program.neurons]
    with compiled(backend, program) as session:
        session.start(samples)
        parts = [session.advance(steps, record=names) for steps in (3, 5)]
    wanted = reference_recording(program, samples, 8, record=names)
    for chip in (slice(0, 7), slice(7, 14)):
        output = np.concatenate([part.output[:, chip] for part in parts])
        spikes = {name: np.concatenate([part.spikes[name][:, chip] for part in parts]) for name in names}
        assert compare(Recording(output, spikes), wanted).exact


def test_sequences_too(program) -> None:
    shape = program.graph.shapes[program.graph.input.name]
    x = np.random.default_rng(1).uniform(-2, 2, (6, 3, *shape)).astype(np.float32)
    with compiled(AnalogBackend(Crossbar(load_device("ideal"), scale="power_of_two")), program) as session:
        session.start(x, constant=False)
        found = np.concatenate([session.advance(2).output, session.advance(4).output])
    assert (found == reference_recording(program, x, 6, constant=False).output).all()


def test_an_ideal_device_gives_the_real_values_of_the_first_layer(graph, samples) -> None:
    values: dict[str, list[torch.Tensor]] = {}
    first = next(node.name for node in graph.nodes if "weight" in node.arrays)

    def observe(name: str, value: torch.Tensor) -> None:
        if name == first:
            values.setdefault(name, []).append(value)

    x = torch.from_numpy(samples)
    for engine in (Engine(graph, max_steps=STEPS), AnalogEngine(chips(graph, "ideal", instances=1), max_steps=STEPS)):
        engine.start(x, observe)
    wanted, found = values[first]
    assert ((found - wanted).abs() <= 1e-4 * wanted.abs().clamp(min=1e-2)).all()


@pytest.mark.parametrize("device", ["pcm", "reram"])
def test_time_and_batch_may_be_split_anywhere(graph, samples, device) -> None:
    found = chips(graph, device, instances=1, time_s=1.0)
    x = torch.from_numpy(samples)
    engine = AnalogEngine(found, max_steps=STEPS)
    whole = outputs(engine, x)
    torch.testing.assert_close(outputs(engine, x, (1, 2, 5)), whole)
    torch.testing.assert_close(outputs(engine, x[4:5]), whole[:, 4:5])
    state = engine.start(x)
    first, state = engine.advance(x, state, 3)
    rest, _ = engine.advance(x[[5, 2]], engine.select(state, torch.tensor([5, 2])), 5)
    torch.testing.assert_close(torch.cat([first[:, [5, 2]], rest]), whole[:, [5, 2]])


def test_a_chip_is_the_same_however_many_there_are(graph, samples) -> None:
    x = torch.from_numpy(samples)
    few, many = (
        outputs(AnalogEngine(chips(graph, instances=n), max_steps=STEPS), on_all(x, n)).unflatten(1, (n, -1))
        for n in (2, 5)
    )
    torch.testing.assert_close(few, many[:, :2])
    assert not torch.equal(many[:, 0], many[:, 1])


def first_layer(samples: int = 400) -> tuple[Graph, torch.Tensor]:
    weight = np.random.default_rng(0).normal(0, 1, (6, 20))
    nodes = [
        make_node("x", "input", shape=(20,)),
        make_node("a", "linear", ["x"], arrays={"weight": weight, "bias": np.arange(6.0)}),
        make_node("y", "output", ["a"]),
    ]
    return Graph.of(nodes), torch.rand(1, 20, generator=torch.Generator().manual_seed(1)).expand(samples, -1)


def currents(engine: AnalogEngine, x: torch.Tensor, steps: int = 4) -> torch.Tensor:
    output = outputs(engine, x, (steps,))
    return torch.cat([output[:1], output.diff(dim=0)])


def test_each_read_has_noise_of_its_own_and_of_the_size_that_the_array_says() -> None:
    graph, x = first_layer(1)
    found = chips(graph, "pcm", instances=2, time_s=1e4)
    read = currents(AnalogEngine(found, max_steps=2000), on_all(x, 2), 2000).double()
    tile = found.arrays["a"].tiles[0]
    mean = (tile.weight @ x[0] + torch.arange(6.0)).double()
    spread = (tile.variance @ x[0].square()).sqrt().double()
    assert ((read.mean(0) - mean).abs() < 5 * spread / 2000**0.5).all()
    assert ((read.std(0) / spread - 1).abs() < 0.1).all()
    lagged = ((read[1:] - mean) * (read[:-1] - mean) / spread**2).mean(0)
    assert (lagged.abs() < 5 / 2000**0.5).all()


def test_what_is_held_is_read_once() -> None:
    graph, x = first_layer(1)
    programmed = program_network(graph, Crossbar(load_device("pcm")), instances=1, seed=4)
    held = currents(AnalogEngine(programmed.at(1e4, held=frozenset({"a"})), max_steps=4), x)
    torch.testing.assert_close(held, held[:1].expand_as(held), rtol=0, atol=1e-5)
    once = currents(AnalogEngine(programmed.at(1e4), max_steps=4), x)
    torch.testing.assert_close(held[0], once[0])


@pytest.mark.parametrize("operator", ["linear", "convolution"])
def test_converters_round_as_the_arrays_own(operator) -> None:
    """The layer of a network is ``Array.read`` of its rows, array by array."""
    rng = np.random.default_rng(2)
    if operator == "linear":
        graph, x = first_layer()
        x = torch.rand(5, 20)
        rows, name = x, "a"
    else:
        kernel = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
        nodes = [
            make_node("x", "input", shape=(5, 6, 6)),
            make_node("a", "conv2d", ["x"], arrays={"weight": rng.normal(0, 1, (4, 5, 3, 3))}, **kernel),
            make_node("f", "flatten", ["a"]),
            make_node("y", "output", ["f"]),
        ]
        graph, x, name = Graph.of(nodes), torch.rand(5, 5, 6, 6), "a"
        rows = torch.nn.functional.unfold(x, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)
    bare = chips(graph, "ideal", instances=2, adc_bits=4, tile_rows=10)
    fitted = fit_converters(bare, x[:3], steps=2)
    assert len(fitted.arrays[name].tiles) > 1
    found = currents(AnalogEngine(fitted, max_steps=1), on_all(x, 2), 1)[0]
    wanted = fitted.arrays[name].read(rows.expand(2, -1, -1), [])
    offset = torch.arange(6.0)
    wanted = wanted + offset if operator == "linear" else wanted.unflatten(1, (5, -1)).transpose(2, 3)
    torch.testing.assert_close(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-4)
    exact = currents(AnalogEngine(chips(graph, "ideal", instances=1), max_steps=1), x, 1)[0]
    assert not torch.allclose(found[:5], exact, atol=1e-3)


def test_converters_count_what_lies_beyond_their_range() -> None:
    graph, x = first_layer()
    fitted = fit_converters(chips(graph, "ideal", instances=1, adc_bits=6), x[:1] / 2, steps=1)
    engine = AnalogEngine(fitted, max_steps=3)
    currents(engine, x, 3)
    (meter,) = engine.reader.synapses["a"].meters
    assert meter.conversions == meter.saturated == 400 * 6  # a constant input without noise is read once


def test_bad_input() -> None:
    graph, x = first_layer()
    with pytest.raises(RangeError, match="0 instances"):
        chips(graph, instances=0)
    with pytest.raises(RangeError, match="known at"):
        chips(graph, "reram", time_s=3600.0)
    with pytest.raises(RangeError, match="have no range; fit them"):
        AnalogEngine(chips(graph, adc_bits=8), max_steps=1)
    with pytest.raises(ShapeError, match="7 rows for 3 chips"):
        AnalogEngine(chips(graph), max_steps=1).start(x[:7])
    bare = Graph.of([make_node("x", "input", shape=(2,)), make_node("y", "output", ["x"])])
    with pytest.raises(UnsupportedError, match="no linear layer"):
        chips(bare)


def test_a_tile_too_small_is_refused_by_name(program) -> None:
    backend = AnalogBackend(Crossbar(Device("tiny", 0.0, 1.0), tile_rows=2))
    large = any(node.operator.startswith("conv") for node in program.graph.nodes)
    if large:
        with pytest.raises(SpikeportError, match="array"):
            compiled(backend, program)
