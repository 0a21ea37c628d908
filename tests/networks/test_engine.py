"""The laws of the sequence engine, on networks whose arithmetic is exact (see conftest), so bit for bit."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport import RangeError, ShapeError
from spikeport.networks.engine import Engine, NetworkState, constant_nodes, join, select
from spikeport.networks.graph import Edge, Graph, make_node

STEPS = 12
Inputs = Callable[..., Tensor]


@pytest.fixture(params=[True, False], ids=["constant", "sequence"])
def constant(request: pytest.FixtureRequest) -> bool:
    return request.param


def engine_of(graph: Graph, constant: bool = True, **options: object) -> Engine:
    return Engine(graph, max_steps=STEPS, constant_input=constant, **options)


def run(engine: Engine, x: Tensor, cuts: tuple[int, ...] = (STEPS,)) -> tuple[Tensor, NetworkState]:
    """The output over time, computed in pieces of the given lengths."""
    state = engine.start(x) if engine.constant_input else engine.initial_state(x.shape[1])
    return carry_on(engine, x, state, cuts)


def carry_on(engine: Engine, x: Tensor, state: NetworkState, cuts: tuple[int, ...]) -> tuple[Tensor, NetworkState]:
    outputs, done = [], 0
    for steps in cuts:
        block = x if engine.constant_input else x[done : done + steps]
        output, state = engine.advance(block, state, steps)
        outputs.append(output)
        done += steps
    return torch.cat(outputs), state


def tensors(state: NetworkState) -> list[Tensor]:
    return [*(part for parts in state.nodes.values() for part in parts), *state.edges.values(), *state.fixed.values()]


def assert_same(a: tuple[Tensor, NetworkState], b: tuple[Tensor, NetworkState]) -> None:
    assert torch.equal(a[0], b[0])
    assert len(tensors(a[1])) == len(tensors(b[1]))
    assert all(torch.equal(x, y) for x, y in zip(tensors(a[1]), tensors(b[1]), strict=True))


def given_to(graph: Graph, constant: bool, inputs: Inputs, batch: int = 4) -> Tensor:
    return inputs(graph, batch) if constant else inputs(graph, STEPS, batch)


# An oracle that shares no code with the engine: one step at a time, every value of the past kept.


def plain_loop(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """Every node's values over time (steps, batch, ...) for a sequence x."""
    arrays = {n.name: {k: torch.tensor(a, dtype=x.dtype).clone() for k, a in n.arrays.items()} for n in graph.nodes}
    past: dict[str, list[Tensor]] = {node.name: [] for node in graph.nodes}
    memory: dict[str, Tensor] = {}
    for t in range(len(x)):
        for node in graph.nodes:
            values = []
            for edge in node.inputs:
                like = torch.zeros(x.shape[1], *graph.shapes[edge.source], dtype=x.dtype)
                values.append(past[edge.source][t - edge.delay] if t >= edge.delay else like)
            past[node.name].append(x[t] if node.operator == "input" else plain_step(node, arrays, values, memory, past))
    return {name: torch.stack(values) for name, values in past.items()}


def along_channels(array: Tensor, like: Tensor) -> Tensor:
    return array if array.ndim in (0, like.ndim - 1) else array.view(-1, *[1] * (like.ndim - 2))


