"""The operator in PyTorch: compiling, exporting, autocast, what is saved, threads, forks, the first call."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeport import UnsupportedError
from spikeport.neurons import Leaky
from spikeport.neurons.kernels import leaky_op


class Small(nn.Module):
    """A linear layer and a neuron with everything learned."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.linear = nn.Linear(20, 30)
        self.neuron = Leaky(0.9, learn_beta=True, learn_threshold=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.linear(x))[0]


@pytest.fixture
def net() -> Small:
    torch.manual_seed(0)
    return Small()


def gradients(run: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    spikes = run(x)
    return torch.autograd.grad((spikes * torch.linspace(-1, 1, spikes.shape[-1])).sum(), list(net.parameters()))


def test_the_operators_pass_the_checks_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    current, membrane = torch.randn(4, 2, 5, generator=generator), torch.randn(2, 5, generator=generator)
    beta, threshold = torch.rand(5, generator=generator), torch.ones(5)
    tensors = [part.requires_grad_() for part in (current, membrane, beta, threshold)]
    plan = (0, 1.0, 3.0, "subtract", False, False, False, True, False)
    torch.library.opcheck(leaky_op.forward, (*tensors, *plan))
    given = (current, membrane, current, membrane, beta, threshold, *plan[:7])
    with torch.no_grad():
        for wanted in ((True, True), (False, True), (True, False), (False, False)):
            torch.library.opcheck(leaky_op.backward, (*given, *wanted), test_utils=["test_schema", "test_faketensor"])


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_fresh_state_is_one_of_zeros(reset: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    layer, found = Leaky(0.9, reset=reset), []
    x = torch.rand(5, 3, 70)
    for state in (None, layer.initial_state((3, 70))):
        own = x.clone().requires_grad_()
        spikes, after = layer(own, state)
        spikes, after = layer(own, after)  # a state that came out goes in, and has a gradient
        spikes.square().cumsum(2).sum().backward()
        found.append((spikes, after.membrane, own.grad))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][0].any()


def test_a_compiled_network_has_one_graph_for_every_length_of_time(net: Small) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(net, backend=count, fullgraph=True, dynamic=True)
    for steps in (5, 9, 33):
        x = torch.randn(steps, 2, 20)
        assert torch.equal(compiled(x), net(x))
    assert len(graphs) == 1


def test_a_compiled_network_has_the_gradients_of_the_other(net: Small) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=True)
    for steps in (5, 9):
        x = torch.randn(steps, 2, 20)
        torch.testing.assert_close(gradients(compiled, net, x), gradients(net, net, x))


def test_an_exported_network_takes_any_length_of_time(net: Small, tmp_path: Path) -> None:
    shapes = ({0: torch.export.Dim("T", min=1, max=1000)},)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(5, 2, 20),), dynamic_shapes=shapes)
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names.count("spikeport.leaky.default") == 1
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for steps in (1, 3, 77):
        x = torch.randn(steps, 2, 20)
        assert torch.equal(loaded(x), net(x))


def test_under_autocast_the_current_is_bfloat16_and_the_state_float32(net: Small) -> None:
    x = torch.randn(6, 2, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        current = net.linear(x)
        spikes, state = net.neuron(current)
        from_float, _ = net.neuron(current.float())
    assert (current.dtype, spikes.dtype, state.membrane.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert from_float.dtype == torch.bfloat16, "the rule of the operator decides, not what comes in"
    wanted, end = net.neuron(current.float())
    assert torch.equal(spikes.float(), wanted)
    assert torch.equal(state.membrane, end.membrane), "beta is not rounded to bfloat16"
    spikes.sum().backward()
    assert net.linear.weight.grad.dtype == net.neuron.beta.grad.dtype == torch.float32


def test_autocast_holds_in_a_compiled_network(net: Small) -> None:
    x = torch.randn(6, 2, 20)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, wanted = compiled(x), net(x)
    assert got.dtype == wanted.dtype == torch.bfloat16
    assert torch.equal(got, wanted)


def saved_bytes(layer: Leaky, x: Tensor, autocast: bool = False) -> float:
    """Bytes kept for the backward pass, a neuron and step."""
    kept: list[Tensor] = []
    x.requires_grad_()

    def keep(part: Tensor) -> Tensor:
        kept.append(part)
        return part

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
    ):
        spikes, _ = layer(x)
    spikes.sum().backward()
    places = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in kept}
    return sum(places.values()) / spikes.numel()


@pytest.mark.parametrize(
    ("layer", "autocast", "most"),
    [(Leaky(0.9), False, 4), (Leaky(0.9, compact=True), False, 2), (Leaky(0.9), True, 2)],
    ids=["float32", "compact", "autocast"],
)
def test_one_value_a_neuron_and_step_is_saved(layer: Leaky, autocast: bool, most: int) -> None:
    x = torch.randn(16, 4, 500)
    parameters = 8 / x.numel()  # beta and threshold
    assert saved_bytes(layer, x, autocast) <= most + parameters


