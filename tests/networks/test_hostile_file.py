"""Files made to harm: their hash is right, and still each is refused, soon and with little memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from spikeport.networks.file import FORMAT, _digest

WORKER = Path(__file__).with_name("loading_worker.py")
WEIGHT = {"w/weight": np.ones((2, 3), np.float32)}


def node(name: Any, operator: Any, inputs: Any = (), arrays: Any = (), **attributes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "operator": operator,
        "inputs": [[source, 0] if isinstance(source, str) else source for source in inputs],
        "attributes": attributes,
        "arrays": list(arrays),
    }


X, W, Y = node("x", "input", shape=[3]), node("w", "linear", ["x"], ["weight"]), node("y", "output", ["w"])
FILTER = node("w", "synaptic_filter", ["x"], ["alpha"])


def signed(structure: Any, arrays: dict[str, np.ndarray] | None = None, **metadata: Any) -> bytes:
    """A file with the right hash; the structure is text, or what becomes JSON text."""
    held = WEIGHT if arrays is None else arrays
    written = structure if isinstance(structure, str) else json.dumps(structure)
    header = {"spikeport": str(FORMAT), "structure": written, "sha256": _digest(written, held), **metadata}
    return save(held, header) if held else raw(json.dumps({"__metadata__": header}).encode())


def of(*nodes: Any, arrays: dict[str, np.ndarray] | None = None, **more: Any) -> bytes:
    return signed({"nodes": list(nodes), "information": {}, **more}, {} if arrays is None else arrays)


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def through(*nodes: Any, arrays: dict[str, np.ndarray] | None = None, shape: Any = (3,)) -> bytes:
    """input -> the nodes -> output."""
    end = nodes[-1]["name"] if nodes else "x"
    return of(node("x", "input", shape=list(shape)), *nodes, node("y", "output", [end]), arrays=arrays)


def no_safetensors() -> Iterator[tuple[str, bytes]]:
    deep = b"[" * 200_000
    yield "empty", b""
    yield "pickle", b"\x80\x04cposix\nsystem\n(S'true'\ntR."
    yield "zip", b"PK\x03\x04" + bytes(100)
    yield "length of all", raw(b"{}", length=(1 << 64) - 1)
    yield "length of 2^40", raw(b"{}", length=1 << 40)
    yield "a header of 40 MB", raw(b'{"__metadata__":{"a":"' + b"b" * 40_000_000 + b'"}}')
    yield "deep", raw(deep)
    yield "deep object", raw(b'{"__metadata__":' + b'{"a":' * 100_000)
    yield "list", raw(b"[]")
    yield "number", raw(b"7")
    yield "no metadata", save(WEIGHT)
    yield "metadata list", raw(b'{"__metadata__":[]}')
    yield "metadata number", raw(b'{"__metadata__":{"spikeport":1,"structure":{},"sha256":null}}')
    yield "half a surrogate", raw(b'{"__metadata__":{"spikeport":"2","structure":"\\ud800","sha256":""}}')
    yield "utf-16", raw('{"__metadata__":{}}'.encode("utf-16"))
    huge = b'{"__metadata__":{},"w/weight":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,4]}}'
    yield "declared shape", raw(huge % (1 << 62, 1 << 62), bytes(4))
    yield "declared product 1", raw(huge % (1 << 32, 1 << 32), bytes(4))
    yield "integer", raw(b'{"__metadata__":' + b"9" * 1_000_000 + b"}")


def wrong_structures() -> Iterator[tuple[str, bytes]]:
    yield "no JSON", signed("{")
    yield "deep structure", signed("[" * 200_000)
    for name, value in (("NaN", "NaN"), ("infinity", "-Infinity"), ("1e999", "1e999"), ("digits", "9" * 5000)):
        text = json.dumps(
            {"nodes": [X, node("a", "activation", ["x"], maximum="?"), node("y", "output", ["a"])], "information": {}}
        )
        yield name, signed(text.replace('"?"', value), {})
    yield "NaN information", signed('{"nodes":' + json.dumps([X, W, Y]) + ',"information":{"a":NaN}}')
    for name, structure in (("list", []), ("null", None), ("text", "a"), ("empty", {})):
        yield f"structure {name}", signed(structure)
    yield "information list", of(X, W, Y, arrays=WEIGHT, information=[["a", 1]])
    yield "one more entry", of(X, W, Y, arrays=WEIGHT, code="import os")
    yield "nodes object", of(arrays={}, nodes={"a": 1})
    yield "no nodes", of()
    yield "node list", of([1, 2])
    yield "node with code", of(X, {**W, "code": "import os"}, Y, arrays=WEIGHT)
    yield "node without arrays", of(X, {k: v for k, v in W.items() if k != "arrays"}, Y, arrays=WEIGHT)
    for kind in (5, None, [], {}, "", "a\n"):
        yield f"name {kind!r}".replace("\n", "n"), of(X, {**W, "name": kind}, Y, arrays=WEIGHT)
        yield f"operator {kind!r}".replace("\n", "n"), of(X, {**W, "operator": kind}, Y, arrays=WEIGHT)
        yield f"inputs {kind!r}".replace("\n", "n"), of(X, {**W, "inputs": kind}, Y, arrays=WEIGHT)
        yield f"edge {kind!r}".replace("\n", "n"), of(X, {**W, "inputs": [kind]}, Y, arrays=WEIGHT)
    for delay in (-1, 1 << 40, 0.5, "1", None, True):
        yield f"delay {delay!r}", of(X, {**W, "inputs": [["x", delay]]}, Y, arrays=WEIGHT)
    yield "format", signed({"nodes": [X, W, Y], "information": {}}, spikeport="1")
    yield "one more metadata", signed({"nodes": [X, W, Y], "information": {}}, more="a")


def wrong_graphs() -> Iterator[tuple[str, bytes]]:
    yield "unknown operator", through(node("a", "eval", ["x"]))
    yield "unknown attribute", through(node("a", "flatten", ["x"], code="import os"))
    yield "missing attribute", through(node("a", "delay", ["x"]))
    yield "wrong attribute", through(node("a", "delay", ["x"], steps="1"))
    yield "nested attribute", through(node("a", "reshape", ["x"], shape=[[3]]))
    yield "missing reference", through(node("a", "flatten", ["z"]))
    yield "twice", of(X, X, Y)
    yield "cycle", through(node("a", "add", ["x", "b"]), node("b", "flatten", ["a"]))
    yield "two inputs", of(X, {**X, "name": "x2"}, node("y", "output", ["x"]))
    yield "giant input", through(shape=(1 << 28, 1 << 28))
    yield "giant number", through(shape=(1 << 200,))
    yield "many axes", through(shape=(1,) * 100_000)
    yield "giant reshape", through(node("a", "reshape", ["x"], shape=[1 << 28] * 8))
    yield "giant pad", through(node("a", "pad", ["x"], before=[1 << 28], after=[1 << 28]))
    column = {"a/weight": np.ones((1 << 14, 1), np.float32)}
    yield "giant product", through(node("a", "linear", ["x"], ["weight"]), arrays=column, shape=(1 << 20, 1))
    yield "a million nodes", of(*[node(str(i), "flatten", ["x"]) for i in range(1_000_000)])
    yield "many nodes", of(*[node(str(i), "flatten", ["x"]) for i in range(100_000)])
    yield "a wide sum", through(node("a", "add", ["x"] * 500_000 + ["z"]))
    steps = [node("0", "add", ["x", ["4999", 1]])]
    steps += [node(str(i), "add", [[str(i - 1), 1], ["z", 0]]) for i in range(1, 5000)]
    yield "a long loop", through(*steps)


def wrong_arrays() -> Iterator[tuple[str, bytes]]:
    graph = (X, W, Y)
    for kind in (np.float64, np.float16, np.int64, np.bool_):
        yield f"array {kind.__name__}", of(*graph, arrays={"w/weight": np.ones((2, 3), kind)})
    header = {
        "__metadata__": {
            "spikeport": str(FORMAT),
            "structure": json.dumps({"nodes": graph, "information": {}}),
            "sha256": "0" * 64,
        },
        "w/weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    }
    yield "array bfloat16", raw(json.dumps(header).encode(), bytes(12))
    yield "array NaN", of(*graph, arrays={"w/weight": np.full((2, 3), np.nan, np.float32)})
    yield "array infinity", of(*graph, arrays={"w/weight": np.full((2, 3), np.inf, np.float32)})
    yield "array too many", of(*graph, arrays={**WEIGHT, "w/extra": np.ones(1, np.float32)})
    yield "array of nobody", of(*graph, arrays={**WEIGHT, "../weight": np.ones(1, np.float32)})
    yield "array missing", of(*graph, arrays={})
    yield "array not named", of(X, {**W, "arrays": []}, Y, arrays=WEIGHT)
    yield "array rank", of(*graph, arrays={"w/weight": np.ones((2, 3, 1), np.float32)})
    yield "array shape", of(*graph, arrays={"w/weight": np.ones((2, 4), np.float32)})
    yield "array empty", of(*graph, arrays={"w/weight": np.ones((0, 3), np.float32)})
    yield "array out of range", of(X, FILTER, Y, arrays={"w/alpha": np.float32([2.0])})


@pytest.mark.slow
def test_a_hostile_file_is_refused(tmp_path: Path) -> None:
    names = {}
    for index, (name, content) in enumerate([*no_safetensors(), *wrong_structures(), *wrong_graphs(), *wrong_arrays()]):
        (tmp_path / f"{index:03}").write_bytes(content)
        names[f"{index:03}"] = name
    (tmp_path / "whole").write_bytes(of(X, W, Y, arrays=WEIGHT))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    files = report["files"]
    assert files.pop("whole")[0] == "loaded", "the files are well made but for what is wrong with them"
    assert {names[key]: kind for key, (kind, _, _) in files.items() if kind != "CorruptFileError"} == {}
    assert {names[key]: len(message) for key, (_, message, _) in files.items() if len(message) > 1000} == {}
    assert {names[key]: seconds for key, (_, _, seconds) in files.items() if seconds > 10} == {}
    assert report["memory"] < 1000, "MiB"