def plain_step(node, arrays, values, memory, past) -> Tensor:
    a, own = node.attributes, arrays[node.name]
    x = values[0]
    convolution = (a["stride"], a["padding"], a["dilation"], a["groups"]) if "dilation" in a else ()
    pooling = (a["kernel"], a["stride"], a["padding"]) if "kernel" in a else ()
    plain = {
        "linear": lambda: F.linear(x, own["weight"], own.get("bias")),
        "conv1d": lambda: F.conv1d(x, own["weight"], own.get("bias"), *convolution),
        "conv2d": lambda: F.conv2d(x, own["weight"], own.get("bias"), *convolution),
        "average_pool": lambda: F.avg_pool2d(x, *pooling),
        "max_pool": lambda: F.max_pool2d(x, *pooling),
        "add": lambda: sum(values[1:], x),
        "concat": lambda: torch.cat(values, 1),
        "flatten": lambda: x.flatten(1),
        "transpose": lambda: x.permute(0, *(i + 1 for i in a["permutation"])),
        "pad": lambda: F.pad(x, [w for pair in zip(a["before"][::-1], a["after"][::-1], strict=True) for w in pair]),
        "scale": lambda: x * along_channels(own["factor"], x) + along_channels(own["shift"], x),
        "output": lambda: x + (past[node.name][-1] if past[node.name] else 0),
        "synaptic_filter": lambda: (
            x + (along_channels(own["alpha"], x) * past[node.name][-1] if past[node.name] else 0)
        ),
        "delay": lambda: late(past[node.inputs[0].source], a["steps"]),
        "neuron": lambda: plain_neuron(node, own, x, memory),
    }
    return plain[node.operator]()


def late(values: list[Tensor], steps: int) -> Tensor:
    return values[-1 - steps] if len(values) > steps else torch.zeros_like(values[-1])


def plain_neuron(node, own, x, memory) -> Tensor:
    a, spread = node.attributes, {key: along_channels(array, x).expand_as(x) for key, array in own.items()}
    before = memory.get(node.name, spread["initial"])
    v = before * spread.get("beta", 1.0) + x + spread["bias"]
    if a["late"]:
        v = v - spread["threshold"] * (
            before > spread["threshold"] if a["test"] == ">" else before >= spread["threshold"]
        )
    net = memory.get(node.name + " net", torch.zeros_like(x))
    over = v - spread["threshold"]
    fired = over > 0 if a["test"] == ">" else over >= 0
    s = fired.to(x.dtype)
    if a["code"] == "signed":
        s[(v < 0) & (net > 0) & ~fired] = -1
    if a["code"] == "graded":
        ladder = torch.arange(1, a["levels"] + 1).view(-1, *[1] * x.ndim) * spread["threshold"]
        s = (v > ladder if a["test"] == ">" else v >= ladder).sum(0).to(x.dtype)
    memory[node.name + " net"] = net + s
    after = {"subtract": v - s * spread["threshold"], "zero": v * (s == 0), "none": v}
    memory[node.name] = v if a["late"] else after[a["reset"]]
    return s


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_node_equals_a_plain_loop(graph: Graph, inputs: Inputs, dtype: torch.dtype) -> None:
    x = inputs(graph, STEPS, 4)
    wanted, found = plain_loop(graph, x.to(dtype)), {}
    engine = engine_of(graph, False, dtype=dtype)

    def observe(name: str, values: Tensor) -> None:
        found.setdefault(name, []).append(values.clone())

    state = engine.initial_state(4)
    for low, high in ((0, 5), (5, STEPS)):
        _, state = engine.advance(x[low:high], state, high - low, observe)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert torch.equal(torch.cat(found[name]), values), name
        assert found[name][0].dtype == dtype
    for node in graph.of_operator("neuron"):
        assert 0.02 < wanted[node.name].ne(0).double().mean() < 0.98, "a silent or saturated network shows nothing"


@pytest.mark.parametrize("cuts", [(1,) * STEPS, (5, 7), (2, 1, 9), (11, 1)], ids=str)
def test_splitting_time_changes_nothing(graph: Graph, inputs: Inputs, constant: bool, cuts: tuple[int, ...]) -> None:
    engine, x = engine_of(graph, constant), given_to(graph, constant, inputs)
    assert_same(run(engine, x, cuts), run(engine, x))