def test_nothing_is_saved_where_no_gradient_is_wanted() -> None:
    plan = (0, 1.0, 3.0, "subtract", False, False, False, False, False)
    saved = leaky_op.forward(torch.randn(4, 2, 5), torch.zeros(2, 5), torch.tensor(0.9), torch.tensor(1.0), *plan)[2]
    assert saved.numel() == 0


def test_a_second_derivative_is_refused(net: Small) -> None:
    loss = (net(torch.randn(4, 2, 20)) * torch.linspace(-1, 1, 30)).sum()
    (first,) = torch.autograd.grad(loss, net.linear.bias, create_graph=True)
    with pytest.raises(UnsupportedError, match="float64"):
        torch.autograd.grad(first.sum(), net.neuron.beta)
    wide = net.double()
    loss = (wide(torch.randn(4, 2, 20).double()) * torch.linspace(-1, 1, 30)).sum()
    (first,) = torch.autograd.grad(loss, net.linear.bias, create_graph=True)
    assert torch.autograd.grad(first.sum(), net.neuron.beta)[0].isfinite()


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 6, 4, 5), (5, 3, 4, 2, 3, 4)], ids=["2d", "3d"])
def test_channels_last_stay_last_and_change_nothing(shape: tuple[int, ...], learned: bool) -> None:
    torch.manual_seed(0)
    channels = (shape[2], *[1] * (len(shape) - 3))
    beta = torch.rand(channels) if learned else 0.9
    layer = Leaky(beta, torch.rand(channels) + 0.5, learn_beta=learned, learn_threshold=learned)
    x = torch.randn(shape)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    spikes, state = layer(last)
    wanted, end = layer(x)
    assert spikes.stride() == last.stride() != wanted.stride()
    assert torch.equal(spikes, wanted)
    assert torch.equal(state.membrane, end.membrane)
    again, _ = layer(last, state)
    assert torch.equal(again, layer(x, end)[0])


PREPARE = """
import os, sys, warnings
import torch
from spikeport.neurons import Atan
from spikeport.neurons.kernels.leaky import leaky
from spikeport.neurons.kernels.leaky_reference import Firing, leaky_reference
torch.set_num_threads(1)
tensors = [torch.rand(5, 4, 3000) - 0.2, torch.zeros(4, 3000), torch.tensor(0.9), torch.tensor(1.0)]
tensors = [part.requires_grad_() for part in tensors]
def result(run):
    spikes, after = run()
    return [spikes, after, *torch.autograd.grad((spikes * spikes.detach().cumsum(2)).sum() + after.sum(), tensors)]
wanted = result(lambda: leaky_reference(*tensors, Atan(), Firing("subtract", False, False, False)))
def same():
    got = result(lambda: leaky(*tensors, Atan()))
    exact = torch.equal(got[0], wanted[0]) and torch.equal(got[1], wanted[1])
    return exact and all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(got, wanted))
"""


def run_script(script: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    command = [sys.executable, "-c", PREPARE + script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_follow_torch_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
import numba
results = []
for threads in (1, 2, 1):
    torch.set_num_threads(threads)
    results.append(result(lambda: leaky(*tensors, Atan())))
    assert torch.get_num_threads() == threads
    assert threads == 1 or numba.get_num_threads() == threads  # one thread needs none of numba's
assert same()
assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))
"""
    run_script(script, monkeypatch)


@pytest.mark.parametrize("started", [True, False])
def test_a_forked_child_works_and_says_when_it_is_slower(started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
assert not {started} or same()
pid = os.fork()
if not pid:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spikes, after = leaky(*(part.detach() for part in tensors), Atan())
        equal = torch.equal(spikes, wanted[0]) and torch.equal(after, wanted[1])
    warned = any("forked" in str(w.message) and w.category is RuntimeWarning for w in caught)
    os._exit(0 if equal and warned is {started} else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    run_script(script, monkeypatch)


FIRST = """
import time, torch
import spikeport.neurons
torch.set_num_threads(1)
layer, x = spikeport.neurons.Leaky(0.9), torch.randn(16, 4, 100, requires_grad=True)
start = time.process_time()
layer(x)[0].sum().backward()
print("first call:", time.process_time() - start)
from spikeport.neurons.kernels import leaky_plain_cpu
kernels = leaky_plain_cpu.plain_forward, leaky_plain_cpu.plain_backward
before = [len(kernel.signatures) for kernel in kernels]
for shape in ((1, 4, 100), (7, 1, 3), (16, 2, 5, 4, 4)):
    layer(torch.randn(shape, requires_grad=True))[0].sum().backward()
assert [len(kernel.signatures) for kernel in kernels] == before
print("compiled:", sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
"""


def test_the_second_process_compiles_nothing_and_no_shape_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time of a first call is printed and not judged: the machine is shared."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled = []
    for state in ("cold", "cached"):
        done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        with capsys.disabled():
            print(f"\n{state} {done.stdout.splitlines()[0]}")
        compiled.append(int(done.stdout.split("compiled:")[1]))
    assert compiled == [2, 0]
