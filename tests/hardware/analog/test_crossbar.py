"""Crossbars: what an ideal array computes, what devices do to it, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spikeport import RangeError, ShapeError, SpikeportError
from spikeport.hardware.analog.converters import Meter, from_columns
from spikeport.hardware.analog.crossbar import Crossbar, program
from spikeport.hardware.analog.device import Device
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.mapping import column_scale, cut_rows, slice_weights
from spikeport.hardware.analog.seeds import generators
from spikeport.hardware.analog.wires import through_wires

IDEAL, PCM, RERAM = (load_device(name) for name in ("ideal", "pcm", "reram"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole_weights(*shape: int) -> Tensor:
    return torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(3)).float()


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("tile_rows", [9, 50, 256])
def test_an_ideal_array_computes_the_weights(slices: int, tile_rows: int) -> None:
    weight, x = draw(11, 90), draw(1, 5, 90, seed=1)
    crossbar = Crossbar(IDEAL, tile_rows=tile_rows, slices=slices)
    array = program(weight, crossbar, instances=2, seed=0, groups_of_rows=9).at(1e6, seed=0)
    assert_close(array.read(x, generators(2, 0)), (x @ weight.T).expand(2, 5, 11), rtol=1e-5, atol=1e-4)
    assert all(tile.variance is None for tile in array.tiles)


def test_whole_weights_and_spikes_are_exact_at_power_of_two_scales() -> None:
    weight, x = whole_weights(16, 400), (draw(1, 64, 400) > 0).float()
    for slices in (1, 2):
        crossbar = Crossbar(IDEAL, scale="power_of_two", slices=slices, dac_bits=1)
        array = program(weight, crossbar, instances=1, seed=0).at(0, seed=0)
        assert torch.equal(array.weight[0], weight)
        assert torch.equal(array.read(x, generators(1, 0))[0], x[0] @ weight.T)


def test_finite_levels_round_and_slices_refine() -> None:
    weight = draw(20, 64)
    coarse = replace(IDEAL, levels=4)
    worst = []
    for slices in (1, 2, 3):
        array = program(weight, Crossbar(coarse, slices=slices), instances=1, seed=0).at(0, seed=0)
        error = (array.weight[0] - weight).abs() / weight.abs().amax(1, keepdim=True)
        worst.append(float(error.max()))
        assert worst[-1] <= 0.5 / (4**slices - 1) + 1e-6
    assert worst == sorted(worst, reverse=True)


def test_digits_make_the_weight_again() -> None:
    weight = draw(7, 30)
    scale = column_scale(weight, "maximum")[:, None].expand_as(weight)
    for slices in (1, 2, 4):
        mapped = slice_weights(weight, scale, slices=slices, base=8, whole=False)
        assert mapped.share.min() >= 0
        assert mapped.share.max() <= 1
        assert_close((mapped.factor * (mapped.share[:, 0] - mapped.share[:, 1])).sum(0), weight)
        assert (mapped.share.prod(1) == 0).all(), "one device of a pair is unused"


def test_scale_holds_the_weights() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 0.5], [-0.3, 0.2]])
    assert_close(column_scale(weight, "maximum"), torch.tensor([1.0, 2.0, 3.0, 0.3]))
    assert column_scale(weight, "power_of_two").tolist() == [1.0, 2.0, 4.0, 0.5]
    assert column_scale(weight, 4.0).tolist() == [4.0] * 4


@pytest.mark.parametrize("device", [PCM, RERAM, replace(PCM, stuck_on=0.02, stuck_off=0.03)], ids=lambda d: d.name)
def test_an_instance_is_the_same_chip_among_few_and_many(device: Device) -> None:
    weight, x = draw(6, 40), draw(1, 3, 40, seed=1)
    few, many = (
        program(weight, Crossbar(device, adc_bits=6), instances=n, seed=5).at(86400.0, seed=2).calibrated(x)
        for n in (2, 5)
    )
    assert torch.equal(few.weight, many.weight[:2])
    assert torch.equal(few.read(x, generators(2, 1)), many.read(x, generators(5, 1))[:2])
    other = program(weight, Crossbar(device), instances=2, seed=6).at(86400.0, seed=2)
    assert not torch.equal(few.weight, other.weight)


def test_devices_stay_the_same_as_time_passes() -> None:
    weight = draw(30, 200)
    programmed = program(weight, Crossbar(replace(PCM, flicker=()), compensation=False), instances=1, seed=0)
    early, late = (programmed.conductances(t, seed=0) for t in (1e3, 1e6))
    assert (late <= early).all()
    assert torch.equal(late, programmed.conductances(1e6, seed=1))
    loose = program(weight, Crossbar(RERAM), instances=1, seed=0)
    first, second = ((loose.conductances(t, seed=0) - loose.target).flatten() for t in (1.0, 86400.0))
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.2


def test_compensation_gives_the_mean_weight_back() -> None:
    weight = draw(30, 200)
    means = {}
    for compensation in (False, True):
        programmed = program(weight, Crossbar(PCM, compensation=compensation), instances=3, seed=0)
        means[compensation] = [float(programmed.at(t, seed=0).weight.abs().mean()) for t in (0.0, 2.6e6)]
    assert means[False][1] < 0.7 * means[False][0]
    assert means[True][1] == pytest.approx(means[True][0], rel=1e-4)


def test_writing_again_narrows_the_spread() -> None:
    weight = draw(30, 200)
    off = []
    for iterations in (1, 3, 20):
        device = replace(PCM, write_iterations=iterations, write_tolerance_us=0.5)
        programmed = program(weight, Crossbar(device), instances=2, seed=0)
        off.append(float(((programmed.conductance - programmed.target).abs() > 0.5).float().mean()))
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-3


def test_stuck_devices_are_as_many_as_said_and_never_drift() -> None:
    device = replace(PCM, stuck_on=0.1, stuck_off=0.2)
    programmed = program(draw(50, 300), Crossbar(device), instances=4, seed=0)
    for g in (programmed.conductance, programmed.conductances(1e5, seed=0)):
        assert float((g == device.g_max_us).float().mean()) == pytest.approx(0.1, abs=0.005)
    aged = programmed.conductances(1e5, seed=0)
    assert torch.equal(aged == device.g_max_us, programmed.conductance == device.g_max_us)


def test_read_noise_has_the_variance_that_the_tile_says() -> None:
    array = program(draw(5, 60), Crossbar(RERAM), instances=1, seed=0).at(1.0, seed=0)
    x = (draw(1, 1, 60, seed=1) > 0).float()
    reads = array.read(x.expand(1, 20000, 60), generators(1, 0))[0]
    (tile,) = array.tiles
    assert tile.variance is not None
    assert_close(reads.mean(0), x[0, 0] @ tile.weight[0].T, rtol=0, atol=0.05)
    assert_close(reads.var(0), (x[0, 0] ** 2) @ tile.variance[0].T, rtol=0.05, atol=0)


def test_noise_of_reads_and_noise_that_stays_share_one_budget() -> None:
    """Where the read window lies changes what is drawn anew, not how far one read is from the target."""
    weight = torch.full((40, 500), 1.0)
    totals = []
    for window in (0.0, 1e-5, 1e-2):
        device = replace(PCM, write_us=(), drift_mean=(), drift_spread=(), read_window_s=window)
        tile = program(weight, Crossbar(device, compensation=False), instances=1, seed=0).at(1.0, seed=0).tiles[0]
        totals.append(float(tile.weight.var()) + (0 if tile.variance is None else float(tile.variance.mean())))
    assert totals == pytest.approx([totals[0]] * 3, rel=0.03)


def test_wires_pull_weights_down_and_noise_with_them() -> None:
    weight = draw(20, 128).abs()
    bare, wired = (
        program(weight, Crossbar(RERAM, wires=w), instances=2, seed=0).at(1.0, seed=0).tiles[0] for w in (0, 1)
    )
    assert wired.weight.mean() < 0.999 * bare.weight.mean()
    assert wired.weight.mean() > 0.8 * bare.weight.mean()
    assert bare.variance is not None
    assert wired.variance is not None
    assert (wired.variance <= bare.variance).all()


def test_noise_through_wires_is_that_of_varying_every_device() -> None:
    device = replace(IDEAL, wire_ohm=40.0, read_noise_us=0.4)
    programmed = program(draw(16, 48), Crossbar(device, wires=True, scale=8.0), instances=1, seed=0)
    (tile,) = programmed.at(0, seed=0).tiles
    x = (draw(20, 48, seed=2) > 0).float()
    cells = programmed.conductance[:, 0].transpose(1, 2).flatten(1, 2)  # the columns of a pair side by side
    varied = through_wires(cells + 0.4 * draw(400, 32, 48, seed=4), device.wire_ohm).unflatten(1, (16, 2))
    outputs = x @ (varied[:, :, 0] - varied[:, :, 1]).transpose(1, 2) * 8.0 / device.range_us
    assert tile.variance is not None
    assert float((x**2 @ tile.variance[0].T).sum() / outputs.var(0).sum()) == pytest.approx(1, abs=0.1)


def test_narrow_arrays_lose_less_in_their_wires() -> None:
    weight = draw(64, 128)
    error = []
    for columns in (8, 64):
        crossbar = Crossbar(replace(IDEAL, wire_ohm=1.0), tile_columns=columns, wires=True)
        array = program(weight, crossbar, instances=1, seed=0).at(0, seed=0)
        error.append(float((array.weight[0] - weight).norm()))
    assert 0 < error[0] < error[1]


def test_converters_round_within_half_a_step_and_count_what_they_cut() -> None:
    weight, x = draw(10, 100), draw(1, 50, 100, seed=1)
    exact = x[0] @ weight.T
    array = program(weight, Crossbar(IDEAL, tile_rows=50, adc_bits=8), instances=1, seed=0).at(0, seed=0).calibrated(x)
    meters = [Meter(), Meter()]
    y = array.read(x, generators(1, 0), meters=meters)[0]
    step = sum(float(tile.reach.max()) for tile in array.tiles if tile.reach is not None) / 127
    assert 0 < (y - exact).abs().max() <= 0.5 * step + 1e-4
    assert [(m.conversions, m.saturated) for m in meters] == [(500, 0), (500, 0)]
    array.read(3 * x, generators(1, 0), meters=meters)
    assert all(m.saturated > 0 for m in meters)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_converters_have_as_many_codes_as_their_bits_and_a_zero(bits: int) -> None:
    y = torch.linspace(-2, 2, 10_001)
    codes = from_columns(y, bits, torch.tensor(1.0), power_of_two=False).unique()
    assert len(codes) == 2**bits - 1
    assert codes.tolist() == pytest.approx((-codes.flip(0)).tolist())
    assert (codes.max(), codes[len(codes) // 2]) == (1, 0)
    whole = from_columns(y * 100, bits, torch.tensor(100.0), power_of_two=True).unique()
    assert (whole[1:] - whole[:-1]).log2().frac().unique().tolist() == [0]


def test_a_convolution_converts_along_its_channels() -> None:
    array = program(draw(4, 18), Crossbar(IDEAL, adc_bits=4), instances=2, seed=0, groups_of_rows=9).at(0, seed=0)
    (tile,) = array.with_reach([torch.rand(2, 4) + 1]).tiles
    y = 3 * draw(2, 3, 5, 5, 4)
    assert_close(tile.adc(y).movedim(-1, 2), tile.adc(y.movedim(-1, 2), dim=2))


def test_inputs_are_driven_within_their_bits() -> None:
    weight, x = draw(3, 20), draw(1, 9, 20, seed=1)
    spikes = x.sign()
    for bits in (1, 4, 8):
        array = program(weight, Crossbar(IDEAL, dac_bits=bits), instances=1, seed=0).at(0, seed=0).calibrated(x)
        assert (array.dac(x) - x).abs().max() <= 0.5 * float(x.abs().max()) / (2**bits - 1) + 1e-6
        assert torch.equal(array.calibrated(spikes).dac(spikes), spikes)


def test_kernels_stay_whole() -> None:
    blocks = cut_rows(64 * 9, 256, 9)
    assert [b.stop - b.start for b in blocks] == [198, 189, 189]
    assert all(b.start % 9 == 0 for b in blocks)


def refusals() -> list[tuple[str, dict, dict, type[SpikeportError], str]]:
    nothing: dict = {}
    return [
        ("no instances", nothing, {"instances": 0}, RangeError, "one at least"),
        ("not finite", nothing, {"weight": torch.tensor([[float("nan")]])}, RangeError, "must be finite"),
        ("whole numbers", nothing, {"weight": torch.ones(2, 2, dtype=torch.int32)}, RangeError, "must be finite"),
        ("one axis", nothing, {"weight": torch.ones(9)}, ShapeError, "columns, rows"),
        ("beyond", {"scale": 0.5}, {"weight": torch.tensor([[0.2, 0.6, -0.9]])}, RangeError, "2 weights lie beyond"),
        ("small tile", {"tile_rows": 8}, {"groups_of_rows": 9, "weight": torch.ones(1, 9)}, RangeError, "cannot hold"),
    ]


@pytest.mark.parametrize(
    ("design", "call", "error", "says"), [r[1:] for r in refusals()], ids=[r[0] for r in refusals()]
)
def test_what_cannot_be_programmed_is_refused(design: dict, call: dict, error: type[SpikeportError], says: str) -> None:
    call = {"weight": torch.ones(2, 4), "instances": 1, **call}
    with pytest.raises(error, match=says):
        program(call.pop("weight"), Crossbar(IDEAL, **design), seed=0, **call)


def test_a_senseless_crossbar_names_everything() -> None:
    with pytest.raises(RangeError, match=r"tile_rows is 0.*slices is 0.*dac_bits is 0.*adc_bits is 1.*scale is 'big'"):
        Crossbar(IDEAL, tile_rows=0, slices=0, dac_bits=0, adc_bits=1, scale="big")


@pytest.mark.parametrize(("device", "time"), [(RERAM, 60.0), (RERAM, 0.0), (PCM, -1.0), (IDEAL, float("nan"))])
def test_times_that_the_device_does_not_know_are_refused(device: Device, time: float) -> None:
    with pytest.raises(RangeError, match=r"after writing only|0 or more"):
        program(torch.ones(1, 1), Crossbar(device), instances=1, seed=0).at(time, seed=0)


def test_converters_without_a_range_and_inputs_of_another_shape_are_refused() -> None:
    array = program(torch.ones(2, 4), Crossbar(IDEAL, adc_bits=8), instances=2, seed=0).at(0, seed=0)
    with pytest.raises(RangeError, match="no range yet"):
        array.read(torch.ones(1, 3, 4), generators(2, 0))
    for shape in ((3, 4), (3, 3, 4), (1, 3, 5)):
        with pytest.raises(ShapeError, match=r"2 or 1, batch, 4"):
            array.read(torch.ones(shape), generators(2, 0))
