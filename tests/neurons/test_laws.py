"""The laws that every layer keeps, whatever it computes."""

import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from spikeport import RangeError, ShapeError, SpikeportError


def select(state: tuple, index: Tensor | slice) -> tuple:
    return type(state)._make(part[index] for part in state)


def assert_same_state(a: tuple, b: tuple) -> None:
    assert type(a) is type(b)
    for one, other in zip(a, b, strict=True):
        assert_close(one, other)


def test_it_does_something(layer: nn.Module, x: Tensor, case: tuple) -> None:
    y, _ = layer(x)
    assert y.shape[:2] == x.shape[:2]
    assert y.dtype == x.dtype
    if case.fires:
        assert y.shape == x.shape
        assert set(y.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_splitting_time_changes_nothing(layer: nn.Module, x: Tensor, cut: int) -> None:
    whole, end = layer(x)
    first, state = layer(x[:cut])
    rest, state = layer(x[cut:], state)
    assert_close(torch.cat([first, rest]), whole)
    assert_same_state(state, end)


def test_one_step_at_a_time_changes_nothing(layer: nn.Module, x: Tensor) -> None:
    whole, end = layer(x)
    state, steps = None, []
    for t in range(len(x)):
        y, state = layer(x[t : t + 1], state)
        steps.append(y)
    assert_close(torch.cat(steps), whole)
    assert_same_state(state, end)


def test_splitting_time_changes_no_gradient(layer: nn.Module, x: Tensor) -> None:
    layer, x = layer.double(), x.double().requires_grad_()
    weight = torch.randn_like(layer(x)[0])
    wanted = torch.autograd.grad((layer(x)[0] * weight).sum(), [x, *layer.parameters()])
    first, state = layer(x[:5])
    rest, _ = layer(x[5:], state)
    got = torch.autograd.grad((torch.cat([first, rest]) * weight).sum(), [x, *layer.parameters()])
    assert any(part.abs().sum() > 0 for part in wanted)
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other)


def test_a_batch_of_one_equals_one_of_a_batch(layer: nn.Module, x: Tensor) -> None:
    whole, end = layer(x)
    for n in range(x.shape[1]):
        alone, state = layer(x[:, n : n + 1])
        assert_close(alone, whole[:, n : n + 1])
        assert_same_state(state, select(end, slice(n, n + 1)))


def test_a_part_of_a_batch_goes_on_from_its_part_of_the_state(layer: nn.Module, x: Tensor) -> None:
    whole, _ = layer(x)
    _, state = layer(x[:6])
    kept = torch.tensor([2, 0])
    rest, _ = layer(x[6:, kept], select(state, kept))
    assert_close(rest, whole[6:, kept])


def test_batches_can_be_joined(layer: nn.Module, x: Tensor) -> None:
    whole, _ = layer(x)
    states = [layer(x[:6, part])[1] for part in (slice(0, 1), slice(1, 3))]
    joined = type(states[0])._make(torch.cat(parts) for parts in zip(*states, strict=True))
    assert_close(layer(x[6:], joined)[0], whole[6:])


def test_no_input_nothing_comes_out(layer: nn.Module, x: Tensor) -> None:
    y, _ = layer(torch.zeros_like(x))
    assert y.count_nonzero() == 0


def test_a_fresh_state_is_that_of_initial_state(layer: nn.Module, x: Tensor) -> None:
    state = layer.initial_state(x.shape[1:], dtype=x.dtype)
    assert all(len(part) == x.shape[1] for part in state)
    assert_close(layer(x, state)[0], layer(x)[0])


def test_arguments_stay_as_they_are_and_nothing_is_kept(layer: nn.Module, x: Tensor) -> None:
    before, names = x.clone(), set(layer.state_dict())
    wanted, state = layer(x)
    copy = type(state)._make(part.detach().clone() for part in state)
    layer(x, state)
    assert torch.equal(x, before)
    assert_same_state(type(state)._make(part.detach() for part in state), copy)
    assert torch.equal(layer(x)[0], wanted), "a layer that was used answers as a new one"
    assert set(layer.state_dict()) == names
    assert names == {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}


def test_it_is_saved_and_loaded(layer: nn.Module, x: Tensor, case: tuple) -> None:
    other = case.make()
    other.load_state_dict(layer.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_floating_types_work(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    layer, x = layer.to(dtype), x.to(dtype).requires_grad_()
    y, state = layer(x)
    assert y.dtype == dtype
    again, _ = layer(x.detach(), state)
    assert again.dtype == dtype
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()


def test_float64_is_not_cut_to_float32(layer: nn.Module, x: Tensor) -> None:
    _, state = layer.double()(x.double())
    assert all(part.dtype == torch.float64 for part in state)


@pytest.mark.parametrize("shape", [(), (5,)])
def test_a_wrong_rank_is_refused(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="takes"):
        layer(torch.zeros(shape))


def test_an_empty_sequence_is_refused(layer: nn.Module, x: Tensor) -> None:
    with pytest.raises(ShapeError, match="empty sequence"):
        layer(x[:0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_input_that_is_not_floating_is_refused(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    with pytest.raises(RangeError, match="floating"):
        layer(x.to(dtype))


def test_a_state_is_apart_from_the_output_and_from_the_past(layer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        y, state = layer(x)
        kept = [part.clone() for part in state]
        y.zero_()
    assert all(torch.equal(part, before) for part, before in zip(state, kept, strict=True))
    for part in state:
        assert part.untyped_storage().nbytes() <= 2 * part.numel() * part.element_size(), "the sequence is kept alive"


def test_a_state_of_another_kind_is_refused(layer: nn.Module, x: Tensor) -> None:
    _, state = layer(x)
    for wrong in (state[0], tuple(state), [*state]):
        with pytest.raises(SpikeportError, match=f"a {type(state).__name__} was wanted; hand over the one"):
            layer(x, wrong)


def test_a_state_of_another_batch_or_shape_is_refused(layer: nn.Module, x: Tensor) -> None:
    _, state = layer(x)
    for wrong in (select(state, slice(0, 2)), type(state)._make(part[..., :1] for part in state)):
        with pytest.raises(ShapeError, match=r"make a fresh one with initial_state\(\(3, 6\)\)"):
            layer(x, wrong)


def test_every_gradient_is_there(layer: nn.Module, x: Tensor) -> None:
    x = x.requires_grad_()
    y, _ = layer(x)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
