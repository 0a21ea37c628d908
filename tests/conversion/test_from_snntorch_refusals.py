"""What cannot come in from snnTorch is refused, all of it at once, by name and place."""

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikeport import BackendUnavailable, UnsupportedError
from spikeport.conversion.from_snntorch import from_snntorch

pytestmark = pytest.mark.needs("snntorch")

BATCH, INPUTS, UNITS = 5, 12, 9


def snn() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("snntorch")
        importlib.import_module("snntorch.surrogate")
    return module


class Custom(nn.Module):
    """A loop over time, with something between the first layer and its neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, 4)
        self.lif1 = snn().Leaky(0.9, threshold=0.5)
        self.pool = nn.ModuleList([nn.Identity()])

    def between(self, cur: Tensor) -> Tensor:
        return cur

    def forward(self, x: Tensor) -> Tensor:
        mem = None
        for step in x:
            spk, mem = self.lif1(self.between(self.fc1(step)), mem)
        return self.fc2(spk)


def refused(net: nn.Module, example: Any = None) -> tuple[str, ...]:
    with pytest.raises(UnsupportedError) as caught:
        from_snntorch(net, example)
    return caught.value.problems or (str(caught.value),)


def test_everything_that_cannot_come_in_is_listed_at_once() -> None:
    s = snn()

    class Own(s.Leaky):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inhibited = s.Leaky(0.9, inhibition=True, state_quant=torch.round)
    changed = s.Leaky(0.9)
    changed.reset_mechanism = "zero"
    negative = s.RLeaky(0.9, linear_features=3, threshold=-1.0)
    negative.graded_spikes_factor = torch.tensor(2.0)
    shared = s.Leaky(0.9)
    net = nn.Sequential(
        nn.Sequential(s.Leaky(torch.rand(3)), inhibited),
        s.SLSTM(3, 3),
        Own(0.9),
        changed,
        negative,
        s.Leaky(0.9, spike_grad=s.surrogate.SSO()),
        s.Leaky(0.9, spike_grad=torch.sigmoid),
        nn.GRU(3, 3),
        s.RSynaptic(0.5, 0.9, linear_features=3, init_hidden=True, reset_delay=False),
        s.LeakyParallel(3, 3),
        shared,
        shared,
        s.Leaky(0.9, output=True),
        Custom(),
        nn.Linear(3, 3),
        s.Leaky(float("nan")),
        s.Lapicque(R=0.5, C=0.5),
    )
    problems = refused(net)
    wanted = [
        ("0.0", "pass example="),
        ("0.1", "inhibition=True"),
        ("0.1", "state_quant"),
        ("1 ", "SLSTM"),
        ("2 ", "derives from Leaky"),
        ("3 ", "reset_mechanism"),
        ("4 ", "threshold"),
        ("5 ", "drawn at random"),
        ("6 ", "no step at the threshold"),
        ("7 ", "memory of its own"),
        ("8 ", "reset_delay=False"),
        ("9 ", "LeakyParallel"),
        ("11 ", "two places"),
        ("12 ", "output=True"),
        ("13 ", "forward of its own"),
        ("15 ", "NaN"),
        ("16 ", "overshoots"),
    ]
    for place, reason in wanted:
        assert any(problem.startswith(place) and reason in problem for problem in problems), (place, reason, problems)
    assert all(problem.endswith(")") for problem in problems)


def custom(name: str, method: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(1)
    return type(name, (Custom,), {"forward" if name.startswith("Loop") else "between": method})()


def reads_membrane(self: Any, x: Tensor) -> Tensor:
    for step in x:
        _, mem = self.lif1(self.fc1(step))
        self.fc2(mem)
    return mem


def goes_around(self: Any, x: Tensor) -> Tensor:
    for step in x:
        cur = self.fc1(step)
        self.lif1(cur)
        self.pool[0](cur)
    return cur


def starts_anew(self: Any, x: Tensor) -> Tensor:
    return [self.lif1(self.fc1(step), torch.zeros(BATCH, UNITS))[0] for step in x][-1]


def starts_high(self: Any, x: Tensor) -> Tensor:
    mem = torch.full((BATCH, UNITS), 0.5)
    for step in x:
        spk, mem = self.lif1(self.fc1(step), mem)
    return spk


def resets_inside(self: Any, x: Tensor) -> Tensor:
    for step in x:
        self.lif1.reset_mem()
        spk, _ = self.lif1(self.fc1(step))
    return spk


def layer_by_layer(self: Any, x: Tensor) -> Tensor:
    spikes = [self.lif1(self.fc1(step))[0] for step in x]
    return torch.stack([self.fc2(each) for each in spikes])


def once_before(self: Any, x: Tensor) -> Tensor:
    cur = self.fc1(x[0])
    return torch.stack([self.lif1(cur)[0] for _ in x])


def encodes(self: Any, x: Tensor) -> Tensor:
    return torch.stack([self.lif1(self.fc1(step * 2))[0] for step in x])


def reshapes(self: Any, x: Tensor) -> Tensor:
    return torch.stack([self.lif1(self.fc1(step.view(1, BATCH, INPUTS)))[0] for step in x])


@pytest.mark.parametrize(
    ("net", "place", "reason"),
    [
        (lambda: custom("Net", lambda self, cur: torch.relu(cur)), "lif1 (Leaky", "no module"),
        (lambda: custom("Net", lambda self, cur: cur.mul_(2)), "lif1 (Leaky", "in place"),
        (lambda: custom("Net", lambda self, cur: cur.reshape(1, BATCH, UNITS)), "lif1 (Leaky", "reshaped"),
        (lambda: custom("Loop", reads_membrane), "fc2 (Linear", "state of lif1"),
        (lambda: custom("Loop", goes_around), "pool.0 (Identity", "reads fc1"),
        (lambda: custom("Loop", starts_anew), "lif1 (Leaky", "gave in the step before"),
        (lambda: custom("Loop", starts_high), "lif1 (Leaky", "not zero"),
        (lambda: custom("Loop", resets_inside), "lif1 (Leaky", "something else from step"),
        (lambda: custom("Loop", layer_by_layer), "step", "every step"),
        (lambda: custom("Loop", once_before), "lif1 (Leaky", "more than once"),
        (lambda: custom("Loop", encodes), "fc1 (Linear", "by no module"),
        (lambda: custom("Loop", reshapes), "fc1 (Linear", "another shape"),
    ],
)
def test_a_forward_that_is_no_chain_is_refused_by_name(net: Callable[[], nn.Module], place: str, reason: str) -> None:
    problems = refused(net(), torch.rand(20, BATCH, INPUTS))
    assert any(problem.startswith(place) and reason in problem for problem in problems), problems


def test_other_refusals() -> None:
    assert "no neuron of snnTorch" in refused(nn.Linear(2, 2))[0]
    assert "fails on the example" in refused(Custom(), torch.rand(3, BATCH, INPUTS + 1))[0]
    assert "none of the network's layers" in refused(custom("Loop", lambda self, x: x), torch.rand(1))[0]


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(BackendUnavailable, match="pip install"):
        from_snntorch(nn.Linear(2, 2))
