"""Time the integer engine beside plain PyTorch, SpikingJelly, our float engine and the bare convolutions.

python benchmarks/integer_engine.py [--resnet FOLDER] [--threads 2] [--rounds 7] [--batch 16] [--steps 32]

All contestants run the same integer network on the same samples, in one process and in turn, without gradients: six
convolutions with sum pools (32, 32, 64, 64, 128, 128 channels of 32×32 pixels; random weights, thresholds at which a
tenth of the neurons fires), and with --resnet the ResNet-20 that ``conversion_table.py --keep`` left.  The loops step
by step are what is usually written: every node at every step.  Both of our engines get the chunk that they are fastest
with.
"bare" are the synapses alone, on inputs that lie ready, in the chunk of the engine: the ceiling.
The interpreter is that of the environment that peers/environment.py makes.  Prints a table and writes
results/integer_engine.json.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHUNKS = (4, 8, 16)
RATE = 0.1
Task = Callable[[], Any]


def pooled_network(steps: int) -> tuple[Any, Any]:
    """The six convolutions as a Graph whose neurons fire at a tenth of the steps, and samples for it."""
    import numpy as np
    import torch

    from spikeport.networks.engine import Engine
    from spikeport.networks.graph import Graph, make_node

    rng = np.random.default_rng(0)
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    nodes, source, inputs = [make_node("x", "input", shape=(3, 32, 32))], "x", 3
    for place, outputs in enumerate((32, 32, 64, 64, 128, 128)):
        weight = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3))
        nodes += [make_node(f"conv{place}", "conv2d", [source], arrays={"weight": weight}, **window)]
        nodes += [neuron(f"fire{place}", f"conv{place}", outputs, 1.0)]
        source, inputs = f"fire{place}", outputs
        if place % 2:
            nodes += [make_node(f"pool{place}", "average_pool", [source], kernel=(2, 2), stride=(2, 2), padding=(0, 0))]
            source = f"pool{place}"
    nodes += [make_node("flat", "flatten", [source])]
    nodes += [make_node("head", "linear", ["flat"], arrays={"weight": rng.normal(0, 0.02, (10, 2048))})]
    graph = Graph.of([*nodes, make_node("y", "output", ["head"])])
    x = torch.from_numpy(rng.uniform(0, 1, (64, 3, 32, 32)).astype(np.float32))
    tuned: dict[str, Any] = {}

    def give(node: Any, values: list[Any]) -> Any:
        if node.operator != "neuron":
            return None
        threshold = float(values[0].mean(0).clamp(min=0).mean()) / RATE
        tuned[node.name] = neuron(node.name, node.sources[0], len(node.arrays["threshold"]), threshold)
        return engine.neuron_sequence(tuned[node.name], values[0], steps)

    engine = Engine(graph, max_steps=steps)
    engine.walk(x[:8], steps, give)
    return Graph.of([tuned.get(node.name, node) for node in graph.nodes]), x.numpy()


def neuron(name: str, source: str, channels: int, threshold: float) -> Any:
    """A binary neuron that starts at half its threshold."""
    import numpy as np

    from spikeport.networks.graph import make_node

    arrays = {"threshold": np.full(channels, threshold), "initial": np.full(channels, threshold / 2)}
    arrays["bias"] = np.zeros(channels)
    return make_node(name, "neuron", [source], arrays=arrays, code="binary", test=">=", reset="subtract")


class PlainNeuron:
    """Integrate and fire as it is usually written."""

    def __init__(self, threshold: Any, bias: Any, initial: Any) -> None:
        self.threshold, self.bias, self.initial = threshold, bias, initial

    def reset(self) -> None:
        """Forget the membrane."""
        self.v = self.initial

    def __call__(self, x: Any) -> Any:
        """One step of the current x (batch, *features)."""
        v = self.v + x if self.bias is None else self.v + x + self.bias
        s = (v >= self.threshold).to(x.dtype)
        self.v = v - s * self.threshold
        return s


class Loop:
    """A graph step by step: every node at every step, in PyTorch's own memory format; the sum of the readout."""

    def __init__(self, graph: Any, make: Callable[[Any, Any, Any], Any]) -> None:
        import torch

        from spikeport.networks.operators import OPERATORS
        from spikeport.networks.reference import channelwise

        self.graph, self.operators = graph, OPERATORS
        self.tensors = {n.name: {k: torch.tensor(a) for k, a in n.arrays.items()} for n in graph.nodes}
        self.neurons = {}
        for node in graph.of_operator("neuron"):
            like = torch.empty(1, *graph.shapes[node.name])
            held = self.tensors[node.name]
            arrays = [channelwise(held[key], like) for key in ("threshold", "bias", "initial")]
            arrays[1] = arrays[1] if arrays[1].any() else None
            self.neurons[node.name] = make(*arrays)

    def __call__(self, x: Any, steps: int) -> Any:
        """The readout's current, summed over the steps, of the samples x."""
        total: Any = 0
        for neuron in self.neurons.values():
            neuron.reset()
        for _ in range(steps):
            values: dict[str, Any] = {}
            for node in self.graph.nodes:
                inputs = [values[source] for source in node.sources]
                if node.operator == "input":
                    values[node.name] = x
                elif node.operator == "neuron":
                    values[node.name] = self.neurons[node.name](inputs[0])
                elif node.operator == "output":
                    total = total + inputs[0]
                else:
                    function = self.operators[node.operator].function
                    values[node.name] = function(node.attributes, self.tensors[node.name], inputs)
        return total