def test_the_chunk_that_an_engine_prefers_changes_nothing(graph: Graph, inputs: Inputs) -> None:
    x = inputs(graph, 3)
    outputs = []
    for chunk in (1, 4, 100):
        engine = engine_of(graph, chunk=chunk)
        assert engine.chunk == (1 if graph.recurrent else min(chunk, STEPS))
        outputs.append(run(engine, x, (engine.chunk,) * (STEPS // engine.chunk))[0])
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_splitting_the_batch_changes_nothing(graph: Graph, inputs: Inputs, constant: bool) -> None:
    engine, x = engine_of(graph, constant), given_to(graph, constant, inputs)
    whole, state = run(engine, x)
    axis = 0 if constant else 1
    for low, high in ((0, 1), (1, 2), (2, 4)):
        part, part_state = run(engine, x.narrow(axis, low, high - low))
        assert_same((part, part_state), (whole[:, low:high], select(state, torch.arange(low, high))))


def test_selecting_and_joining_in_the_middle_changes_nothing(graph: Graph, inputs: Inputs) -> None:
    engine, x = engine_of(graph), inputs(graph, 4)
    whole, final = run(engine, x)
    _, state = run(engine, x, (3, 2))
    order = torch.tensor([3, 0, 2])
    for index in (order, torch.tensor([True, False, True, True])):
        kept = torch.arange(4)[index]
        part = carry_on(engine, x[index], engine.select(state, index), (STEPS - 5,))
        assert_same(part, (whole[5:, kept], select(final, kept)))
    fresh = inputs(graph, 2, seed=9)
    mixed = engine.join(select(state, order), engine.start(fresh))
    output, after = carry_on(engine, torch.cat([x[order], fresh]), mixed, (STEPS - 5,))
    alone = run(engine, fresh, (STEPS - 5,))
    assert_same((output, after), (torch.cat([whole[5:, order], alone[0]], 1), join(select(final, order), alone[1])))


def test_a_constant_input_equals_its_repetition(graph: Graph, inputs: Inputs) -> None:
    x = inputs(graph, 3)
    once, _ = run(engine_of(graph), x)
    repeated, _ = run(engine_of(graph, False), x.expand(STEPS, *x.shape))
    assert torch.equal(once, repeated)


def test_what_a_constant_input_fixes_is_computed_once(graph: Graph, inputs: Inputs) -> None:
    engine, seen = engine_of(graph), {}

    def observe(name: str, values: Tensor) -> None:
        seen.setdefault(name, []).append(len(values))

    state = engine.start(inputs(graph, 2), observe)
    assert seen == {name: [1] for name in constant_nodes(graph)}
    engine.advance(inputs(graph, 2), state, STEPS, observe)
    assert seen.keys() == graph.by_name.keys()
    assert all(seen[name] == [1] for name in constant_nodes(graph))
    assert all(sum(rows) == STEPS for name, rows in seen.items() if name not in constant_nodes(graph))


def test_a_late_edge_equals_a_delay_node(make_neuron, inputs: Inputs) -> None:
    weights = np.eye(3, dtype=np.float32)
    start = [
        make_node("x", "input", shape=(3,)),
        make_node("w", "linear", ["x"], arrays={"weight": weights}),
        make_neuron("n", "w"),
    ]
    end = [make_node("v", "linear", ["sum"], arrays={"weight": weights[:2]}), make_node("y", "output", ["v"])]
    for steps in (1, 3, STEPS - 1, STEPS + 5):
        edge = Graph.of([*start, make_node("sum", "add", ["n", Edge("n", steps)]), *end])
        late = [make_node("d", "delay", ["n"], steps=steps), make_node("sum", "add", ["n", "d"])]
        node = Graph.of([*start, *late, *end])
        x = inputs(edge, STEPS, 4)
        one, other = (run(engine_of(each, False), x, (5, 1, 6))[0] for each in (edge, node))
        assert torch.equal(one, other)
        assert not edge.recurrent


def test_recurrence_equals_a_loop_by_hand(graphs: Mapping[str, Callable[[], Graph]], inputs: Inputs) -> None:
    graph = graphs["recurrent"]()
    W, U, V = (torch.tensor(graph.by_name[name].arrays["weight"]) for name in "WUV")
    x = inputs(graph, STEPS, 4)
    v, s, y, outputs = torch.full((4, 5), 0.5), torch.zeros(4, 5), torch.zeros(4, 3), []
    for t in range(STEPS):
        v = v * 0.75 + (x[t] @ W.T + s @ U.T) - (v >= 1).float()  # the graph's neuron resets late
        s = (v >= 1).float()
        y = y + s @ V.T
        outputs.append(y)
    assert graph.recurrent
    assert torch.equal(run(engine_of(graph, False), x)[0], torch.stack(outputs))


def test_no_input_no_spike(graphs: Mapping[str, Callable[[], Graph]], constant: bool) -> None:
    graph = graphs["recurrent"]()
    seen: dict[str, Tensor] = {}
    engine, x = engine_of(graph, constant), torch.zeros(*([] if constant else [STEPS]), 2, 4)
    state = engine.start(x) if constant else engine.initial_state(2)
    output, _ = engine.advance(x, state, STEPS, lambda name, values: seen.update({name: values}))
    assert seen["n"].count_nonzero() == output.count_nonzero() == 0


def test_arguments_stay_as_they_are(graph: Graph, inputs: Inputs, constant: bool) -> None:
    engine, x = engine_of(graph, constant), given_to(graph, constant, inputs)
    state = engine.start(x) if constant else engine.initial_state(4)
    before = [each.clone() for each in (x, *tensors(state))]
    arrays = {(n.name, key): array.copy() for n in graph.nodes for key, array in n.arrays.items()}
    first = engine.advance(x, state, STEPS)
    assert all(torch.equal(now, old) for now, old in zip((x, *tensors(state)), before, strict=True))
    assert all(np.array_equal(graph.by_name[name].arrays[key], array) for (name, key), array in arrays.items())
    assert_same(engine.advance(x, state, STEPS), first)


def test_the_state_does_not_hang_on_the_memory_of_the_input(graph: Graph, inputs: Inputs) -> None:
    engine, x = engine_of(graph), inputs(graph, 2)
    wanted, _ = run(engine, x)
    state = engine.start(x)
    x.zero_()
    assert torch.equal(carry_on(engine, x, state, (STEPS,))[0], wanted)


def test_an_analog_network_equals_its_module(make_window: Callable[..., dict]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    module(torch.randn(50, 2, 9, 9))
    module.eval()
    conv, norm, _, _, _, head = module
    arrays = {"mean": norm.running_mean, "variance": norm.running_var, "weight": norm.weight, "bias": norm.bias}
    plain = {key: value.detach().numpy() for key, value in arrays.items()}

    def of(layer: nn.Module) -> dict:
        return {"weight": layer.weight.detach().numpy(), "bias": layer.bias.detach().numpy()}

    nodes = [
        make_node("x", "input", shape=(2, 9, 9)),
        make_node("conv", "conv2d", ["x"], arrays=of(conv), **make_window(stride=2, padding=1, groups=2)),
        make_node("norm", "batch_norm", ["conv"], arrays=plain, epsilon=norm.eps),
        make_node("relu", "activation", ["norm"], maximum=6.0),
        make_node("pool", "max_pool", ["relu"], kernel=(2, 2), stride=(2, 2), padding=(0, 0), ceil_mode=1),
        make_node("flat", "flatten", ["pool"]),
        make_node("head", "linear", ["flat"], arrays=of(head)),
        make_node("y", "output", ["head"]),
    ]
    engine, x = Engine(Graph.of(nodes), max_steps=1), torch.randn(8, 2, 9, 9)
    output, _ = engine.advance(x, engine.start(x), 1)
    torch.testing.assert_close(output[0], module(x).detach())


def test_what_does_not_fit_is_refused(graphs: Mapping[str, Callable[[], Graph]]) -> None:
    graph = graphs["dense"]()
    engine, sequence = engine_of(graph), engine_of(graph, False)
    with pytest.raises(ShapeError, match=r"\(4,\).*\(5,\)"):
        engine.start(torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="3 steps, but 4"):
        sequence.advance(torch.zeros(3, 2, 5), sequence.initial_state(2), 4)
    with pytest.raises(RangeError, match="at least 1"):
        engine.advance(torch.zeros(2, 5), engine.start(torch.zeros(2, 5)), 0)
    for wrong in ({"max_steps": 0}, {"max_steps": 4, "chunk": 0}):
        with pytest.raises(RangeError, match="at least 1"):
            Engine(graph, **wrong)
