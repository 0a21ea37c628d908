"""A reservoir is its devices: drawn by a law, frozen, read with noise, and refused where it does not compute."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError
from spikeport.networks.chain import Chain
from spikeport.networks.reservoir import (
    Activity,
    Reservoir,
    activity,
    fit_rate,
    load_reservoir,
    require_alive,
    save_reservoir,
    spike_counts,
)
from spikeport.networks.resistive import FixedLinear, ResistiveDevice, ResistiveLinear
from spikeport.neurons import LeakyIntegrator

QUIET, NOISY = ResistiveDevice(), ResistiveDevice(read_noise=0.05)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def events(steps: int = 12, samples: int = 30, inputs: int = 20) -> Tensor:
    return (torch.rand(steps, samples, inputs, generator=generator(1)) < 0.1).float()


def made(device: ResistiveDevice = QUIET, seed: int = 0, recurrent: float = 1.0) -> Reservoir:
    return Reservoir.resistive(20, 40, device, beta=0.9, recurrent=recurrent, seed=seed)


@pytest.fixture
def alive() -> Reservoir:
    return fit_rate(made(), events())[0]


@pytest.mark.parametrize("law", ["normal", "lognormal"])
@pytest.mark.parametrize("formed", [0.3, 1.0])
def test_conductances_have_the_moments_of_the_law(law: str, formed: float) -> None:
    device = ResistiveDevice(formed=formed, law=law, spread=0.2)
    cells = device.sample((400, 500), generator())
    mean, deviation = device.moments_us()
    assert cells.mean().item() == pytest.approx(mean, rel=0.01)
    assert cells.std().item() == pytest.approx(deviation, rel=0.01)
    assert float((cells > device.off_us).float().mean()) == pytest.approx(formed, abs=0.005)


def test_no_cell_is_below_the_floor() -> None:
    assert ResistiveDevice(law="normal", spread=1.0).sample((300, 300), generator()).min() >= 0.1 - 1e-6


def test_stuck_cells_are_the_share_that_is_asked_for_and_nested() -> None:
    few, many = (ResistiveDevice(stuck_on=s, stuck_off=2 * s).sample((300, 300), generator()) for s in (0.05, 0.1))
    assert float((few == 100.0).float().mean()) == pytest.approx(0.05, abs=0.003)
    assert float((many == 100.0).float().mean()) == pytest.approx(0.1, abs=0.004)
    assert bool((many[few == 100.0] == 100.0).all())
    healthy = QUIET.sample((300, 300), generator())
    untouched = (few != 100.0) & (few != healthy.new_tensor(0.1))
    assert_close(few[untouched], healthy[untouched])


@pytest.mark.parametrize(
    "wrong",
    [
        {"formed": 1.1},
        {"formed": float("nan")},
        {"on_us": 0.01},
        {"off_us": -1.0},
        {"spread": -0.1},
        {"law": "uniform"},
        {"stuck_on": 0.6, "stuck_off": 0.6},
        {"read_noise": -0.1},
        {"formed": 0.0},
        {"formed": 1.0, "spread": 0.0},
    ],
)
def test_devices_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(RangeError):
        ResistiveDevice(**wrong)


def test_weights_have_the_variance_of_the_software_ones() -> None:
    x = torch.eye(500)
    resistive = ResistiveLinear.formed(500, 400, QUIET, generator(), gain=2.0)(x)
    software = FixedLinear.gaussian(500, 400, generator(), gain=2.0)(x)
    assert resistive.std().item() == pytest.approx(2 / 500**0.5, rel=0.02)
    assert software.std().item() == pytest.approx(2 / 500**0.5, rel=0.02)
    assert abs(resistive.mean().item()) < 0.01 / 500**0.5


def test_the_noise_of_a_column_is_that_of_its_cells() -> None:
    layer = ResistiveLinear.formed(30, 4, NOISY, generator())
    x = torch.rand(30, generator=generator(2))
    torch.manual_seed(0)
    drawn = layer(x.expand(20000, 30))
    cells = [
        (pair * (1 + 0.05 * torch.randn(20000, *pair.shape, generator=generator(3 + sign)))) @ x
        for sign, pair in enumerate((layer.positive, layer.negative))
    ]
    wanted = (cells[0] - cells[1]) * layer.gain
    assert_close(drawn.std(0), wanted.std(0).float(), rtol=0.03, atol=0)
    assert_close(drawn.mean(0), (layer.weight @ x * layer.gain).float(), rtol=0.01, atol=0.005)


def test_the_formula_is_that_of_the_docstring(alive: Reservoir) -> None:
    x, weight = events(), alive.neurons.recurrent.weight * alive.neurons.recurrent.gain
    v, s = torch.zeros(30, 40), torch.zeros(30, 40)
    wanted = []
    for step in x:
        u = 0.9 * v + step @ (alive.inward.weight * alive.inward.gain).float().T + s @ weight.float().T
        s = (u > 1).float()
        v = (1 - s) * u
        wanted.append(s)
    assert_close(alive(x)[0], torch.stack(wanted))


@pytest.mark.parametrize("device", [QUIET, NOISY])
def test_splitting_time_changes_nothing(device: ResistiveDevice) -> None:
    reservoir, x = fit_rate(made(device), events())[0], events()
    torch.manual_seed(5)
    whole, end = reservoir(x)
    torch.manual_seed(5)
    first, state = reservoir(x[:5])
    rest, state = reservoir(x[5:], state)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert_close(state, end)


def test_it_is_a_layer_among_others(alive: Reservoir) -> None:
    readout = nn.Linear(40, 3)
    chain = Chain(alive, readout, LeakyIntegrator(beta=1.0))
    output, _ = chain(events())
    assert_close(output[-1], (alive(events())[0] @ readout.weight.T + readout.bias).sum(0), atol=1e-4, rtol=1e-4)
    assert list(chain.initial_state((30, 20))) == ["0", "2"]
    assert sum(each.numel() for each in chain.parameters()) == 3 * 40 + 3


def test_nothing_is_trained_and_gradients_reach_the_input_alone(alive: Reservoir) -> None:
    assert list(alive.parameters()) == []
    x = events().requires_grad_()
    alive(x)[0].sum().backward()
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)


def test_a_seed_is_an_instance() -> None:
    assert all(torch.equal(a, b) for a, b in zip(made().buffers(), made().buffers(), strict=True))
    assert not torch.equal(made().inward.weight, made(seed=1).inward.weight)


def test_no_event_no_spike(alive: Reservoir) -> None:
    assert float(spike_counts(alive, torch.zeros(10, 3, 20)).sum()) == 0


def test_counts_do_not_depend_on_the_batch(alive: Reservoir) -> None:
    x = events()
    assert_close(spike_counts(alive, x, batch=7), spike_counts(alive, x))
    assert_close(spike_counts(alive, x.to(torch.uint8) * 3), spike_counts(alive, x))


@pytest.mark.parametrize("rate", [0.06, 0.1, 0.18])
def test_the_rate_is_fitted(rate: float) -> None:
    reservoir, found = fit_rate(made(), events(), rate)
    assert found.rate == pytest.approx(rate, abs=0.01)
    assert found == activity(reservoir, events())


def test_fitting_leaves_the_reservoir_and_its_cells_as_they_are() -> None:
    reservoir = made()
    before = activity(reservoir, events())
    fitted, _ = fit_rate(reservoir, events())
    assert activity(reservoir, events()) == before
    assert torch.equal(fitted.inward.positive, reservoir.inward.positive)


def test_a_silent_reservoir_is_an_error_that_says_so() -> None:
    with pytest.raises(RangeError, match=r"silent.*no event"):
        fit_rate(made(), torch.zeros(5, 3, 20))
    with pytest.raises(RangeError, match=r"is silent: its units fire in 0.00 %"):
        require_alive(Activity(0.0, 1.0, 0.0))
    sparse = torch.zeros(50, 4, 20)
    sparse[0] = 1  # one step of fifty has events: no gain makes a weakly coupled population fire in a tenth of them
    with pytest.raises(RangeError, match="silent"):
        fit_rate(made(recurrent=0.01), sparse)


def test_a_saturated_reservoir_is_an_error_that_says_so() -> None:
    excited = Reservoir(made().inward, FixedLinear(torch.full((40, 40), 10.0)), 0.01)  # one spike sets all off for good
    with pytest.raises(RangeError, match="saturated"):
        fit_rate(excited, torch.ones(12, 3, 20))
    with pytest.raises(RangeError, match=r"saturated: its units fire in 90.00 %"):
        require_alive(Activity(0.9, 0.0, 0.5))


def test_bad_input_is_refused(alive: Reservoir) -> None:
    with pytest.raises(ShapeError, match=r"\(time, batch, 20\)"):
        alive(torch.zeros(5, 3, 19))
    with pytest.raises(RangeError, match="floating"):
        alive(torch.zeros(5, 3, 20, dtype=torch.int64))
    with pytest.raises(ShapeError, match="state"):
        alive(events(), alive.initial_state((2, 20)))
    with pytest.raises(ShapeError, match="recurrent synapses"):
        Reservoir(FixedLinear(torch.ones(4, 3)), FixedLinear(torch.ones(3, 3)), 0.9)
    with pytest.raises(RangeError, match="beta"):
        Reservoir.gaussian(3, 4, beta=1.5)
    with pytest.raises(RangeError, match="no cells"):
        Reservoir.gaussian(3, 4, beta=0.9).worn(NOISY, 0)
    with pytest.raises(RangeError, match="rate is"):
        fit_rate(alive, events(), 0.5)


@pytest.mark.parametrize(
    ("positive", "negative", "error"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), ShapeError),
        (torch.ones(3), torch.ones(3), ShapeError),
        (-torch.ones(2, 3), torch.ones(2, 3), RangeError),
        (torch.full((2, 3), float("nan")), torch.ones(2, 3), RangeError),
    ],
)
def test_cells_that_make_no_pair_are_refused(positive: Tensor, negative: Tensor, error: type) -> None:
    with pytest.raises(error):
        ResistiveLinear(positive, negative, 1.0)


def test_wear_changes_a_share_of_the_cells(alive: Reservoir) -> None:
    worn = alive.worn(ResistiveDevice(stuck_off=0.1, read_noise=0.02), seed=3)
    changed = float((worn.inward.positive != alive.inward.positive).float().mean())
    assert changed == pytest.approx(0.05, abs=0.02)  # the half that was formed
    assert worn.inward.read_noise == 0.02
    assert_close(worn.inward.gain, alive.inward.gain)


@pytest.mark.parametrize("kind", ["resistive", "gaussian"])
def test_a_saved_reservoir_comes_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    reservoir = made(NOISY) if kind == "resistive" else Reservoir.gaussian(20, 40, beta=0.9)
    information = {"device": NOISY.to_json(), "seed": 0}
    first = save_reservoir(reservoir, tmp_path / "a", information)
    loaded, told = load_reservoir(tmp_path / "a")
    assert told == information
    assert ResistiveDevice(**told["device"]) == NOISY
    assert save_reservoir(loaded, tmp_path / "b", information) == first
    torch.manual_seed(0)
    wanted = reservoir(events())[0]
    torch.manual_seed(0)
    assert torch.equal(loaded(events())[0], wanted)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reservoir"
    save_reservoir(made(), path)
    content = path.read_bytes()
    for place in (9, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptFileError):
            load_reservoir(path)
    path.write_bytes(content[:50])
    with pytest.raises(CorruptFileError):
        load_reservoir(path)
    with pytest.raises(SpikeportError, match="cannot read"):
        load_reservoir(tmp_path / "absent")
    with pytest.raises(SpikeportError, match="cannot write"):
        save_reservoir(made(), tmp_path / "absent" / "file")