def spikingjelly_neuron(threshold: Any, bias: Any, initial: Any) -> Any:
    """The peer's neuron for a current in units of the threshold (it takes one threshold a layer)."""
    from spikingjelly.activation_based import neuron

    class Peer:
        def __init__(self) -> None:
            self.node = neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="s")

        def reset(self) -> None:
            self.node.reset()
            self.node.v = initial / threshold

        def __call__(self, x: Any) -> Any:
            if self.node.v.shape != x.shape:
                self.node.v = self.node.v.expand_as(x)
            return self.node(x if bias is None else x + bias / threshold)

    return Peer()


def unit_thresholds(graph: Any) -> Any:
    """The same network with all synapses in units of the threshold of the neuron that they reach."""
    from dataclasses import replace

    from spikeport.networks.graph import Graph

    changed: dict[str, Any] = {}
    for node in graph.of_operator("neuron"):
        before = graph.by_name[node.sources[0]]
        for source in before.sources if before.operator == "add" else (before.name,):
            synapse = graph.by_name[source]
            arrays = {}
            for key, array in synapse.arrays.items():
                threshold = node.arrays["threshold"]
                arrays[key] = array / threshold.reshape(-1, *([1] * (array.ndim - 1)))
            changed[source] = replace(synapse, arrays=arrays)
    return Graph.of([changed.get(node.name, node) for node in graph.nodes])


def bare(engine: Any, chunk: int, batch: int, steps: int, *, bytes_: bool) -> Task:
    """The synapses of every step alone, on random spikes in the engine's layout; in int8 or in float32."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    calls: list[Task] = []
    for name, synapse in engine._synapses.items():
        node = engine.graph.by_name[name]
        shape = engine.graph.shapes[node.sources[0]]
        x = (torch.rand(chunk * batch, *shape, generator=generator) < RATE).to(torch.uint8)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        if bytes_:
            calls.append(partial(synapse, x))
            continue
        weight = torch.tensor(node.arrays["weight"])
        if node.operator == "linear":
            calls.append(partial(functional.linear, x.float(), weight))
            continue
        window = [node.attributes[key] for key in ("stride", "padding", "dilation", "groups")]
        weight = weight.contiguous(memory_format=torch.channels_last)
        calls.append(partial(functional.conv2d, x.float(), weight, None, *window))

    def task() -> None:
        for _ in range(steps // chunk):
            for call in calls:
                call()

    return task


def run_engine(engine: Any, x: Any, steps: int) -> Any:
    """The cumulative output at the last step."""
    state = engine.start(x)
    for _ in range(steps // engine.chunk):
        output, state = engine.advance(x, state, engine.chunk)
    return output[-1]


def fastest(make: Callable[[int], Task]) -> int:
    """The chunk whose task takes the least time, of two runs each after a first."""
    import time

    seconds = {}
    for chunk in CHUNKS:
        task = make(chunk)
        task()
        times = []
        for _ in range(2):
            began = time.perf_counter()
            task()
            times.append(time.perf_counter() - began)
        seconds[chunk] = min(times)
    return min(seconds, key=lambda chunk: seconds[chunk])


def measure(title: str, graph: Any, x: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Medians of all contestants on one network."""
    import contestants as field
    import torch

    from spikeport.hardware.lower import input_code, lower
    from spikeport.hardware.torch_engine import IntegerEngine
    from spikeport.networks.engine import Engine
    from spikeport.networks.graph import Graph

    steps, batch = options.steps, options.batch
    program = lower(graph, input_code(float(x.min()), float(x.max())), steps=steps)
    x = torch.from_numpy(x[:batch].copy())
    coded, whole = torch.from_numpy(program.input(x.numpy())).float(), Graph.of(program.graph.nodes)
    loop = Loop(whole, PlainNeuron)

    def ours(chunk: int) -> Task:
        engine = IntegerEngine(program, max_steps=steps, chunk=chunk)
        return lambda: run_engine(engine, x, steps)

    def floats(chunk: int) -> Task:
        engine = Engine(whole, max_steps=steps, chunk=chunk)
        return lambda: run_engine(engine, coded, steps)

    with torch.inference_mode():
        chunk, float_chunk = fastest(ours), fastest(floats)
        engine = IntegerEngine(program, max_steps=steps, chunk=chunk)
        tasks = {
            "integer engine": lambda: run_engine(engine, x, steps),
            "our float engine": floats(float_chunk),
            "plain PyTorch, step by step": lambda: loop(coded, steps),
        }
        check(program, tasks, steps)
        missing = peer(tasks, unit_thresholds(whole), coded, steps)
        if engine.int8:
            tasks["bare int8 synapses"] = bare(engine, chunk, batch, steps, bytes_=True)
            tasks["bare float32 synapses"] = bare(engine, float_chunk, batch, steps, bytes_=False)
        rows = field.interleaved(tasks, options.rounds)
    return {
        "network": title, "batch": batch, "steps": steps, "threads": torch.get_num_threads(), "rounds": options.rounds,
        "chunk": chunk, "float_chunk": float_chunk, "int8_synapses": len(engine.int8), "spike_rate": rate(engine, x),
        "rows": rows, "missing": missing,
    }  # fmt: skip


