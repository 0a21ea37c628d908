"""The graph's file: an exact round trip, and a refusal of everything else."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeport import CorruptFileError, SpikeportError
from spikeport.networks.file import MAX_HEADER_BYTES, load_graph, save_graph
from spikeport.networks.graph import Edge, Graph, Node, make_node

WORKER = Path(__file__).with_name("loading_worker.py")
text = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 60), 1 << 60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def assert_equal(a: Graph, b: Graph) -> None:
    assert a.information == b.information
    assert len(a.nodes) == len(b.nodes)
    for one, other in zip(a.nodes, b.nodes, strict=True):
        assert (one.name, one.operator, one.inputs) == (other.name, other.operator, other.inputs)
        assert one.attributes == other.attributes
        assert [type(value) for value in one.attributes.values()] == [
            type(value) for value in other.attributes.values()
        ]
        assert one.arrays.keys() == other.arrays.keys()
        for key, array in one.arrays.items():
            assert (array.dtype, array.shape) == (other.arrays[key].dtype, other.arrays[key].shape)
            assert array.tobytes() == other.arrays[key].tobytes()
    assert a.shapes == b.shapes


def test_a_round_trip_is_exact(graph: Graph, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    digest = save_graph(Graph.of(graph.nodes, {"seed": 3, "from": {"sha256": "ab", "é": [1, None]}}), first)
    loaded = load_graph(first)
    assert_equal(loaded, Graph.of(graph.nodes, {"seed": 3, "from": {"sha256": "ab", "é": [1, None]}}))
    assert save_graph(loaded, second) == digest
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    with pytest.raises(ValueError, match="read-only"):
        next(iter(loaded.of_operator("linear")[0].arrays.values()))[0] = 1


@st.composite
def some_graphs(draw: st.DrawFn) -> Graph:
    """Every operator may come, with names and numbers of any kind."""
    side = draw(st.integers(2, 4))
    names = iter(draw(st.lists(text, min_size=20, max_size=20, unique=True)))
    nodes = [make_node(next(names), "input", shape=(2, side, side))]

    def then(operator: str, *more: Edge, **options: object) -> None:
        nodes.append(make_node(next(names), operator, [nodes[-1].name, *more], **options))

    def numbers(*shape: int, low: float = -3e38) -> np.ndarray:
        count = int(np.prod(shape))
        values = st.lists(finite.filter(lambda x: x >= low), min_size=count, max_size=count)
        return np.array(draw(values), np.float32).reshape(shape)

    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    pool = {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 1), "ceil_mode": draw(st.integers(0, 1))}
    norm = {"mean": numbers(2), "variance": numbers(2, low=0.0), "weight": numbers(2), "bias": numbers(2)}
    fires = {"threshold": numbers(low=1e-30), "initial": numbers(2), "bias": numbers(2, side, side)}
    fires |= {"beta": np.float32(draw(st.floats(0, 1, width=32)))} if draw(st.booleans()) else {}
    code, test = draw(st.sampled_from(["binary", "signed", "graded"])), draw(st.sampled_from([">", ">="]))
    steps: list[Callable[[], None]] = [
        lambda: then("conv2d", arrays={"weight": numbers(2, 1, 3, 3)}, groups=2, **window),
        lambda: then("batch_norm", arrays=norm, epsilon=draw(st.floats(0, 1))),
        lambda: then("activation", maximum=draw(st.none() | st.floats(0, 10))),
        lambda: then("neuron", arrays=fires, code=code, test=test, reset="zero"),
        lambda: then("add", Edge(nodes[0].name, draw(st.integers(0, 4096)))),
        lambda: then("multiply", Edge(nodes[0].name)),
        lambda: then("scale", arrays={"factor": numbers(), "shift": numbers(2)}),
        lambda: then("synaptic_filter", arrays={"alpha": np.float32(0.3)}),
        lambda: then("delay", steps=draw(st.integers(1, 4096))),
    ]
    for step in draw(st.lists(st.sampled_from(steps), max_size=6)):
        step()
    last: list[Callable[[], None]] = [
        lambda: then(draw(st.sampled_from(["max_pool", "sum_pool", "average_pool"])), **pool),
        lambda: then("pad", before=(0, 1, 2), after=(0, 0, 1), value=draw(finite)),
        lambda: then("concat", Edge(nodes[0].name), axis=draw(st.integers(0, 2))),
        lambda: then("transpose", permutation=tuple(draw(st.permutations(range(3))))),
        lambda: then("reshape", shape=(side, 2 * side)),
        lambda: then("global_pool", function=draw(st.sampled_from(["mean", "sum", "max"]))),
    ]
    draw(st.sampled_from(last))()
    then("flatten")
    units = Graph.of([*nodes, make_node("end", "output", [nodes[-1].name])]).shapes["end"][0]
    then("linear", arrays={"weight": numbers(1, units), "bias": numbers(1)})
    return Graph.of([*nodes, make_node("end", "output", [nodes[-1].name])], {"more": draw(json_values)})


@settings(deadline=None, max_examples=40)
@given(some_graphs())
def test_a_round_trip_is_exact_for_any_graph(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("graphs") / "g"
    save_graph(graph, path)
    assert_equal(load_graph(path), graph)


def test_the_hash_is_that_of_structure_and_arrays(tmp_path: Path, graphs: Mapping[str, Callable[[], Graph]]) -> None:
    path, nodes = tmp_path / "g", graphs["dense"]().nodes
    digests = {
        save_graph(Graph.of(nodes), path),
        save_graph(Graph.of(nodes, {"seed": 1}), path),
        save_graph(Graph.of(changed(nodes, "w1", weight=np.nextafter(nodes[1].arrays["weight"], np.float32(9)))), path),
        save_graph(Graph.of(changed(nodes, "n1", threshold=np.float32(1))), path),
    }
    assert len(digests) == 4
    assert save_graph(Graph.of(nodes), path) in digests


def changed(nodes: tuple[Node, ...], name: str, **arrays: np.ndarray) -> list[Node]:
    return [
        make_node(
            n.name, n.operator, n.inputs, arrays={**n.arrays, **(arrays if n.name == name else {})}, **n.attributes
        )
        for n in nodes
    ]


def load_all(folder: Path) -> dict[str, tuple[str, str, float]]:
    """What a fresh process makes of each file; a crash, a hang or a lot of memory fails here."""
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["memory"] < 600, "MiB"
    assert max(seconds for _, _, seconds in report["files"].values()) < 10
    return report["files"]


def test_no_truncated_or_flipped_file_is_taken_for_whole(
    tmp_path: Path, graphs: Mapping[str, Callable[[], Graph]]
) -> None:
    folder = tmp_path / "mutations"
    folder.mkdir()
    save_graph(graphs["residual"](), tmp_path / "g")
    whole = (tmp_path / "g").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    generator = np.random.default_rng(0)
    lengths = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1, *generator.integers(len(whole), size=100)}
    for length in lengths:
        (folder / f"cut-{length}").write_bytes(whole[:length])
    places = {*range(8), header - 1, header, len(whole) - 1, *generator.integers(len(whole), size=200)}
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        (folder / f"flip-{place}").write_bytes(flipped)
    (folder / "longer").write_bytes(whole + b"\0")
    (folder / "whole").write_bytes(whole)
    found = {name: kind for name, (kind, _, _) in load_all(folder).items()}
    assert len(found) > 200
    assert found.pop("whole") == "loaded"
    assert {name: kind for name, kind in found.items() if kind != "CorruptFileError"} == {}


@pytest.mark.slow
def test_every_single_bit_matters(tmp_path: Path) -> None:
    nodes = [make_node("x", "input", shape=(1,)), make_node("wé", "linear", ["x"], arrays={"weight": [[0.5]]})]
    path = tmp_path / "g"
    save_graph(Graph.of([*nodes, make_node("y", "output", ["wé"])]), path)
    whole = path.read_bytes()
    for place in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(CorruptFileError):
            load_graph(path)
    path.write_bytes(whole)
    load_graph(path)


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    nodes = [make_node("x", "input", shape=(1,)), make_node("y", "output", ["x"])]
    cyclic: list[object] = []
    cyclic.append(cyclic)
    for value in (float("nan"), {1, 2}, b"bytes", cyclic):
        with pytest.raises(SpikeportError, match="no JSON"):
            save_graph(Graph.of(nodes, {"value": value}), tmp_path / "g")
    for size in (MAX_HEADER_BYTES, 100_000_000):
        with pytest.raises(SpikeportError, match="too large"):
            save_graph(Graph.of(nodes, {"value": "a" * size}), tmp_path / "g")
    with pytest.raises(SpikeportError, match=r"cannot write .*No such file"):
        save_graph(Graph.of(nodes), tmp_path / "nowhere" / "g")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpikeportError, match=r"cannot read .*No such file"):
        load_graph(tmp_path / "nothing")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(SpikeportError, match="is no file"):
            load_graph(path)
