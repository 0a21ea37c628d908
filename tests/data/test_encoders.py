"""Encoders give what snnTorch's give, and a sample does not see its neighbours in the batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from spikeport import RangeError, ShapeError
from spikeport.data.encoders import Delta, Direct, Latency, Rate, Sequence


def values() -> Tensor:
    x = torch.rand(6, 2, 5, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0], x[:, 0, 1] = 0.0, 1.0  # the ends of the range, in each sample
    return x


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        (Latency(9), {"normalize": True, "linear": True}),
        (Latency(9, first_spike_time=3, threshold=0.2), {"normalize": True, "linear": True}),
        (Latency(9, threshold=0.3, clip=True), {"normalize": True, "linear": True}),
        (Latency(9, normalize=False, tau=5.0), {"linear": True}),
        (Latency(9, linear=False, threshold=0.05), {"normalize": True}),
        (Latency(9, linear=False, threshold=0.05, first_spike_time=2), {"normalize": True}),
        (Latency(9, linear=False, normalize=False, tau=3.0, threshold=0.2), {}),
        (Latency(9, linear=False, normalize=False, tau=3.0, threshold=0.2, clip=True), {}),
    ],
)
def test_latency_equals_snntorch(encoder: Latency, options: dict[str, Any]) -> None:
    from snntorch import spikegen

    shared = {name: getattr(encoder, name) for name in ("threshold", "tau", "first_spike_time", "clip")}
    wanted = spikegen.latency(values(), num_steps=encoder.steps, bypass=True, **shared, **options)
    assert_close(encoder(values()), wanted)


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize("encoder", [Rate(7), Rate(7, gain=0.5, offset=0.1), Rate(7, first_spike_time=3)])
def test_rate_equals_snntorch_from_one_seed(encoder: Rate) -> None:
    from snntorch import spikegen

    torch.manual_seed(3)
    ours = encoder(values())
    torch.manual_seed(3)
    options = {"gain": encoder.gain, "offset": encoder.offset, "first_spike_time": encoder.first_spike_time}
    assert_close(ours, spikegen.rate(values(), num_steps=encoder.steps, **options))


@pytest.mark.needs("snntorch")
@pytest.mark.parametrize("encoder", [Delta(0.2), Delta(0.3, off_spikes=True), Delta(0.2, from_zero=False)])
def test_delta_equals_snntorch(encoder: Delta) -> None:
    from snntorch import spikegen

    options = {"padding": not encoder.from_zero, "off_spike": encoder.off_spikes}
    wanted = spikegen.delta(values().transpose(0, 1), threshold=encoder.threshold, **options)
    assert_close(encoder(values()), wanted)


def test_the_rate_is_the_value() -> None:
    torch.manual_seed(0)
    assert_close(Rate(4000)(values()).mean(0), values(), atol=0.05, rtol=0)


@pytest.mark.parametrize("encoder", [Direct(5), Latency(5), Latency(5, linear=False), Delta(), Sequence()], ids=repr)
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8, torch.float64])
def test_a_sample_does_not_see_its_neighbours(encoder: Callable[[Tensor], Tensor], kind: torch.dtype) -> None:
    x = values().round().to(kind)
    whole = encoder(x)
    assert whole.is_floating_point()
    assert_close(encoder(x[2:3]), whole[:, 2:3])
    if not isinstance(encoder, Direct | Latency):
        assert whole.shape == (2, 6, 5)


def test_direct_coding_copies_nothing() -> None:
    x = values()
    assert Direct(100)(x).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Direct(0),
        lambda: Rate(5, first_spike_time=5),
        lambda: Rate(5, gain=float("nan")),
        lambda: Latency(5, threshold=0.0),
        lambda: Latency(5, tau=0.0),
        lambda: Delta(-0.1),
        lambda: Latency(5)(values() + 0.5),
        lambda: Latency(5)(values() * float("nan")),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RangeError):
        make()


@pytest.mark.parametrize("encoder", [Direct(5), Rate(5), Latency(5), Delta(), Sequence()], ids=repr)
def test_samples_without_features_are_refused(encoder: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ShapeError):
        encoder(torch.zeros(4))


def test_a_sequence_needs_time() -> None:
    with pytest.raises(ShapeError, match="at least one step"):
        Sequence()(torch.zeros(4, 0, 3))