def check(program: Any, tasks: dict[str, Task], steps: int) -> None:
    """The plain loop on whole numbers gives the same readout, bit for bit."""
    ramp = program.graph.output.attributes["ramp"]
    if ramp == 0:
        found, wanted = tasks["integer engine"](), tasks["plain PyTorch, step by step"]()
        if not (found.double() - (program.output_scale * wanted.double()).float().double()).abs().max() == 0:
            raise SystemExit("the integer engine and the plain loop differ")


def peer(tasks: dict[str, Task], graph: Any, x: Any, steps: int) -> list[str]:
    """Add SpikingJelly where it is installed."""
    import contestants as field

    try:
        field._stand_in("torchvision", "torchaudio")
        loop = Loop(graph, spikingjelly_neuron)
    except ImportError as error:
        return [f"spikingjelly: {error}"]
    tasks[f"{field._named('spikingjelly')}, step by step"] = lambda: loop(x, steps)
    return []


def rate(engine: Any, x: Any) -> float:
    """The share of neurons that fire at a step."""
    import torch

    spikes, places = 0.0, 0

    def observe(name: str, values: Any) -> None:
        nonlocal spikes, places
        if name in names:
            spikes, places = spikes + float(values.sum()), places + values.numel()

    names = {node.name for node in engine.graph.of_operator("neuron")}
    with torch.inference_mode():
        engine.advance(x, engine.start(x), engine.max_steps, observe)
    return spikes / places


def table(found: dict[str, Any]) -> str:
    """A table in Markdown: times, and how many times longer than the integer engine."""
    ours = found["rows"]["integer engine"]["wall_ms"]
    title = f"\n{found['network']}: batch {found['batch']}, {found['steps']} steps, {found['threads']} threads"
    lines = [
        f"{title}, rate {found['spike_rate']:.2f}, {found['int8_synapses']} synapses in int8",
        "| | wall ms | CPU ms | × integer engine |",
        "|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        lines.append(f"| {name} | {row['wall_ms']:.1f} | {row['cpu_ms']:.1f} | {row['wall_ms'] / ours:.2f} |")
    bare_ms = found["rows"].get("bare int8 synapses", {}).get("wall_ms")
    if bare_ms:
        plain = found["rows"]["plain PyTorch, step by step"]["wall_ms"]
        lines.append(
            f"share of the ceiling: {bare_ms / ours:.2f}; the ceiling over the plain loop: {plain / bare_ms:.2f}×"
        )
    return "\n".join([*lines, *(f"left out: {reason}" for reason in found["missing"])])


def processor() -> dict[str, Any]:
    """What decides the speed of int8: VNNI and AMX; and what the self-test found."""
    import torch

    from spikeport.hardware.int8 import largest_exact_input

    def has(name: str) -> bool | None:
        found = getattr(torch.cpu, f"_is_{name}_supported", None)
        return None if found is None else bool(found())

    return {
        "capability": torch.backends.cpu.get_cpu_capability(), "vnni": has("vnni"), "amx": has("amx_tile"),
        "torch": torch.__version__, "largest_exact_byte": largest_exact_input(),
    }  # fmt: skip


def main() -> None:
    """Measure in the peers' environment, or start that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resnet", type=Path, help="the folder of the converted ResNet-20")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "integer_engine.json")
    parser.add_argument("--inside", action="store_true", help="this is the environment of the peers")
    options = parser.parse_args()
    if not options.inside:
        from lif_layer import run_inside

        return run_inside(__file__)
    import numpy as np
    import torch

    from spikeport.networks.file import load_graph

    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"processor": processor(), "networks": []}
    print(found["processor"])
    networks = [("pooled, 6 convolutions", *pooled_network(options.steps))]
    if options.resnet:
        graph = load_graph(options.resnet / "network.safetensors")
        images = np.random.default_rng(0).normal(0, 1, (64, 3, 32, 32)).clip(-2, 2).astype(np.float32)
        networks.append(("ResNet-20", graph, images))
    for title, graph, x in networks:
        found["networks"].append(measure(title, graph, x, options))
        print(table(found["networks"][-1]), flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
